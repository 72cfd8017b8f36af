//! What the name service said a moment ago. Pure: time is passed in.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Entry, Name};

/// Long enough for the several announcements of one login, short enough that nobody wonders about a changed account.
const KNOWN: Duration = Duration::from_secs(15);
/// So that a password guesser's names are not looked up each time; short, since new accounts log in at once.
const UNKNOWN: Duration = Duration::from_secs(5);
/// Entries of each kind. Unknown names come from anybody, so they have a bound of their own and cannot push out known ones.
const KEPT: usize = 1024;

/// `None` inside: the service knows no such user.
type Answer = Option<Arc<Entry>>;

#[derive(Debug, Default)]
pub(super) struct Cache {
    known: Side,
    unknown: Side,
}

#[derive(Debug, Default)]
struct Side {
    answers: HashMap<Name, Kept>,
    /// Oldest first. A name is in it once for each time it was put, and only the last of them counts.
    order: VecDeque<(Name, Turn)>,
    last_turn: Turn,
}

type Turn = u64;

#[derive(Debug)]
struct Kept {
    answer: Answer,
    until: Instant,
    turn: Turn,
}

impl Cache {
    pub(super) fn get(&self, name: &Name, now: Instant) -> Option<Answer> {
        [&self.known, &self.unknown].into_iter().find_map(|side| {
            side.answers.get(name).filter(|kept| now < kept.until).map(|kept| kept.answer.clone())
        })
    }

    pub(super) fn put(&mut self, name: Name, answer: Answer, now: Instant) {
        let (side, other, time) = match answer {
            Some(_) => (&mut self.known, &mut self.unknown, KNOWN),
            None => (&mut self.unknown, &mut self.known, UNKNOWN),
        };
        other.answers.remove(&name);
        side.put(name, answer, now + time);
    }
}

impl Side {
    fn put(&mut self, name: Name, answer: Answer, until: Instant) {
        self.last_turn += 1;
        self.order.push_back((name.clone(), self.last_turn));
        self.answers.insert(name, Kept { answer, until, turn: self.last_turn });
        if self.order.len() > KEPT
            && let Some((name, turn)) = self.order.pop_front()
            && self.answers.get(&name).is_some_and(|kept| kept.turn == turn)
        {
            self.answers.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn entry(text: &str) -> Answer {
        Some(Arc::new(Entry { name: text.into(), uid: 1000, gid: 1000, home: "/".into() }))
    }

    #[test]
    fn answers_are_kept_for_their_time() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(name("ann"), entry("ann"), now);
        cache.put(name("zed"), None, now);
        assert_eq!(cache.get(&name("ann"), now + KNOWN / 2), Some(entry("ann")));
        assert_eq!(cache.get(&name("zed"), now), Some(None));
        assert_eq!(cache.get(&name("zed"), now + UNKNOWN), None);
        assert_eq!(cache.get(&name("ann"), now + KNOWN), None);
        cache.put(name("zed"), entry("zed"), now);
        assert_eq!(cache.get(&name("zed"), now), Some(entry("zed")), "an account that was just made");
    }

    #[test]
    fn guessed_names_push_out_no_known_user_and_grow_nothing() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(name("ann"), entry("ann"), now);
        for n in 0..10 * KEPT {
            cache.put(name(&format!("guess{n}")), None, now);
        }
        for _ in 0..10 * KEPT {
            cache.put(name("same"), None, now);
        }
        assert_eq!(cache.get(&name("ann"), now), Some(entry("ann")));
        assert!(cache.unknown.answers.len() <= KEPT && cache.unknown.order.len() <= KEPT);
        assert_eq!(cache.get(&name("same"), now), Some(None));
    }
}
