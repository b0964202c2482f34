//! Which entries of a snapshot a reader wants, so that it passes over pages that hold none of them.

use std::cmp::Ordering;

use crate::manifest::{compare_listing, split_path};

/// Entries of a snapshot by their paths; the paths need not exist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Entry(Vec<u8>),
    Listing(Vec<u8>),
    Tree(Vec<u8>),
}

/// Whether `path` is `top` or below it.
pub fn is_within(path: &[u8], top: &[u8]) -> bool {
    top.is_empty()
        || path
            .strip_prefix(top)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

impl Scope {
    /// Everything.
    pub fn all() -> Self {
        Self::default().tree(b"")
    }

    /// And the entry `path`, without what is below it.
    #[must_use]
    pub fn entry(mut self, path: &[u8]) -> Self {
        self.items.push(Item::Entry(path.to_vec()));
        self
    }

    /// And the directory's own entries, without itself and what is deeper.
    #[must_use]
    pub fn listing(mut self, directory: &[u8]) -> Self {
        self.items.push(Item::Listing(directory.to_vec()));
        self
    }

    /// And the entry `path` with all that is below it.
    #[must_use]
    pub fn tree(mut self, path: &[u8]) -> Self {
        self.items.push(Item::Tree(path.to_vec()));
        self
    }

    /// Whether it is everything.
    pub fn is_all(&self) -> bool {
        self.wants_all_below(b"")
    }

    fn wants_all_below(&self, top: &[u8]) -> bool {
        self.items
            .iter()
            .any(|item| matches!(item, Item::Tree(path) if is_within(top, path)))
    }

    /// Whether the entry is wanted.
    pub fn wants(&self, path: &[u8]) -> bool {
        self.items.iter().any(|item| match item {
            Item::Entry(wanted) => path == wanted,
            Item::Listing(directory) => !path.is_empty() && split_path(path).0 == directory,
            Item::Tree(top) => is_within(path, top),
        })
    }

    /// Whether a page may hold wanted entries whose first entry is `first` and that ends before `next`.
    pub(super) fn touches(&self, first: &[u8], next: Option<&[u8]>) -> bool {
        let before_next = |key: (&[u8], &[u8])| {
            next.is_none_or(|next| compare_listing(key, split_path(next)) == Ordering::Less)
        };
        let not_before_first =
            |key: (&[u8], &[u8])| compare_listing(split_path(first), key) != Ordering::Greater;
        let holds_entry = |path: &[u8]| {
            let key = split_path(path);
            not_before_first(key) && before_next(key)
        };
        // A directory's entries follow upon (directory, ""), and the listings of its
        // subdirectories upon them.
        let first_in = split_path(first).0;
        self.items.iter().any(|item| match item {
            Item::Entry(path) => holds_entry(path),
            Item::Listing(directory) => {
                before_next((directory, b""))
                    && (not_before_first((directory, b"")) || first_in == directory)
            }
            Item::Tree(top) => {
                holds_entry(top)
                    || (before_next((top, b""))
                        && (not_before_first((top, b"")) || is_within(first_in, top)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path() -> impl Strategy<Value = Vec<u8>> {
        let name = prop_oneof![Just("a"), Just("a.b"), Just("b"), Just("c")];
        prop::collection::vec(name, 0..4).prop_map(|names| names.join("/").into_bytes())
    }

    fn scope() -> impl Strategy<Value = Scope> {
        let item = (0..3, path()).prop_map(|(kind, path)| match kind {
            0 => Item::Entry(path),
            1 => Item::Listing(path),
            _ => Item::Tree(path),
        });
        prop::collection::vec(item, 1..4).prop_map(|items| Scope { items })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_page_with_a_wanted_entry_is_passed_over(
            scope in scope(),
            mut paths in prop::collection::vec(path(), 1..60),
            size in 1..6_usize,
        ) {
            paths.sort_by(|a, b| compare_listing(split_path(a), split_path(b)));
            paths.dedup();
            let pages: Vec<&[Vec<u8>]> = paths.chunks(size).collect();
            for (number, page) in pages.iter().enumerate() {
                let next = pages.get(number + 1).map(|next| next[0].as_slice());
                if page.iter().any(|path| scope.wants(path)) {
                    prop_assert!(scope.touches(&page[0], next));
                }
            }
        }
    }

    #[test]
    fn pages_of_others_are_passed_over() {
        let scope = Scope::default().tree(b"b/c").entry(b"b");
        assert!(!scope.touches(b"c", Some(b"a/x")));
        assert!(!scope.touches(b"b/a", Some(b"b/b")));
        assert!(scope.touches(b"b/b", Some(b"b/c/x")));
        assert!(scope.touches(b"b/c/d/e", Some(b"b/d/x")));
        assert!(!scope.touches(b"b/d/x", None));
        assert!(Scope::all().is_all() && !scope.is_all());
    }
}
