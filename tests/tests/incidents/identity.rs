//! Which messages are one and which are two. Nothing in a message says so: its place in the mailbox does.

use std::collections::BTreeSet;

use mailready_tests::lab::Result;

use super::cases::{self, PSEUDO};
use super::converted::Converted;

#[test]
fn equal_headers_with_different_bodies_are_different_messages() -> Result<()> {
    let texts: [String; 3] = Converted::of(&cases::same_headers())?.texts();
    let bodies = texts.map(|text| text.split_once("\n\n").unwrap().1.to_owned());
    assert_eq!(
        bodies,
        ["Your mailbox is 80% full.\n", "Your mailbox is 90% full.\n", "Your mailbox is full.\n"]
    );
    Ok(())
}

#[test]
fn identical_messages_are_as_many_as_they_were() -> Result<()> {
    let converted = Converted::of(&cases::identical())?;
    let texts: [String; 3] = converted.texts();
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(converted.mail.iter().map(|mail| mail.uid).collect::<Vec<_>>(), [1, 2, 3]);
    Ok(())
}

#[test]
fn mail_without_a_header_is_mail() -> Result<()> {
    let [one, two, three, four] = Converted::of(&cases::headless())?.texts();
    assert_eq!((one.as_str(), two.as_str()), ("\nno header at all\n", "\nnone here either\n"));
    assert_eq!((three.as_str(), four.as_str()), ("Subject: only headers\n\n", "Subject: four\n\nx\n"));
    Ok(())
}

#[test]
fn no_two_conversions_give_one_name_twice() -> Result<()> {
    // One second, one host, one number in the mailbox, one date: whatever a name may be made of.
    let (one, two) = (Converted::of(&cases::identical())?, Converted::of(&cases::identical())?);
    let names: Vec<&str> = one.mail.iter().chain(&two.mail).map(|mail| mail.name.as_str()).collect();
    assert_eq!(names.len(), 6);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 6, "{names:?}");
    Ok(())
}

#[test]
fn a_subject_alone_makes_no_pseudo_message() -> Result<()> {
    let [question, two] = Converted::of(&cases::subject_of_the_pseudo_message())?.texts();
    assert_eq!(question, format!("From: ada@engine.example\nSubject: {PSEUDO}\n\nWhat is this?\n"));
    assert_eq!(two, "Subject: two\n\nx\n");
    Ok(())
}

#[test]
fn the_pseudo_message_is_no_mail_and_its_numbers_count() -> Result<()> {
    let converted = Converted::of(&cases::pseudo_message())?;
    let [one] = converted.texts();
    assert_eq!(one, "Subject: one\n\nx\n");
    assert_eq!((converted.numbers, converted.mail[0].uid), ((1_136_467_200, 13), 12));
    assert_eq!(converted.keywords, [('a', "work".to_owned())]);
    assert_eq!(converted.mail[0].flags, "Sa");
    Ok(())
}
