//! A manual page in man(7), as little of it as the pages need.

/// A page that is being written.
pub(crate) struct Page(String);

impl Page {
    /// Begins a page. Without a date: a page that changes with the day cannot be compared.
    pub(crate) fn new(name: &str, section: u8, about: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let upper = escape(&name.to_uppercase());
        let mut page = Self(format!(
            ".\\\" Made from the sources by the tests; do not edit here.\n.TH \"{upper}\" {section} \"\" \"mailready {version}\" \"mailready\"\n"
        ));
        page.heading("NAME");
        page.0.push_str(&format!("{} \\- {}\n", escape(name), escape(about)));
        page
    }

    pub(crate) fn heading(&mut self, title: &str) {
        self.0.push_str(&format!(".SH \"{}\"\n", escape(title)));
    }

    pub(crate) fn subheading(&mut self, title: &str) {
        self.0.push_str(&format!(".SS \"{}\"\n", escape(title)));
    }

    /// Text; an empty line in it begins a paragraph.
    pub(crate) fn text(&mut self, text: &str) {
        for (n, paragraph) in text.split("\n\n").enumerate() {
            if n > 0 {
                self.0.push_str(".PP\n");
            }
            self.line(&escape(&paragraph.replace('\n', " ")));
        }
    }

    /// A term in bold and what it means.
    pub(crate) fn item(&mut self, term: &str, text: &str) {
        self.0.push_str(&format!(".TP\n\\fB{}\\fR\n", escape(term)));
        self.line(&escape(&text.replace('\n', " ")));
    }

    /// Another paragraph of the last item.
    pub(crate) fn more(&mut self, text: &str) {
        self.0.push_str(".sp\n");
        self.line(&escape(text));
    }

    /// Lines as they are, indented.
    pub(crate) fn example(&mut self, lines: &str) {
        self.0.push_str(".PP\n.RS 4\n.nf\n");
        for line in lines.lines() {
            self.line(&escape(line));
        }
        self.0.push_str(".fi\n.RE\n.PP\n");
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, escaped: &str) {
        // A dot or a quote at the beginning of a line would be a request.
        let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
        self.0.push_str(&format!("{guard}{escaped}\n"));
    }
}

/// Text for roff. A minus stays one, since people copy commands from pages.
fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_roff_would_obey_is_escaped() {
        let mut page = Page::new("x", 1, "y");
        page.text(".SH a \\n -b \"c\"\n\n'quoted");
        let text = page.finish();
        assert!(text.contains("\n\\&.SH a \\en \\-b \\(dqc\\(dq\n.PP\n\\&'quoted\n"), "{text}");
    }
}
