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

    /// Whether it ended because somebody wanted it to.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Repository(error) => error.is_cancelled(),
            Self::Cancelled => true,
            _ => false,
        }
    }
}
