//! The verdict on a Maildir that was just committed and that no client has opened yet.

use std::io;
use std::path::Path;

use crate::lab::{Differences, Doing, Dump, Look, Result, Strictness, User, guids_of_several};

use super::stand::{Kept, Stand};

/// A Maildir as the commit left it, to be looked at as often as wanted.
pub struct Committed<'a> {
    stand: &'a Stand,
    user: &'a User,
    before: &'a Dump,
    kept: Kept,
}

/// What to do to a Maildir, given its folder, before Dovecot sees it.
pub type Change = fn(&Path) -> io::Result<()>;

impl<'a> Committed<'a> {
    /// Takes hold of a user's Maildir before any client has.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn new(stand: &'a Stand, user: &'a User, before: &'a Dump) -> Result<Self> {
        let kept = Kept::of(&stand.machine, &[stand.maildir(user)])?;
        Ok(Self { stand, user, before, kept })
    }

    /// Everything that is wrong with it as it is.
    ///
    /// # Errors
    /// If the lab fails; not if the mail does.
    pub fn faults(&self, look: Look) -> Result<Vec<String>> {
        self.faults_after(look, |_| Ok(()))
    }

    /// Everything that is wrong with it after a change: as its first clients see it, and as they see it again when Dovecot
    /// has lost its index, which hides much of what lies below.
    ///
    /// # Errors
    /// As [`Self::faults`].
    pub fn faults_after(
        &self,
        look: Look,
        change: impl Fn(&Path) -> io::Result<()> + Sync,
    ) -> Result<Vec<String>> {
        let mut faults = self.seen(look, Strictness::Exact, &change)?;
        let without_index = |root: &Path| {
            change(root)?;
            drop_indexes(root)
        };
        let cold = self.seen(look, Strictness::WithoutIndex, &without_index)?;
        faults.extend(cold.into_iter().map(|fault| format!("without index: {fault}")));
        Ok(faults)
    }

    fn seen(
        &self,
        look: Look,
        strictness: Strictness,
        change: &(impl Fn(&Path) -> io::Result<()> + Sync),
    ) -> Result<Vec<String>> {
        let maildir = self.stand.maildir(self.user);
        self.kept.put_back(&self.stand.machine)?;
        self.stand
            .machine
            .inside(|| change(Path::new(&maildir)))?
            .doing(|| "change the Maildir before it is looked at")?;
        let complaints = self.stand.complaints().len();
        let mut faults = Vec::new();
        match self.stand.look_closely(self.user, look) {
            Ok(after) => {
                faults.extend_from_slice(Differences::judged(self.before, &after, strictness).all());
                faults.extend(guids_of_several(&after));
            }
            // A Maildir that cannot be served to the end: the reason is in Dovecot's log.
            Err(error) => faults.push(format!("cannot be looked at: {error}")),
        }
        faults.extend(self.stand.complaints().split_off(complaints));
        Ok(faults)
    }
}

/// Takes Dovecot's index files away from a Maildir and all its folders.
///
/// # Errors
/// As the system calls.
pub fn drop_indexes(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["cur", "new", "tmp"].contains(&name.as_str()) {
                drop_indexes(&path)?;
            }
        } else if name.starts_with("dovecot.index") || name.starts_with("dovecot.list.index") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
