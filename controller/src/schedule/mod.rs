//! `Schedule`: when backups are made, and which of them are kept.

mod keep;
pub(crate) mod turn;

use std::sync::Arc;

use orlop_kubernetes::{
    client::UnreadableObject,
    velero::{Backup, DeleteBackupRequest, Schedule, labels, merge_patch, schedule::SchedulePhase},
};
use serde_json::{Value, json};

use crate::{
    clock,
    engine::{Next, Reconciler},
    error::Trouble,
    expire, names,
    parts::Parts,
    patch::only_if,
};

/// Looks after `Schedule` objects.
pub(crate) struct Schedules(pub(crate) Arc<Parts>);

impl Reconciler for Schedules {
    type Object = Schedule;

    fn concerns(&self, _schedule: &Schedule) -> bool {
        true
    }

    async fn reconcile(&self, name: &str, object: Option<Schedule>) -> Result<Next, Trouble> {
        let Some(schedule) = object else {
            return Ok(Next::Done);
        };
        let label = labels::valid_name(name);
        let selector = format!("{}={label}", labels::SCHEDULE_NAME);
        // Those of the API server: a backup that is not known yet would be made twice.
        let all = self.0.backups.list(&selector).await?;
        let all: Vec<&Backup> = all.iter().collect();
        let now_ms = clock::now_ms();
        let next = turn::next(&schedule, &all, now_ms);
        if let Some(backup) = &next.backup {
            let own = backup.metadata.name.as_deref().unwrap_or_default();
            if self.0.backups.create(backup).await? {
                tracing::info!(schedule = name, backup = own, "a schedule makes a backup");
            }
        }
        if let Some(patch) = merge_patch(&schedule, &next.schedule) {
            let patch = only_if(patch, schedule.metadata.resource_version.as_deref());
            self.0.schedules.patch(name, &patch).await?;
        }
        if next.schedule.status.phase == SchedulePhase::Enabled {
            self.keep(&schedule, &all, now_ms).await?;
        }
        Ok(match next.again_ms {
            Some(again_ms) => Next::After(clock::until(again_ms, now_ms)),
            None => Next::Done,
        })
    }

    fn verdict(&self, object: &UnreadableObject) -> Option<Value> {
        let errors = [&object.message];
        Some(json!({"status": {"phase": "FailedValidation", "validationErrors": errors}}))
    }
}

impl Schedules {
    /// Asks for the deletion of what the schedule's rule lets go.
    async fn keep(&self, schedule: &Schedule, all: &[&Backup], now_ms: i64) -> Result<(), Trouble> {
        let (Some(policy), Ok(times)) = (
            names::annotation(schedule, names::KEEP),
            turn::timetable(&schedule.spec.schedule),
        ) else {
            return Ok(());
        };
        let gone = keep::let_go(policy, all, times.zone().clone(), now_ms);
        let Some(requests) = self.0.deletions.all() else {
            return Ok(());
        };
        let requests: Vec<&DeleteBackupRequest> = requests.iter().map(|one| &**one).collect();
        for name in gone {
            let backup = all
                .iter()
                .find(|one| one.metadata.name.as_ref() == Some(&name));
            let request = backup.and_then(|backup| expire::request(backup, "-not-kept", &requests));
            if let Some(request) = request
                && self.0.deletions.create(&request).await?
            {
                tracing::info!(
                    backup = name,
                    "a backup is not kept by the rule of its schedule"
                );
            }
        }
        Ok(())
    }
}
