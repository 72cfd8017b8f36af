//! From written values to types: each key is read once, and what is wrong is noted with its place.
//!
//! A value that is wrong is replaced by a harmless stand-in so that the rest can be looked at too; the stand-ins are
//! never seen, because a configuration with problems is not returned.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Problem, Wrong};
use crate::layers::{Layers, Located, Place, Raw};
use crate::{Template, parse_duration, show_duration};

/// Reads the keys of one section.
pub(crate) struct Reader<'a> {
    pub(crate) layers: &'a Layers,
    pub(crate) problems: &'a mut Vec<Problem>,
    pub(crate) section: &'static str,
}

impl Reader<'_> {
    /// Goes on with another section.
    pub(crate) fn at(&mut self, section: &'static str) -> &mut Self {
        self.section = section;
        self
    }

    fn raw(&self, name: &'static str) -> Located {
        self.layers.get(self.section, name).cloned().unwrap_or_else(|| Located {
            value: Raw::Other("not in the table of keys"),
            written: String::new(),
            place: Place { file: PathBuf::from("mailready"), line: None },
        })
    }

    fn wrong_type<T: Default>(&mut self, name: &str, wanted: &'static str, raw: &Located) -> T {
        let name = format!("{}.{name}", self.section);
        self.note(raw, Wrong::Type { name, wanted, found: raw.value.kind() });
        T::default()
    }

    fn wrong_value(&mut self, name: &str, raw: &Located, allowed: String) {
        let name = format!("{}.{name}", self.section);
        self.note(raw, Wrong::Value { name, value: raw.written.clone(), allowed });
    }

    fn note(&mut self, raw: &Located, wrong: Wrong) {
        self.problems.push(Problem { file: raw.place.file.clone(), line: raw.place.line, wrong });
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> bool {
        let raw = self.raw(name);
        match raw.value {
            Raw::Flag(value) => value,
            _ => self.wrong_type(name, "true or false", &raw),
        }
    }

    pub(crate) fn number(&mut self, name: &'static str, lowest: u32, highest: u32) -> u32 {
        let raw = self.raw(name);
        let Raw::Number(value) = raw.value else {
            return self.wrong_type(name, "a whole number", &raw);
        };
        match u32::try_from(value) {
            Ok(value) if (lowest..=highest).contains(&value) => value,
            _ => {
                self.wrong_value(name, &raw, format!("a number from {lowest} to {highest}"));
                lowest
            }
        }
    }

    fn text(&mut self, name: &'static str) -> Option<(String, Located)> {
        let raw = self.raw(name);
        match &raw.value {
            Raw::Text(text) => Some((text.clone(), raw)),
            _ => self.wrong_type(name, "text in quotes", &raw),
        }
    }

    fn texts(&mut self, name: &'static str) -> (Vec<String>, Located) {
        let raw = self.raw(name);
        let Raw::List(items) = &raw.value else {
            return (self.wrong_type(name, "a list of texts, such as [\"one\", \"two\"]", &raw), raw);
        };
        let mut texts = Vec::new();
        for item in items {
            match item {
                Raw::Text(text) => texts.push(text.clone()),
                _ => {
                    return (self.wrong_type(name, "a list of texts, such as [\"one\", \"two\"]", &raw), raw);
                }
            }
        }
        (texts, raw)
    }

    /// Text that `parse` understands; `allowed` says what that is.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        stand_in: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let Some((text, raw)) = self.text(name) else { return stand_in };
        parse(&text).unwrap_or_else(|allowed| {
            self.wrong_value(name, &raw, allowed);
            stand_in
        })
    }

    /// A list of texts that `parse` understands, none of them twice.
    pub(crate) fn parsed_list<T: PartialEq>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let (texts, raw) = self.texts(name);
        let mut values = Vec::new();
        for text in texts {
            match parse(&text) {
                Ok(value) if values.contains(&value) => {
                    self.wrong_value(name, &raw, format!("{text:?} stands in it twice"));
                }
                Ok(value) => values.push(value),
                Err(allowed) => self.wrong_value(name, &raw, format!("{text:?} in it; allowed: {allowed}")),
            }
        }
        values
    }

    pub(crate) fn word<T: Copy>(&mut self, name: &'static str, words: &'static [(&'static str, T)]) -> T {
        self.parsed(name, words[0].1, |text| find_word(text, words))
    }

    pub(crate) fn words<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        words: &'static [(&'static str, T)],
    ) -> Vec<T> {
        self.parsed_list(name, |text| find_word(text, words))
    }

    pub(crate) fn path(&mut self, name: &'static str) -> PathBuf {
        self.parsed(name, PathBuf::new(), absolute)
    }

    pub(crate) fn paths(&mut self, name: &'static str) -> Vec<PathBuf> {
        self.parsed_list(name, absolute)
    }

    pub(crate) fn template(&mut self, name: &'static str) -> Option<Template> {
        self.parsed(name, None, per_user)
    }

    /// A template, or nothing if the text is empty.
    pub(crate) fn template_or_none(&mut self, name: &'static str) -> Option<Template> {
        self.parsed(name, None, |text| if text.is_empty() { Ok(None) } else { per_user(text) })
    }

    /// `"5%"`
    pub(crate) fn percent(&mut self, name: &'static str, highest: u8) -> u8 {
        self.parsed(name, 0, |text| {
            let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
            number
                .filter(|percent| *percent <= highest)
                .ok_or_else(|| format!("a whole number from 0 to {highest} and %, such as \"5%\""))
        })
    }

    pub(crate) fn duration(&mut self, name: &'static str, lowest: Duration, highest: Duration) -> Duration {
        self.parsed(name, lowest, |text| {
            parse_duration(text).filter(|d| (lowest..=highest).contains(d)).ok_or_else(|| {
                let (lowest, highest) = (show_duration(lowest), show_duration(highest));
                format!("a time from {lowest} to {highest}: a number and ms, s, m, h or d, such as \"20s\"")
            })
        })
    }
}

fn find_word<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        all.join(", ")
    })
}

/// A path that leads to one place, whatever the working folder is.
fn absolute(text: &str) -> Result<PathBuf, String> {
    let clean =
        text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|c| c == "." || c == "..");
    clean.then(|| PathBuf::from(text)).ok_or_else(|| "an absolute path without . and ..".to_owned())
}

fn per_user(text: &str) -> Result<Option<Template>, String> {
    let template = Template::parse(text).map_err(|e| e.to_string())?;
    if !template.is_per_user() {
        return Err("every user needs a path of their own: %u, %n or %h must be in it".to_owned());
    }
    Ok(Some(template))
}
