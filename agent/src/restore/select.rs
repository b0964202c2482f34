//! Which entries of a snapshot are restored.

use orlop_core::IssueKind;
use orlop_repository::{Entry, EntryKind, Scope, is_within, split_path};

use super::{RestoreError, source::Source, tally::Tally};
use crate::scan::Pattern;

/// Examples in a hint.
const EXAMPLES: usize = 3;

/// Which entries of a snapshot are restored: those that any of its parts means, with all below them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Entries by their paths in the snapshot; each must exist.
    pub paths: Vec<Vec<u8>>,
    /// Entries by patterns of paths in the snapshot.
    pub include: Vec<Pattern>,
}

impl Selection {
    /// One entry with all below it.
    pub fn path(path: Vec<u8>) -> Self {
        Self {
            paths: vec![path],
            include: Vec::new(),
        }
    }

    /// Whether everything is selected: nothing in particular, or the root.
    pub fn is_all(&self) -> bool {
        let all = self.paths.is_empty() && self.include.is_empty();
        all || self.paths.iter().any(Vec::is_empty)
    }

    /// What must be read to find what is selected, and the directories above.
    pub(super) fn scope(&self) -> Scope {
        if self.is_all() {
            return Scope::all();
        }
        let directories = self.include.iter().map(Pattern::directory);
        let tops = self.paths.iter().cloned().chain(directories);
        let mut scope = Scope::default();
        for top in tops {
            for above in above(&top) {
                scope = scope.entry(above);
            }
            scope = scope.tree(&top);
        }
        scope
    }

    /// # Errors
    /// A path is not in the snapshot.
    pub(super) fn check(&self, source: &dyn Source) -> Result<(), RestoreError> {
        for path in &self.paths {
            let scope = Scope::default().entry(path);
            if !path.is_empty() && source.entries(scope).next().transpose()?.is_none() {
                return Err(RestoreError::NotInSnapshot {
                    path: String::from_utf8_lossy(path).into_owned(),
                    hint: source.near(path)?,
                });
            }
        }
        Ok(())
    }
}

/// The directories above a path, from the top, without the root.
pub(super) fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &path[..at])
}

/// Chooses entries that come in listing order.
pub(super) struct Chooser<'a> {
    selection: &'a Selection,
    all: bool,
    chosen: u64,
    /// Of each pattern: whether it has matched, and what it nearly matches.
    matched: Vec<(bool, Vec<String>)>,
    /// The directory of the last entry, and whether it was chosen with all below it.
    directory: Option<(Vec<u8>, bool)>,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(selection: &'a Selection) -> Self {
        Self {
            selection,
            all: selection.is_all(),
            chosen: 0,
            matched: vec![Default::default(); selection.include.len()],
            directory: None,
        }
    }

    pub(super) fn is_all(&self) -> bool {
        self.all
    }

    /// Whether the entry is restored.
    pub(super) fn chooses(&mut self, entry: &Entry) -> bool {
        if self.all {
            return true;
        }
        let path = &entry.path;
        let mut chosen = self.selection.paths.iter().any(|top| is_within(path, top));
        if !self.selection.include.is_empty() && !path.is_empty() {
            chosen |= self.is_below_chosen(split_path(path).0);
            let is_directory = entry.kind == EntryKind::Directory;
            for (pattern, (matched, near)) in self.selection.include.iter().zip(&mut self.matched) {
                if pattern.matches(path, is_directory) {
                    *matched = true;
                    chosen = true;
                } else if !*matched && near.len() < EXAMPLES && pattern.nearly_matches(path) {
                    near.push(String::from_utf8_lossy(path).into_owned());
                }
            }
        }
        self.chosen += u64::from(chosen);
        chosen
    }

    fn is_below_chosen(&mut self, directory: &[u8]) -> bool {
        if let Some((last, chosen)) = &self.directory
            && last == directory
        {
            return *chosen;
        }
        let include = &self.selection.include;
        let means = |path: &[u8]| include.iter().any(|pattern| pattern.matches(path, true));
        let itself = (!directory.is_empty()).then_some(directory);
        let chosen = above(directory).chain(itself).any(means);
        self.directory = Some((directory.to_vec(), chosen));
        chosen
    }

    /// Says which patterns have matched nothing.
    ///
    /// # Errors
    /// None has matched anything, and nothing else was selected.
    pub(super) fn finish(self, source: &dyn Source, tally: &Tally) -> Result<(), RestoreError> {
        for (pattern, (matched, near)) in self.selection.include.iter().zip(self.matched) {
            if matched || self.all {
                continue;
            }
            let hint = if near.is_empty() {
                source.near(&pattern.directory())?
            } else {
                format!("; there is {}", near.join(", "))
            };
            let error = RestoreError::NothingMatches {
                pattern: pattern.to_string(),
                hint,
            };
            if self.chosen == 0 {
                return Err(error);
            }
            tally.issue(b"", IssueKind::Skipped, 0, error.to_string());
        }
        Ok(())
    }
}
