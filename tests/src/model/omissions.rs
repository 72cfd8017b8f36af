//! What each step and each guard is good for: taken out, either something breaks, or the reason why nothing does stands here.

use super::spec::{Guard, Omit};
use super::step::Step;

/// Steps and guards that can be left out without loss, and what they are for.
pub const FREE: &[(Omit, &str)] = &[
    (
        Omit::Step(Step::Stage),
        "refresh does all of it, with the gate closed: logins wait for a whole conversion instead of a look",
    ),
    (
        Omit::Step(Step::Verify),
        "nothing in the model writes what it did not read; it is there for disks and for mistakes in our own code",
    ),
    (
        Omit::Step(Step::Dotlock),
        "the lease keeps writers out and the drain of entry 0 fetches what they append later; without the dotlock every \
         deliverer that honours it goes that long way round, and nothing but a lease that the kernel may break holds it off",
    ),
    (
        Omit::Step(Step::Lock),
        "as the dotlock, for those who honour kernel locks: they wait before they append, not behind it",
    ),
    (
        Omit::Step(Step::Converted),
        "the phase is a hint: recovery reads the disk, finds all steps taken, and takes them again",
    ),
    (
        Omit::Step(Step::Delivered),
        "a power cut puts delivered messages back into their folder, still durable: they are delivered again, under the same names",
    ),
    (Omit::Step(Step::Forget), "costs room in the archive"),
    (
        Omit::Guard(Guard::StageSync),
        "seal syncs all of the stage; this one keeps that short while the locks are held",
    ),
    (
        Omit::Guard(Guard::TakeRest),
        "what stands behind the last look is drained from entry 0; taken now, it is there at the first SELECT, under its place in the order",
    ),
    (
        Omit::Guard(Guard::SameInode),
        "a file renamed over the mbox is set aside in its stead, its head does not match the marker, and it is treated as a write-back",
    ),
    (
        Omit::Guard(Guard::RotateLease),
        "whoever has it open appends to the entry instead; extract and forget need the lease",
    ),
];

/// The reason why nothing breaks without it.
pub fn free(omit: Omit) -> Option<&'static str> {
    FREE.iter().find(|(free, _)| *free == omit).map(|(_, why)| *why)
}

/// Every step and every guard.
pub fn all() -> impl Iterator<Item = Omit> {
    let steps = Step::ALL.iter().map(|step| Omit::Step(*step));
    steps.chain(Guard::ALL.iter().map(|guard| Omit::Guard(*guard)))
}

/// For reports.
pub fn name(omit: Omit) -> String {
    match omit {
        Omit::Step(step) => step.to_string(),
        Omit::Guard(guard) => format!("{guard:?}"),
    }
}
