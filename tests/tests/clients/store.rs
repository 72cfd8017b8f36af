//! What a client has made of the mail on its own disk: files of one message each, below `cur` and `new` of a folder's place.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mailready_tests::lab::{Doing, Result};

use super::account::{Contents, sorted};
use super::laptop::Laptop;

/// Inode, length and time (nanoseconds) of each message file: a file that was fetched again, written again or renamed is
/// another one.
pub type Files = BTreeMap<PathBuf, (u64, u64, i128)>;

/// All message files of the laptop's store, by their paths in it.
pub fn files(laptop: &Laptop) -> Result<Files> {
    let store = laptop.store();
    laptop
        .inside(|| {
            let mut files = Files::new();
            walk(Path::new(&store), &mut |path| {
                let stat = path.metadata()?;
                let time = i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
                files.insert(
                    path.strip_prefix(&store).unwrap_or(path).to_owned(),
                    (stat.ino(), stat.size(), time),
                );
                Ok(())
            })
            .map(|()| files)
        })?
        .doing(|| "walk through the client's store")
}

/// What is in the store, in the words of [`Contents`]. Flags are those of the file names, and the folder is the path.
pub fn contents(laptop: &Laptop) -> Result<Contents> {
    let store = laptop.store();
    laptop
        .inside(|| {
            let mut contents = Contents::new();
            walk(Path::new(&store), &mut |path| {
                let folder = path.parent().and_then(Path::parent).unwrap_or(path);
                let folder = folder.strip_prefix(&store).unwrap_or(folder).to_string_lossy().into_owned();
                // Other letters are keywords, which each client names in its own way: P is mbsync's for $Forwarded.
                let flags: String = flags(path).chars().filter(|letter| "DFRST".contains(*letter)).collect();
                contents.entry((folder, subject(path)?)).or_default().push(sorted(&flags));
                Ok(())
            })
            .map(|()| contents)
        })?
        .doing(|| "read the client's store")
}

/// Adds a flag to a message of the inbox, as a program does that reads the store: by renaming its file.
pub fn flag(laptop: &Laptop, wanted: &str, letter: char) -> Result<()> {
    on_message(laptop, wanted, move |path| {
        let flags = sorted(&format!("{}{letter}", flags(path)));
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let base = name.split_once(":2,").map_or(name.as_str(), |(base, _)| base);
        let folder = path.parent().and_then(Path::parent).unwrap_or(path);
        fs::rename(path, folder.join(format!("cur/{base}:2,{flags}")))
    })
}

/// Deletes a message of the inbox, as a program does that reads the store.
pub fn delete(laptop: &Laptop, wanted: &str) -> Result<()> {
    on_message(laptop, wanted, |path| fs::remove_file(path))
}

fn on_message(
    laptop: &Laptop,
    wanted: &str,
    work: impl FnOnce(&Path) -> std::io::Result<()> + Send,
) -> Result<()> {
    let inbox = PathBuf::from(laptop.store()).join("INBOX");
    laptop
        .inside(|| {
            let mut found = Vec::new();
            walk(&inbox, &mut |path| {
                if subject(path)? == wanted {
                    found.push(path.to_owned());
                }
                Ok(())
            })?;
            assert_eq!(found.len(), 1, "{wanted}: {found:?}");
            work(&found[0])
        })?
        .doing(|| format!("change {wanted} in the client's store"))
}

/// The letters behind the last `:2,`.
fn flags(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.rsplit_once(":2,").map(|(_, flags)| flags.to_owned()).unwrap_or_default()
}

fn subject(path: &Path) -> std::io::Result<String> {
    let text = fs::read(path)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or("no subject").trim().to_owned())
}

/// Calls `each` with every file in a folder named `cur` or `new`.
fn walk(folder: &Path, each: &mut dyn FnMut(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, each)?;
        } else if folder.ends_with("cur") || folder.ends_with("new") {
            each(&path)?;
        }
    }
    Ok(())
}
