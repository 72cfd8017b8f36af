//! Before a site's first commit: Dovecot reads copies of the mbox and of the stage, as the user and with the site's own settings, and the worker compares.

use std::os::fd::AsFd;
use std::path::Path;

use mailready_config::Layout;
use mailready_worker::PROOF_ARGUMENTS;
use mailready_worker::wire::{Block, Order, Report};

use super::crew::{Worker, WorkerError};
use super::dovecot::masks;
use super::reasons;
use super::site::{Reading, proof_places};
use super::told::Told;
use crate::account::Account;
use crate::outcome::{Outcome, Reason};
use crate::records::Record;
use crate::settings::Settings;

/// Why a stage is not proven.
pub(super) enum StageProof {
    /// Dovecot shows something else.
    Differs(Reason),
    /// It could not be asked, or the worker could not compare.
    Not(Outcome),
}

/// Every instance is asked: each has its own settings.
pub(super) fn prove(
    worker: &mut Worker,
    settings: &Settings,
    account: &Account,
    record: &Record,
    stop: &dyn Fn() -> bool,
) -> Result<(), StageProof> {
    let mut proof = Proof { worker, settings, account, stop };
    proof.order(Order::ProofPrepare, None)?;
    let [mbox, stage] = proof_places(account, &record.run);
    let layout = match settings.config.mail.layout {
        Layout::MaildirPlusPlus => "",
        Layout::Fs => ":LAYOUT=fs",
    };
    let (mbox, stage) = (plain(&mbox)?, plain(&stage)?);
    let mbox = format!("mbox:{mbox}/root:INBOX={mbox}/inbox");
    let stage = format!("maildir:{stage}{layout}");
    let masks = masks(&record.served.prefix);
    let mut query: Vec<&str> = PROOF_ARGUMENTS.to_vec();
    query.push("(");
    for (number, mask) in masks.iter().enumerate() {
        query.extend((number > 0).then_some("OR"));
        query.extend(["mailbox", mask]);
    }
    query.extend([")", "ALL"]);
    let mut status = vec!["-f", "tab", "mailbox", "status", "messages uidnext uidvalidity"];
    status.extend(masks.iter().map(String::as_str));
    for instance in &settings.config.site.dovecot_config {
        proof.show(instance, &mbox, ("mbox", &query), Order::ProofMbox)?;
        proof.show(instance, &stage, ("stage", &query), Order::ProofStage)?;
        proof.boxes(instance, &stage, &status)?;
    }
    proof.order(Order::ProofDone, None)
}

struct Proof<'a> {
    worker: &'a mut Worker,
    settings: &'a Settings,
    account: &'a Account,
    stop: &'a dyn Fn() -> bool,
}

impl Proof<'_> {
    fn order(&mut self, order: Order, fd: Option<std::os::fd::BorrowedFd<'_>>) -> Result<(), StageProof> {
        let answer =
            self.worker.order(order, fd).and_then(|()| self.worker.answer(self.stop, &mut |_, _, _| {}));
        match answer {
            Ok(Report::Obeyed | Report::CheckPrepared { .. }) => Ok(()),
            Ok(other) => Err(StageProof::Not(reasons::worker(&self.worker.out_of_turn(other), self.account))),
            Err(WorkerError::Blocked(block @ Block::StageDiffers, detail, words)) => {
                Err(StageProof::Differs(reasons::blocked(block, detail, &words, self.account)))
            }
            Err(error) => Err(StageProof::Not(reasons::worker(&error, self.account))),
        }
    }

    /// Has the worker read what Dovecot shows at a location.
    fn show(
        &mut self,
        instance: &Path,
        location: &str,
        what: (&'static str, &[&str]),
        order: Order,
    ) -> Result<(), StageProof> {
        let (reading, shown) = Reading::start(&self.settings.config, instance, self.account, location, what)
            .map_err(|error| unreadable(error.to_string()))?;
        let answer = self.order(order, Some(shown.as_fd()));
        // The worker is the only one that reads: when it is gone, the writer ends too.
        drop(shown);
        answer?;
        reading.end().map_err(unreadable)
    }

    fn boxes(&mut self, instance: &Path, location: &str, arguments: &[&str]) -> Result<(), StageProof> {
        let (config, account) = (&self.settings.config, self.account);
        let mut done = Ok(());
        let told = Told::by(|told| {
            let what = ("stage's mailboxes", arguments);
            let read = Reading::start(config, instance, account, location, what)
                .and_then(|(reading, mut shown)| {
                    let mut to = std::fs::File::from(told.try_clone()?);
                    std::io::copy(&mut shown, &mut to)?;
                    Ok(reading)
                })
                .map_err(|error| error.to_string());
            done = read.and_then(Reading::end);
        });
        done.map_err(unreadable)?;
        let told = told.map_err(|error| unreadable(error.to_string()))?;
        let told = told.ok_or_else(|| unreadable("it says nothing".to_owned()))?;
        self.order(Order::ProofBoxes, Some(told.as_fd()))
    }
}

fn unreadable(what: String) -> StageProof {
    StageProof::Not(Outcome::Failed(Reason::new(
        "proof",
        format!("Dovecot could not read the copies before the first commit: {what}"),
        "see that users may read Dovecot's configuration, as they may on Debian",
    )))
}

/// A path as a location holds it.
fn plain(path: &Path) -> Result<String, StageProof> {
    let plain = path.to_str().filter(|path| !path.contains([':', '\n', '"', '$']));
    plain
        .map(|path| path.replace('%', "%%"))
        .ok_or_else(|| unreadable(format!("{} cannot stand in a mail location", path.display())))
}
