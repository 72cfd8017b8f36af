//! Paths with variables, as in Dovecot: `%u` user, `%n` user without the domain, `%d` domain, `%h` home, `%1u` the first
//! byte of the user (widths 1 to 9, with `u`, `n`, `d`), `%%` a percent sign.
//!
//! A name that comes from outside becomes part of a path here and nowhere else, so here it is refused when it would lead
//! elsewhere: nothing that is expanded may add, skip or climb a component.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A path with variables, known to be absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Home,
    Name(Name, Option<usize>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    User,
    Local,
    Domain,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// It neither begins with `/` nor with `%h`.
    NotAbsolute,
    /// A percent sign with something unknown behind it.
    UnknownVariable(String),
    /// `%h` elsewhere than as the first component.
    HomeInside,
    /// A component `.` or `..`, or a NUL byte.
    Unclean,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAbsolute => f.write_str("a path begins with / or %h"),
            Self::UnknownVariable(variable) => {
                write!(
                    f,
                    "{variable} is no variable; there are %u %n %d %h, %1u (first byte), %% (a percent sign)"
                )
            }
            Self::HomeInside => f.write_str("%h stands at the beginning, followed by / or by nothing"),
            Self::Unclean => f.write_str("a path has no component . or .. and no NUL byte"),
        }
    }
}

impl std::error::Error for TemplateError {}

/// Why a template gives no path for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpandError {
    /// The user's name is empty, `.` or `..`, or has a `/` or NUL.
    BadName,
    /// The home is not absolute, or has a component `..`.
    BadHome(PathBuf),
    /// `%d` for a user without a domain, or the like: a variable that gives nothing, or `.` or `..`.
    BadPart {
        /// The template.
        template: String,
    },
}

impl fmt::Display for ExpandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => {
                f.write_str("the user's name is empty, . or .., or has a slash or a NUL byte in it")
            }
            Self::BadHome(home) => write!(f, "the home {home:?} is not an absolute path without .."),
            Self::BadPart { template } => {
                write!(f, "the user's name does not fill the variables of {template}")
            }
        }
    }
}

impl std::error::Error for ExpandError {}

impl Template {
    /// Reads a template. Doubled and trailing slashes are dropped.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if !(text.starts_with('/') || text.starts_with("%h")) {
            return Err(TemplateError::NotAbsolute);
        }
        if text.contains('\0') || text.split('/').any(|c| c == "." || c == "..") {
            return Err(TemplateError::Unclean);
        }
        let mut clean = String::new();
        for component in text.split('/').filter(|c| !c.is_empty()) {
            if !(clean.is_empty() && component.starts_with("%h")) {
                clean.push('/');
            }
            clean.push_str(component);
        }
        if clean.is_empty() {
            clean.push('/');
        }
        Ok(Self { parts: parse_parts(&clean)?, text: clean })
    }

    /// The path for one user.
    ///
    /// # Errors
    /// The name or the home would lead elsewhere than the template says.
    pub fn expand(&self, user: &str, home: &Path) -> Result<PathBuf, ExpandError> {
        if !is_component(user.as_bytes()) {
            return Err(ExpandError::BadName);
        }
        let (local, domain) = user.split_once('@').unwrap_or((user, ""));
        let mut path: Vec<u8> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.extend_from_slice(text.as_bytes()),
                Part::Home => path.extend_from_slice(clean_home(home)?),
                Part::Name(name, width) => {
                    let whole = match name {
                        Name::User => user,
                        Name::Local => local,
                        Name::Domain => domain,
                    }
                    .as_bytes();
                    let cut = width.map_or(whole, |width| &whole[..width.min(whole.len())]);
                    if cut.is_empty() {
                        return Err(self.bad_part());
                    }
                    path.extend_from_slice(cut);
                }
            }
        }
        // A name cannot hold a slash, but `%1u` of `.x` is a dot, and the home itself may be `/`.
        if path.split(|b| *b == b'/').skip(1).any(|c| c == b"." || c == b"..") {
            return Err(self.bad_part());
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(PathBuf::from(OsString::from_vec(path)))
    }

    /// Whether two users always get different paths: `%u`, `%n` or `%h` is in it (a realm is taken off before).
    #[must_use]
    pub fn is_per_user(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Home | Part::Name(Name::User | Name::Local, None)))
    }

    /// Whether this is `other` or lies below it, for every user. Judged by the text: `%h/Maildir` and
    /// `/home/%u/Maildir` may well be the same place.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.text
            .strip_prefix(&other.text)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || other.text == "/")
    }

    /// The text, cleaned of superfluous slashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn bad_part(&self) -> ExpandError {
        ExpandError::BadPart { template: self.text.clone() }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse_parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (width, variable) = match behind.bytes().next() {
            Some(digit @ b'1'..=b'9') => (Some(usize::from(digit - b'0')), &behind[1..]),
            _ => (None, behind),
        };
        let name = match (variable.bytes().next(), width) {
            (Some(b'u'), _) => Some(Name::User),
            (Some(b'n'), _) => Some(Name::Local),
            (Some(b'd'), _) => Some(Name::Domain),
            (Some(b'h'), None) => {
                let ends = matches!(behind.as_bytes().get(1), None | Some(b'/'));
                if !(parts.is_empty() && plain.is_empty() && ends) {
                    return Err(TemplateError::HomeInside);
                }
                None
            }
            (Some(b'%'), None) => {
                plain.push('%');
                rest = &variable[1..];
                continue;
            }
            _ => {
                let shown: String = variable.chars().next().into_iter().collect();
                let digits = width.map(|w| w.to_string()).unwrap_or_default();
                return Err(TemplateError::UnknownVariable(format!("%{digits}{shown}")));
            }
        };
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(name.map_or(Part::Home, |name| Part::Name(name, width)));
        rest = &variable[1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

/// Whether bytes are one component of a path that leads downwards.
fn is_component(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

/// The home without trailing slashes; `/` becomes nothing, so that `%h/x` is `/x`.
fn clean_home(home: &Path) -> Result<&[u8], ExpandError> {
    let bytes = home.as_os_str().as_bytes();
    let climbs = bytes.split(|b| *b == b'/').any(|c| c == b".." || c == b".");
    if !home.is_absolute() || climbs || bytes.contains(&0) {
        return Err(ExpandError::BadHome(home.to_owned()));
    }
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
    Ok(&bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, user: &str, home: &str) -> Result<String, ExpandError> {
        let path = Template::parse(template).unwrap().expand(user, Path::new(home))?;
        Ok(path.to_str().unwrap().to_owned())
    }

    #[test]
    fn variables_are_those_of_dovecot() {
        assert_eq!(expand("/var/mail/%u", "ann", "/home/ann").unwrap(), "/var/mail/ann");
        assert_eq!(expand("%h/Maildir", "ann", "/home/ann/").unwrap(), "/home/ann/Maildir");
        assert_eq!(expand("%h", "ann", "/home/ann").unwrap(), "/home/ann");
        assert_eq!(expand("%h/Maildir", "root", "/").unwrap(), "/Maildir");
        assert_eq!(expand("%h", "root", "/").unwrap(), "/");
        assert_eq!(expand("/m/%d/%1n/%n", "ann@x.org", "/").unwrap(), "/m/x.org/a/ann");
        assert_eq!(expand("/m/%2u/%u", "a", "/").unwrap(), "/m/a/a");
        assert_eq!(expand("/m//%u/100%%/", "ann", "/").unwrap(), "/m/ann/100%");
        assert_eq!(expand("/m/%%u/%u", "ann", "/").unwrap(), "/m/%u/ann");
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for user in ["", ".", "..", "a/b", "/etc", "../x", "a\0b"] {
            assert_eq!(expand("/var/mail/%u", user, "/home/x"), Err(ExpandError::BadName), "{user:?}");
        }
        assert!(matches!(expand("/m/%1u/x", ".a", "/"), Err(ExpandError::BadPart { .. })));
        assert!(matches!(expand("/m/%2u", "..a", "/"), Err(ExpandError::BadPart { .. })));
        assert!(matches!(expand("/m/%d", "ann", "/"), Err(ExpandError::BadPart { .. })));
        assert!(matches!(expand("/m/%n", "..@x", "/"), Err(ExpandError::BadPart { .. })));
        assert_eq!(
            expand("/m/%u", "%h", "/").unwrap(),
            "/m/%h",
            "what comes from outside is not expanded again"
        );
    }

    #[test]
    fn a_home_that_climbs_is_refused() {
        for home in ["", "home/ann", "/home/../etc", "/home/./ann"] {
            assert!(matches!(expand("%h/Maildir", "ann", home), Err(ExpandError::BadHome(_))), "{home}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        assert_eq!(Template::parse("mail/%u"), Err(TemplateError::NotAbsolute));
        assert_eq!(Template::parse(""), Err(TemplateError::NotAbsolute));
        assert_eq!(Template::parse("~/mail"), Err(TemplateError::NotAbsolute));
        assert_eq!(Template::parse("/m/../%u"), Err(TemplateError::Unclean));
        assert_eq!(Template::parse("/m/%x"), Err(TemplateError::UnknownVariable("%x".into())));
        assert_eq!(Template::parse("/m/%"), Err(TemplateError::UnknownVariable("%".into())));
        assert_eq!(Template::parse("/m/%3h"), Err(TemplateError::UnknownVariable("%3h".into())));
        assert_eq!(Template::parse("/m/%h"), Err(TemplateError::HomeInside));
        assert_eq!(Template::parse("%hx/m"), Err(TemplateError::HomeInside));
    }

    #[test]
    fn within_goes_by_components() {
        let within = |a: &str, b: &str| Template::parse(a).unwrap().is_within(&Template::parse(b).unwrap());
        assert!(within("%h/mail/x", "%h/mail"));
        assert!(within("%h/mail", "%h"));
        assert!(within("/a", "/"));
        assert!(!within("%h/mailx", "%h/mail"));
        assert!(!within("%h", "%h/mail"));
    }
}
