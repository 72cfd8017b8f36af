//! Sessions: when they decide, what SELECT shows them, what becomes of a flag they store.
//!
//! Dovecot keeps a stored flag in its index and writes it into the mbox when the mailbox is closed; a session needs no
//! descriptor of the mbox to acknowledge one. After it has the lock it compares the inode with the path's, so what it
//! works on is always what stands at the path.

use super::files::{Dir, MailFile};
use super::spec::{Guard, Spec};
use super::world::{Plan, Session, World};

/// What a session can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionAct {
    /// Logs in; the agent answers `stay`.
    ToldStay,
    /// Logs in; no answer.
    GoesUnanswered,
    /// Logs in and finds the marker, and no rollback under way.
    FindsMarker,
    /// SELECT in what it takes for the Maildir.
    SelectMaildir,
    /// STORE there.
    StoreMaildir,
    /// SELECT.
    Select,
    /// STORE of a flag on message 0.
    Store,
    /// LOGOUT.
    Logout,
}

/// What the session can do now.
pub fn actions(spec: &Spec, world: &World, out: &mut Vec<SessionAct>) {
    let place = world.spool.now().place;
    match world.session {
        Session::Out if world.left.logins == 0 => {}
        Session::Out if world.home.now().marked() => {
            if !world.home.now().rolling_back {
                out.push(SessionAct::FindsMarker);
            }
        }
        Session::ToMaildir => out.push(SessionAct::SelectMaildir),
        Session::InMaildir => {
            out.push(SessionAct::Logout);
            if !world.flag_acked {
                out.push(SessionAct::StoreMaildir);
            }
        }
        Session::Out => {
            let looked = world.at.plan != Plan::Recover || !spec.keeps(Guard::LookBeforeStay);
            if world.agent.alive && !world.agent.gate && looked {
                out.push(SessionAct::ToldStay);
            }
            if spec.unanswered || !world.agent.alive {
                out.push(SessionAct::GoesUnanswered);
            }
        }
        Session::Unanswered | Session::Stay => {
            let waits = place.is_some_and(|ino| world.leased(ino) || world.locked(ino));
            if !waits && !world.worker.index_locked {
                out.push(SessionAct::Select);
            }
        }
        Session::Selected { ino, .. } => {
            if !world.worker.index_locked {
                if !world.flag_acked {
                    out.push(SessionAct::Store);
                }
                if !(world.index_pending && (world.leased(ino) || world.locked(ino))) {
                    out.push(SessionAct::Logout);
                }
            }
        }
    }
}

/// Does it.
pub fn take(spec: &Spec, world: &mut World, act: SessionAct) {
    match act {
        SessionAct::ToldStay => login(world, Session::Stay),
        SessionAct::GoesUnanswered => login(world, Session::Unanswered),
        SessionAct::FindsMarker => login(world, Session::ToMaildir),
        SessionAct::SelectMaildir => select_maildir(spec, world),
        SessionAct::StoreMaildir => {
            select_maildir(spec, world);
            if world.session == Session::InMaildir {
                world.flag_acked = true;
                let flag =
                    |dir: &mut Dir| dir.mails.iter_mut().filter(|m| m.msg == 0).for_each(|m| m.flag = true);
                world.home.everywhere(|home| {
                    home.maildir.as_mut().or(home.stage.as_mut()).into_iter().for_each(flag)
                });
            }
        }
        SessionAct::Select => select(spec, world),
        SessionAct::Store => {
            select(spec, world);
            if matches!(world.session, Session::Selected { .. }) {
                world.index_pending = true;
                world.index_version += 1;
                world.flag_acked = true;
            }
        }
        SessionAct::Logout => {
            flush(world);
            world.session = Session::Out;
        }
    }
}

fn login(world: &mut World, session: Session) {
    world.left.logins -= 1;
    world.session = session;
}

/// What SELECT, and the sync of every later command, makes of the file at the path.
fn select(spec: &Spec, world: &mut World) {
    let stay = matches!(world.session, Session::Stay | Session::Selected { stay: true, .. });
    let place = world.spool.now().place;
    world.session = match (place, world.at_place()) {
        (Some(ino), Some(file)) if !file.tombstone => {
            if !shows_all(spec, file) {
                world.seen.expunge = true;
            }
            Session::Selected { ino, stay }
        }
        (_, Some(_tombstone)) => {
            world.seen.stay_broken |= stay;
            Session::Out
        }
        (_, None) => {
            // Dovecot makes an empty mbox, under the UIDVALIDITY of its index.
            world.seen.expunge = true;
            Session::Out
        }
    };
}

/// Dovecot makes an empty Maildir where there is none, and serves whatever Maildir there is.
fn select_maildir(spec: &Spec, world: &mut World) {
    let home = world.home.now();
    world.session = match &home.maildir {
        Some(dir) => {
            let shown = (0..spec.old).all(|msg| dir.all().any(|item| item.msg == msg));
            world.seen.expunge |= !shown;
            Session::InMaildir
        }
        None => {
            world.seen.expunge |= !home.barred;
            Session::Out
        }
    };
}

/// Every message that was there from the beginning.
pub fn shows_all(spec: &Spec, file: &MailFile) -> bool {
    (0..spec.old).all(|msg| file.items.iter().any(|item| item.msg == msg && !item.half))
}

/// Flags from the index into the mbox, if there still is one at the path.
pub fn flush(world: &mut World) {
    let Some(ino) = world.spool.now().place else { return };
    if world.index_pending && !world.file(ino).tombstone {
        world.file_mut(ino).items.iter_mut().filter(|item| item.msg == 0).for_each(|item| item.flag = true);
        world.index_pending = false;
    }
}
