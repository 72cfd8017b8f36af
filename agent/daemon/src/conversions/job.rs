//! One conversion, as those see it who wait for it.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

use crate::outcome::{Outcome, Progress, Reason, Why};

/// Where a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// None: it waits for its turn.
    pub progress: Option<Progress>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

/// A handle of a job. Cheap to copy; all copies are the same job.
#[derive(Clone, Debug)]
pub struct Job(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    view: watch::Sender<View>,
    why: watch::Sender<Why>,
    stop: watch::Sender<bool>,
    held: OnceLock<Reason>,
}

impl Job {
    pub(super) fn new(why: Why) -> Self {
        Self(Arc::new(Inner {
            view: watch::Sender::new(View::default()),
            why: watch::Sender::new(why),
            stop: watch::Sender::new(false),
            held: OnceLock::new(),
        }))
    }

    /// Where it is, and every change of that.
    pub fn watch(&self) -> watch::Receiver<View> {
        self.0.view.subscribe()
    }

    /// Waits for its end.
    pub async fn outcome(&self) -> Outcome {
        let mut view = self.watch();
        // The sender is in this very handle, so it cannot be gone; and a job without an end has not done anything.
        match view.wait_for(|view| view.outcome.is_some()).await {
            Ok(view) => view.outcome.clone().unwrap_or(Outcome::Stopped),
            Err(_) => Outcome::Stopped,
        }
    }

    /// Where it is now.
    pub fn view(&self) -> View {
        self.0.view.borrow().clone()
    }

    /// On whose behalf it runs now.
    pub fn why(&self) -> Why {
        *self.0.why.borrow()
    }

    pub(super) fn raise(&self, to: Why) {
        self.0.why.send_if_modified(|why| {
            let raised = to > *why;
            *why = to.max(*why);
            raised
        });
    }

    pub(super) fn watch_why(&self) -> watch::Receiver<Why> {
        self.0.why.subscribe()
    }

    pub(super) fn watch_stop(&self) -> watch::Receiver<bool> {
        self.0.stop.subscribe()
    }

    pub(super) fn moves(&self, progress: Progress) {
        self.0.view.send_modify(|view| view.progress = Some(progress));
    }

    pub(super) fn end(&self, outcome: Outcome) {
        self.0.view.send_modify(|view| view.outcome = Some(outcome));
    }

    pub(super) fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    pub(super) fn hold(&self, reason: Reason) {
        // A second hold changes nothing: the first one has stopped it already.
        let _ = self.0.held.set(reason);
        self.stop();
    }

    pub(super) fn held(&self) -> Option<Reason> {
        self.0.held.get().cloned()
    }
}
