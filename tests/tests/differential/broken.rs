//! Rules broken on purpose: a committed Maildir is changed into what a converter would have left that does not know the rule, and
//! the comparison must tell that very fact. Without this, a comparison that finds nothing proves nothing.

use std::fs::{self, File};
use std::path::Path;

use mailready_tests::differential::{Change, Committed, Mailbox, Stand, Variation, drop_indexes, example};
use mailready_tests::lab::{Differences, Look, Result};

/// A rule, how a Maildir looks that was made without it, and a part of what must be told.
struct Broken {
    rule: &'static str,
    change: Change,
    told: &'static str,
}

const fn broken(rule: &'static str, told: &'static str, change: Change) -> Broken {
    Broken { rule, change, told }
}

fn inbox(root: &Path) -> Mailbox {
    Mailbox::new(root)
}

/// What holds for each mailbox, shown on the inbox.
const OF_A_MAILBOX: [Broken; 34] = [
    broken("minutes of a zone count as seconds", "INTERNALDATE", |root| {
        inbox(root).shift_time(b"an identifier of another server", -30 * 60 + 30)
    }),
    broken("a date without a zone is local time", "INTERNALDATE", |root| {
        inbox(root).shift_time(b"Subject: first", 3600)
    }),
    broken("Status R is \\Seen", "flags", |root| inbox(root).without_letter('S')),
    broken("X-Status A is \\Answered", "flags", |root| inbox(root).without_letter('R')),
    broken("X-Status F is \\Flagged", "flags", |root| inbox(root).without_letter('F')),
    broken("X-Status T is \\Draft", "flags", |root| inbox(root).without_letter('D')),
    broken("X-Status D is \\Deleted", "flags", |root| inbox(root).without_letter('T')),
    broken("letters name the keywords they were given", "flags", |root| {
        inbox(root).edit("dovecot-keywords", |keywords| {
            let names: Vec<&str> =
                keywords.lines().filter_map(|line| line.split_once(' ')).map(|(_, n)| n).collect();
            let shifted = names.iter().cycle().skip(1).take(names.len()).enumerate();
            shifted.map(|(number, name)| format!("{number} {name}\n")).collect()
        })
    }),
    broken("keywords have names", "flags", |root| fs::remove_file(root.join("dovecot-keywords"))),
    broken("what no client has seen goes to new/", "RECENT", |root| inbox(root).move_all("new", "cur")),
    broken("what a client has seen goes to cur/", "RECENT", |root| inbox(root).move_all("cur", "new")),
    broken("metadata headers are not part of the message", "BODY[]", |root| {
        inbox(root).replace(b"Subject: first\n", b"Subject: first\nStatus: RO\n")
    }),
    broken("other headers of servers are", "BODY[]", |root| inbox(root).replace(b"X-UIDL: 1234.abcd\n", b"")),
    broken("metadata in attached messages is theirs", "BODY[]", |root| {
        inbox(root).replace(b"Status: RO\n", b"")
    }),
    broken("the line end before a separator is not the message's", "RFC822.SIZE", |root| {
        inbox(root).replace(b"last line", b"last line\n")
    }),
    broken("the line end before that is", "RFC822.SIZE", |root| {
        inbox(root).replace(b"the first text\n", b"the first text")
    }),
    broken("blank lines at the end stay", "BODY[]", |root| inbox(root).replace(b"\nx\n\n\n\n", b"\nx\n")),
    broken(">From stays as it is", "BODY[]", |root| inbox(root).replace(b"\n>From here", b"\nFrom here")),
    broken(">>From stays as it is", "BODY[]", |root| {
        inbox(root).replace(b"\n>>From there", b"\n>From there")
    }),
    broken("a lone CR stays", "BODY[]", |root| inbox(root).replace(b"two\rthree", b"twothree")),
    broken("NUL stays", "RETR", |root| inbox(root).replace(b"before\0after", b"before\x80after")),
    broken("a header without end has none", "RFC822.SIZE", |root| {
        inbox(root).replace(b"not even an empty line", b"not even an empty line\n")
    }),
    broken("a true Content-Length holds its separators together", "BODY[]", |root| {
        inbox(root).replace(b"From bob@example.org Mon Jan  5 10:00:00 2026\n", b"")
    }),
    broken("UIDs stay, with their gaps", "UIDs in their order", |root| {
        inbox(root).edit_records(|number, line| Some(format!("{} {}", number + 1, line.split_once(' ')?.1)))
    }),
    broken("UIDVALIDITY stays", "UIDVALIDITY", |root| inbox(root).edit_head(|head| raised(head, 'V'))),
    broken("UIDNEXT stays", "UIDNEXT", |root| {
        inbox(root).edit_head(|head| {
            head.split(' ')
                .map(|word| if word.starts_with('N') { "N1" } else { word })
                .collect::<Vec<_>>()
                .join(" ")
        })
    }),
    broken("UIDs are given before anyone looks", "UIDVALIDITY", |root| {
        fs::remove_file(root.join("dovecot-uidlist"))
    }),
    broken("messages keep their order", "BODY[]", |root| {
        inbox(root).edit("dovecot-uidlist", |list| {
            let mut lines: Vec<String> = list.lines().map(str::to_owned).collect();
            let name =
                |line: &str| line.rsplit_once(':').map(|(_, name)| name.to_owned()).unwrap_or_default();
            let (two, three) = (name(&lines[2]), name(&lines[3]));
            lines[2] = lines[2].replace(&two, &three);
            lines[3] = lines[3].replace(&three, &two);
            lines.join("\n") + "\n"
        })
    }),
    broken("a message that is there twice stays twice", "gone", |root| {
        let inbox = inbox(root);
        inbox.remove(&inbox.file_with(b"\ntwice\n")?)
    }),
    broken("equal headers do not make equal messages", "BODY[]", |root| {
        inbox(root).replace(
            b"Subject: second\nMessage-ID: <same@engine.example>\n\nthe other text",
            b"Subject: first\nMessage-ID: <same@engine.example>\n\nthe first text",
        )
    }),
    broken("every message is there", "gone", |root| {
        let inbox = inbox(root);
        inbox.remove(&inbox.file_with(b"Subject: blank lines")?)
    }),
    broken("a message is whole", "BODY[]", |root| {
        let inbox = inbox(root);
        let file = inbox.file_with(b"Subject: a long line")?;
        let content = fs::read(&file)?;
        inbox.rewrite(&file, &content[..65_536])
    }),
    broken("nothing else is mail", "was not there before", |root| {
        File::create(root.join("cur/1000000000.1.pseudo:2,S"))?;
        fs::write(root.join("cur/1000000000.1.pseudo:2,S"), b"Subject: FOLDER INTERNAL DATA\n\nx\n")
    }),
    broken("Dovecot's index comes along", "MODSEQ", drop_indexes),
];

/// A number of the UID list's head, higher by one.
fn raised(head: &str, letter: char) -> String {
    let words = head.split(' ').map(|word| match word.strip_prefix(letter).map(str::parse::<u64>) {
        Some(Ok(number)) => format!("{letter}{}", number + 1),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Converts the example once, and breaks copies of it.
fn each_turns_it_red(variation: Variation, folders: bool, look: Look, rules: &[Broken]) -> Result<()> {
    let Some(mut stand) = Stand::before(variation)? else { return Ok(()) };
    let ann = stand.user("ann")?;
    example(&stand, &ann, folders)?;
    let before = stand.look_closely(&ann, look)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    let committed = Committed::new(&stand, &ann, &before)?;
    let faults = committed.faults(look)?;
    assert!(faults.is_empty(), "nothing is broken yet:\n{}", faults.join("\n"));
    let mut unseen = Vec::new();
    for Broken { rule, change, told } in rules {
        let faults = match committed.faults_after(look, change) {
            Ok(faults) => faults,
            Err(error) => {
                unseen.push(format!("{rule}: {error}"));
                continue;
            }
        };
        if !faults.iter().any(|fault| fault.contains(told)) {
            unseen.push(format!("{rule}: nothing told of {told}, but {faults:?}"));
        }
    }
    assert!(unseen.is_empty(), "{} of {} not seen:\n{}", unseen.len(), rules.len(), unseen.join("\n"));
    Ok(())
}

/// What holds for folders.
const OF_FOLDERS: [Broken; 11] = [
    broken("every folder is there", "LIST \"lists/debian\": gone", |root| {
        fs::remove_dir_all(root.join(".lists.debian"))
    }),
    broken("an empty folder is a folder", "LIST \"empty\": gone", |root| {
        fs::remove_dir_all(root.join(".empty"))
    }),
    broken("upper and lower case differ", "LIST \"sent\": gone", |root| {
        fs::remove_dir_all(root.join(".sent"))
    }),
    broken("folders keep their names", "was not there before", |root| {
        fs::rename(root.join(".lists.debian"), root.join(".lists_debian"))
    }),
    broken("levels stay levels", "LIST \"debian\": was not there before", |root| {
        fs::rename(root.join(".lists.debian"), root.join(".debian"))
    }),
    broken("subscriptions come along", "LSUB", |root| fs::remove_file(root.join("subscriptions"))),
    broken("each of them", "LSUB \"sent\": gone", |root| {
        inbox(root).edit("subscriptions", |names| names.replace("\nsent\n", "\n"))
    }),
    broken("each folder has its own UIDs", "Sent: UIDs in their order", |root| {
        folder(root, "Sent")
            .edit_records(|number, line| Some(format!("{} {}", number + 10, line.split_once(' ')?.1)))
    }),
    broken("and its own UIDVALIDITY", "Trash: UIDVALIDITY", |root| {
        folder(root, "Trash").edit_head(|head| raised(head, 'V'))
    }),
    broken(
        "the message that holds a folder's numbers is none",
        "Trash UID 43: was not there before",
        |root| fs::write(root.join(".Trash/cur/1.pseudo:2,S"), PSEUDO),
    ),
    broken("its keywords are that folder's", "Trash UID 17: flags", |root| {
        folder(root, "Trash").edit("dovecot-keywords", |names| names.replace("old", "new"))
    }),
];

const PSEUDO: &str = "From: Mail System Internal Data <MAILER-DAEMON@uni.example>\n\
    Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\nThis text is part of the internal format.\n";

fn folder(root: &Path, name: &str) -> Mailbox {
    Mailbox::new(root.join(format!(".{name}")))
}

/// What Dovecot's own identities of messages are.
const OF_GUIDS: [Broken; 3] = [
    broken("messages keep their identity", "X-GUID", |root| {
        inbox(root).edit_records(|_, line| Some(without_field(line, 'G')))
    }),
    broken("two messages never have the same", ": X-GUID d41d8cd98f00b204e9800998ecf8427e", |root| {
        inbox(root).edit_records(|_, line| {
            let bare = without_field(line, 'G');
            let (uid, rest) = bare.split_once(' ')?;
            Some(format!("{uid} Gd41d8cd98f00b204e9800998ecf8427e {rest}"))
        })
    }),
    broken("mailboxes keep theirs", "INBOX: STATUS", |root| {
        inbox(root).edit_head(|head| without_field(head, 'G') + " G0123456789abcdef0123456789abcdef")
    }),
];

/// Where POP3 identifiers are made of message hashes, two messages may have the same, and only the `P` field can say it.
const OF_HASHED_UIDLS: [Broken; 1] = [broken("POP3 identifiers stay", "POP3 UIDL", |root| {
    inbox(root).edit_records(|_, line| Some(without_field(line, 'P')))
})];

/// Takes a field out of a line of the UID list.
fn without_field(line: &str, field: char) -> String {
    let (fields, name) = line.split_once(" :").map_or((line, None), |(fields, name)| (fields, Some(name)));
    let kept: Vec<&str> = fields.split(' ').filter(|word| !word.starts_with(field)).collect();
    name.map_or_else(|| kept.join(" "), |name| format!("{} :{name}", kept.join(" ")))
}

#[test]
fn rules_of_a_mailbox() -> Result<()> {
    each_turns_it_red(Variation::debian(), false, Look::AsClients, &OF_A_MAILBOX)
}

#[test]
fn rules_of_folders() -> Result<()> {
    each_turns_it_red(Variation::debian(), true, Look::AsClients, &OF_FOLDERS)
}

#[test]
fn rules_of_guids() -> Result<()> {
    each_turns_it_red(Variation::debian(), false, Look::WithGuids, &OF_GUIDS)
}

#[test]
fn rules_of_hashed_uidls() -> Result<()> {
    let hashed = Variation::with_dovecot("hashed UIDLs", "pop3_uidl_format = %g\n");
    each_turns_it_red(hashed, false, Look::AsClients, &OF_HASHED_UIDLS)
}

/// The separator is no part of the Maildir; the site sets it.
#[test]
fn a_lost_separator() -> Result<()> {
    let Some(mut stand) = Stand::before(Variation::debian())? else { return Ok(()) };
    let ann = stand.user("ann")?;
    example(&stand, &ann, true)?;
    let before = stand.look(&ann)?;
    stand.bring_mailready()?;
    stand.convert(&ann)?;
    let snippet = "/etc/dovecot/conf.d/99-mailready.conf";
    let lines = String::from_utf8_lossy(&stand.machine.read(snippet)?).replace("separator = /", "");
    stand.machine.write(snippet, lines.as_bytes(), (0, 0), 0o644)?;
    stand.restart_dovecot()?;
    let found = Differences::between(&before, &stand.look(&ann)?);
    assert!(found.all().iter().any(|told| told.contains("separator: \"/\" became \".\"")), "{found}");
    assert!(found.all().iter().any(|told| told.starts_with("NAMESPACE")), "{found}");
    Ok(())
}
