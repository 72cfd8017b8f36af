//! mailready.toml: types, defaults, errors with line and nearest key.
//!
//! One table ([`KEYS`]) knows every key: its section, its default as TOML text, what it means and why it is so. The
//! defaults, the shipped example, the manual page and the spell checker all come from it, so they cannot disagree.
//!
//! A configuration is read in layers, the later one winning key by key: the built-in defaults, then
//! `/etc/mailready/mailready.toml` (or the file given), then `conf.d/*.toml` beside it, sorted by name. Everything wrong in
//! any of the files is collected and reported at once, each with file and line: an administrator mends a file once, not
//! once per mistake.
//!
//! The crate reads its own files and nothing else: whether a folder exists or a server follows is for those to find out
//! who use the values.
#![forbid(unsafe_code)]

mod check;
mod config;
mod duration;
mod error;
mod keys;
mod layers;
mod list;
mod load;
mod nearest;
mod read;
mod rewrite;
mod template;
mod window;

pub use config::{
    Agent, Arrival, Background, BackgroundMode, Bus, Config, Convert, Deliverer, Keep, Layout, Lock, Mail,
    Names, Policy, Probe, Radius, Reader, Sessions, Site, Source, Users,
};
pub use duration::{parse_duration, show_duration};
pub use error::{ConfigError, Problem, Wrong};
pub use keys::{KEYS, Key, SECTIONS, Section, example};
pub use list::{ListError, UserList};
pub use rewrite::Rewrite;
pub use template::{ExpandError, Template, TemplateError};
pub use window::Window;

/// Where the configuration is looked for when no file is named.
pub const DEFAULT_PATH: &str = "/etc/mailready/mailready.toml";
