//! What `-o json` prints, field by field; docs and golden tests hold these shapes.

mod bootstrap;
mod copy;
mod diff;
mod forget;
mod keys;
mod location;
mod maintenance;
mod repair;
mod repository;
mod run;
mod schedule;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use bootstrap::BootstrapShape;
pub(crate) use copy::CopyShape;
pub(crate) use diff::{ChangeShape, FoundShape};
pub(crate) use forget::ForgetShape;
pub(crate) use keys::{KeyShape, RotateShape};
pub(crate) use location::LocationShape;
pub(crate) use maintenance::{CheckShape, CollectShape, CoveredShape};
pub(crate) use repair::RepairShape;
pub(crate) use repository::{BackupShape, RestoreShape, stats_table};
pub(crate) use run::{BackupRunShape, RestoreRunShape, Run, phase_name};
pub(crate) use schedule::ScheduleShape;
pub(crate) use snapshot::{EntryShape, SnapshotShape};

use serde::Serialize;

/// A path; the second field is there only where the first cannot hold it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PathShape {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
}

impl PathShape {
    pub(crate) fn new(path: &[u8]) -> Self {
        Self {
            path: String::from_utf8_lossy(path).into_owned(),
            path_b64: std::str::from_utf8(path)
                .is_err()
                .then(|| crate::text::base64(path)),
        }
    }
}

/// `None` for the empty text: absent is null.
pub(crate) fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// RFC 3339, or null for 0: not yet, or unknown.
pub(crate) fn time(unix_ms: i64) -> Option<String> {
    (unix_ms != 0).then(|| crate::text::time(unix_ms))
}
