//! What `orlop bootstrap` found, and what may follow.

use std::fmt::Write as _;

use orlop_kubernetes::{
    api::Time,
    velero::{Backup, BackupPhase, Restore},
};
use serde::Serialize;

use super::present;
use crate::text;

/// The backups of a location that a new cluster has begun with.
#[derive(Debug, Serialize)]
pub(crate) struct BootstrapShape {
    namespace: String,
    backups: Vec<StoredBackupShape>,
    restore: Option<AskedRestoreShape>,
    next: Vec<String>,
}

#[derive(Debug, Serialize)]
struct StoredBackupShape {
    name: String,
    phase: String,
    started: Option<String>,
    completed: Option<String>,
    expires: Option<String>,
    namespaces: Vec<String>,
    warnings: i32,
    errors: i32,
}

#[derive(Debug, Serialize)]
struct AskedRestoreShape {
    name: String,
    from_backup: String,
    phase: Option<String>,
    warnings: i32,
    errors: i32,
    failure_reason: Option<String>,
}

impl BootstrapShape {
    /// `backups` are oldest first; `restore` is the one that was asked for.
    pub(crate) fn new(namespace: &str, backups: &[Backup], restore: Option<&Restore>) -> Self {
        let restore = restore.map(AskedRestoreShape::from);
        Self {
            namespace: namespace.to_owned(),
            next: next(namespace, backups, restore.as_ref()),
            backups: backups.iter().map(StoredBackupShape::from).collect(),
            restore,
        }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("Orlop is installed in namespace {}.\n\n", self.namespace);
        if self.backups.is_empty() {
            out.push_str(
                "The store has no backups of clusters; snapshots of volumes: orlop snapshot ls.\n",
            );
        } else {
            let none = || "-".to_owned();
            let rows: Vec<Vec<String>> = self
                .backups
                .iter()
                .map(|backup| {
                    let namespaces = backup.namespaces.join(",");
                    vec![
                        backup.name.clone(),
                        backup.phase.clone(),
                        backup.started.clone().unwrap_or_else(none),
                        backup.expires.clone().unwrap_or_else(none),
                        if namespaces.is_empty() {
                            "*".to_owned()
                        } else {
                            namespaces
                        },
                        backup.warnings.to_string(),
                        backup.errors.to_string(),
                    ]
                })
                .collect();
            out.push_str(&text::table(
                &[
                    "BACKUP",
                    "PHASE",
                    "STARTED",
                    "EXPIRES",
                    "NAMESPACES",
                    "WARNINGS",
                    "ERRORS",
                ],
                &rows,
            ));
        }
        if let Some(restore) = &self.restore {
            let phase = restore.phase.as_deref().unwrap_or("is asked for");
            let _ = writeln!(
                out,
                "\nRestore {} of backup {}: {phase}",
                restore.name, restore.from_backup
            );
        }
        if !self.next.is_empty() {
            out.push_str("\nNext:\n\n");
            for command in &self.next {
                let _ = writeln!(out, "  {command}");
            }
        }
        out
    }
}

/// The commands that may follow: to restore the newest good backup, or to look at the restore.
fn next(namespace: &str, backups: &[Backup], restore: Option<&AskedRestoreShape>) -> Vec<String> {
    let at = match namespace {
        "velero" => String::new(),
        other => format!(" --orlop-namespace {other}"),
    };
    if let Some(restore) = restore {
        let name = &restore.name;
        return vec![
            format!("velero -n {namespace} restore describe {name} --details"),
            format!("orlop restore describe {name}{at}"),
        ];
    }
    let named = |backup: &&Backup| {
        matches!(
            backup.status.phase,
            BackupPhase::Completed | BackupPhase::PartiallyFailed
        )
    };
    let newest = backups.iter().rev().find(named);
    let Some(name) = newest.and_then(|backup| backup.metadata.name.as_deref()) else {
        return Vec::new();
    };
    vec![
        format!("velero -n {namespace} restore create --from-backup {name} --wait"),
        format!("orlop restore create --from-backup {name} --wait{at}"),
        format!("kubectl kots restore --from-backup {name}     # of a KOTS instance"),
    ]
}

impl From<&Backup> for StoredBackupShape {
    fn from(backup: &Backup) -> Self {
        let status = &backup.status;
        let time = |time: &Option<Time>| {
            let time = time.as_ref()?;
            Some(text::time(time.0.as_millisecond()))
        };
        Self {
            name: backup.metadata.name.clone().unwrap_or_default(),
            phase: status.phase.to_string(),
            started: time(&status.start_timestamp),
            completed: time(&status.completion_timestamp),
            expires: time(&status.expiration),
            namespaces: backup.spec.included_namespaces.clone(),
            warnings: status.warnings,
            errors: status.errors,
        }
    }
}

impl From<&Restore> for AskedRestoreShape {
    fn from(restore: &Restore) -> Self {
        let status = &restore.status;
        Self {
            name: restore.metadata.name.clone().unwrap_or_default(),
            from_backup: restore.spec.backup_name.clone(),
            phase: present(&status.phase.to_string()),
            warnings: status.warnings,
            errors: status.errors,
            failure_reason: present(&status.failure_reason),
        }
    }
}
