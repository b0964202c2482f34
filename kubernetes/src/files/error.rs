//! What can be wrong with a file of Velero's.

use std::io;

/// A file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// Reading, writing or decompressing failed.
    #[error("read or write a file of a backup")]
    Io(#[from] io::Error),
    /// It is not the JSON that it should be.
    #[error("a file of a backup is not the JSON that it should be")]
    Json(#[from] serde_json::Error),
    /// It is larger than it may be.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The file or the entry of the tarball.
        what: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// It has more entries than it may have.
    #[error("the tarball has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// An entry's name or kind could lead out of where it is unpacked.
    #[error("the tarball's entry {path:?} is refused: {reason}")]
    Refused {
        /// The entry's name.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name that cannot be a part of a key or path.
    #[error(
        "{name:?} cannot be the name of a file: it must not be empty, have a slash or be a dot"
    )]
    Name {
        /// The name.
        name: String,
    },
}

/// Checks that `name` is one part of a path.
///
/// # Errors
/// It is empty, `.` or `..`, or has a slash or a control character.
pub(crate) fn one_part(name: &str) -> Result<&str, FileError> {
    let bad = matches!(name, "" | "." | "..")
        || name.contains(['/', '\\'])
        || name.chars().any(char::is_control);
    if bad {
        return Err(FileError::Name {
            name: name.to_owned(),
        });
    }
    Ok(name)
}
