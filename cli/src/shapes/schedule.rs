//! Schedules as the coordinator tells them.

use std::fmt::Write as _;

use orlop_proto::v1;
use serde::Serialize;

use super::{phase_name, present, time};
use crate::text;

/// One of `schedule get`.
#[derive(Debug, Serialize)]
pub(crate) struct ScheduleShape {
    name: String,
    cron: String,
    time_zone: String,
    paused: bool,
    health: &'static str,
    next: Option<String>,
    last_backup: Option<String>,
    last_phase: Option<String>,
    last: Option<String>,
    last_success: Option<String>,
    skipped: Option<String>,
    skipped_reason: Option<String>,
    skipped_count: u64,
    waiting: Option<String>,
    keep: Option<String>,
    ttl_seconds: Option<u64>,
    starting_deadline_seconds: Option<u64>,
    location: Option<String>,
    namespaces: Vec<String>,
    pods: Vec<String>,
    volumes: Vec<String>,
    exclude: Vec<String>,
    tags: Vec<String>,
    force_full: bool,
    version: u64,
    created: Option<String>,
    updated: Option<String>,
}

fn some(seconds: u64) -> Option<u64> {
    (seconds > 0).then_some(seconds)
}

/// How the schedule does, in one word.
fn health(schedule: &v1::Schedule) -> &'static str {
    use v1::RunPhase as Phase;
    match schedule.last_phase() {
        _ if !schedule.waiting.is_empty() => "waiting",
        Phase::Failed | Phase::PartiallyFailed => "failing",
        _ if schedule.paused => "paused",
        Phase::New | Phase::Queued | Phase::Running | Phase::Finalizing => "running",
        _ => "ok",
    }
}

impl From<v1::Schedule> for ScheduleShape {
    fn from(schedule: v1::Schedule) -> Self {
        let health = health(&schedule);
        let last_phase = schedule.last_phase();
        let spec = schedule.spec.unwrap_or_default();
        let backup = spec.backup.unwrap_or_default();
        let volume = |v: v1::VolumeRef| format!("{}/{}/{}", v.namespace, v.pod, v.volume);
        Self {
            name: schedule.name,
            cron: spec.cron,
            time_zone: present(&spec.time_zone).unwrap_or_else(|| "UTC".to_owned()),
            paused: schedule.paused,
            health,
            next: time(schedule.next_ms),
            last_phase: present(&schedule.last_backup).map(|_| phase_name(last_phase)),
            last_backup: present(&schedule.last_backup),
            last: time(schedule.last_ms),
            last_success: time(schedule.last_success_ms),
            skipped: time(schedule.skipped_ms),
            skipped_reason: present(&schedule.skipped_reason),
            skipped_count: schedule.skipped_count,
            waiting: present(&schedule.waiting),
            keep: present(&spec.keep),
            ttl_seconds: some(backup.ttl_seconds),
            starting_deadline_seconds: some(spec.starting_deadline_seconds),
            location: present(&backup.location),
            namespaces: backup.namespaces,
            pods: backup.pods,
            volumes: backup.volumes.into_iter().map(volume).collect(),
            exclude: backup.exclude,
            tags: backup.tags,
            force_full: backup.force_full,
            version: schedule.version,
            created: time(schedule.created_ms),
            updated: time(schedule.updated_ms),
        }
    }
}

impl ScheduleShape {
    /// Whether nothing is wrong with it.
    pub(crate) fn is_healthy(&self) -> bool {
        !matches!(self.health, "waiting" | "failing")
    }

    /// The list as people read it.
    pub(crate) fn table(list: &[Self]) -> String {
        if list.is_empty() {
            return "no schedules\n".to_owned();
        }
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let rows: Vec<Vec<String>> = list
            .iter()
            .map(|s| {
                vec![
                    s.name.clone(),
                    s.cron.clone(),
                    s.time_zone.clone(),
                    s.health.to_owned(),
                    or_dash(&s.next),
                    or_dash(&s.last_backup),
                    or_dash(&s.last_phase),
                    or_dash(&s.last_success),
                    or_dash(&s.keep),
                ]
            })
            .collect();
        let header = [
            "SCHEDULE", "CRON", "ZONE", "HEALTH", "NEXT", "LAST", "PHASE", "SUCCESS", "KEEP",
        ];
        let mut out = text::table(&header, &rows);
        for schedule in list {
            if let Some(reason) = &schedule.waiting {
                let _ = writeln!(out, "{} waits: {reason}", schedule.name);
            }
            if let (Some(at), Some(reason)) = (&schedule.skipped, &schedule.skipped_reason) {
                let _ = writeln!(out, "{} made no backup at {at}: {reason}", schedule.name);
            }
        }
        out
    }
}
