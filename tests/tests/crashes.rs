//! Worker and agent killed before each system call that changes something, of one conversion (with two folders), one drain, one rollback, one verification and one end of the originals: the worker
//! alone, the agent alone, both, and all that the agent keeps besides records and holds deleted. Then the agent is started again, and the mailbox is wholly the one or wholly the other, shows
//! exactly what it showed, and nothing of the dead run is left. What was logged up to the death and after it is a path of
//! the protocol's model. Every place that was listed is reached, or the test fails.
//!
//! Besides: what a conversion that was killed late does again (`resume`); a second agent, an agent asked to end, a new one beside a worker of the old one, a suspended worker, a clock that was set back (`company`).
//!
//! `MAILREADY_LONG=1 cargo test -p mailready-tests --test crashes` kills in all ways at all places; else all places see both killed, and every so many the others.
//! `MAILREADY_SPOT=TEXT` takes only deaths whose description, as the report prints it, holds the text.

#[path = "crashes/campaign.rs"]
mod campaign;
#[path = "crashes/company.rs"]
mod company;
#[path = "crashes/deaths.rs"]
mod deaths;
#[path = "moments/people.rs"]
mod people;
#[path = "crashes/resume.rs"]
mod resume;
#[path = "crashes/rig.rs"]
mod rig;
#[path = "crashes/tool.rs"]
mod tool;
#[path = "crashes/trace.rs"]
mod trace;
