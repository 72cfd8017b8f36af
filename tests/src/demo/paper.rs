//! What the demo writes on: a terminal with a little weight on what matters, or plain lines.

use std::io::{IsTerminal, Write};

/// Standard output. A reader that has gone away is no reason to stop half way: errors of writing are let go.
pub(super) struct Paper {
    styled: bool,
}

impl Paper {
    pub fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { styled: wanted && std::io::stdout().is_terminal() }
    }

    pub fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    pub fn title(&self, text: &str) {
        self.line(&format!("\n{}", self.style("1", text)));
    }

    /// A fact: what, and its value, in two columns.
    pub fn fact(&self, what: &str, value: &str) {
        self.line(&format!("  {what:<26} {value}"));
    }

    /// A line of the timeline.
    pub fn moment(&self, milliseconds: f64, who: &str, what: &str) {
        self.line(&format!("  {milliseconds:>8.1} ms  {}  {what}", self.style("2", &format!("{who:<10}"))));
    }

    pub fn verdict(&self, good: bool, text: &str) {
        self.line(&format!("\n{}", self.style(if good { "1;32" } else { "1;31" }, text)));
    }

    pub fn complain(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "demo: {text}");
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A size as people say it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} KB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_said_in_units_that_fit() {
        assert_eq!(size(112), "112 bytes");
        assert_eq!(size(2_345_678), "2345 KB");
        assert_eq!(size(290_000_000), "290 MB");
    }
}
