//! The nearest known name to one that was mistyped.

use crate::keys::{KEYS, SECTIONS};

/// Edit distance with neighbours swapped counting once (optimal string alignment), since that is how names are mistyped.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j - 1] + changed).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// The section most like `name`.
pub(crate) fn section(name: &str) -> &'static str {
    SECTIONS.iter().map(|s| s.name).min_by_key(|known| distance(name, known)).unwrap_or("users")
}

/// The key most like `section.name`, as `section.name`. A key of the right name in another section counts as near: to
/// put a key under the wrong heading is the commoner mistake.
pub(crate) fn key(section: &str, name: &str) -> String {
    KEYS.iter()
        .min_by_key(|k| (distance(name, k.name) + usize::from(k.section != section), k.section != section))
        .map(super::keys::Key::full_name)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits_and_swaps() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("maildir", "maildir"), 0);
        assert_eq!(distance("maidlir", "maildir"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_key_under_the_wrong_heading_is_found_under_the_right_one() {
        assert_eq!(key("users", "maildir"), "mail.maildir");
        assert_eq!(key("users", "min_udi"), "users.min_uid");
        assert_eq!(key("mail", "timezome"), "mail.timezone");
        assert_eq!(section("seesions"), "sessions");
    }
}
