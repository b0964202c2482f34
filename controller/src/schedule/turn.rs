//! What a `Schedule` is to do now.

use orlop_core::schedule::{Step as Turn, Timetable};
use orlop_kubernetes::{
    api::{ObjectMeta, OwnerReference},
    selection::Filters,
    velero::{Backup, BackupPhase, Schedule, labels, schedule::SchedulePhase},
};

use crate::{clock, names};

/// Longest name of a schedule: its backups have 15 characters more, and those must fit into labels of a file system.
const NAME_MAX: usize = 230;

/// What a schedule is to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Next {
    /// The schedule with its new status; the same if nothing changes.
    pub(crate) schedule: Schedule,
    /// The backup to make first, if a turn has come.
    pub(crate) backup: Option<Box<Backup>>,
    /// When to look again; `None` if only a change of the schedule makes a difference.
    pub(crate) again_ms: Option<i64>,
}

/// The times of a schedule.
///
/// # Errors
/// One line for a person.
pub(crate) fn timetable(text: &str) -> Result<Timetable, String> {
    let text = text.trim();
    let named = text
        .strip_prefix("CRON_TZ=")
        .or_else(|| text.strip_prefix("TZ="));
    let parsed = match named {
        None => Timetable::parse(text, ""),
        Some(rest) => {
            let (zone, cron) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            Timetable::parse(cron, zone)
        }
    };
    parsed.map_err(|error| error.to_string())
}

/// Decides what to do, when `backups` are those of the schedule.
pub(crate) fn next(schedule: &Schedule, backups: &[&Backup], now_ms: i64) -> Next {
    let mut next = Next {
        schedule: schedule.clone(),
        backup: None,
        again_ms: None,
    };
    let name = schedule.metadata.name.clone().unwrap_or_default();
    let status = &mut next.schedule.status;
    let mut problems = Vec::new();
    let times = timetable(&schedule.spec.schedule)
        .map_err(|problem| problems.push(problem))
        .ok();
    if let Err(invalid) = Filters::of_backup(&schedule.spec.template) {
        problems.extend(invalid.problems);
    }
    if let Some(policy) = names::annotation(schedule, names::KEEP)
        && let Err(error) = policy.parse::<orlop_core::retention::RetentionPolicy>()
    {
        problems.push(format!("annotation {}: {error}", names::KEEP));
    }
    if name.len() > NAME_MAX {
        problems.push(format!(
            "the name is longer than {NAME_MAX} characters: its backups need 15 more"
        ));
    }
    status.validation_errors = problems;
    let Some(times) = times.filter(|_| status.validation_errors.is_empty()) else {
        status.phase = SchedulePhase::FailedValidation;
        return next;
    };
    status.phase = SchedulePhase::Enabled;
    if schedule.spec.paused {
        return next;
    }
    if schedule.spec.skip_immediately {
        // It is asked for once.
        next.schedule.spec.skip_immediately = false;
        status.last_skipped = clock::time(now_ms);
        next.again_ms = times.next_after(now_ms);
        return next;
    }
    let look = times.look(handled_ms(schedule, now_ms), now_ms);
    next.again_ms = look.next_ms;
    let running = backups
        .iter()
        .find(|one| is_live(one))
        .map(|one| names_of(one));
    match look.step(now_ms, running.as_deref(), None) {
        // One that still runs is waited for: its end is a change of a backup of this schedule.
        Turn::Wait | Turn::Skip(..) => {}
        Turn::Run(due) => {
            next.backup = Some(Box::new(made(schedule, &name, due.turn_ms)));
            next.schedule.status.last_backup = clock::time(now_ms);
        }
    }
    next
}

/// Up to when all turns were dealt with.
fn handled_ms(schedule: &Schedule, now_ms: i64) -> i64 {
    let status = &schedule.status;
    let made = schedule.metadata.creation_timestamp.as_ref();
    let last = status
        .last_backup
        .as_ref()
        .or(made)
        .map_or(now_ms, clock::ms);
    last.max(clock::ms_or_zero(status.last_skipped.as_ref()))
}

/// Whether a backup is not finished, as Velero sees it when a turn comes.
pub(crate) fn is_live(backup: &Backup) -> bool {
    let phase = &backup.status.phase;
    !phase.is_final() && *phase != BackupPhase::Deleting
}

fn names_of(backup: &Backup) -> String {
    backup.metadata.name.clone().unwrap_or_default()
}

/// The backup of a turn. Its name is that of the turn, so that a turn makes one backup however often it is tried.
fn made(schedule: &Schedule, name: &str, turn_ms: i64) -> Backup {
    let turn = jiff::Timestamp::from_millisecond(turn_ms).unwrap_or_default();
    let mut labels = schedule.metadata.labels.clone().unwrap_or_default();
    let template = &schedule.spec.template;
    labels.extend(template.metadata.labels.clone());
    labels.insert(labels::SCHEDULE_NAME.to_owned(), labels::valid_name(name));
    let mut annotations = schedule.metadata.annotations.clone().unwrap_or_default();
    // They speak of the schedule.
    annotations.retain(|key, _| {
        key != "kubectl.kubernetes.io/last-applied-configuration" && key != names::KEEP
    });
    let owned = schedule.spec.use_owner_references_in_backup == Some(true);
    let owner = owned.then(|| OwnerReference {
        api_version: "velero.io/v1".to_owned(),
        kind: "Schedule".to_owned(),
        name: name.to_owned(),
        uid: schedule.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    });
    Backup {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", turn.strftime("%Y%m%d%H%M%S"))),
            namespace: schedule.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.clone(),
        ..Backup::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// 2026-01-02T03:04:05Z, a Friday.
    const NOW: i64 = 1_767_323_045_000;
    const HOUR: i64 = 3_600_000;

    fn schedule(spec: &Value, status: &Value) -> Schedule {
        let mut object = json!({
            "metadata": {
                "name": "nightly", "namespace": "velero", "uid": "s-1", "creationTimestamp": "2026-01-01T12:00:00Z",
                "labels": {"team": "a"}, "annotations": {"note": "x", "orlop.io/keep": "daily=7"},
            },
            "spec": {"schedule": "0 1 * * *", "template": {"ttl": "24h"}},
            "status": status,
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn backup(phase: &str) -> Backup {
        serde_json::from_value(
            json!({"metadata": {"name": "nightly-1"}, "status": {"phase": phase}}),
        )
        .unwrap()
    }

    #[test]
    fn a_turn_that_has_come_makes_one_backup() {
        let next = next(
            &schedule(&json!({"useOwnerReferencesInBackup": true}), &json!({})),
            &[],
            NOW,
        );
        assert_eq!(
            json!(next.backup.unwrap()),
            json!({
                "apiVersion": "velero.io/v1", "kind": "Backup",
                "metadata": {
                    "name": "nightly-20260102010000", "namespace": "velero",
                    "labels": {"team": "a", "velero.io/schedule-name": "nightly"}, "annotations": {"note": "x"},
                    "ownerReferences": [{
                        "apiVersion": "velero.io/v1", "kind": "Schedule", "name": "nightly", "uid": "s-1", "controller": true,
                    }],
                },
                "spec": {"ttl": "24h0m0s"},
            })
        );
        assert_eq!(
            json!(next.schedule.status),
            json!({"phase": "Enabled", "lastBackup": "2026-01-02T03:04:05Z"})
        );
        assert_eq!(next.again_ms, Some(NOW - 5_000 - 4 * 60_000 + 22 * HOUR));
    }

    #[test]
    fn turns_come_by_what_was_last_and_never_two_at_once() {
        let name = |spec: Value, status: Value, phase: &str| {
            let backup = backup(phase);
            let next = next(&schedule(&spec, &status), &[&backup], NOW);
            next.backup.map(|backup| backup.metadata.name.unwrap())
        };
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            // Dealt with after its turn.
            (
                json!({}),
                json!({"lastBackup": "2026-01-02T01:00:03Z"}),
                "Completed",
                None,
            ),
            (
                json!({}),
                json!({"lastBackup": "2025-12-30T01:00:03Z"}),
                "Completed",
                some("nightly-20260102010000"),
            ),
            (
                json!({}),
                json!({"lastSkipped": "2026-01-02T02:00:00Z"}),
                "Completed",
                None,
            ),
            // One that runs is waited for.
            (json!({}), json!({}), "InProgress", None),
            (json!({}), json!({}), "", None),
            (json!({}), json!({}), "Finalizing", None),
            (
                json!({}),
                json!({}),
                "Deleting",
                some("nightly-20260102010000"),
            ),
            (
                json!({}),
                json!({}),
                "FailedValidation",
                some("nightly-20260102010000"),
            ),
            (json!({"paused": true}), json!({}), "Completed", None),
            (
                json!({"skipImmediately": true}),
                json!({}),
                "Completed",
                None,
            ),
            (
                json!({"schedule": "CRON_TZ=Europe/Berlin 0 4 * * *"}),
                json!({}),
                "Completed",
                some("nightly-20260102030000"),
            ),
            (
                json!({"schedule": "TZ=America/New_York 0 23 * * *"}),
                json!({}),
                "Completed",
                None,
            ),
            (
                json!({"schedule": "@every 1h"}),
                json!({}),
                "Completed",
                some("nightly-20260102030000"),
            ),
        ];
        for (spec, status, phase, want) in cases {
            assert_eq!(name(spec.clone(), status, phase), want, "{spec} {phase}");
        }
    }

    #[test]
    fn a_skip_is_asked_for_once_and_written_down() {
        let next = next(
            &schedule(&json!({"skipImmediately": true}), &json!({})),
            &[],
            NOW,
        );
        assert!(!next.schedule.spec.skip_immediately);
        assert_eq!(
            json!(next.schedule.status),
            json!({"phase": "Enabled", "lastSkipped": "2026-01-02T03:04:05Z"})
        );
    }

    #[test]
    fn a_schedule_that_makes_no_sense_says_so_and_recovers() {
        let cases = [
            (json!({"schedule": "0 1 * *"}), "is not a cron expression"),
            (json!({"schedule": "CRON_TZ=Mars 0 1 * * *"}), "Mars"),
            (
                json!({"schedule": "CRON_TZ=UTC"}),
                "is not a cron expression",
            ),
            (
                json!({"template": {"labelSelector": {}, "orLabelSelectors": [{}]}}),
                "cannot be used together",
            ),
        ];
        for (spec, want) in cases {
            let next = next(&schedule(&spec, &json!({})), &[], NOW);
            let status = next.schedule.status;
            assert_eq!(
                (status.phase, next.backup),
                (SchedulePhase::FailedValidation, None)
            );
            assert!(
                status.validation_errors[0].contains(want),
                "{:?}",
                status.validation_errors
            );
        }
        let mut mended = schedule(
            &json!({}),
            &json!({"phase": "FailedValidation", "validationErrors": ["x"]}),
        );
        mended.metadata.annotations = None;
        let next = next(&mended, &[], NOW);
        assert_eq!(next.schedule.status.phase, SchedulePhase::Enabled);
        assert!(next.schedule.status.validation_errors.is_empty());
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_a_mistake_of_the_schedule() {
        let mut wrong = schedule(&json!({}), &json!({}));
        let annotations = wrong.metadata.annotations.get_or_insert_default();
        annotations.insert(names::KEEP.to_owned(), "dayly=7".to_owned());
        let errors = next(&wrong, &[], NOW).schedule.status.validation_errors;
        assert!(errors[0].contains("orlop.io/keep"), "{errors:?}");
    }
}
