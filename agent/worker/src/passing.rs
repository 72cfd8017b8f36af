//! Long passes: says how far they are, and stops them when the agent has something to say or is gone.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mailready_mailbox::Progress;

use crate::channel::Channel;
use crate::room::Watch;
use crate::wire::Report;
use crate::{Stop, Task};

const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Passes over several mailboxes, told as one.
pub(crate) struct Passing<'a> {
    channel: &'a mut Channel,
    last: Instant,
    /// Done before the pass that is under way.
    before: Progress,
    /// Said to the agent; a quiet one only listens.
    loud: bool,
    /// Of the disk that is written to.
    room: Option<Watch<'a>>,
    /// Why it was broken off here.
    short: Option<Stop>,
}

impl<'a> Passing<'a> {
    /// `total` bytes in all.
    pub(crate) fn new(channel: &'a mut Channel, total: u64) -> Self {
        let before = Progress { total, ..Progress::default() };
        Self { channel, last: Instant::now(), before, loud: true, room: None, short: None }
    }

    /// One that says nothing, for what is short or done twice.
    pub(crate) fn quiet(channel: &'a mut Channel) -> Self {
        Self { loud: false, ..Self::new(channel, 0) }
    }

    /// Breaks off when the room that is to stay free in the work folder is not there any more.
    pub(crate) fn minding_room(self, task: Task<'a>) -> Self {
        Self { room: Some(Watch::new(task)), ..self }
    }

    /// What a pass that came to nothing is to be told as.
    pub(crate) fn or(&mut self, stop: Stop) -> Stop {
        self.short.take().unwrap_or(stop)
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
        if let Some(room) = &mut self.room
            && let Err(stop) =
                room.on(self.before.messages + progress.messages, self.before.bytes + progress.bytes)
        {
            self.short = Some(stop);
            return ControlFlow::Break(());
        }
        match self.channel.interrupted() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
