//! Root becomes the owner of the mbox before it reads a byte of it.
//!
//! What a user can write is never parsed, nor opened by name, with more rights than that user has: a link in a user's
//! folder would otherwise be followed with root's.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, getegid, geteuid, setgid, setgroups, setuid};

use crate::exit::{Exit, Failure};

/// If we are root: become the owner of `mbox` for good. Anybody else stays who they are.
pub(crate) fn become_owner_of(mbox: &Path, maildir: &Path) -> Result<(), Failure> {
    if !geteuid().is_root() {
        return Ok(());
    }
    // Not following a link: it would be the link's target that decides who we become.
    let found = std::fs::symlink_metadata(mbox).map_err(|e| crate::convert_file::of_io(mbox, &e))?;
    if !found.is_file() {
        return Err(Failure::new(Exit::Data, format!("{} is no plain file", mbox.display())));
    }
    let uid = Uid::from_raw(found.uid());
    if uid.is_root() {
        return root_only(mbox, maildir);
    }
    let account = User::from_uid(uid)
        .map_err(|e| Failure::new(Exit::Software, format!("cannot look up uid {uid}: {e}")))?;
    let gid = account.map_or(Gid::from_raw(found.gid()), |user| user.gid);
    drop_to(uid, gid).map_err(|e| {
        Failure::new(
            Exit::NoPermission,
            format!("cannot become uid {uid}, the owner of {}: {e}", mbox.display()),
        )
    })
}

fn drop_to(uid: Uid, gid: Gid) -> nix::Result<()> {
    setgroups(&[gid])?;
    setgid(gid)?;
    setuid(uid)?;
    let is_root_again = setuid(Uid::from_raw(0)).is_ok();
    if is_root_again || geteuid() != uid || getegid() != gid {
        return Err(nix::Error::EPERM);
    }
    Ok(())
}

/// Root's own mail is read and written as root, and then nobody else may have a hand in the folder it goes to.
fn root_only(mbox: &Path, maildir: &Path) -> Result<(), Failure> {
    let parent = match maildir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = std::fs::metadata(parent).map_err(|e| crate::convert_file::of_io(parent, &e))?;
    if folder.uid() != 0 || folder.mode() & 0o022 != 0 {
        let text = format!(
            "{} is root's, but others can write to {}: choose a folder that is root's alone, or give the file to its user",
            mbox.display(),
            parent.display()
        );
        return Err(Failure::new(Exit::NoPermission, text));
    }
    Ok(())
}
