//! Every byte of a message that a client has been shown is shown again.

use mailready_tests::lab::Result;

use super::cases;
use super::converted::Converted;

#[test]
fn quoted_lines_stay_quoted() -> Result<()> {
    let [text] = Converted::of(&cases::quoted_lines())?.texts();
    assert_eq!(text, "Subject: one\n\n>From here\n>>From there\n> From afar\n");
    Ok(())
}

#[test]
fn blanks_at_the_end_of_a_line_stay_and_the_name_tells_the_true_size() -> Result<()> {
    let converted = Converted::of(&cases::trailing_blanks())?;
    let [text] = converted.texts();
    assert_eq!(text, "Subject: one \nContent-Type: application/zip; \nX-Empty: \nX-Tab:\t\n\nx \n");
    let told = |mark: &str| {
        let (_, rest) = converted.mail[0].name.split_once(mark)?;
        rest.split(',').next()?.parse().ok()
    };
    // Dovecot believes these: a wrong one ends the session of whoever fetches the message.
    assert_eq!(told(",S=").unwrap_or(text.len()), text.len());
    assert_eq!(told(",W=").unwrap_or(converted.mail[0].wire().len()), converted.mail[0].wire().len());
    Ok(())
}

#[test]
fn a_header_of_any_length_stays_whole() -> Result<()> {
    let mbox = cases::long_header();
    let [text] = Converted::of(&mbox)?.texts();
    let mbox = String::from_utf8_lossy(&mbox).into_owned();
    assert_eq!(text, mbox.split_once('\n').unwrap().1.strip_suffix('\n').unwrap());
    Ok(())
}

#[test]
fn lone_returns_nulls_and_foreign_bytes_stay() -> Result<()> {
    let converted = Converted::of(&cases::odd_bytes())?;
    let bytes: Vec<&[u8]> = converted.mail.iter().map(|mail| mail.bytes.as_slice()).collect();
    assert_eq!(bytes.len(), 2);
    assert_eq!(bytes[0], b"Subject: one\r two\n\none\rtwo\r\rthree\nfour\r\n");
    assert_eq!(bytes[1], b"Subject: K\xf6ln\nno colon here\n\nbefore\0after \xff\xfe \xc3(\n");
    Ok(())
}

#[test]
fn a_header_that_begins_on_its_second_line_costs_no_mail() -> Result<()> {
    let [one, two] = Converted::of(&cases::folded_header())?.texts();
    assert_eq!(one, "Return-Path:\n <bounces@list.example>\nSubject:\n\tone\n\nx\n");
    assert_eq!(two, "Subject:two\n\ny\n");
    Ok(())
}

#[test]
fn a_mailbox_that_was_cut_off_keeps_what_there_is() -> Result<()> {
    let [one, two] = Converted::of(&cases::cut_off())?.texts();
    assert_eq!(one, "Subject: one\n\nx\n");
    assert_eq!(two, "Subject: two\n\nno end");
    Ok(())
}

#[test]
fn the_mailboxs_own_headers_and_blank_lines_are_no_part_of_a_message() -> Result<()> {
    let [one, two] = Converted::of(&cases::keywords())?.texts();
    assert_eq!((one.as_str(), two.as_str()), ("Subject: one\n\nx\n", "Subject: two\n\ny\n"));
    Ok(())
}
