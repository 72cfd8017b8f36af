//! Whatever becomes of the agent or of the post-login script, the login goes on and shows the mail.

use mailready_tests::lab::{Dump, Machine, Result, Site, mail};

#[test]
fn without_an_agent() -> Result<()> {
    let Some(machine) = Machine::for_test()? else { return Ok(()) };
    machine.install_site(Site::Small)?;
    machine.install_mailready(Site::Small)?;
    let _dovecot = machine.start_dovecot()?;
    let ann = machine.add_user("ann", "secret", &mail::mbox(3, 5))?;
    assert_eq!(Dump::take(&machine, &ann)?.inbox()?.exists, 5);
    Ok(())
}
