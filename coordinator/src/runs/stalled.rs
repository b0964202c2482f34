//! Backups of volumes that stand still: a file system that does not answer must not keep a backup, and what its hooks have
//! frozen, for ever. The idea of a limit, its length and the annotation are Velero's (`fs-backup-timeout`,
//! `velero.io/pod-volume-timeout`); here it is the time without progress that counts, not all of it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use orlop_core::{
    Progress, TaskId,
    run::{BackupSpec, Event, RunKind, RunSpec, TaskPhase},
};
use orlop_kubernetes::velero::{GoDuration, labels::POD_VOLUME_TIMEOUT};
use serde_json::Value;

use super::{RunKey, Runs};

/// What is known of tasks that run.
#[derive(Default)]
pub(super) struct Stalls {
    tasks: HashMap<TaskId, Still>,
}

struct Still {
    attempts: u32,
    progress: Progress,
    since: Instant,
    limit: Duration,
}

impl Runs {
    /// Gives up tasks of backups that have not moved on for too long.
    pub(super) fn end_stalled(&self, stalls: &mut Stalls) {
        let default = self.parts.limits.task_patience;
        let now = Instant::now();
        let mut table = self.lock();
        let mut running = HashMap::new();
        let mut ended: Vec<(RunKey, TaskId, Duration)> = Vec::new();
        for document in table.entries.values().map(|entry| &entry.document) {
            let run = &document.run;
            if run.kind != RunKind::Backup || run.phase.is_final() {
                continue;
            }
            for task in run
                .tasks
                .iter()
                .filter(|task| task.phase == TaskPhase::Running)
            {
                let known = stalls.tasks.remove(&task.id);
                let still = match known {
                    Some(still)
                        if still.attempts == task.attempts && still.progress == task.progress =>
                    {
                        still
                    }
                    known => Still {
                        attempts: task.attempts,
                        progress: task.progress,
                        since: now,
                        limit: known.map_or_else(
                            || limit(&document.spec).unwrap_or(default),
                            |it| it.limit,
                        ),
                    },
                };
                if now.duration_since(still.since) >= still.limit {
                    ended.push((RunKey::of(run), task.id, still.limit));
                }
                running.insert(task.id, still);
            }
        }
        stalls.tasks = running;
        let now_ms = self.now_ms();
        for (key, task, limit) in ended {
            let message = format!(
                "it has not moved on for {}: does the file system of the volume answer? Annotation {POD_VOLUME_TIMEOUT} of the \
                 backup allows more",
                GoDuration::from(limit)
            );
            tracing::warn!(run_id = key.name, task = %task, "a task stands still and is given up");
            table.apply(&key, Event::GivenUp { task, message }, now_ms);
        }
    }
}

/// What the annotation of a backup allows, if it is a time above zero.
fn limit(spec: &RunSpec) -> Option<Duration> {
    let RunSpec::Backup(BackupSpec { velero_object, .. }) = spec else {
        return None;
    };
    let object: Value = serde_json::from_str(velero_object).ok()?;
    let said = object["metadata"]["annotations"][POD_VOLUME_TIMEOUT].as_str()?;
    let said = said.parse::<GoDuration>().ok()?.to_std()?;
    (!said.is_zero()).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_of_a_backup_says_how_long_it_may_stand_still() {
        let of = |object: &str| {
            limit(&RunSpec::Backup(BackupSpec {
                velero_object: object.to_owned(),
                ..BackupSpec::default()
            }))
        };
        let with = |text: &str| {
            of(
                &serde_json::json!({"metadata": {"annotations": {POD_VOLUME_TIMEOUT: text}}})
                    .to_string(),
            )
        };
        assert_eq!(with("90m"), Some(Duration::from_mins(90)));
        for text in ["0", "-1h", "soon", ""] {
            assert_eq!(with(text), None, "{text:?}");
        }
        assert_eq!(of(r#"{"metadata": {}}"#), None);
        assert_eq!(of(""), None);
    }
}
