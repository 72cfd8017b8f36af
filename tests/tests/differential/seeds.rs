//! Mailboxes from seeds, converted.

use mailready_tests::differential::{Committed, Past, Stand, Variation, sessions};
use mailready_tests::lab::{Differences, LabError, Look, Result, skip};

/// Without this, no comparison would prove anything.
#[test]
fn looking_changes_nothing() -> Result<()> {
    let Some(stand) = Stand::before(Variation::debian())? else { return Ok(()) };
    let ann = stand.user("ann")?;
    Past { seed: 1, rounds: 6, folders: true, look: Look::WithGuids }.live(&stand, &ann)?;
    let undone = stand.look_without_a_trace(&ann, Look::WithGuids)?;
    let first = stand.look_closely(&ann, Look::WithGuids)?;
    let second = stand.look_closely(&ann, Look::WithGuids)?;
    let found = Differences::between(&undone, &first);
    assert!(found.is_empty(), "a look that was undone, and the next: {found}");
    let found = Differences::between(&first, &second);
    assert!(found.is_empty(), "a look, and the next: {found}");
    assert!(first.inbox()?.messages.len() > 5 && first.folders.len() > 15, "there is much to look at");
    Ok(())
}

/// Lives a past on a site, converts, and finds nothing changed.
fn nothing_changes(variation: Variation, past: Past) -> Result<()> {
    let Some(mut stand) = Stand::before(variation)? else { return Ok(()) };
    let ann = stand.user("ann")?;
    past.live(&stand, &ann)?;
    // As the mail lies there: flags that only the index has, mail that nobody has opened.
    let before = stand.look_without_a_trace(&ann, past.look)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    let faults = Committed::new(&stand, &ann, &before)?.faults(past.look)?;
    assert!(faults.is_empty(), "{} faults on {past:?}:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

const PAST: Past = Past { seed: 0, rounds: 10, folders: true, look: Look::AsClients };

#[test]
fn an_inbox_alone() -> Result<()> {
    nothing_changes(Variation::debian(), Past { seed: 10, folders: false, ..PAST })
}

#[test]
fn folders() -> Result<()> {
    nothing_changes(Variation::debian(), Past { seed: 20, ..PAST })
}

#[test]
fn folders_whose_guids_were_asked_for() -> Result<()> {
    nothing_changes(Variation::debian(), Past { seed: 25, look: Look::WithGuids, ..PAST })
}

/// In one folder of this past the mbox says \Seen of a message and Dovecot's index does not know it yet.
#[test]
fn a_flag_that_the_index_has_not_taken_in() -> Result<()> {
    nothing_changes(Variation::debian(), Past { seed: 21, look: Look::WithGuids, ..PAST })
}

#[test]
fn folders_in_summer_time() -> Result<()> {
    nothing_changes(Variation::summer_time(), Past { seed: 22, ..PAST })
}

#[test]
fn folders_as_folders() -> Result<()> {
    nothing_changes(Variation::fs(), Past { seed: 23, ..PAST })
}

/// What Dovecot has to be asked for by name has other names there.
#[test]
fn folders_behind_a_prefix() -> Result<()> {
    nothing_changes(Variation::prefix(), Past { seed: 24, ..PAST })
}

/// Many more seeds, and longer pasts.
#[test]
fn more_seeds() -> Result<()> {
    if std::env::var_os("MAILREADY_LONG").is_none() {
        skip("MAILREADY_LONG is not set: 12 further seeds take some minutes");
        return Ok(());
    }
    let sites = [Variation::debian, Variation::fs, Variation::summer_time, Variation::prefix];
    let looks = [Look::AsClients, Look::WithGuids];
    let mut lost = 0;
    for seed in 100..112 {
        let number = seed as usize;
        let past = Past { seed, rounds: 25, folders: true, look: looks[number / 4 % 2] };
        match nothing_changes(sites[number % 4](), past) {
            // Dovecot has damaged the mbox itself (2.3 does, now and then, when a session dies): there is nothing to compare.
            Err(LabError::Setup(why)) if why.starts_with(sessions::EVER_NEW) => lost += 1,
            done => done?,
        }
    }
    assert!(lost < 4, "{lost} of 12 pasts ended with an mbox that the old server could not read itself");
    Ok(())
}
