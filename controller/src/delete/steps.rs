//! What is next when somebody wants a backup gone.

use std::collections::BTreeMap;

use orlop_kubernetes::velero::{
    Backup, BackupPhase, BackupStorageLocation, DeleteBackupRequest,
    labels::{self, valid_name},
    location::{LocationAccessMode, LocationPhase},
    request::DeleteBackupRequestPhase as Phase,
};
use orlop_proto::v1;

use crate::{clock, names, schedule::turn::is_live};

/// For how long the errors of a request can be read in it. KOTS uses the same name for its next attempt, so that
/// cannot be long; the backup has them too.
const READABLE_MS: i64 = 10_000;
/// How long a reason why the coordinator cannot delete a backup yet is waited out.
const PATIENCE_MS: i64 = 5 * 60_000;

/// What is known when a request is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) now_ms: i64,
    pub(crate) backup: Option<&'a Backup>,
    /// Of the backup.
    pub(crate) location: Option<&'a BackupStorageLocation>,
    /// Whether the coordinator knows the location, and what is there. One that has lost its state does not at first, and
    /// would know of nothing to delete.
    pub(crate) settled: bool,
    /// The backup as the coordinator knows it.
    pub(crate) run: Option<&'a v1::Backup>,
    /// A restore of the backup that has not ended.
    pub(crate) restore: Option<&'a str>,
    /// Whether the coordinator was asked to delete it since the request was accepted.
    pub(crate) asked: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Label the request and say that it runs.
    Accept {
        /// Labels that clients look for.
        labels: BTreeMap<String, String>,
    },
    /// Say that the backup is being deleted.
    Mark,
    /// Ask the coordinator to delete it.
    Ask,
    /// Look again in a moment.
    Wait,
    /// Delete restores of the backup, the objects of its volumes, and itself.
    RemoveObjects,
    /// Delete the request, which is done.
    RemoveRequest,
    /// Write down why it did not work, in the request and the backup.
    Fail(String),
    /// Look again then.
    LaterAt(i64),
}

/// Decides. It is asked again after each step but `Wait`, `RemoveRequest`, `Fail` and `LaterAt`.
pub(crate) fn next(request: &DeleteBackupRequest, facts: &Facts<'_>) -> Step {
    let name = request.spec.backup_name.as_str();
    let answered_ms = names::annotation(request, names::ANSWERED).and_then(ms_of);
    if request.status.phase == Phase::Processed {
        return match answered_ms {
            Some(answered_ms) if !request.status.errors.is_empty() => {
                let then_ms = answered_ms + READABLE_MS;
                if facts.now_ms >= then_ms {
                    Step::RemoveRequest
                } else {
                    Step::LaterAt(then_ms)
                }
            }
            _ => Step::RemoveRequest,
        };
    }
    let accepted = request.status.phase == Phase::InProgress;
    if name.is_empty() {
        return Step::Fail("spec.backupName is empty: name the backup".to_owned());
    }
    let Some(backup) = facts.backup else {
        // When it was accepted, the backup was there: all is done but this.
        return if accepted {
            Step::RemoveRequest
        } else {
            Step::Fail(format!("there is no backup {name}"))
        };
    };
    if is_live(backup) && !accepted {
        return Step::Fail(format!(
            "backup {name} is still {}: cancel it first (annotate it with {}=true) or wait for it",
            phase_name(&backup.status.phase),
            names::CANCEL
        ));
    }
    if let Some(restore) = facts.restore
        && !accepted
    {
        return Step::Fail(format!(
            "restore {restore} needs backup {name}: wait for it, or cancel it first (annotate it with {}=true)",
            names::CANCEL
        ));
    }
    // What was refused is not in any store.
    if backup.status.phase != BackupPhase::FailedValidation
        && !accepted
        && let Some(problem) = location_problem(backup, facts.location)
    {
        return Step::Fail(problem);
    }
    if !accepted {
        return Step::Accept {
            labels: labels_of(backup, name),
        };
    }
    if backup.status.phase != BackupPhase::Deleting {
        return Step::Mark;
    }
    let is_patient = facts.now_ms - answered_ms.unwrap_or(facts.now_ms) < PATIENCE_MS;
    let was_made = backup.status.validation_errors.is_empty();
    if was_made && facts.location.is_some() && !facts.settled {
        return if is_patient {
            Step::Wait
        } else {
            let location = &backup.spec.storage_location;
            let problem = location_problem(backup, facts.location);
            let problem = problem.unwrap_or_else(|| {
                format!("what is in backup storage location {location} is not known yet")
            });
            Step::Fail(format!("backup {name} cannot be deleted: {problem}"))
        };
    }
    if !facts.asked {
        return Step::Ask;
    }
    match facts.run {
        None => Step::RemoveObjects,
        Some(run) if run.failure_reason.is_empty() => Step::Wait,
        Some(run) => {
            if is_patient {
                Step::Wait
            } else {
                Step::Fail(format!(
                    "backup {name} cannot be deleted: {}",
                    run.failure_reason
                ))
            }
        }
    }
}

fn ms_of(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(time.as_millisecond())
}

fn phase_name(phase: &BackupPhase) -> &str {
    match phase {
        BackupPhase::Unset => "New",
        phase => phase.as_str(),
    }
}

/// Why nothing can be deleted from the location of a backup now.
pub(crate) fn location_problem(
    backup: &Backup,
    location: Option<&BackupStorageLocation>,
) -> Option<String> {
    let name = &backup.spec.storage_location;
    let Some(location) = location else {
        return Some(format!("backup storage location {name} does not exist"));
    };
    if location.spec.access_mode == LocationAccessMode::ReadOnly {
        return Some(format!("backup storage location {name} is read-only"));
    }
    (location.status.phase == LocationPhase::Unavailable).then(|| {
        format!(
            "backup storage location {name} is unavailable: {}",
            location.status.message
        )
    })
}

/// The labels by which clients find the requests for a backup.
pub(crate) fn labels_of(backup: &Backup, name: &str) -> BTreeMap<String, String> {
    let uid = backup.metadata.uid.clone().unwrap_or_default();
    [
        (labels::BACKUP_NAME.to_owned(), valid_name(name)),
        (labels::BACKUP_UID.to_owned(), uid),
    ]
    .into()
}

/// When a request was answered or accepted, as an annotation.
pub(crate) fn stamp(now_ms: i64) -> String {
    clock::text(now_ms)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_767_323_045_000;

    fn request(phase: &str, errors: &[&str], age_s: i64) -> DeleteBackupRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "b", "annotations": {"orlop.io/answered": stamp(NOW - age_s * 1000)}},
            "spec": {"backupName": "b"},
            "status": {"phase": phase, "errors": errors},
        }))
        .unwrap()
    }

    fn backup(phase: &str) -> Backup {
        serde_json::from_value(json!({
            "metadata": {"name": "b", "uid": "u-1"}, "spec": {"storageLocation": "default"}, "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn location(mode: &str, phase: &str) -> BackupStorageLocation {
        serde_json::from_value(json!({
            "metadata": {"name": "default"},
            "spec": {"provider": "aws", "objectStorage": {"bucket": "b"}, "accessMode": mode},
            "status": {"phase": phase, "message": "no answer"},
        }))
        .unwrap()
    }

    fn run(reason: &str) -> v1::Backup {
        v1::Backup {
            failure_reason: reason.to_owned(),
            ..v1::Backup::default()
        }
    }

    #[test]
    fn a_request_goes_its_way_step_by_step() {
        let place = location("ReadWrite", "Available");
        let facts = |backup, run, asked| Facts {
            now_ms: NOW,
            backup,
            location: Some(&place),
            settled: true,
            run,
            restore: None,
            asked,
        };
        let (completed, deleting, gone) = (backup("Completed"), backup("Deleting"), run(""));
        let new = request("", &[], 0);
        let labels = labels_of(&completed, "b");
        assert_eq!(
            next(&new, &facts(Some(&completed), Some(&gone), false)),
            Step::Accept { labels }
        );
        let accepted = request("InProgress", &[], 0);
        assert_eq!(
            next(&accepted, &facts(Some(&completed), Some(&gone), false)),
            Step::Mark
        );
        assert_eq!(
            next(&accepted, &facts(Some(&deleting), Some(&gone), false)),
            Step::Ask
        );
        assert_eq!(
            next(&accepted, &facts(Some(&deleting), Some(&gone), true)),
            Step::Wait
        );
        assert_eq!(
            next(&accepted, &facts(Some(&deleting), None, true)),
            Step::RemoveObjects
        );
        assert_eq!(
            next(&accepted, &facts(None, None, true)),
            Step::RemoveRequest
        );
        let late = request("InProgress", &[], 301);
        let stuck = run("the store does not answer");
        assert_eq!(
            next(&accepted, &facts(Some(&deleting), Some(&stuck), true)),
            Step::Wait
        );
        let failed = next(&late, &facts(Some(&deleting), Some(&stuck), true));
        assert!(matches!(failed, Step::Fail(why) if why.contains("the store does not answer")));
    }

    #[test]
    fn a_coordinator_that_has_lost_its_state_is_waited_for_before_anything_is_removed() {
        let (place, deleting) = (location("", "Unavailable"), backup("Deleting"));
        let mut facts = Facts {
            now_ms: NOW,
            backup: Some(&deleting),
            location: Some(&place),
            settled: false,
            run: None,
            restore: None,
            asked: false,
        };
        let (early, late) = (
            request("InProgress", &[], 9),
            request("InProgress", &[], 301),
        );
        for asked in [false, true] {
            facts.asked = asked;
            assert_eq!(next(&early, &facts), Step::Wait);
            let Step::Fail(why) = next(&late, &facts) else {
                panic!("it waits for ever");
            };
            assert!(why.contains("unavailable: no answer"), "{why}");
        }
        // Nothing is there of one that was refused, and nobody can go where no location leads.
        let mut refused = backup("Deleting");
        refused.status.validation_errors = vec!["no".to_owned()];
        facts.backup = Some(&refused);
        assert_eq!(next(&early, &facts), Step::RemoveObjects);
        (facts.backup, facts.location) = (Some(&deleting), None);
        assert_eq!(next(&early, &facts), Step::RemoveObjects);
    }

    #[test]
    fn what_cannot_be_deleted_is_refused_with_the_reason() {
        let good = location("ReadWrite", "Available");
        let cases = [
            (None, Some(&good), "there is no backup b"),
            (
                Some("InProgress"),
                Some(&good),
                "still InProgress: cancel it first",
            ),
            (Some(""), Some(&good), "still New"),
            (Some("Finalizing"), Some(&good), "still Finalizing"),
            (Some("Completed"), None, "does not exist"),
            (
                Some("Completed"),
                Some(&location("ReadOnly", "Available")),
                "read-only",
            ),
            (
                Some("Failed"),
                Some(&location("", "Unavailable")),
                "unavailable: no answer",
            ),
        ];
        for (phase, location, want) in cases {
            let backup = phase.map(backup);
            let facts = Facts {
                now_ms: NOW,
                backup: backup.as_ref(),
                location,
                settled: true,
                run: None,
                restore: None,
                asked: false,
            };
            match next(&request("New", &[], 0), &facts) {
                Step::Fail(why) => assert!(why.contains(want), "{why}"),
                other => panic!("{phase:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_backup_that_is_being_restored_stays_until_that_has_ended() {
        let (place, completed) = (location("", "Available"), backup("Completed"));
        let facts = |restore| Facts {
            now_ms: NOW,
            backup: Some(&completed),
            location: Some(&place),
            settled: true,
            run: None,
            restore,
            asked: false,
        };
        match next(&request("", &[], 0), &facts(Some("r"))) {
            Step::Fail(why) => assert!(why.starts_with("restore r needs backup b"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            next(&request("", &[], 0), &facts(None)),
            Step::Accept { .. }
        ));
        // What was begun goes on.
        assert_eq!(
            next(&request("InProgress", &[], 0), &facts(Some("r"))),
            Step::Mark
        );
    }

    #[test]
    fn a_backup_that_never_was_made_needs_no_location() {
        let refused = backup("FailedValidation");
        let facts = Facts {
            now_ms: NOW,
            backup: Some(&refused),
            location: None,
            settled: true,
            run: None,
            restore: None,
            asked: false,
        };
        assert!(matches!(
            next(&request("", &[], 0), &facts),
            Step::Accept { .. }
        ));
    }

    #[test]
    fn a_failed_request_is_gone_before_the_next_attempt() {
        let facts = Facts {
            now_ms: NOW,
            backup: None,
            location: None,
            settled: true,
            run: None,
            restore: None,
            asked: false,
        };
        let failed = |age_s| next(&request("Processed", &["no"], age_s), &facts);
        assert_eq!(failed(3), Step::LaterAt(NOW + 7_000));
        assert_eq!(failed(10), Step::RemoveRequest);
        assert_eq!(
            next(&request("Processed", &[], 0), &facts),
            Step::RemoveRequest
        );
    }
}
