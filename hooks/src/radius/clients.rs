//! Who may send accounting, and the secret that each shares with us: `ADDRESS[/PREFIX] SECRET`, one a line.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

/// A client: one address or a whole network of them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Client {
    network: IpNet,
    pub(crate) secret: Vec<u8>,
}

/// Not the secret.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.network)
    }
}

/// All clients of a file; the narrowest network first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clients(Vec<Client>);

/// Why the file is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientsError {
    #[error("{}: {error}; it holds ADDRESS[/PREFIX] SECRET, one a line", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: everybody can read or write the secrets in it (mode {mode:o}): chmod 640 {}", path.display(), path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{}:{line}: {what}", path.display())]
    Line { path: PathBuf, line: usize, what: String },
    #[error("{}: names no client", path.display())]
    Nobody { path: PathBuf },
}

impl Clients {
    /// Reads the file.
    ///
    /// # Errors
    /// It is missing, open to others, names nobody, or has a line that is not understood; half a file is never used.
    pub(crate) fn read(path: &Path) -> Result<Self, ClientsError> {
        let failed = |error| ClientsError::Read { path: path.to_owned(), error };
        let mut file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(ClientsError::Open { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let clients =
            parse(&text).map_err(|(line, what)| ClientsError::Line { path: path.to_owned(), line, what })?;
        if clients.0.is_empty() {
            return Err(ClientsError::Nobody { path: path.to_owned() });
        }
        Ok(clients)
    }

    /// Whose packet this is: number in this list, and the client. Of several networks the narrowest.
    pub(crate) fn find(&self, address: IpAddr) -> Option<(usize, &Client)> {
        self.0.iter().enumerate().find(|(_, client)| client.network.contains(&address))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn parse(text: &str) -> Result<Clients, (usize, String)> {
    let mut clients = Vec::new();
    let mut known = HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: String| (number + 1, what);
        let (address, secret) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| wrong("no secret behind the address".into()))?;
        let network = network(address)
            .ok_or_else(|| wrong(format!("not an address or network: {}", address.escape_debug())))?;
        if !known.insert(network) {
            return Err(wrong(format!("{network} was named before")));
        }
        clients.push(Client { network, secret: secret.trim().as_bytes().to_vec() });
    }
    clients.sort_by_key(|client| std::cmp::Reverse(width(client.network)));
    Ok(Clients(clients))
}

fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    Some(network.trunc())
}

/// IPv4 and IPv6 networks never hold the same address, so their widths need no comparison.
fn width(network: IpNet) -> u8 {
    network.prefix_len()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_narrowest_network_counts() {
        let clients =
            parse("# sites\n10.0.0.0/8 wide\n10.1.2.3   one # and only \n\n2001:db8::/32 six\n").unwrap();
        let secret = |address: &str| {
            clients
                .find(address.parse().unwrap())
                .map(|(_, client)| String::from_utf8(client.secret.clone()).unwrap())
        };
        assert_eq!(secret("10.1.2.3").as_deref(), Some("one # and only"));
        assert_eq!(secret("10.1.2.4").as_deref(), Some("wide"));
        assert_eq!(secret("2001:db8:1::1").as_deref(), Some("six"));
        assert_eq!(secret("192.0.2.1"), None);
        assert!(!format!("{clients:?}").contains("wide"), "secrets are never printed");
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line) in [
            ("10.0.0.1 a\n10.0.0.1/32 b\n", 2),
            ("10.0.0.1\n", 1),
            ("\nnas.example.org secret\n", 2),
            ("10.0.0.0/33 x\n", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().0, line, "{text}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clients");
        std::fs::write(&path, "127.0.0.1 secret\n").unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Clients::read(&path)
        };
        assert!(matches!(with_mode(0o644), Err(ClientsError::Open { mode: 0o644, .. })));
        assert!(matches!(with_mode(0o602), Err(ClientsError::Open { .. })));
        assert_eq!(with_mode(0o640).unwrap().len(), 1);
        std::fs::write(&path, "# nobody\n").unwrap();
        assert!(matches!(Clients::read(&path), Err(ClientsError::Nobody { .. })));
        assert!(matches!(Clients::read(&dir.path().join("none")), Err(ClientsError::Read { .. })));
    }
}
