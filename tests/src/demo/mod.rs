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
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::lab::{Machine, Result};
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
    let played = acts::play(&options, &stage, &paper);
    // With the machine gone the play fails as a matter of course; whoever ended it has the last word.
    while stage.interrupted.load(Ordering::SeqCst) {
        thread::park();
    }
    match played {
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
pub(crate) struct Stage {
    machine: Arc<Mutex<Option<Arc<Machine>>>>,
    interrupted: Arc<AtomicBool>,
}

impl Stage {
    /// Starts the machine. Whoever wants to end it meanwhile waits until it is there to be ended.
    fn raise(&self, start: impl FnOnce() -> Result<Machine>) -> Result<Arc<Machine>> {
        let mut place = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let machine = Arc::new(start()?);
        *place = Some(Arc::clone(&machine));
        Ok(machine)
    }

    /// Ends the machine, and comes back when it has ended, whoever was the first to want it.
    fn clear(&self) {
        let place = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(machine) = place.as_ref() {
            machine.end();
        }
    }
}

/// Ctrl-C, a closed terminal, `kill`: a thread hears of them, ends the machine, and only then the process. By handlers and not
/// by blocking the signals: a blocked signal stays blocked in every server that is started.
fn end_on_signals(stage: Stage) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listening = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(listening);
    thread::spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = hangup.recv() => 1,
            }
        });
        let paper = Paper::new();
        paper.line("\nInterrupted: ending the private machine ...");
        stage.interrupted.store(true, Ordering::SeqCst);
        stage.clear();
        paper.line("Nothing is left of it.");
        std::process::exit(128 + number);
    });
    Ok(())
}
