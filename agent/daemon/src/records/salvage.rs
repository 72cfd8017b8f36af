//! Whom a record is about that cannot be read: one that was cut by a full disk, written by a newer mailready, or edited by hand.
//!
//! The agent writes a record with the user's name and number before all that could be long, each on a line of its own. So whole lines are believed one by one, whatever comes behind them; a line that is not whole is not.

/// What can still be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    /// The login name.
    pub(super) user: Option<String>,
    /// The uid.
    pub(super) uid: Option<u32>,
}

/// Reads line by line.
pub(super) fn about(bytes: &[u8]) -> About {
    let mut about = About::default();
    // The last piece has no end of line: half a name is another user's name.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &bytes[..end]);
    for line in whole.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        // A table begins: `user` in there would be another thing.
        if line.trim_start().starts_with('[') {
            break;
        }
        let Ok(table) = toml::from_str::<toml::Table>(line) else { continue };
        if let Some(user) = table.get("user").and_then(toml::Value::as_str) {
            about.user = Some(user.to_owned());
        }
        if let Some(uid) = table.get("uid").and_then(toml::Value::as_integer) {
            about.uid = u32::try_from(uid).ok();
        }
    }
    about
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "version = 3\nrun = \"x\"\nuser = \"ann\"\nuid = 1001\ngid = 100\nmaildir = \"/home\"\n[served]\nuser = \"no\"\n";

    #[test]
    fn whole_lines_are_believed_wherever_it_was_cut() {
        for cut in 0..=WHOLE.len() {
            let about = about(&WHOLE.as_bytes()[..cut]);
            let (name, number) = (WHOLE.find("uid").unwrap_or(0), WHOLE.find("gid").unwrap_or(0));
            assert_eq!(about.user.as_deref(), (cut >= name).then_some("ann"), "{cut}");
            assert_eq!(about.uid, (cut >= number).then_some(1001), "{cut}");
        }
    }

    #[test]
    fn junk_is_about_nobody() {
        assert_eq!(about(b""), About::default());
        assert_eq!(about(&[0, 159, 146, 150, b'\n', 7]), About::default());
        assert_eq!(about(b"user = \"half"), About::default());
        assert_eq!(about(b"user = \"half\nuid = x\n"), About::default());
    }
}
