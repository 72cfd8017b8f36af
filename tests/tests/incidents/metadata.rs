//! What a client knows of a message besides its bytes.

use mailready_tests::lab::Result;

use super::cases;
use super::converted::{Converted, Mail};

fn flags(converted: &Converted) -> Vec<(String, &str, bool)> {
    let subject = |mail: &Mail| {
        let text = mail.text();
        text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned()
    };
    converted.mail.iter().map(|mail| (subject(mail), mail.flags.as_str(), mail.recent)).collect()
}

#[test]
fn old_mail_that_nobody_has_read_is_unread_and_new_mail_is_new() -> Result<()> {
    let converted = Converted::of(&cases::old_and_unread())?;
    let expected = [("read", "S", false), ("old", "", false), ("new", "", true)];
    assert_eq!(
        flags(&converted),
        expected.map(|(subject, flags, recent)| (subject.to_owned(), flags, recent))
    );
    Ok(())
}

#[test]
fn each_flag_is_kept() -> Result<()> {
    let converted = Converted::of(&cases::flags())?;
    let expected = [
        ("answered", "RS"),
        ("flagged", "FS"),
        ("draft", "DS"),
        ("deleted", "ST"),
        ("all", "DFRST"),
        ("none", ""),
    ];
    assert_eq!(flags(&converted), expected.map(|(subject, flags)| (subject.to_owned(), flags, false)));
    Ok(())
}

#[test]
fn keywords_are_kept_by_name() -> Result<()> {
    let converted = Converted::of(&cases::keywords())?;
    let named: Vec<Vec<&str>> = converted
        .mail
        .iter()
        .map(|mail| {
            let has = |(letter, _): &&(char, String)| mail.flags.contains(*letter);
            converted.keywords.iter().filter(has).map(|(_, name)| name.as_str()).collect()
        })
        .collect();
    assert_eq!(named, [vec!["NonJunk", "$label1"], vec!["$Forwarded"]]);
    Ok(())
}

#[test]
fn numbers_are_kept_and_none_is_given_twice() -> Result<()> {
    let converted = Converted::of(&cases::numbers())?;
    assert_eq!(converted.mail.iter().map(|mail| mail.uid).collect::<Vec<_>>(), [2, 6, 7, 9]);
    assert_eq!(converted.numbers, (1_136_467_200, 121));
    Ok(())
}

/// 1 July and 1 December 2025 at noon, on the clock of the server.
const NOONS: &[u8] = b"From a@b Tue Jul  1 12:00:00 2025\nDate: Sat, 07 Jun 2003 01:02:03 +0900\n\nx\n\n\
                       From a@b Mon Dec  1 12:00:00 2025\nDate: never\n\ny\n";

#[test]
fn the_date_is_that_of_its_arrival_on_the_servers_clock() -> Result<()> {
    let dates = |zone| -> Result<Vec<i64>> {
        Ok(Converted::in_zone(NOONS, zone)?.mail.iter().map(|mail| mail.date).collect())
    };
    let (summer, winter) = (1_751_371_200, 1_764_590_400);
    assert_eq!(dates("UTC")?, [summer, winter]);
    assert_eq!(dates("Europe/Berlin")?, [summer - 2 * 3600, winter - 3600]);
    assert_eq!(dates("America/New_York")?, [summer + 4 * 3600, winter + 5 * 3600]);
    Ok(())
}
