//! What Postfix would do with an mbox.

use std::process::{Command, Stdio};

/// `mailbox_size_limit` of the Postfix that runs here, in bytes; None: there is none, or it sets no limit, or it does not say.
pub(super) fn mailbox_size_limit() -> Option<u64> {
    let output = Command::new("postconf").args(["-h", "mailbox_size_limit"]).stdin(Stdio::null()).output();
    let text = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Ok(_) | Err(_) => {
            tracing::warn!(
                "postconf does not tell mailbox_size_limit; the size of an mbox is not checked against it"
            );
            return None;
        }
    };
    text.parse().ok().filter(|limit| *limit > 0)
}
