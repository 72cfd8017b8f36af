//! One target under libFuzzer: `MAILREADY_FUZZ=TARGET` says which; the arguments are libFuzzer's. See `tests/fuzz/run`.

#![no_main]

#[path = "../../targets/mod.rs"]
mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("MAILREADY_FUZZ").unwrap_or_default();
    match targets::TARGETS.iter().find(|(name, _)| *name == wanted) {
        Some((_, target)) => *target,
        None => {
            let names: Vec<_> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
            eprintln!("MAILREADY_FUZZ has to name a target: {}", names.join(" "));
            std::process::exit(64);
        }
    }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
