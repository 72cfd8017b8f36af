//! Mailboxes of others, if there is a folder of them: all as folders of one user.

use std::fs;
use std::path::{Path, PathBuf};

use mailready_tests::differential::{Committed, Stand, Variation};
use mailready_tests::lab::{Doing, Look, Result, skip};

#[test]
fn mailboxes_of_others_as_folders() -> Result<()> {
    let Some(folder) = std::env::var_os("MAILREADY_CORPORA") else {
        skip("MAILREADY_CORPORA names no folder of further mailboxes");
        return Ok(());
    };
    let Some(mut stand) = Stand::before(Variation::debian())? else { return Ok(()) };
    let ann = stand.user("ann")?;
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files).doing(|| "look for mailboxes")?;
    files.sort();
    assert!(!files.is_empty(), "there are files in {}", folder.display());
    let corpus = stand.mbox(&ann, "corpus");
    stand
        .machine
        .run("install", ["-d", "-o", "ann", "-g", "ann", "-m", "700", &stand.root(&ann), &corpus])?;
    for (number, file) in files.iter().enumerate() {
        let content = fs::read(file).doing(|| format!("read {}", file.display()))?;
        stand.machine.write(&format!("{corpus}/{number}"), &content, (ann.uid, ann.gid), 0o600)?;
    }
    // The first session gives the mailboxes their numbers.
    stand.look(&ann)?;
    let before = stand.look(&ann)?;
    println!(
        "{} files: {} are mailboxes, {} are not",
        files.len(),
        before.folders.len() - 1,
        before.refused.len()
    );
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    let faults = Committed::new(&stand, &ann, &before)?.faults(Look::AsClients)?;
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
