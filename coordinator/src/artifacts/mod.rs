//! Artifacts: the files of backups and restores that lie beside a repository, as Velero lays them out.

mod read;
mod reports;
mod restore;
mod spool;

use std::path::Path;

use orlop_core::run::{RunKind, RunSpec};
use orlop_kubernetes::{
    files::{BackupFile, Level, Record, RestoreFile},
    record::BackupRecord,
    velero::Backup,
};
use orlop_proto::v1::LogLevel;
use orlop_repository::Repository;

pub(crate) use read::{key_of, list, read};
pub(crate) use reports::{ReportWriter, reported};
pub(crate) use restore::restore_files;
pub(crate) use spool::{Spool, UNFINISHED, remove};

use crate::{records::Document, runs::Refusal, state::LogLine};

/// Makes the files of a finished backup, sealed where they may hold secrets, in the order in which they are to be put.
///
/// # Errors
/// What was asked for is no object, or its objects cannot be read.
pub(crate) fn backup_files(
    repository: &Repository,
    document: &Document,
    log: &[LogLine],
    objects: &Path,
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let backup = object_of(document)?;
    let record = BackupRecord {
        backup: &backup,
        run: &document.run,
        expires_ms: document.expires_ms(),
        log: log
            .iter()
            .map(|line| record_of(line, document, backup.metadata.namespace.as_deref()))
            .collect(),
        objects,
    };
    let files = record.files().map_err(|error| {
        let reason = crate::runs::with_sources(&error);
        Refusal::Precondition(format!("make the files of the backup: {reason}"))
    })?;
    let files = files
        .into_iter()
        .map(|file| (file.is_secret(), file.key, file.bytes));
    sealed(repository, files)
}

/// Files with their keys, those that may hold secrets (the first of each three says so) sealed.
fn sealed(
    repository: &Repository,
    files: impl Iterator<Item = (bool, String, Vec<u8>)>,
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let seal = |(is_secret, key, bytes): (bool, String, Vec<u8>)| {
        let bytes = if is_secret {
            repository.seal_artifact(&key, &bytes)?
        } else {
            bytes
        };
        Ok((key, bytes))
    };
    files.map(seal).collect()
}

/// The `Backup` object of a backup: the one that was given, or one that says the same as its spec.
fn object_of(document: &Document) -> Result<Backup, Refusal> {
    let RunSpec::Backup(spec) = &document.spec else {
        return Err(Refusal::Precondition("it is no backup".to_owned()));
    };
    let mut backup: Backup = if spec.velero_object.is_empty() {
        let mut made = Backup::default();
        made.spec.included_namespaces.clone_from(&spec.namespaces);
        made.spec
            .storage_location
            .clone_from(&document.run.location);
        made
    } else {
        serde_json::from_str(&spec.velero_object).map_err(|error| Refusal::Invalid {
            field: "velero_object",
            message: error.to_string(),
        })?
    };
    backup.metadata.name = Some(document.run.name.clone());
    backup.metadata.managed_fields = None;
    Ok(backup)
}

/// A line of a run's log as Velero's clients read it.
fn record_of(line: &LogLine, document: &Document, namespace: Option<&str>) -> Record {
    let field = document.run.kind.as_str();
    let time = jiff::Timestamp::from_millisecond(line.time_ms).unwrap_or_default();
    let level = match LogLevel::try_from(line.level) {
        Ok(LogLevel::Error) => Level::Error,
        Ok(LogLevel::Warning) => Level::Warning,
        _ => Level::Info,
    };
    let name = format!("{}/{}", namespace.unwrap_or("orlop"), document.run.name);
    let mut record = Record::new(time, level, line.message.clone()).with(field, name);
    for (name, value) in &line.fields {
        if let Some(name) = FIELDS.into_iter().find(|known| known == name) {
            record = record.with(name, value.clone());
        }
    }
    let task = line.task.parse().ok();
    if let Some(task) = task.and_then(|id| document.run.task(id)) {
        record = record
            .with("resource", "pods")
            .with("namespace", task.volume.namespace.clone())
            .with("name", task.volume.pod.clone())
            .with("volume", task.volume.volume.clone());
    }
    record
}

/// The fields that lines of hooks and objects have.
const FIELDS: [&str; 12] = [
    "error",
    "hookCommand",
    "hookContainer",
    "hookName",
    "hookOnError",
    "hookPhase",
    "hookSource",
    "hookTimeout",
    "hookType",
    "name",
    "namespace",
    "resource",
];

/// The keys of all files of a backup or restore, the one by which it exists first.
pub(crate) fn keys(kind: RunKind, name: &str) -> Vec<String> {
    let keys: Vec<_> = match kind {
        RunKind::Backup => BackupFile::ALL.iter().map(|file| file.key(name)).collect(),
        RunKind::Restore => RestoreFile::ALL.iter().map(|file| file.key(name)).collect(),
    };
    // A name that cannot be in a key was never put.
    keys.into_iter().flatten().collect()
}

/// The key of the file of a backup's Kubernetes objects.
pub(crate) fn contents_key(backup: &str) -> Option<String> {
    BackupFile::Contents.key(backup).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_first_is_what_makes_a_backup_exist() {
        let keys = keys(RunKind::Backup, "b");
        assert_eq!(keys[0], "backups/b/velero-backup.json");
        assert!(keys.contains(&"backups/b/b.tar.gz".to_owned()));
    }
}
