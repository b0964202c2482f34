//! The record of a finished backup or restore as Velero keeps it: all its files, made from its run, its log and its objects.

mod restore;
mod status;
mod volumes;

use std::{collections::BTreeSet, path::Path};

use jiff::Timestamp;
use orlop_core::{
    hook::HookOutcome,
    run::{PodRun, Run, TaskPhase},
};

pub use restore::{RestoreRecord, RestoreRecordFile};
pub use status::backup_status;
pub use volumes::{TASK, owner, pod_volume_backup, pod_volume_backups, volume_infos};

use crate::{
    files::{
        BackupFile, FileError, LogWriter, Record, ResourceList, TarballWriter, json_to_gzip,
        read_spool,
    },
    velero::Backup,
};

/// A finished backup.
pub struct BackupRecord<'a> {
    /// What was asked for.
    pub backup: &'a Backup,
    /// What became of it.
    pub run: &'a Run,
    /// When it may be deleted, milliseconds since 1970; `None` for never.
    pub expires_ms: Option<i64>,
    /// Its log.
    pub log: Vec<Record>,
    /// Its objects as they were put aside, see [`crate::files::SpoolWriter`].
    pub objects: &'a Path,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFile {
    /// Which.
    pub file: BackupFile,
    /// Its key below the location's prefix.
    pub key: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl RecordFile {
    /// Whether it may hold secrets, and must not lie in the clear.
    pub fn is_secret(&self) -> bool {
        matches!(self.file, BackupFile::Contents | BackupFile::VolumeInfo)
    }
}

impl BackupRecord<'_> {
    /// The files, in the order in which they are to be put: the one by which the backup exists comes last.
    ///
    /// Pods with volumes that were not backed up are left out of the objects: restored, they would begin with empty
    /// volumes.
    ///
    /// # Errors
    /// The objects cannot be read.
    pub fn files(&self) -> Result<Vec<RecordFile>, FileError> {
        let name = self.run.name.as_str();
        let mut files = Vec::new();
        let mut add = |file: BackupFile, bytes| -> Result<(), FileError> {
            let key = file.key(name)?;
            files.push(RecordFile { file, key, bytes });
            Ok(())
        };
        let mut log = LogWriter::create(Vec::new());
        for record in &self.log {
            log.write(record)?;
        }
        let (warnings, errors) = (log.warnings(), log.errors());
        let (log, results) = log.finish()?;
        add(BackupFile::Log, log)?;
        add(BackupFile::Results, json_to_gzip(&results)?)?;
        let (contents, list) = self.contents()?;
        add(BackupFile::Contents, contents)?;
        add(BackupFile::ResourceList, json_to_gzip(&list)?)?;
        let volumes = pod_volume_backups(self.backup, self.run);
        add(BackupFile::PodVolumeBackups, json_to_gzip(&volumes)?)?;
        let infos = volume_infos(self.run);
        add(BackupFile::VolumeInfo, json_to_gzip(&infos)?)?;
        let none: [(); 0] = [];
        add(BackupFile::ItemOperations, json_to_gzip(&none)?)?;
        add(BackupFile::VolumeSnapshots, json_to_gzip(&none)?)?;
        let mut backup = self.backup.clone();
        backup.status = backup_status(self.run, self.expires_ms);
        // Of a long log there may be a part only.
        let status = &mut backup.status;
        status.warnings = i32::try_from(warnings)
            .unwrap_or(i32::MAX)
            .max(status.warnings);
        status.errors = i32::try_from(errors).unwrap_or(i32::MAX).max(status.errors);
        add(BackupFile::Metadata, serde_json::to_vec(&backup)?)?;
        Ok(files)
    }

    /// Pods that a hook before their backup has forbidden.
    fn refused(&self) -> impl Iterator<Item = (&str, &str)> {
        let forbids = |pod: &&PodRun| {
            let mut pre = pod.progress.pre.iter().zip(&pod.hooks.pre);
            pre.any(|(outcome, hook)| *outcome == HookOutcome::Failed && hook.fails_pod())
        };
        let pods = self.run.pods.iter().filter(forbids);
        pods.map(|pod| (pod.namespace.as_str(), pod.pod.as_str()))
    }

    fn contents(&self) -> Result<(Vec<u8>, ResourceList), FileError> {
        let failed: BTreeSet<(&str, &str)> = self
            .run
            .tasks
            .iter()
            .filter(|task| task.phase != TaskPhase::Completed)
            .map(|task| (task.volume.namespace.as_str(), task.volume.pod.as_str()))
            .chain(self.refused())
            .collect();
        let ended_ms = self.run.completed_ms.unwrap_or(self.run.created_ms);
        let mtime = u64::try_from(ended_ms / 1000).unwrap_or_default();
        let mut tarball = TarballWriter::create(Vec::new(), mtime)?;
        let mut list = ResourceList::default();
        read_spool(self.objects, |item, json| {
            let namespace = item.namespace.as_deref();
            let is_failed = namespace.is_some_and(|ns| failed.contains(&(ns, item.name.as_str())));
            if item.resource == "pods" && is_failed {
                return Ok(());
            }
            tarball.add(&item.path(), &item.version, json)?;
            list.add(&item.api_version, &item.kind, namespace, &item.name);
            Ok::<(), FileError>(())
        })?;
        list.sort();
        Ok((tarball.finish()?, list))
    }
}

/// A time as Kubernetes has it, cut to its second, from milliseconds since 1970; `None` for 0, which means "not yet", and
/// what no calendar has.
pub fn time(unix_ms: i64) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    if unix_ms == 0 {
        return None;
    }
    // Velero's clients know whole seconds only.
    let time = Timestamp::from_second(unix_ms.div_euclid(1000)).ok()?;
    Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time))
}

#[cfg(test)]
mod tests;
