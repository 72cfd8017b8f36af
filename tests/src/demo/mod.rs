//! `packaging/demo`: one user's mail becomes a Maildir between the password and the inbox, in a private machine, with real
//! servers, told as a timeline.
//!
//! Nothing is left behind, whenever it is interrupted: the machine ends with this process, and with a signal it is ended in
//! order before this process ends.

mod acts;
mod options;
mod paper;
mod timeline;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::lab::Machine;
use options::{Options, Wish};
use paper::Paper;

/// Runs the demo; its exit code says whether the mail was the same.
#[must_use]
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let paper = Paper::new();
    let options = match Options::read(arguments) {
        Ok(Wish::Run(options)) => options,
        Ok(Wish::Help) => {
            paper.line(options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(complaint) => {
            paper.complain(&complaint);
            return ExitCode::from(64);
        }
    };
    let stage = Stage::default();
    if let Err(error) = end_on_signals(stage.clone()) {
        paper.complain(&format!("signals cannot be waited for: {error}"));
        return ExitCode::from(71);
    }
    match acts::play(&options, &stage, &paper) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            paper.complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// The machine, once there is one, for whoever has to end it.
#[derive(Clone, Default)]
pub(crate) struct Stage(Arc<Mutex<Option<Arc<Machine>>>>);

impl Stage {
    fn set(&self, machine: Machine) -> Arc<Machine> {
        let machine = Arc::new(machine);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&machine));
        machine
    }

    fn clear(&self) {
        let machine = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(machine) = machine {
            machine.end();
        }
    }
}

/// Ctrl-C, a closed terminal, `kill`: a thread waits for them, ends the machine, and only then the process. The signals are
/// blocked before any other thread or program is started; programs started later get a clean mask from the standard library.
fn end_on_signals(stage: Stage) -> nix::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            Paper::new().line("\nInterrupted: ending the private machine ...");
            stage.clear();
            Paper::new().line("Nothing is left of it.");
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}
