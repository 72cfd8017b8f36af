//! Whether Dovecot's user database has our map in it, by which LDA and LMTP deliver to converted users.
//!
//! Asked of a running Dovecot with a user that only the map has ([`map::PROBE`]): whatever the configuration looks like, it either finds that line or would defer the mail of everybody who is converted.
//! One that does not run is judged by its configuration.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::dovecot::Dovecot;
use super::super::map;
use super::fault::Fault;
use super::section::Section;

pub(super) fn check(dovecot: &Dovecot, root: &Section, state: &Path) -> Result<(), Fault> {
    let path = state.join(map::NAME);
    judge(root, &path)?;
    let readable =
        |path: &Path, bits| path.metadata().is_ok_and(|found| found.permissions().mode() & bits == bits);
    if !readable(state, 0o001) {
        return Err(Fault::new(
            format!("{} is closed to Dovecot, which reads the map in it", state.display()),
            format!("chmod o+x {}", state.display()),
        ));
    }
    if !dovecot.is_running() {
        return Ok(());
    }
    let said = dovecot.user_mail(map::PROBE).map_err(|what| Fault::new(what, "see `doveadm user`"))?;
    match said {
        Some(mail) if mail == map::PROBE_MAIL => Ok(()),
        said => Err(Fault::new(
            format!(
                "does not find {} of the map {} (`doveadm user {}` says {:?})",
                map::PROBE,
                path.display(),
                map::PROBE,
                said.unwrap_or_default()
            ),
            format!("{}; then reload Dovecot", lines(&path)),
        )),
    }
}

fn lines(path: &Path) -> String {
    format!(
        "see packaging/dovecot: userdb {{ driver = passwd result_success = continue-ok }} \
         userdb {{ driver = passwd-file args = username_format=%n {} }}",
        path.display()
    )
}

fn judge(root: &Section, path: &Path) -> Result<(), Fault> {
    let databases: Vec<&Section> = root.of_kind("userdb").collect();
    let file_of = |each: &Section| {
        let args = each.value("args").unwrap_or_default();
        (each.value("driver") == Some("passwd-file"))
            .then(|| args.split_whitespace().next_back().unwrap_or_default().to_owned())
    };
    let at = databases.iter().position(|each| file_of(each).is_some_and(|file| Path::new(&file) == path));
    let Some(at) = at else {
        let other = databases
            .iter()
            .filter_map(|each| file_of(each))
            .find(|file| Path::new(file).file_name() == path.file_name() || file.contains("mailready"));
        let text = match other {
            Some(other) => format!("reads {other} as a user database, and the map is {}", path.display()),
            None => format!(
                "does not read the map {}, by which its LDA and LMTP find converted users",
                path.display()
            ),
        };
        return Err(Fault::new(text, lines(path)));
    };
    let arguments = databases[at].value("args").unwrap_or_default();
    let format = arguments.split_whitespace().find_map(|word| word.strip_prefix("username_format="));
    if let Some(format) = format.filter(|format| !["%u", "%n", "%Lu", "%Ln"].contains(format)) {
        return Err(Fault::new(
            format!("looks for users in the map as {format}, and the map has plain names"),
            format!("set args = username_format=%n {}", path.display()),
        ));
    }
    let ends = |each: &&&Section| !each.value("result_success").unwrap_or_default().starts_with("continue");
    if let Some(before) = databases[..at].iter().find(ends) {
        return Err(Fault::new(
            format!(
                "stops at its user database {} before it comes to the map",
                before.value("driver").unwrap_or("?")
            ),
            format!(
                "add result_success = continue-ok to userdb {{ driver = {} }}",
                before.value("driver").unwrap_or("?")
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "userdb {\n driver = passwd\n result_success = continue-ok\n}\n\
        userdb {\n args = username_format=%n /var/lib/mailready/userdb\n driver = passwd-file\n}\n";

    #[test]
    fn the_map_is_found_only_where_dovecot_comes_to_it() {
        let judged = |from: &str, to: &str| {
            judge(&Section::parse(&GOOD.replace(from, to)), Path::new("/var/lib/mailready/userdb"))
                .map_err(|fault| format!("{} | {}", fault.text, fault.mend))
        };
        assert_eq!(judged("", ""), Ok(()));
        for (from, to, words) in [
            ("mailready/userdb", "mailready/users", "reads /var/lib/mailready/users"),
            ("passwd-file", "static", "does not read the map"),
            ("%n", "%u@%d", "looks for users in the map as %u@%d"),
            ("continue-ok", "return-ok", "stops at its user database passwd"),
            (" result_success = continue-ok\n", "", "result_success = continue-ok"),
        ] {
            let said = judged(from, to).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }
}
