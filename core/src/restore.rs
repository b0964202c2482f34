//! How a restore treats what the target directory already holds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a restore does with the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreMode {
    /// The target must be empty (a `lost+found` of the file system is allowed).
    #[default]
    Empty,
    /// Entries of the snapshot replace those of the same name; others stay.
    Overwrite,
    /// As `Overwrite`, and what the snapshot does not hold is removed.
    Exact,
    /// The target must not exist; it is created. In a volume it is a directory in the volume's root.
    NewDir,
}

/// A text that is not a restore mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a restore mode: use empty, overwrite, exact or new-dir")]
pub struct ParseModeError(pub String);

impl RestoreMode {
    /// The mode's name on the command line and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Overwrite => "overwrite",
            Self::Exact => "exact",
            Self::NewDir => "new-dir",
        }
    }
}

impl fmt::Display for RestoreMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RestoreMode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, ParseModeError> {
        [Self::Empty, Self::Overwrite, Self::Exact, Self::NewDir]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| ParseModeError(text.to_owned()))
    }
}
