//! `pam_mailready.so`: tells the agent of a login and never stands in its way.
//!
//! ```text
//! account optional pam_mailready.so [socket=PATH] [timeout=DURATION] [wait=DURATION] [debug]
//! session optional pam_mailready.so [...]
//! ```
//!
//! `account` is the one phase that every caller runs (an authentication by key has no `auth`, saslauthd no `session`), and the
//! one that only the rightful user reaches. The answer to PAM is always `PAM_IGNORE`: the stack's outcome is what it would be
//! without this line.
//!
//! This code is a guest in `sshd`, in Dovecot's auth workers, in whatever else calls PAM. It brings along no thread, no
//! child, no output, no change of environment or signal handling, no look-up of users; nothing stays behind when it is
//! unloaded, and no panic leaves it. Everything that needs judgement (which services count, which users, which calls make up one
//! login) is the agent's; the module forwards user, service and phase.
//!
//! Only the modules `entry` and `pam` touch C.

mod announcement;
mod entry;
mod options;
mod pam;
