//! A conversion that was killed late redoes no more than it must: what was staged is taken over, the rest is written.

use mailready_tests::lab::{Differences, LabError, Result, eventually};
use mailready_tests::stops::{Order, Place, Whom};

use super::deaths::{self, Work};
use super::rig::Rig;

/// Messages of the inbox, of which nine tenths are staged when the death comes.
const MESSAGES: usize = 1000;

/// Messages that the two halves of a worker hand to each other at a time, and how many of those may be under way.
const UNDER_WAY: usize = 128 * 3;

/// How often each thing was done to message files of stages.
fn of_messages(places: &[Place], call: &str) -> usize {
    let of_stage = |place: &&Place| {
        let about = &place.about;
        place.program == "mailready-worker" && about.contains("/stage-") && about.contains(".mailready,S=")
    };
    places.iter().filter(of_stage).filter(|place| place.call == call).count()
}

#[test]
fn a_conversion_killed_at_nine_tenths_writes_only_the_rest() -> Result<()> {
    let Some(mut rig) = Rig::new()? else { return Ok(()) };
    rig.fill_inbox(MESSAGES)?;
    let places = deaths::count(&rig, Work::Conversion, &Vec::new())?;
    // Of six messages in each of the two folders.
    assert_eq!(of_messages(&places, "openat"), MESSAGES + 12);
    let nth = MESSAGES * 9 / 10;
    let is_one = |place: &Place| of_messages(std::slice::from_ref(place), "openat") == 1;
    let mut spots = deaths::spots(&places).into_iter().zip(&places).filter(|(_, place)| is_one(place));
    let spot =
        spots.nth(nth).map(|(spot, _)| spot).ok_or_else(|| LabError::Setup("too few messages".into()))?;

    rig.restore()?;
    let kill = Order::Kill { nth: spot.nth, kind: spot.kind.clone(), whom: Whom::All };
    let dead = rig.start_traced(&kill)?;
    rig.convert()?;
    dead.wait_end()?;
    assert!(rig.control()?.reached()?.is_some(), "{spot}: {}", dead.log.tail());

    let agent = rig.start_traced(&Order::Count)?;
    rig.wait_settled(&agent, false)?;
    let said = rig.convert()?;
    if !said.contains("\"converted\"") {
        return Err(LabError::Protocol {
            asked: "a conversion".into(),
            got: format!("{said}{}", agent.log.tail()),
        });
    }
    let places = rig.control()?.places()?;
    let written = of_messages(&places, "openat");
    let taken = of_messages(&places, "renameat2");
    assert!(written <= MESSAGES + 12 - nth + UNDER_WAY, "{written} files were written, {taken} taken over");
    assert_eq!(written + taken, MESSAGES + 12);
    println!("killed at {nth} of {MESSAGES}: {taken} files taken over, {written} written");
    rig.wait_settled(&agent, false)?;
    assert!(!rig.has_kept_stage()?);
    let found = Differences::between(&rig.expected, &rig.dump()?);
    assert!(found.is_empty(), "{found}");
    Ok(())
}

/// Nobody comes for it: after some days a worker removes it. Without what the agent remembers it stays until somebody comes.
#[test]
fn a_stage_that_nobody_comes_for_does_not_stay_for_ever() -> Result<()> {
    let Some(rig) = Rig::new()? else { return Ok(()) };
    let places = deaths::count(&rig, Work::Conversion, &Vec::new())?;
    let spots = deaths::spots(&places);
    let seal = spots.iter().rfind(|spot| spot.kind.contains("mailready-marker"));
    let spot = seal.cloned().ok_or_else(|| LabError::Setup("no marker is written".into()))?;
    for wiped in [false, true] {
        rig.restore()?;
        let dead =
            rig.start_traced(&Order::Kill { nth: spot.nth, kind: spot.kind.clone(), whom: Whom::All })?;
        rig.convert()?;
        dead.wait_end()?;
        let agent = rig.start_plain()?;
        rig.wait_settled(&agent, false)?;
        assert!(rig.has_kept_stage()? && rig.remembers_stages()?, "{}", agent.log.tail());
        agent.terminate()?;
        if wiped {
            rig.wipe()?;
        }
        rig.age(5 * 24 * 60 * 60)?;
        let agent = rig.start_plain()?;
        if !wiped {
            let gone = || (!rig.has_kept_stage().ok()? && !rig.remembers_stages().ok()?).then_some(());
            eventually("the stage is removed", || agent.log.tail(), gone)?;
        }
        assert!(rig.convert()?.contains("\"converted\""), "{}", agent.log.tail());
        rig.wait_settled(&agent, false)?;
        assert!(!rig.has_kept_stage()?);
        let found = Differences::between(&rig.expected, &rig.dump()?);
        assert!(found.is_empty(), "{found}");
    }
    Ok(())
}
