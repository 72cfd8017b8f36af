//! The scenarios that the protocol is explored in. Each is small enough to be explored to its end within seconds, and
//! together they bring every actor near every step.

use super::spec::{Delivery, Spec, WriteBack};

/// All scenarios.
pub fn all() -> Vec<Spec> {
    let quiet = Spec::quiet;
    let maildir = Spec::quiet_maildir;
    // The small ones first: what is left out shows early.
    vec![
        Spec { kills: 3, power_cuts: 2, ..quiet("crashes alone", 1) },
        Spec { deliverers: vec![Delivery::Dotlock], kills: 2, ..quiet("dotlock deliverer", 1) },
        Spec {
            deliverers: vec![Delivery::Kernel],
            kills: 1,
            power_cuts: 1,
            ..quiet("kernel-lock deliverer", 1)
        },
        Spec {
            deliverers: vec![Delivery::Bare],
            kills: 2,
            lease_breaks: 1,
            ..quiet("lock-less deliverer", 1)
        },
        Spec { deliverers: vec![Delivery::Bare], kills: 1, power_cuts: 1, ..quiet("and a power cut", 1) },
        Spec {
            deliverers: vec![Delivery::Marker],
            kills: 2,
            power_cuts: 1,
            ..quiet("deliverer by marker", 1)
        },
        Spec {
            deliverers: vec![Delivery::Maker, Delivery::Dotlock],
            kills: 1,
            ..quiet("a Maildir made by others", 1)
        },
        Spec { logins: 1, unanswered: true, kills: 1, ..quiet("a session", 1) },
        Spec { logins: 2, unanswered: true, kills: 1, ..quiet("a session twice", 1) },
        Spec {
            write_back: Some(WriteBack::InPlace),
            kills: 1,
            power_cuts: 1,
            ..quiet("write-back in place", 2)
        },
        Spec {
            write_back: Some(WriteBack::Rename),
            kills: 1,
            power_cuts: 1,
            ..quiet("write-back by rename", 2)
        },
        Spec { rollback: true, kills: 1, power_cuts: 1, ..maildir("rollback", 1) },
        Spec {
            rollback: true,
            deliverers: vec![Delivery::Marker],
            kills: 1,
            power_cuts: 1,
            ..maildir("rollback: deliverer by marker", 1)
        },
        Spec {
            rollback: true,
            deliverers: vec![Delivery::Bare],
            kills: 1,
            ..maildir("rollback: lock-less deliverer", 1)
        },
        Spec {
            rollback: true,
            deliverers: vec![Delivery::Kernel],
            power_cuts: 1,
            ..maildir("rollback: kernel-lock deliverer", 1)
        },
        Spec {
            rollback: true,
            deliverers: vec![Delivery::Maker],
            ..maildir("rollback: a Maildir made by others", 1)
        },
        Spec { rollback: true, logins: 1, kills: 1, ..maildir("rollback: a session", 1) },
        Spec {
            deliverers: vec![Delivery::Kernel],
            vanish: 1,
            kills: 1,
            power_cuts: 1,
            ..maildir("drain: the tombstone vanishes", 1)
        },
        Spec { deliverers: vec![Delivery::Bare, Delivery::Dotlock], twins: true, ..quiet("twins", 0) },
        Spec { deliverers: vec![Delivery::Kernel, Delivery::Bare], ..quiet("two careless deliverers", 1) },
        Spec {
            deliverers: vec![Delivery::Bare, Delivery::Kernel],
            twins: true,
            kills: 1,
            power_cuts: 1,
            ..maildir("drain: twins", 0)
        },
        Spec {
            logins: 1,
            unanswered: true,
            deliverers: vec![Delivery::Kernel],
            kills: 1,
            ..quiet("a session and a deliverer", 1)
        },
        Spec {
            deliverers: vec![Delivery::Dotlock, Delivery::Dotlock],
            kills: 2,
            power_cuts: 1,
            ..maildir("drain: crashes", 1)
        },
        Spec {
            deliverers: vec![Delivery::KernelChecked],
            vanish: 1,
            kills: 1,
            power_cuts: 1,
            ..quiet("the tombstone vanishes", 1)
        },
        Spec {
            write_back: Some(WriteBack::Rename),
            deliverers: vec![Delivery::KernelChecked],
            twins: true,
            kills: 1,
            ..quiet("write-back by rename and a twin", 1)
        },
        Spec {
            deliverers: vec![Delivery::KernelChecked, Delivery::Bare],
            kills: 1,
            ..quiet("two deliverers, one careful", 1)
        },
        Spec {
            deliverers: vec![Delivery::Kernel, Delivery::Dotlock, Delivery::Dotlock],
            ..maildir("drain: three deliverers", 0)
        },
    ]
}
