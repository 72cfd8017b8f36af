//! One mailbox, as its user, in a sandbox.
