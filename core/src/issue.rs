//! What went wrong with one entry while the rest went on.

use serde::{Deserialize, Serialize};

/// Why an entry is not, or not wholly, what the volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueKind {
    /// It was gone when it was to be read: a warning.
    Vanished,
    /// It changed while it was read, so that the stored copy may mix two states: a warning.
    Changed,
    /// It could not be read or written: an error.
    Unreadable,
    /// It was left out on purpose, and the message says why: a warning.
    Skipped,
    /// Its data was read but something of its metadata was not, or could not be set: a warning.
    Metadata,
}

impl IssueKind {
    /// Whether the run that met it ends with errors rather than with warnings.
    pub fn is_error(self) -> bool {
        matches!(self, Self::Unreadable)
    }
}

/// One entry's trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Path below the volume's root, any bytes, without a leading slash; empty for the root itself.
    pub path: Vec<u8>,
    /// What kind of trouble.
    pub kind: IssueKind,
    /// The system's error number, 0 when there was none.
    pub errno: i32,
    /// One line for a person.
    pub message: String,
}
