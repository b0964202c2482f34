//! What differs between two snapshots; subtrees that both have are passed over unread.

use std::cmp::Ordering;

use super::{EntryIter, ReadSession, Scope, entries::Head};
use crate::{
    error::Result,
    manifest::{Entry, compare_listing, split_path},
};

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// Only the new snapshot has it.
    Added,
    /// Only the old one has it.
    Removed,
    /// It is of another type.
    Type,
    /// Its bytes, or where a link leads, are others.
    Content,
    /// Only owner, permissions, times or attributes are others.
    Metadata,
}

/// An entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// How.
    pub difference: Difference,
    /// As it was; `None` if it was added.
    pub old: Option<Entry>,
    /// As it is; `None` if it was removed.
    pub new: Option<Entry>,
}

impl Changed {
    /// The entry as it is or, if it was removed, as it was.
    ///
    /// # Panics
    /// Never: one of the two is there.
    pub fn entry(&self) -> &Entry {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("an entry that differs is in one of the two")
    }
}

/// The differences of two snapshots in listing order; stops after an error.
///
/// Content is compared by what was stored: the same bytes count as others if they were stored under other
/// keys, in another namespace or before the keys were rotated.
pub struct Diff<'s> {
    old: EntryIter<'s>,
    new: EntryIter<'s>,
    failed: bool,
}

/// What brings the comparison on.
enum Step {
    End,
    SkipBoth,
    Open { old: bool, new: bool },
    Take(Ordering),
}

impl<'s> Diff<'s> {
    /// Compares everything in two snapshots.
    pub fn new(old: &'s ReadSession, new: &'s ReadSession) -> Self {
        Self {
            old: EntryIter::new(old, Scope::all()),
            new: EntryIter::new(new, Scope::all()),
            failed: false,
        }
    }

    fn next_step(&self) -> Step {
        let order = |a: &[u8], b: &[u8]| compare_listing(split_path(a), split_path(b));
        match (self.old.head(), self.new.head()) {
            (Head::End, Head::End) => Step::End,
            (Head::Page(old, _), Head::Page(new, _)) if old == new => Step::SkipBoth,
            // The page that begins first may hold entries that only its side has.
            (Head::Page(_, old), Head::Page(_, new)) => Step::Open {
                old: order(old, new).is_le(),
                new: order(old, new).is_ge(),
            },
            (Head::Page(..), Head::End) => Step::Open {
                old: true,
                new: false,
            },
            (Head::End, Head::Page(..)) => Step::Open {
                old: false,
                new: true,
            },
            (Head::Page(_, first), Head::Entry(entry)) if order(first, &entry.path).is_le() => {
                Step::Open {
                    old: true,
                    new: false,
                }
            }
            (Head::Entry(entry), Head::Page(_, first)) if order(first, &entry.path).is_le() => {
                Step::Open {
                    old: false,
                    new: true,
                }
            }
            (Head::Entry(old), Head::Entry(new)) => Step::Take(order(&old.path, &new.path)),
            (Head::Entry(_), _) => Step::Take(Ordering::Less),
            (_, Head::Entry(_)) => Step::Take(Ordering::Greater),
        }
    }

    fn step(&mut self) -> Result<Option<Changed>> {
        loop {
            match self.next_step() {
                Step::End => return Ok(None),
                Step::SkipBoth => {
                    self.old.skip_page();
                    self.new.skip_page();
                }
                Step::Open { old, new } => {
                    if old {
                        self.old.open_page()?;
                    }
                    if new {
                        self.new.open_page()?;
                    }
                }
                Step::Take(order) => {
                    let old = order.is_le().then(|| self.old.take_entry()).flatten();
                    let new = order.is_ge().then(|| self.new.take_entry()).flatten();
                    let difference = match (&old, &new) {
                        (Some(old), Some(new)) => difference(old, new),
                        (Some(_), None) => Some(Difference::Removed),
                        (None, _) => Some(Difference::Added),
                    };
                    if let Some(difference) = difference {
                        return Ok(Some(Changed {
                            difference,
                            old,
                            new,
                        }));
                    }
                }
            }
        }
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Changed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.step();
        self.failed = result.is_err();
        result.transpose()
    }
}

fn difference(old: &Entry, new: &Entry) -> Option<Difference> {
    if old.kind != new.kind {
        return Some(Difference::Type);
    }
    // A small file may have moved to another bundle.
    let same_digest = old.digest != [0; 16] && old.digest == new.digest;
    let same = old.size == new.size && (old.content == new.content || same_digest);
    if !same || old.target != new.target {
        return Some(Difference::Content);
    }
    (old.meta != new.meta).then_some(Difference::Metadata)
}
