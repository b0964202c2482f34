//! Why something of a volume could not be had.

use std::{ffi::CString, io};

use orlop_core::IssueKind;
use rustix::io::Errno;

/// Trouble with one entry, or with the walk as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The entry is gone.
    #[error("it is gone")]
    Vanished,
    /// The name stands for something else than when it was listed.
    #[error("it was replaced by something else")]
    Changed,
    /// The system refuses to read it: the error number.
    #[error("it cannot be read: {}", io::Error::from_raw_os_error(*.0))]
    Unreadable(i32),
    /// Its attributes are larger than a snapshot keeps.
    #[error("its extended attributes exceed 64 KiB each or 1 MiB together")]
    AttributesTooLarge,
    /// The walk's own temporary file failed.
    #[error("keep a long directory listing in a temporary file")]
    Spill(#[source] io::Error),
    /// The walk was cancelled or the visitor broke it off.
    #[error("the walk was cancelled")]
    Cancelled,
}

impl ScanError {
    /// The system's error number, 0 if there is none.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Unreadable(errno) => *errno,
            Self::Vanished => Errno::NOENT.raw_os_error(),
            Self::Spill(source) => source.raw_os_error().unwrap_or(0),
            Self::Changed | Self::AttributesTooLarge | Self::Cancelled => 0,
        }
    }

    /// The kind of issue that one entry's error is reported as.
    pub fn issue_kind(&self) -> IssueKind {
        match self {
            Self::Vanished => IssueKind::Vanished,
            Self::Changed => IssueKind::Changed,
            Self::AttributesTooLarge => IssueKind::Metadata,
            Self::Unreadable(_) | Self::Spill(_) | Self::Cancelled => IssueKind::Unreadable,
        }
    }

    /// What the error number of an open or stat by name means.
    pub(crate) fn of_name(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Vanished,
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NXIO => Self::Changed,
            other => Self::Unreadable(other.raw_os_error()),
        }
    }

    /// What the error number of a call on an open descriptor means.
    pub(crate) fn of_fd(errno: Errno) -> Self {
        Self::Unreadable(errno.raw_os_error())
    }
}

impl From<ScanError> for io::Error {
    fn from(error: ScanError) -> Self {
        match error.errno() {
            0 => Self::other(error),
            errno => Self::from_raw_os_error(errno),
        }
    }
}

/// A name of one component as the system wants it.
///
/// A name with a slash or a NUL, or one that means another directory, cannot stand for an entry:
/// it is answered as if there were none.
pub(crate) fn c_name(name: &[u8]) -> Result<CString, ScanError> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(ScanError::Vanished);
    }
    CString::new(name).map_err(|_| ScanError::Vanished)
}
