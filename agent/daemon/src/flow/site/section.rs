//! `doveconf -n` as a tree.

/// A block: `name = value` lines and `type name {` blocks.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) kind: String,
    pub(super) name: String,
    values: Vec<(String, String)>,
    pub(super) sections: Vec<Section>,
}

impl Section {
    pub(super) fn parse(text: &str) -> Self {
        let mut open = vec![Self::default()];
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(head) = line.strip_suffix('{') {
                let (kind, name) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
                open.push(Self { kind: kind.to_owned(), name: name.trim().to_owned(), ..Self::default() });
            } else if line == "}" {
                if let Some(closed) = open.pop()
                    && let Some(parent) = open.last_mut()
                {
                    parent.sections.push(closed);
                }
                if open.is_empty() {
                    open.push(Self::default());
                }
            } else if let (Some((key, value)), Some(section)) = (line.split_once('='), open.last_mut()) {
                section.values.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        open.into_iter().next().unwrap_or_default()
    }

    pub(super) fn section(&self, kind: &str, name: &str) -> Option<&Self> {
        self.sections.iter().find(|section| section.kind == kind && section.name == name)
    }

    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All of a kind, in their order.
    pub(super) fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Self> {
        self.sections.iter().filter(move |section| section.kind == kind)
    }
}
