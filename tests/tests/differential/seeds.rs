//! Mailboxes from seeds, converted.

use mailready_tests::differential::{Committed, Past, Stand, Variation};
use mailready_tests::lab::{Differences, Look, Result};

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
    let before = stand.look_without_a_trace(&ann, past.look)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    let faults = Committed::new(&stand, &ann, &before)?.faults(past.look)?;
    assert!(faults.is_empty(), "seed {}: {} faults:\n{}", past.seed, faults.len(), faults.join("\n"));
    Ok(())
}

#[test]
fn an_inbox() -> Result<()> {
    nothing_changes(Variation::debian(), Past { seed: 10, rounds: 12, folders: false, look: Look::AsClients })
}

#[test]
fn an_inbox_whose_guids_were_asked_for() -> Result<()> {
    nothing_changes(Variation::debian(), Past { seed: 11, rounds: 12, folders: false, look: Look::WithGuids })
}

#[test]
fn an_inbox_in_summer_time() -> Result<()> {
    nothing_changes(
        Variation::summer_time(),
        Past { seed: 12, rounds: 12, folders: false, look: Look::AsClients },
    )
}
