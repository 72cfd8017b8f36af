#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

fn entry(name: &str, uid: u32) -> Entry {
    Entry { name: name.into(), uid, gid: uid, home: format!("/home/{name}").into() }
}

fn config() -> Config {
    Config::parse("", std::path::Path::new("none")).unwrap()
}

async fn resolve(users: &Users, name: &[u8]) -> Result<SharedAccount, UserError> {
    users.resolve(&config(), name, Lane::Trusted).await
}

#[tokio::test]
async fn names_that_cannot_be_names_are_never_looked_up() {
    let users = Users::of(Arc::new(|name: &str| panic!("{name:?} was looked up")));
    let long = [b'a'; 256];
    for name in [
        b"" as &[u8],
        b".",
        b"..",
        b".ssh",
        b"a/b",
        b"/",
        b"../etc/passwd",
        b"a\0b",
        b"a\nb",
        b"a\x1b[2J",
        b"\xff\xfe",
        b"@example.org",
        b"..@example.org",
        b"a:b",
        &long,
        "a\u{85}b".as_bytes(),
    ] {
        assert!(matches!(resolve(&users, name).await, Err(UserError::Name(_))), "{name:?}");
    }
}

#[tokio::test]
async fn the_account_has_the_paths_of_the_configuration_and_realms_are_stripped() {
    let users = Users::of(Arc::new(|name: &str| Ok((name == "ann").then(|| entry("ann", 1001)))));
    let account = resolve(&users, b"ann@example.org").await.unwrap();
    assert_eq!(account.inbox, PathBuf::from("/var/mail/ann"));
    assert_eq!(account.maildir, PathBuf::from("/home/ann/Maildir"));
    let mut config = config();
    config.names.strip_realm = false;
    assert_eq!(users.resolve(&config, b"ann@example.org", Lane::Trusted).await, Err(UserError::Unknown));
}

#[tokio::test]
async fn the_names_of_one_account_are_made_one_by_the_rules() {
    let users = Users::of(Arc::new(|name: &str| Ok((name == "ann").then(|| entry("ann", 1001)))));
    let text = "[names]\nrewrite = [\"ppp-(.*) => $1\", 'site\\\\(.*) => ../$1', \"(.*)%(.*) => $2@$1\"]\ndetail = \"+\"\nlowercase = true\n";
    let config = mailready_config::Config::parse(text, std::path::Path::new("m.toml")).unwrap();
    let found = |name: &'static [u8]| users.resolve(&config, name, Lane::Trusted);
    for name in [&b"ann"[..], b"ppp-ann", b"Ann+lists@Example.ORG", b"example%ANN", b"ann+a+b"] {
        assert_eq!(found(name).await.unwrap().name, "ann", "{}", name.escape_ascii());
    }
    assert_eq!(found(b"zed").await, Err(UserError::Unknown));
    // A rule's result is as hostile as what it was made of.
    assert!(matches!(found(b"site\\ann").await, Err(UserError::Name(_))));
    for empty in [&b"+lists"[..], b"@example.org", b"ppp-"] {
        assert!(matches!(found(empty).await, Err(UserError::Name(_))), "{}", empty.escape_ascii());
    }
}

#[tokio::test]
async fn root_and_what_the_service_spells_badly_are_no_accounts() {
    let users = Users::of(Arc::new(|name: &str| {
        Ok(Some(if name == "toor" { entry("toor", 0) } else { entry("../x", 1001) }))
    }));
    assert_eq!(resolve(&users, b"toor").await, Err(UserError::Root));
    assert!(matches!(resolve(&users, b"x").await, Err(UserError::Name(_))));
}

#[tokio::test]
async fn one_question_is_asked_once_whatever_the_answer() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let users = Users::of(Arc::new(move |name: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok((name == "ann").then(|| entry("ann", 1001)))
    }));
    for _ in 0..5 {
        assert!(resolve(&users, b"ann").await.is_ok());
        assert_eq!(resolve(&users, b"zed").await, Err(UserError::Unknown));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    users.forget();
    assert!(resolve(&users, b"ann").await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn errors_are_not_remembered() {
    let asked = AtomicUsize::new(0);
    let users = Users::of(Arc::new(move |_: &str| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Err(io::Error::other("LDAP is down")),
        _ => Ok(Some(entry("ann", 1001))),
    }));
    assert!(matches!(resolve(&users, b"ann").await, Err(UserError::Service(text)) if text.contains("LDAP")));
    assert!(resolve(&users, b"ann").await.is_ok());
}

#[tokio::test]
async fn users_who_hang_their_own_look_ups_do_not_hang_roots() {
    let (release, hung) = mpsc::channel::<()>();
    let hung = Mutex::new(hung);
    let users = Arc::new(Users::of(Arc::new(move |name: &str| {
        if name.starts_with("slow") {
            let _ = hung.lock().unwrap().recv();
        }
        Ok(Some(entry(name, 1001)))
    })));
    let mut waiting = Vec::new();
    for n in 0..2 * SELVES {
        let users = Arc::clone(&users);
        waiting.push(tokio::spawn(async move {
            users.resolve(&config(), format!("slow{n}").as_bytes(), Lane::Selves).await
        }));
    }
    while users.selves.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(users.resolve(&config(), b"ann", Lane::Trusted).await.is_ok());
    drop(release);
    for task in waiting {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(users.selves.available_permits(), SELVES);
}
