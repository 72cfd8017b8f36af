//! The [`breaker`](crate::breaker) with what it needs of the world: the time, the settings, its file, and those who want to hear of it.
//!
//! `STATE/breaker` (TOML) outlives the agent, because an agent may die of what it does and be started again by the service manager each time: each death in the middle of a conversion is one failure. A file that cannot be read counts as
//! a stop: somebody has to look.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};
use tracing::{error, info, warn};

use crate::agent::unix_now;
use crate::breaker::{Breaker, Rules};
use crate::outcome::{Outcome, Reason};
use crate::records::{Phase, Records};
use crate::settings::Settings;

const NAME: &str = "breaker";

/// The reason's code for those who are not converted because of it.
pub const STOPPED: &str = "stopped";

/// Why nothing is converted, as others are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// A stable word.
    pub code: String,
    /// For people; without names of users, since all of a bus may hear it.
    pub text: String,
}

/// The breaker of an agent.
#[derive(Debug)]
pub struct Stops {
    file: PathBuf,
    settings: watch::Receiver<Arc<Settings>>,
    breaker: Mutex<State>,
    told: broadcast::Sender<Told>,
}

#[derive(Debug, Default)]
struct State {
    breaker: Breaker,
    /// The file could not be read.
    unreadable: Option<String>,
}

impl Stops {
    /// Goes on where an earlier agent was; notes if that died in the middle of something.
    pub fn open(settings: watch::Receiver<Arc<Settings>>, records: &Records) -> Self {
        let file = settings.borrow().config.agent.state.join(NAME);
        let read = match fs::read_to_string(&file) {
            Ok(text) => Breaker::restore(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Breaker::default()),
            Err(error) => Err(error.to_string()),
        };
        let state = match read {
            Ok(breaker) => State { breaker, unreadable: None },
            Err(why) => {
                error!(
                    "{} cannot be read, and nothing is converted until `mailready background start` or a reload: {why}",
                    file.display()
                );
                State { breaker: Breaker::default(), unreadable: Some(why) }
            }
        };
        let stops = Self { file, settings, breaker: Mutex::new(state), told: broadcast::Sender::new(8) };
        let begun = records.all().into_iter().filter(|record| record.phase == Phase::Begun);
        // One death, however many conversions were under way.
        if let Some(last) = begun.max_by_key(|record| record.sequence) {
            let who = format!("run {}", last.run);
            if !stops.state().breaker.knows(&who) {
                stops.failed(&who, "agent-died");
            }
        }
        if let Some(told) = stops.stopped() {
            warn!("still stopped: {}", told.text);
        }
        stops
    }

    /// How a conversion ended.
    pub fn note(&self, user: &str, outcome: &Outcome) {
        match outcome {
            Outcome::Failed(reason) => self.failed(user, reason.code),
            Outcome::Converted { .. } => {
                let rules = self.rules();
                self.state().breaker.went_well(unix_now(), rules);
            }
            Outcome::Already { .. } | Outcome::Busy(_) | Outcome::Blocked(_) | Outcome::Stopped => {}
        }
    }

    fn failed(&self, who: &str, code: &str) {
        let rules = self.rules();
        let mut state = self.state();
        let stops_now = state.breaker.failed(unix_now(), who, code, rules);
        self.write(&state.breaker);
        if !stops_now {
            return;
        }
        let failures: Vec<String> =
            state.breaker.failures().map(|failure| format!("{:?} ({})", failure.who, failure.code)).collect();
        drop(state);
        if let Some(told) = self.stopped() {
            error!(
                code = told.code,
                failures = failures.join(", "),
                "{}. See the journal and `mailready explain` for what went wrong with these, mend it, try one with `mailready convert USER`, then say `mailready background start`",
                told.text
            );
            // Nobody may be listening.
            let _ = self.told.send(told);
        }
    }

    /// Why nobody is converted by arriving or in the background, if so.
    pub fn stopped(&self) -> Option<Told> {
        let state = self.state();
        let text = match (&state.unreadable, state.breaker.stopped()) {
            (Some(_), _) => {
                format!("{} cannot be read, so nobody is converted by arriving", self.file.display())
            }
            (None, Some(stopped)) => format!(
                "{} conversions in a row or nearly so have failed, so nobody is converted by arriving",
                stopped.failures
            ),
            (None, None) => return None,
        };
        Some(Told { code: STOPPED.to_owned(), text })
    }

    /// The same as the outcome of a conversion that is not begun.
    pub fn refusal(&self) -> Option<Outcome> {
        let told = self.stopped()?;
        let mend = "mend what the failures name, then `mailready background start`";
        Some(Outcome::Blocked(Reason::new(STOPPED, told.text, mend)))
    }

    /// Somebody says that the cause is mended. False: there was nothing to clear.
    pub fn clear(&self) -> bool {
        let mut state = self.state();
        let was_stopped = state.breaker.clear() | state.unreadable.take().is_some();
        self.write(&state.breaker);
        drop(state);
        if was_stopped {
            info!("conversions go on");
        }
        was_stopped
    }

    /// Those who want to hear of a stop.
    pub fn listen(&self) -> broadcast::Receiver<Told> {
        self.told.subscribe()
    }

    fn rules(&self) -> Rules {
        let background = &self.settings.borrow().config.background;
        Rules { failures: background.max_failures, among: background.chunk }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below leaves it half changed, and the agent aborts on a panic.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, breaker: &Breaker) {
        let written = breaker.save().map_err(io::Error::other).and_then(|text| {
            let unfinished = self.file.with_file_name(".tmp-breaker");
            fs::write(&unfinished, text)?;
            fs::File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, &self.file)
        });
        if let Err(error) = written {
            // What was to be kept is in memory, and the disk that fails is told of by what fails next.
            warn!("{} cannot be written: {error}", self.file.display());
        }
    }
}
