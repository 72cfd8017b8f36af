//! The protocol as a model, explored exhaustively.
//!
//! The problem: two processes that can die separately, two file systems that persist separately, deliverers that lock in
//! four different ways or not at all, sessions that decided for the mbox a moment before it went, readers that write
//! back what they read long ago; and not one message may be lost, doubled or vanish from a client's view.
//!
//! The model knows the steps by the names of the architecture page ([`step::Step`]); [`spec::Spec`] says who takes part,
//! [`machine`] what can happen, [`properties`] what must hold. Each step and each condition within one can be left out:
//! the model must then find out, or the reason why nothing breaks stands beside it (`tests/model.rs`).
//!
//! Not modelled: time (a wait is a state in which something else must happen first), folders (each is a spool of its own
//! below the home), sizes, contents beyond "same bytes or not".

pub mod check;
pub mod convert;
pub mod deliver;
pub mod drain;
pub mod files;
pub mod machine;
pub mod omissions;
pub mod properties;
pub mod reader;
pub mod recover;
pub mod replay;
pub mod rollback;
pub mod scenarios;
pub mod session;
pub mod spec;
pub mod step;
pub mod trace;
pub mod truncate;
pub mod world;
