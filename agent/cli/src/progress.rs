//! Progress on a terminal: a bar for each mailbox that is being converted at the moment.
//!
//! Drawn on stderr, so that stdout holds results only. Off a terminal nothing is drawn: a log or a mail from cron is not
//! helped by hundreds of percentages.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;

use futures_core::Stream;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mailready_bus::{Details, MailboxChangedStream, State};

use crate::terminal;

/// More bars than a screen has lines would scroll it forever; those beyond are converted all the same.
const MOST_BARS: usize = 20;

/// The bars; empty off a terminal.
pub(crate) struct Bars {
    screen: Option<MultiProgress>,
    bars: HashMap<String, ProgressBar>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self { screen: terminal::is_watched().then(MultiProgress::new), bars: HashMap::new() }
    }

    /// Takes what `MailboxChanged` tells.
    pub(crate) fn changed(&mut self, user: &str, state: &str, details: &Details) {
        let known = State::parse(state);
        let is_running = matches!(
            known,
            Some(State::Staging | State::Staged | State::Committing | State::Waiting | State::RollingBack)
        );
        if !is_running {
            if let Some(bar) = self.bars.remove(user) {
                bar.finish_and_clear();
            }
            return;
        }
        // A bar of length zero would be drawn full.
        let total = details.bytes_total.unwrap_or(0).max(1);
        let Some(bar) = self.bar(user, known == Some(State::Waiting), total) else { return };
        if details.bytes_total.is_some() {
            bar.set_length(total);
        }
        if let Some(bytes) = details.bytes {
            bar.set_position(bytes);
        }
        bar.set_message(said(state, details));
    }

    /// The user's bar; one that only waits for its turn gets none of its own, but keeps the one it has.
    fn bar(&mut self, user: &str, is_waiting: bool, total: u64) -> Option<&ProgressBar> {
        if !self.bars.contains_key(user) {
            let screen = self.screen.as_ref()?;
            if is_waiting || self.bars.len() >= MOST_BARS {
                return None;
            }
            let bar = screen.add(ProgressBar::new(total).with_style(style()));
            bar.set_prefix(terminal::shown(user));
            self.bars.insert(user.to_owned(), bar);
        }
        self.bars.get(user)
    }

    /// A single bar, for a job that has no other.
    pub(crate) fn single(&mut self, name: &str, bytes: u64, total: u64, messages: u64) {
        let details = Details {
            bytes: Some(bytes),
            bytes_total: Some(total),
            messages: Some(messages),
            ..Details::default()
        };
        self.changed(name, State::Staging.as_str(), &details);
    }

    /// Takes all bars off the screen.
    pub(crate) fn clear(&mut self) {
        for (_, bar) in self.bars.drain() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Draws what comes until it is dropped.
pub(crate) async fn watch(mut changes: MailboxChangedStream, bars: &mut Bars) -> std::convert::Infallible {
    while let Some(change) = poll_fn(|cx| Pin::new(&mut changes).poll_next(cx)).await {
        // A signal of another shape comes from another version; the answers will tell all the same.
        if let Ok(args) = change.args() {
            bars.changed(&args.user, &args.state, &args.details);
        }
    }
    // The connection broke. The request notices too, and tells.
    std::future::pending().await
}

fn style() -> ProgressStyle {
    // What matters has room on 80 columns. The template is a constant; should it not parse, a bar of the default style is as good.
    ProgressStyle::with_template("{prefix:<16!} {bar:18} {percent:>3}% of {total_bytes:<10} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn said(state: &str, details: &Details) -> String {
    let text = match (details.messages, &details.reason) {
        (Some(messages), _) => format!("{state}, {} messages", terminal::grouped(messages)),
        (None, Some(reason)) => format!("{state}: {reason}"),
        (None, None) => state.to_owned(),
    };
    terminal::shown(&text)
}
