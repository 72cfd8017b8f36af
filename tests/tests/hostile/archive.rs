//! The archive folder made, renamed and replaced by a member of group mail. (Made before us: `refusals::an_archive_folder_that_somebody_else_made`.)

use std::fs;
use std::os::unix::fs::symlink;

use mailready_tests::lab::{Result, eventually};

use crate::site::{ARCHIVE, CONFIG, Site};

/// `mailready convert`: it blocks.
const DATA: i32 = 65;

/// Renamed away between runs: nobody is converted into a new one, and those who are converted lose nothing meanwhile.
#[test]
fn an_archive_folder_that_is_renamed_away_is_missed_and_not_made_anew() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    let (ann, bob) = (site.user("ann")?, site.user("bob")?);
    let mallory = site.member_of_group_mail("mallory")?;
    let agent = site.start_with(CONFIG)?;
    let (code, said) = site.convert("ann")?;
    assert_eq!(code, 0, "{said}");
    let originals = site.archive()?;
    site.as_user(&mallory, true, || fs::rename(ARCHIVE, "/var/mail/elsewhere").unwrap())?;
    // Late mail must wait now, since what was taken before cannot be told.
    site.deliver(&ann, "while it was away")?;
    let bobs = site.look(&bob.spool())?;
    let refused = |words: &[&str]| -> Result<()> {
        let (code, said) = site.convert("bob")?;
        assert_eq!(code, DATA, "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
        assert_eq!(site.look(&bob.spool())?, bobs);
        Ok(())
    };
    refused(&[ARCHIVE, "is gone", "rename it back"])?;
    assert!(site.look(ARCHIVE)?.is_none(), "it is not made anew");
    // Something of mallory's in its place: a folder, a link to the true one, a file.
    site.as_user(&mallory, true, || fs::create_dir(ARCHIVE).unwrap())?;
    refused(&[ARCHIVE, "must be a folder that is root's"])?;
    assert!(site.archive()?.is_empty(), "nothing is put into it");
    site.as_user(&mallory, true, || {
        fs::remove_dir(ARCHIVE).unwrap();
        symlink("/var/mail/elsewhere", ARCHIVE).unwrap();
    })?;
    refused(&["is a symbolic link"])?;
    site.as_user(&mallory, true, || {
        fs::remove_file(ARCHIVE).unwrap();
        fs::write(ARCHIVE, "").unwrap();
    })?;
    refused(&["is a file"])?;
    let (code, said) = site.mailready(&["verify", "ann"])?;
    assert_ne!(code, 0, "{said}");
    let (code, said) = site.mailready(&["rollback", "--yes", "ann"])?;
    assert_ne!(code, 0, "{said}");
    assert_eq!(site.maildir(&ann)?.len(), 5, "late mail waits where it came to");
    // Mended.
    site.machine.inside(|| {
        fs::remove_file(ARCHIVE).unwrap();
        fs::rename("/var/mail/elsewhere", ARCHIVE).unwrap();
    })?;
    site.wait_for(&agent, &ann, "while it was away")?;
    let archive = site.archive()?;
    assert!(originals.iter().all(|original| archive.contains(original)), "{archive:?}");
    // The rest of a blocked user is over some time; an operator's word ends it at once.
    let (code, said) = site.convert("bob")?;
    assert_eq!(code, 0, "{said}");
    Ok(())
}

/// An archive folder with every right for others, as somebody's chmod may leave it, is not believed either, and root's own again is.
#[test]
fn an_archive_folder_that_is_open_to_others_is_not_used() -> Result<()> {
    let Some(site) = Site::new()? else { return Ok(()) };
    site.user("ann")?;
    let agent = site.start_with(CONFIG)?;
    site.machine.run("mkdir", ["-m", "0770", ARCHIVE])?;
    let (code, said) = site.convert("ann")?;
    assert_eq!((code, said.contains("mode 770")), (DATA, true), "{said}");
    site.machine.run("chmod", ["0700", ARCHIVE])?;
    eventually(
        "ann is converted",
        || agent.log.tail(),
        || {
            site.convert("ann")
                .map_or_else(|error| Some(Err(error)), |(code, _)| (code == 0).then_some(Ok(())))
        },
    )?
}
