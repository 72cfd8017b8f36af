//! The layers: TOML files one over the other, key by key, each value remembering where it was written.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::error::{Problem, Wrong};
use crate::keys::{KEYS, Key, SECTIONS};
use crate::nearest;

/// File and line of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: PathBuf,
    /// None: a built-in default.
    pub(crate) line: Option<usize>,
}

/// A value as far as keys need it.
#[derive(Debug, Clone)]
pub(crate) enum Raw {
    Text(String),
    /// Numbers beyond 128 bits become the largest: no key allows either.
    Number(i128),
    Flag(bool),
    List(Vec<Raw>),
    /// What no key takes, by its kind.
    Other(&'static str),
}

/// A value, where it was written, and how (for messages).
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) value: Raw,
    pub(crate) written: String,
    pub(crate) place: Place,
}

/// All keys with their uppermost values, and all that was wrong on the way.
#[derive(Debug)]
pub(crate) struct Layers {
    values: HashMap<(&'static str, &'static str), Located>,
    pub(crate) problems: Vec<Problem>,
}

impl Layers {
    /// The built-in defaults.
    pub(crate) fn new() -> Self {
        let place = Place { file: PathBuf::from("built-in default"), line: None };
        let value = |key: &Key| {
            // A default that is no TOML would be a slip in keys.rs, which the test that reads them all shows;
            // it is reported as a wrong type rather than ending the program.
            let value = DeValue::parse(key.default).map_or(Raw::Other("not TOML"), |v| Raw::of(v.get_ref()));
            Located { value, written: key.default.to_owned(), place: place.clone() }
        };
        let values = KEYS.iter().map(|key| ((key.section, key.name), value(key))).collect();
        Self { values, problems: Vec::new() }
    }

    /// Lays a file over what is there. What is wrong in it is noted, the rest of it is taken.
    pub(crate) fn add(&mut self, text: &str, file: &Path) {
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(e) => {
                let line = e.span().map(|span| line_of(text, span.start));
                let what = e.message().lines().collect::<Vec<_>>().join(", ");
                self.problems.push(Problem { file: file.to_owned(), line, wrong: Wrong::Syntax(what) });
                return;
            }
        };
        for (name, value) in &table {
            let line = line_of(text, name.span().start);
            let name: &str = name.get_ref();
            match (SECTIONS.iter().find(|s| s.name == name), value.get_ref()) {
                (Some(section), DeValue::Table(keys)) => self.add_section(section.name, keys, text, file),
                (Some(_), other) => self.problem(
                    file,
                    line,
                    Wrong::Type {
                        name: name.to_owned(),
                        wanted: "a section in brackets",
                        found: Raw::of(other).kind(),
                    },
                ),
                // A key before the first heading: say where it belongs rather than which section it resembles.
                (None, other) if !other.is_table() => {
                    let nearest = nearest::key("", name);
                    self.problem(file, line, Wrong::UnknownKey { name: name.to_owned(), nearest });
                }
                (None, _) => {
                    let nearest = nearest::section(name);
                    self.problem(file, line, Wrong::UnknownSection { name: name.to_owned(), nearest });
                }
            }
        }
    }

    fn add_section(&mut self, section: &'static str, keys: &DeTable<'_>, text: &str, file: &Path) {
        for (name, value) in keys {
            let line = line_of(text, name.span().start);
            let name: &str = name.get_ref();
            let Some(key) = KEYS.iter().find(|k| k.section == section && k.name == name) else {
                let nearest = nearest::key(section, name);
                self.problem(file, line, Wrong::UnknownKey { name: format!("{section}.{name}"), nearest });
                continue;
            };
            let written = text.get(value.span()).unwrap_or_default().to_owned();
            let value = Raw::of(value.get_ref());
            let place = Place { file: file.to_owned(), line: Some(line) };
            self.values.insert((key.section, key.name), Located { value, written, place });
        }
    }

    fn problem(&mut self, file: &Path, line: usize, wrong: Wrong) {
        self.problems.push(Problem { file: file.to_owned(), line: Some(line), wrong });
    }

    /// The keys that some file sets, in the order of the table.
    pub(crate) fn set_by_files(&self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(|key| self.get(key.section, key.name).is_some_and(|l| l.place.line.is_some()))
    }

    /// The value of a key of the table.
    pub(crate) fn get(&self, section: &'static str, name: &'static str) -> Option<&Located> {
        self.values.get(&(section, name))
    }
}

impl Raw {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(n) => {
                Self::Number(i128::from_str_radix(n.as_str(), n.radix()).unwrap_or(i128::MAX))
            }
            DeValue::Boolean(value) => Self::Flag(*value),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of(item.get_ref())).collect()),
            DeValue::Float(_) => Self::Other("a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// What it is, in the words of the messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "a whole number",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(kind) => kind,
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|b| **b == b'\n').count() + 1
}
