//! What a schedule does, on the wire and checked on receipt.

use orlop_core::{retention::RetentionPolicy, run::BackupSpec, schedule::ScheduleSpec};

use crate::{
    receive::{self, ProtocolError, Result},
    v1,
};

/// Longest cron expression or list of keep rules, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

impl TryFrom<v1::ScheduleSpec> for ScheduleSpec {
    type Error = ProtocolError;

    fn try_from(spec: v1::ScheduleSpec) -> Result<Self> {
        let backup = spec.backup.unwrap_or_default();
        for (field, value) in [
            ("backup.name", &backup.name),
            ("backup.schedule", &backup.schedule),
        ] {
            if !value.is_empty() {
                return Err(ProtocolError::new(field, "must be empty"));
            }
        }
        let names = receive::MAX_NAME_BYTES;
        let location = receive::text("backup.location", backup.location.clone(), names)?;
        let backup = BackupSpec::try_from(backup).map_err(|error| error.within("backup"))?;
        let keep = receive::text("keep", spec.keep, MAX_TEXT_BYTES)?;
        let keep = match keep.as_str() {
            "" => RetentionPolicy::default(),
            text => text
                .parse()
                .map_err(|error| ProtocolError::new("keep", format!("{error}")))?,
        };
        let checked = Self {
            cron: receive::some_text("cron", spec.cron, MAX_TEXT_BYTES)?,
            time_zone: receive::text("time_zone", spec.time_zone, names)?,
            location,
            backup,
            keep,
            starting_deadline_seconds: spec.starting_deadline_seconds,
        };
        checked.timetable().map_err(|error| {
            let field = match error {
                orlop_core::schedule::ParseTimetableError::Cron { .. } => "cron",
                orlop_core::schedule::ParseTimetableError::Zone(_) => "time_zone",
            };
            ProtocolError::new(field, error.to_string())
        })?;
        Ok(checked)
    }
}

impl From<&ScheduleSpec> for v1::ScheduleSpec {
    fn from(spec: &ScheduleSpec) -> Self {
        let backup = &spec.backup;
        Self {
            cron: spec.cron.clone(),
            time_zone: spec.time_zone.clone(),
            backup: Some(v1::CreateBackupRequest {
                name: String::new(),
                namespaces: backup.namespaces.clone(),
                pods: backup.pods.clone(),
                volumes: backup.volumes.iter().map(Into::into).collect(),
                location: spec.location.clone(),
                ttl_seconds: backup.ttl_seconds,
                exclude: backup.exclude.clone(),
                tags: backup.tags.clone(),
                force_full: backup.force_full,
                schedule: String::new(),
                velero_object: backup.velero_object.clone().into(),
            }),
            keep: spec.keep.to_string(),
            starting_deadline_seconds: spec.starting_deadline_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> v1::ScheduleSpec {
        v1::ScheduleSpec {
            cron: "0 2 * * *".to_owned(),
            time_zone: "Europe/Vienna".to_owned(),
            backup: Some(v1::CreateBackupRequest {
                namespaces: vec!["shop".to_owned()],
                location: "away".to_owned(),
                ttl_seconds: 3600,
                tags: vec!["t".to_owned()],
                ..Default::default()
            }),
            keep: "daily=7,weekly=4".to_owned(),
            starting_deadline_seconds: 60,
        }
    }

    #[test]
    fn a_spec_survives_the_wire() {
        let wire = spec();
        let domain = ScheduleSpec::try_from(wire.clone()).unwrap();
        assert_eq!(v1::ScheduleSpec::from(&domain), wire);
    }

    #[test]
    fn mistakes_are_named_with_their_fields() {
        let backup = |backup: v1::CreateBackupRequest| v1::ScheduleSpec {
            backup: Some(backup),
            ..spec()
        };
        let name = || "x".to_owned();
        for (wrong, field) in [
            (v1::ScheduleSpec::default(), "cron"),
            (
                v1::ScheduleSpec {
                    cron: name(),
                    ..spec()
                },
                "cron",
            ),
            (
                v1::ScheduleSpec {
                    time_zone: name(),
                    ..spec()
                },
                "time_zone",
            ),
            (
                v1::ScheduleSpec {
                    keep: name(),
                    ..spec()
                },
                "keep",
            ),
            (
                backup(v1::CreateBackupRequest {
                    name: name(),
                    ..Default::default()
                }),
                "backup.name",
            ),
            (
                backup(v1::CreateBackupRequest {
                    schedule: name(),
                    ..Default::default()
                }),
                "backup.schedule",
            ),
            (
                backup(v1::CreateBackupRequest {
                    pods: vec![name()],
                    ..Default::default()
                }),
                "backup.pods",
            ),
        ] {
            assert_eq!(ScheduleSpec::try_from(wrong).unwrap_err().field, field);
        }
    }
}
