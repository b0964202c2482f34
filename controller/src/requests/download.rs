//! `DownloadRequest`: where a client finds a file with a plain GET.

use orlop_kubernetes::velero::{
    DownloadRequest, DownloadTargetKind as Target, request::RequestPhase,
};
use orlop_proto::v1::ArtifactKind;

use crate::clock;

/// After that nobody waits for an answer any more.
const UNANSWERED_MS: i64 = 10 * 60_000;

/// What to do about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask for a URL of this.
    Answer(ArtifactKind),
    /// Delete it.
    Remove,
    /// Look again then.
    LaterAt(i64),
    /// It asks for what there cannot be.
    Refuse,
}

/// Decides.
pub(crate) fn next(request: &DownloadRequest, now_ms: i64) -> Step {
    let answered =
        request.status.phase == RequestPhase::Processed && !request.status.download_url.is_empty();
    let made_ms = clock::ms_or_zero(request.metadata.creation_timestamp.as_ref());
    let ends_ms = match &request.status.expiration {
        Some(expiration) => clock::ms(expiration),
        None => made_ms.saturating_add(UNANSWERED_MS),
    };
    if ends_ms <= now_ms {
        return Step::Remove;
    }
    if answered {
        return Step::LaterAt(ends_ms);
    }
    artifact(&request.spec.target.kind).map_or(Step::Refuse, Step::Answer)
}

/// Whether a file is one of a restore.
pub(crate) fn is_of_restore(kind: &Target) -> bool {
    matches!(
        kind,
        Target::RestoreLog
            | Target::RestoreResults
            | Target::RestoreResourceList
            | Target::RestoreItemOperations
            | Target::RestoreVolumeInfo
    )
}

fn artifact(kind: &Target) -> Option<ArtifactKind> {
    Some(match kind {
        Target::BackupLog => ArtifactKind::BackupLog,
        Target::BackupContents => ArtifactKind::BackupContents,
        Target::BackupVolumeSnapshots => ArtifactKind::BackupVolumeSnapshots,
        Target::BackupItemOperations => ArtifactKind::BackupItemOperations,
        Target::BackupResourceList => ArtifactKind::BackupResourceList,
        Target::BackupResults => ArtifactKind::BackupResults,
        Target::RestoreLog => ArtifactKind::RestoreLog,
        Target::RestoreResults => ArtifactKind::RestoreResults,
        Target::RestoreResourceList => ArtifactKind::RestoreResourceList,
        Target::RestoreItemOperations => ArtifactKind::RestoreItemOperations,
        Target::CsiBackupVolumeSnapshots => ArtifactKind::CsiBackupVolumeSnapshots,
        Target::CsiBackupVolumeSnapshotContents => ArtifactKind::CsiBackupVolumeSnapshotContents,
        Target::BackupVolumeInfos => ArtifactKind::BackupVolumeInfos,
        Target::RestoreVolumeInfo => ArtifactKind::RestoreVolumeInfo,
        Target::Unset | Target::Other(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// 2026-01-02T03:04:05Z
    const NOW: i64 = 1_767_323_045_000;

    fn request(kind: &str, made: &str, status: &Value) -> DownloadRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "r", "creationTimestamp": made},
            "spec": {"target": {"kind": kind, "name": "b"}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_request_is_answered_and_goes_when_its_url_does() {
        let (made, old) = ("2026-01-02T03:04:00Z", "2026-01-02T02:54:00Z");
        let answered = |expires: &str| json!({"phase": "Processed", "downloadURL": "u", "expiration": expires});
        let later = "2026-01-02T03:14:05Z";
        let cases = [
            (
                request("BackupLog", made, &json!({})),
                Step::Answer(ArtifactKind::BackupLog),
            ),
            (
                request("BackupLog", made, &json!({"phase": "New"})),
                Step::Answer(ArtifactKind::BackupLog),
            ),
            (
                request("BackupLog", made, &json!({"phase": "Processed"})),
                Step::Answer(ArtifactKind::BackupLog),
            ),
            (request("Moon", made, &json!({})), Step::Refuse),
            (request("Moon", old, &json!({})), Step::Remove),
            (request("BackupLog", old, &json!({})), Step::Remove),
            (
                request("BackupLog", old, &answered(later)),
                Step::LaterAt(NOW + 600_000),
            ),
            (
                request("BackupLog", made, &answered("2026-01-02T03:04:05Z")),
                Step::Remove,
            ),
        ];
        for (request, want) in cases {
            assert_eq!(next(&request, NOW), want, "{request:?}");
        }
    }

    #[test]
    fn every_file_that_clients_ask_for_is_an_artifact() {
        let kinds = [
            "BackupLog",
            "BackupContents",
            "BackupVolumeSnapshots",
            "BackupItemOperations",
            "BackupResourceList",
            "BackupResults",
            "RestoreLog",
            "RestoreResults",
            "RestoreResourceList",
            "RestoreItemOperations",
            "CSIBackupVolumeSnapshots",
            "CSIBackupVolumeSnapshotContents",
            "BackupVolumeInfos",
            "RestoreVolumeInfo",
        ];
        let mut seen = Vec::new();
        for kind in kinds {
            let artifact = artifact(&kind.into()).unwrap();
            assert!(!seen.contains(&artifact), "{kind}");
            assert_eq!(is_of_restore(&kind.into()), kind.starts_with("Restore"));
            seen.push(artifact);
        }
    }
}
