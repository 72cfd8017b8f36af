//! Where one message ends and the next begins.

use mailready_tests::lab::Result;

use super::cases;
use super::converted::Converted;

#[test]
fn a_sentence_that_begins_with_from_is_text() -> Result<()> {
    let [rooms, next] = Converted::of(&cases::sentence())?.texts();
    assert!(rooms.contains("\nFrom now on we meet"), "{rooms}");
    assert!(rooms.ends_with("\nFrom Monday 10:00 to Friday 12:30 it is free.\nFrom \n"), "{rooms}");
    assert_eq!(next, "Subject: next\n\nx\n");
    Ok(())
}

#[test]
fn a_missing_blank_line_merges_nothing() -> Result<()> {
    let [one, two] = Converted::of(&cases::no_blank_line())?.texts();
    // The line end before a separator belongs to it: that is how the server shows this message, too.
    assert_eq!(one, "Subject: one\n\nlast line");
    assert_eq!(two, "Subject: two\n\nx\n");
    Ok(())
}

#[test]
fn separators_that_name_no_sender_separate() -> Result<()> {
    let converted = Converted::of(&cases::mozilla())?;
    let [one, two] = converted.texts();
    assert_eq!(one, "X-Mozilla-Status: 0001\nSubject: one\n\nx\n");
    assert_eq!(two, "X-Mozilla-Status: 0001\nSubject: two\n\ny\n");
    assert_eq!(converted.mail[1].date - converted.mail[0].date, 86_400);
    Ok(())
}

#[test]
fn a_false_length_swallows_nothing_and_cuts_nothing_off() -> Result<()> {
    let [one, two, three] = Converted::of(&cases::false_length())?.texts();
    assert_eq!(one, "Subject: one\n\nshort\n");
    assert_eq!(two, "Subject: two\n\nlonger than three\n");
    assert_eq!(three, "Subject: three\n\nx\n");
    Ok(())
}

#[test]
fn a_true_length_keeps_a_message_within_a_message_whole() -> Result<()> {
    let [one, two] = Converted::of(&cases::true_length())?.texts();
    assert!(one.contains("\nFrom ada@engine.example Mon Jan"), "{one}");
    assert!(one.ends_with("\nnot a message\n"), "{one}");
    assert_eq!(two, "Subject: two\n\nx\n");
    Ok(())
}

#[test]
fn a_mailbox_with_dos_line_ends_keeps_its_messages() -> Result<()> {
    let [one, two] = Converted::of(&cases::dos())?.texts();
    assert_eq!(one, "Subject: one\nX-Test: a\n\nx\r\ny\r\n");
    assert_eq!(two, "Subject: two\n\nz\r\n");
    Ok(())
}

#[test]
fn a_quoted_separator_in_a_header_costs_no_mail() -> Result<()> {
    let [one, two] = Converted::of(&cases::quoted_line_in_header())?.texts();
    assert!(one.starts_with("X-Mozilla-Status: 0011\n>From ada@engine.example"), "{one}");
    assert!(one.ends_with("Subject: one\n\nx\n"), "{one}");
    assert_eq!(two, "Subject: two\n\ny\n");
    Ok(())
}
