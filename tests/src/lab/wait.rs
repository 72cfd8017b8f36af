//! Waiting for something to be so, never for time to pass.

use std::thread;
use std::time::{Duration, Instant};

use super::error::{LabError, Result};

/// Long enough for any start-up on a loaded machine of two cores. It is a bound for failures: no passing test waits it out.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `probe` until it has an answer. Between two questions it pauses a little, a longer little each time.
///
/// # Errors
/// [`LabError::Timeout`] with what `log` has to say, after [`PATIENCE`].
pub fn eventually<T>(
    what: impl Into<String>,
    log: impl FnOnce() -> String,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = probe() {
            return Ok(answer);
        }
        if start.elapsed() > PATIENCE {
            return Err(LabError::Timeout { what: what.into(), waited: start.elapsed(), log: log() });
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}
