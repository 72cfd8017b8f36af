//! The words behind the module's name in the stack.
//!
//! Read leniently: a word that means nothing is warned of, and the login goes on. Refusing to work over a typing error
//! would be the worse answer here.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailready_protocol::ARRIVAL_SOCKET;

/// What one line in a stack asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// `socket=PATH`: where the agent listens.
    pub socket: PathBuf,
    /// `timeout=DURATION`: how long the agent may take for its first answer. Without it (and without `wait=`) no answer is
    /// waited for.
    pub timeout: Option<Duration>,
    /// `wait=DURATION`: hold the login until the mail is ready, at most so long.
    pub wait: Option<Duration>,
    /// `debug`: log what happened in each call.
    pub debug: bool,
}

/// A first answer that takes longer than this is none.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Dovecot gives an authentication up after 60 s (`[UNAVAILABLE]`), and 45 s still went well.
const LONGEST_WAIT: Duration = Duration::from_secs(45);

impl Options {
    /// Reads the words. What is wrong with one goes to `warn`, and the word counts for nothing.
    pub fn read<'a>(words: impl Iterator<Item = &'a [u8]>, mut warn: impl FnMut(String)) -> Options {
        let mut options =
            Options { socket: Path::new(ARRIVAL_SOCKET).to_owned(), timeout: None, wait: None, debug: false };
        for word in words {
            let (name, value) = match word.iter().position(|&byte| byte == b'=') {
                Some(at) => (&word[..at], Some(&word[at + 1..])),
                None => (word, None),
            };
            let understood = match (name, value) {
                (b"debug", None) => {
                    options.debug = true;
                    true
                }
                (b"socket", Some(path)) if path.starts_with(b"/") => {
                    options.socket = OsStr::from_bytes(path).into();
                    true
                }
                (b"timeout", Some(value)) => set(&mut options.timeout, value, LONGEST_TIMEOUT),
                (b"wait", Some(value)) => set(&mut options.wait, value, LONGEST_WAIT),
                _ => false,
            };
            if !understood {
                warn(format!("option {} means nothing here, and is ignored", word.escape_ascii()));
            }
        }
        options
    }
}

/// Sets an option that is a length of time, cut to its longest; zero is the same as not given.
fn set(option: &mut Option<Duration>, value: &[u8], longest: Duration) -> bool {
    let Some(duration) = duration(value) else { return false };
    *option = (!duration.is_zero()).then_some(duration.min(longest));
    true
}

/// `300us`, `5ms` or `20s`. A bare number could be any of these, so it is none.
fn duration(text: &[u8]) -> Option<Duration> {
    let split = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    match unit {
        b"us" => Some(Duration::from_micros(number)),
        b"ms" => Some(Duration::from_millis(number)),
        b"s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> (Options, Vec<String>) {
        let mut warnings = Vec::new();
        let options =
            Options::read(words.iter().map(|word| word.as_bytes()), |warning| warnings.push(warning));
        (options, warnings)
    }

    #[test]
    fn without_words_it_only_announces_at_the_usual_place() {
        let (options, warnings) = read(&[]);
        assert_eq!(
            options,
            Options { socket: ARRIVAL_SOCKET.into(), timeout: None, wait: None, debug: false }
        );
        assert!(warnings.is_empty());
    }

    #[test]
    fn all_words_are_understood() {
        let (options, warnings) = read(&["debug", "socket=/run/a=b.sock", "timeout=300us", "wait=20s"]);
        assert_eq!(warnings, [""; 0]);
        assert_eq!(options.socket, Path::new("/run/a=b.sock"));
        assert_eq!(options.timeout, Some(Duration::from_micros(300)));
        assert_eq!(options.wait, Some(Duration::from_secs(20)));
        assert!(options.debug);
    }

    #[test]
    fn what_means_nothing_is_warned_of_and_the_rest_counts() {
        let words = [
            "debug=1",
            "socket=relative",
            "socket",
            "timeout=5",
            "timeout=-5ms",
            "wait=soon",
            "wait=99999999999999999999s",
            "no_warn",
            "\u{1b}[2J",
            "",
        ];
        let (options, warnings) = read(&words);
        assert_eq!(options, read(&[]).0);
        assert_eq!(warnings.len(), words.len());
        assert!(warnings.iter().all(|warning| warning.is_ascii() && !warning.contains('\u{1b}')));
        assert!(read(&["nonsense", "debug"]).0.debug);
    }

    #[test]
    fn no_wait_is_longer_than_hosts_bear() {
        let (options, _) = read(&["wait=10000s", "timeout=10000s"]);
        assert_eq!((options.wait, options.timeout), (Some(LONGEST_WAIT), Some(LONGEST_TIMEOUT)));
        assert_eq!(read(&["wait=0s"]).0.wait, None);
    }
}
