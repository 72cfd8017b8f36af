//! What an announced name is made of another one by: `PATTERN => REPLACEMENT`.

use regex_lite::Regex;

/// A rule of `names.rewrite`.
#[derive(Debug, Clone)]
pub struct Rewrite {
    text: String,
    pattern: Regex,
    replacement: String,
}

/// By what was written.
impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Rewrite {}

impl Rewrite {
    /// Reads `PATTERN => REPLACEMENT`: a regular expression that has to match the whole name, and what becomes of it, `$1` for its first group.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (pattern, replacement) =
            text.split_once("=>").ok_or("a pattern and what becomes of it, such as \"ppp-(.*) => $1\"")?;
        let (pattern, replacement) = (pattern.trim(), replacement.trim().to_owned());
        let whole = Regex::new(&format!("^(?:{pattern})$"))
            .map_err(|error| format!("a regular expression, and this one is not: {error}"))?;
        Ok(Self { text: text.to_owned(), pattern: whole, replacement })
    }

    /// The other name, if the rule is about this one.
    #[must_use]
    pub fn apply(&self, name: &str) -> Option<String> {
        let groups = self.pattern.captures(name)?;
        let mut other = String::new();
        groups.expand(&self.replacement, &mut other);
        Some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_about_whole_names() {
        let rule = Rewrite::parse("ppp-(.*) => $1").unwrap();
        assert_eq!(rule.apply("ppp-ann").as_deref(), Some("ann"));
        assert_eq!(rule.apply("xppp-ann"), None);
        let swapped = Rewrite::parse(r"([a-z]+)\\([a-z]+) => ${2}").unwrap();
        assert_eq!(swapped.apply(r"site\ann").as_deref(), Some("ann"));
        let either = Rewrite::parse("a|b => c").unwrap();
        assert_eq!((either.apply("a").as_deref(), either.apply("ab")), (Some("c"), None));
    }

    #[test]
    fn what_is_no_rule_is_told() {
        assert!(Rewrite::parse("ppp-.*").unwrap_err().contains("=> $1"));
        assert!(Rewrite::parse("( => x").unwrap_err().contains("regular expression"));
    }
}
