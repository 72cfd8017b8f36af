//! The login survives: real sshd, real Dovecot (IMAP and POP3) and real `login` on a terminal, each in every state of the agent that
//! a login may meet, with the state folder's disk full, and with a module that panics. Each login succeeds within its deadline,
//! and the mail is what it was. And the module in a stranger's process under valgrind, over thousands of logins.
//!
//! Long form: `MAILREADY_LONG=1 cargo test -p mailready-tests --test login valgrind`: all 10,000 logins load and unload the module (about 10 minutes each state).

#[path = "login/doors.rs"]
mod doors;
#[path = "login/panic.rs"]
mod panic;
#[path = "login/states.rs"]
mod states;
#[path = "login/valgrind.rs"]
mod valgrind;
