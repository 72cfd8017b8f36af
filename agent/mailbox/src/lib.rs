//! The engine: mbox to Maildir and back, receipts; no OS services but files.
