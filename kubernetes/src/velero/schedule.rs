//! `Schedule`: when a backup is to be made.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backup::BackupSpec,
    kind::kind,
    shape::{object, words},
};

kind! {
    /// When a backup is to be made.
    pub struct Schedule = "v1", "schedules";
    columns [
        ("Status", "string", ".status.phase"),
        ("Schedule", "string", ".spec.schedule"),
        ("LastBackup", "date", ".status.lastBackup"),
        ("Age", "date", ".metadata.creationTimestamp"),
        ("Paused", "boolean", ".spec.paused"),
    ];
    /// When to back up what.
    spec: ScheduleSpec,
    /// What became of it; written by the server.
    status: ScheduleStatus,
}

object! {
    /// When to back up what.
    pub struct ScheduleSpec {
        /// The spec of its backups.
        template: BackupSpec = "template", required;
        /// The times as a cron expression of five fields, perhaps after `CRON_TZ=zone`.
        schedule: String = "schedule", required;
        /// Whether its backups belong to the schedule and are deleted with it.
        use_owner_references_in_backup: Option<bool> = "useOwnerReferencesInBackup", nullable;
        /// Whether it rests.
        paused: bool = "paused";
        /// Whether a turn that is due when the schedule is made or resumed is left out.
        skip_immediately: bool = "skipImmediately";
    }
}

words! {
    /// Whether a schedule can be followed.
    pub enum SchedulePhase {
        /// Nobody has looked at it.
        New = "New",
        /// It is followed.
        Enabled = "Enabled",
        /// Its times or its template make no sense.
        FailedValidation = "FailedValidation",
    }
}

object! {
    /// What became of a schedule.
    pub struct ScheduleStatus {
        /// Whether it can be followed.
        phase: SchedulePhase = "phase";
        /// When it last made a backup.
        last_backup: Option<Time> = "lastBackup", nullable;
        /// When it last left a turn out.
        last_skipped: Option<Time> = "lastSkipped", nullable;
        /// What is wrong with the spec.
        validation_errors: Vec<String> = "validationErrors";
    }
}
