//! Dovecot's list of subscribed folders.

/// Turns the mbox root's `.subscriptions` (either version) into the bytes of the Maildir root's `subscriptions` (version 2).
/// `separator` is the mbox storage's (`/`). Unreadable lines are dropped, as Dovecot does.
pub fn convert(_old: &[u8], _separator: char) -> Vec<u8> {
    Vec::new()
}
