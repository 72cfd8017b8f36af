//! Long passes: says how far they are, and stops them when the agent has something to say or is gone.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mailready_mailbox::Progress;

use crate::channel::Channel;
use crate::wire::Report;

const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Passes over several mailboxes, told as one.
pub(crate) struct Passing<'a> {
    channel: &'a mut Channel,
    last: Instant,
    /// Done before the pass that is under way.
    before: Progress,
    /// Said to the agent; a quiet one only listens.
    loud: bool,
}

impl<'a> Passing<'a> {
    /// `total` bytes in all.
    pub(crate) fn new(channel: &'a mut Channel, total: u64) -> Self {
        let before = Progress { total, ..Progress::default() };
        Self { channel, last: Instant::now(), before, loud: true }
    }

    /// One that says nothing, for what is short or done twice.
    pub(crate) fn quiet(channel: &'a mut Channel) -> Self {
        Self { loud: false, ..Self::new(channel, 0) }
    }

    /// The pass under way is done.
    pub(crate) fn add(&mut self, messages: u64, bytes: u64) {
        self.before.messages += messages;
        self.before.bytes += bytes;
    }

    pub(crate) fn on(&mut self, progress: Progress) -> ControlFlow<()> {
        if self.loud && self.last.elapsed() >= PROGRESS_EVERY {
            self.last = Instant::now();
            let messages = self.before.messages + progress.messages;
            let bytes = self.before.bytes + progress.bytes;
            let total = self.before.total.max(bytes);
            if self.channel.say(Report::Progress { messages, bytes, total }).is_err() {
                return ControlFlow::Break(());
            }
        }
        match self.channel.interrupted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
