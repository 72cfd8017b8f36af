//! The header filters.

use mailready_mailbox::Server;
use mailready_mailbox::fuzzing::filter;

const HIDDEN: [&str; 7] =
    ["content-length", "status", "x-imap", "x-imapbase", "x-keywords", "x-status", "x-uid"];

/// Whatever the pieces, the same is shown and told.
pub fn header(data: &[u8]) {
    for server in [Server::Dovecot, Server::Uw, Server::Qpopper] {
        let whole = filter(server, &[data]);
        for size in [1, 7] {
            let pieces: Vec<&[u8]> = data.chunks(size).collect();
            assert_eq!(filter(server, &pieces), whole, "{server} in pieces of {size}");
        }
        let out = whole.shown;
        assert!(whole.ended.is_none_or(|n| n <= data.len()));
        if server == Server::Dovecot {
            // With a NUL in it, a name can be made to look like another one.
            if data.contains(&0) {
                continue;
            }
            nothing_hidden_is_shown(&out);
            // What is shown of a header is shown of it again, but for a CR in front of another.
            if !data.windows(2).any(|two| two == b"\r\r") {
                assert_eq!(filter(server, &[&out]).shown, out);
            }
        }
    }
}

/// None of the seven headers is in what clients see. (With a NUL in it a name can be made to look like one of them: to Dovecot as to us it
/// is another.)
pub fn nothing_hidden_is_shown(message: &[u8]) {
    for (i, line) in message.split(|b| *b == b'\n').enumerate() {
        if line.is_empty() {
            return;
        }
        if i > 0 && matches!(line[0], b' ' | b'\t') {
            continue;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
        let name = name.trim_end_matches([' ', '\t']);
        assert!(!HIDDEN.contains(&name), "{name} is shown");
    }
}
