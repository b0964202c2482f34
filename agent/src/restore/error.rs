//! Why a restore ended early.

use std::{io, path::PathBuf};

/// A restore ended before everything was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The target holds something.
    #[error(
        "{target} is not empty (it holds {example:?}): choose an empty directory, or a mode that \
         allows it (overwrite, exact)"
    )]
    NotEmpty {
        /// The target.
        target: String,
        /// One name that it holds.
        example: String,
    },
    /// The target exists though a new directory was asked for.
    #[error("{} exists already: name a new directory, or use another mode", path.display())]
    Exists {
        /// The target.
        path: PathBuf,
    },
    /// The target cannot be made or opened.
    #[error("cannot {action} {target}")]
    Target {
        /// What was tried.
        action: &'static str,
        /// The target.
        target: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nothing more can be written to the target.
    #[error(
        "{target} takes no more data (at {path:?}): make room or raise its quota, then restore again \
         with mode overwrite; what was restored so far is still there"
    )]
    Full {
        /// The target.
        target: String,
        /// Path in the snapshot at which it happened.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The target cannot be written to at all.
    #[error("{target} is read-only (at {path:?}): mount it writable, then restore again")]
    ReadOnly {
        /// The target.
        target: String,
        /// Path in the snapshot at which it happened.
        path: String,
    },
    /// The snapshot holds no such path.
    #[error("the snapshot holds no {path:?}{hint}")]
    NotInSnapshot {
        /// What was asked for.
        path: String,
        /// The nearest, with its own leading punctuation.
        hint: String,
    },
    /// A pattern selects nothing.
    #[error("the snapshot holds nothing that {pattern:?} means{hint}")]
    NothingMatches {
        /// The pattern.
        pattern: String,
        /// The nearest, with its own leading punctuation.
        hint: String,
    },
    /// A temporary file of the restore itself failed.
    #[error("cannot keep directory metadata in a temporary file")]
    Spill(#[source] io::Error),
    /// The snapshot cannot be read.
    #[error("cannot read the snapshot")]
    Repository(#[from] orlop_repository::Error),
    /// It was cancelled.
    #[error("the restore was cancelled; what was restored so far is still there")]
    Cancelled,
}

impl RestoreError {
    /// Whether trying again without changing anything is futile.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Repository(error) => error.is_permanent(),
            Self::Cancelled | Self::Spill(_) => false,
            _ => true,
        }
    }

    /// Whether somebody can mend it, at the volume or at the store, so that the same restore is worth another try later.
    pub fn is_mendable(&self) -> bool {
        match self {
            Self::Repository(error) => is_mendable(error),
            Self::Full { .. } | Self::ReadOnly { .. } | Self::Target { .. } | Self::Spill(_) => {
                true
            }
            Self::NotEmpty { .. }
            | Self::Exists { .. }
            | Self::NotInSnapshot { .. }
            | Self::NothingMatches { .. }
            | Self::Cancelled => false,
        }
    }

    /// Whether it ended because somebody wanted it to.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Repository(error) => error.is_cancelled(),
            Self::Cancelled => true,
            _ => false,
        }
    }
}

/// As [`RestoreError::is_mendable`]: what is damaged, or is no part of the snapshot, stays so; what is missing or cannot be
/// reached may come back.
pub(crate) fn is_mendable(error: &orlop_repository::Error) -> bool {
    use orlop_repository::Error;
    if error.is_cancelled() {
        return false;
    }
    !error.is_permanent()
        || matches!(
            error,
            Error::NotFound { .. }
                | Error::NoRepository { .. }
                | Error::Store { .. }
                | Error::Access { .. }
        )
}

#[cfg(test)]
mod tests {
    use orlop_repository::Error;

    use super::*;

    #[test]
    fn what_is_missing_or_full_can_be_mended_and_what_is_damaged_cannot() {
        let (name, store) = (|| "p/1".to_owned(), || "the store".to_owned());
        let missing = Error::NotFound {
            name: name(),
            store: store(),
        };
        let denied = Error::Store {
            action: "read",
            name: name(),
            store: store(),
            source: io::ErrorKind::PermissionDenied.into(),
        };
        let damaged = Error::Damaged {
            name: name(),
            reason: String::new(),
        };
        let gone = Error::NoSnapshot {
            wanted: name(),
            store: store(),
            hint: String::new(),
        };
        let of = |error| RestoreError::Repository(error).is_mendable();
        assert_eq!(
            [
                of(missing),
                of(denied),
                of(damaged),
                of(gone),
                of(Error::Cancelled)
            ],
            [true, true, false, false, false]
        );
        let (target, path) = (String::new, String::new);
        let full = RestoreError::Full {
            target: target(),
            path: path(),
            source: io::ErrorKind::StorageFull.into(),
        };
        assert!(full.is_mendable() && full.is_permanent());
        let read_only = RestoreError::ReadOnly {
            target: target(),
            path: path(),
        };
        assert!(read_only.is_mendable());
        let hint = String::new();
        assert!(!RestoreError::NotInSnapshot { path: path(), hint }.is_mendable());
    }
}
