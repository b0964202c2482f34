//! Which backups are too old, and why one that is cannot go.

use orlop_kubernetes::{
    api::ObjectMeta,
    velero::{
        Backup, BackupPhase, BackupStorageLocation, DeleteBackupRequest,
        labels::GC_FAILURE,
        location::{LocationAccessMode, LocationPhase},
        request::{DeleteBackupRequestPhase, DeleteBackupRequestSpec},
    },
};
use serde_json::{Value, json};

use crate::{clock, delete::steps::labels_of, names, schedule::turn::is_live};

/// What is to be done about an old backup.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Change its labels: it cannot go, or can again.
    Label(Value),
    /// Ask for its deletion.
    Delete(Box<DeleteBackupRequest>),
}

/// What is to be done about `backup`, if it is too old.
pub(crate) fn next(
    backup: &Backup,
    location: Option<&BackupStorageLocation>,
    requests: &[&DeleteBackupRequest],
    now_ms: i64,
) -> Vec<Step> {
    let expires = backup.status.expiration.as_ref();
    let old = expires.is_some_and(|time| clock::ms(time) < now_ms);
    if !old || is_live(backup) || backup.status.phase == BackupPhase::Deleting {
        return Vec::new();
    }
    let wanted = match location {
        None if backup.status.phase == BackupPhase::FailedValidation => None,
        None => Some("BSLNotFound"),
        Some(location) if location.spec.access_mode == LocationAccessMode::ReadOnly => {
            Some("BSLReadOnly")
        }
        Some(location) if location.status.phase != LocationPhase::Available => {
            Some("BSLUnavailable")
        }
        Some(_) => None,
    };
    let mut steps = Vec::new();
    if names::label(backup, GC_FAILURE) != wanted {
        let patch = json!({"metadata": {"labels": {GC_FAILURE: wanted}}});
        steps.push(Step::Label(patch));
    }
    if wanted.is_none()
        && let Some(request) = request(backup, "-expired", requests)
    {
        steps.push(Step::Delete(Box::new(request)));
    }
    steps
}

/// The request that deletes `backup`, unless there is one that has not ended. Its name is that of the backup with
/// `end`, so that it is made once.
pub(crate) fn request(
    backup: &Backup,
    end: &str,
    requests: &[&DeleteBackupRequest],
) -> Option<DeleteBackupRequest> {
    let name = backup.metadata.name.as_deref()?;
    let own = names::with_end(name, end);
    let stands = |request: &&&DeleteBackupRequest| {
        let live = request.status.phase != DeleteBackupRequestPhase::Processed;
        request.spec.backup_name == name && live || request.metadata.name.as_ref() == Some(&own)
    };
    if requests.iter().any(|request| stands(&request)) {
        return None;
    }
    Some(DeleteBackupRequest {
        metadata: ObjectMeta {
            name: Some(own),
            namespace: backup.metadata.namespace.clone(),
            labels: Some(labels_of(backup, name)),
            ..ObjectMeta::default()
        },
        spec: DeleteBackupRequestSpec {
            backup_name: name.to_owned(),
        },
        ..DeleteBackupRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-02T03:04:05Z
    const NOW: i64 = 1_767_323_045_000;

    fn backup(expires: &str, phase: &str, labels: &Value) -> Backup {
        serde_json::from_value(json!({
            "metadata": {"name": "b", "namespace": "velero", "uid": "u-1", "labels": labels},
            "status": {"expiration": expires, "phase": phase},
        }))
        .unwrap()
    }

    fn location(mode: &str, phase: &str) -> BackupStorageLocation {
        serde_json::from_value(json!({
            "spec": {"provider": "aws", "objectStorage": {"bucket": "b"}, "accessMode": mode}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    const PAST: &str = "2026-01-02T03:04:04Z";

    #[test]
    fn an_old_backup_is_asked_to_go_once() {
        let old = backup(PAST, "Completed", &json!({}));
        let good = location("", "Available");
        let steps = next(&old, Some(&good), &[], NOW);
        let [Step::Delete(request)] = &steps[..] else {
            panic!("{steps:?}");
        };
        assert_eq!(
            json!(request),
            json!({
                "apiVersion": "velero.io/v1", "kind": "DeleteBackupRequest",
                "metadata": {
                    "name": "b-expired", "namespace": "velero",
                    "labels": {"velero.io/backup-name": "b", "velero.io/backup-uid": "u-1"},
                },
                "spec": {"backupName": "b"},
            })
        );
        assert_eq!(next(&old, Some(&good), &[request], NOW), []);
        let mut failed = (**request).clone();
        failed.metadata.name = Some("b".to_owned());
        assert_eq!(next(&old, Some(&good), &[&failed], NOW), []);
        failed.status.phase = DeleteBackupRequestPhase::Processed;
        assert_eq!(next(&old, Some(&good), &[&failed], NOW).len(), 1);
    }

    #[test]
    fn what_is_not_old_or_not_at_rest_is_left_alone() {
        let good = location("", "Available");
        for (expires, phase) in [
            ("2026-01-02T03:04:06Z", "Completed"),
            (PAST, "InProgress"),
            (PAST, "Deleting"),
            (PAST, ""),
        ] {
            assert_eq!(
                next(&backup(expires, phase, &json!({})), Some(&good), &[], NOW),
                []
            );
        }
        let mut forever = backup(PAST, "Completed", &json!({}));
        forever.status.expiration = None;
        assert_eq!(next(&forever, Some(&good), &[], NOW), []);
    }

    #[test]
    fn why_one_cannot_go_is_its_label_until_it_can() {
        let cases = [
            (None, "BSLNotFound"),
            (Some(location("ReadOnly", "Available")), "BSLReadOnly"),
            (Some(location("", "Unavailable")), "BSLUnavailable"),
        ];
        for (location, want) in cases {
            let old = backup(PAST, "Completed", &json!({}));
            let label = json!({"metadata": {"labels": {"velero.io/gc-failure": want}}});
            assert_eq!(
                next(&old, location.as_ref(), &[], NOW),
                [Step::Label(label)]
            );
            let labelled = backup(PAST, "Completed", &json!({"velero.io/gc-failure": want}));
            assert_eq!(next(&labelled, location.as_ref(), &[], NOW), []);
        }
        let labelled = backup(
            PAST,
            "Completed",
            &json!({"velero.io/gc-failure": "BSLNotFound"}),
        );
        let steps = next(&labelled, Some(&location("", "Available")), &[], NOW);
        let gone = json!({"metadata": {"labels": {"velero.io/gc-failure": null}}});
        assert_eq!(steps[0], Step::Label(gone));
        assert!(matches!(steps[1], Step::Delete(_)));
        let refused = backup(PAST, "FailedValidation", &json!({}));
        assert!(matches!(
            next(&refused, None, &[], NOW)[..],
            [Step::Delete(_)]
        ));
    }
}
