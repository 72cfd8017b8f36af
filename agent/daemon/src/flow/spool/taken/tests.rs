use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::super::{Make, Ownership};
use super::*;

/// A spool folder with the user's mbox, the archive below it, and the tombstone of entry 0 in there.
struct Bench {
    folder: tempfile::TempDir,
    spool: Spool,
    run: RunId,
    locked: FileStat,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let inbox = folder.path().join("ann");
    fs::write(&inbox, "From a@b Thu Jan  1 10:00:00 2026\n\nx\n").unwrap();
    let uid = nix::unistd::Uid::effective().as_raw();
    let spool = Spool::open(&inbox, &folder.path().join(".mailready"), uid, Make::Unless(&|| 0)).unwrap();
    let run = RunId::generate().unwrap();
    let AtPath::File(_, locked) = spool.at_path().unwrap() else { panic!("an mbox") };
    spool.make_tombstone(&run, 0, Ownership::of(&locked)).unwrap();
    Bench { folder, spool, run, locked }
}

impl Bench {
    fn names(&self) -> Vec<String> {
        let archive = fs::read_dir(self.folder.path().join(".mailready")).unwrap();
        archive.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn put_link_at_the_place(&self) {
        fs::rename(self.folder.path().join("ann"), self.folder.path().join("away")).unwrap();
        symlink("away", self.folder.path().join("ann")).unwrap();
    }
}

#[test]
fn the_locked_file_and_another_of_the_users_are_believed() {
    let bench = bench();
    assert_eq!(bench.spool.take(&bench.run, 0, &bench.locked), Ok(Taken::Locked));
    let inbox = bench.folder.path().join("ann");
    fs::write(bench.folder.path().join("new"), "From c@d\n\ny\n").unwrap();
    fs::rename(bench.folder.path().join("new"), &inbox).unwrap();
    bench.spool.make_tombstone(&bench.run, 7, Ownership::of(&bench.locked)).unwrap();
    assert_eq!(bench.spool.take(&bench.run, 7, &bench.locked), Ok(Taken::Another));
    assert_eq!(bench.spool.entries(&bench.run).unwrap(), [0, 7]);
}

#[test]
fn what_is_foreign_goes_back_and_the_tombstone_that_stood_there_lingers_as_an_entry() {
    let bench = bench();
    bench.put_link_at_the_place();
    let said = bench.spool.take(&bench.run, 0, &bench.locked).unwrap_err();
    assert!(said.contains("it was put back there"), "{said}");
    assert!(bench.folder.path().join("ann").is_symlink());
    let entries = bench.spool.entries(&bench.run).unwrap();
    assert!(matches!(entries.as_slice(), [later] if *later > 0), "{entries:?}");
}

/// Swapped twice: what we had put at the place is not there any more, so there is nothing to exchange it for.
#[test]
fn what_cannot_go_back_is_kept_under_a_name_that_is_no_entry() {
    let bench = bench();
    bench.put_link_at_the_place();
    let name = Spool::entry_name(&bench.run, 0);
    let (_, came) = bench.spool.exchange_and_look(&name, &bench.locked).unwrap();
    let said = bench.spool.expel(&bench.run, &name, came.unwrap_err(), Some((0, 0)));
    assert!(said.contains("nothing uses it"), "{said}");
    assert_eq!(bench.spool.entries(&bench.run).unwrap(), [] as [u64; 0]);
    let names = bench.names();
    assert!(matches!(names.as_slice(), [kept] if kept.ends_with(".foreign")), "{names:?}");
    assert!(bench.spool.is_quiet(&bench.run).unwrap(), "the tombstone stands");
    assert!(bench.spool.open_entry(&bench.run, 0).unwrap().is_none());
}

#[test]
fn a_tombstone_gets_no_more_than_the_nine_bits_of_a_mode() {
    let bench = bench();
    let inbox = bench.folder.path().join("ann");
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o6640)).unwrap();
    let AtPath::File(_, stat) = bench.spool.at_path().unwrap() else { panic!("an mbox") };
    bench.spool.make_tombstone(&bench.run, 9, Ownership::of(&stat)).unwrap();
    bench.spool.take(&bench.run, 9, &stat).unwrap();
    assert_eq!(fs::metadata(&inbox).unwrap().mode() & 0o7777, 0o640);
}
