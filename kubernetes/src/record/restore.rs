//! The record of an ended restore as Velero keeps it.

use orlop_core::run::{Run, Task};

use super::volumes::{claim_namespace, pod_volume_info};
use crate::files::{
    FileError, LogWriter, Record, ResourceList, RestoreFile, RestoreVolumeInfo, json_to_gzip,
    volume_info::RestoreMethod,
};

/// A restore that has ended.
pub struct RestoreRecord<'a> {
    /// What became of it.
    pub run: &'a Run,
    /// Its log.
    pub log: Vec<Record>,
    /// Its objects, each with what became of it.
    pub objects: ResourceList,
}

/// A file of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRecordFile {
    /// Which.
    pub file: RestoreFile,
    /// Its key below the location's prefix.
    pub key: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl RestoreRecordFile {
    /// Whether it may hold secrets, and must not lie in the clear.
    pub fn is_secret(&self) -> bool {
        matches!(self.file, RestoreFile::VolumeInfo)
    }
}

impl RestoreRecord<'_> {
    /// The files, in the order in which they are to be put.
    ///
    /// # Errors
    /// The restore's name cannot be a part of a key.
    pub fn files(mut self) -> Result<Vec<RestoreRecordFile>, FileError> {
        let mut log = LogWriter::create(Vec::new());
        for record in &self.log {
            log.write(record)?;
        }
        let (log, results) = log.finish()?;
        self.objects.sort();
        let volumes: Vec<RestoreVolumeInfo> = self.run.tasks.iter().map(volume_info).collect();
        let none: [(); 0] = [];
        let files = [
            (RestoreFile::Log, log),
            (RestoreFile::Results, json_to_gzip(&results)?),
            (RestoreFile::ResourceList, json_to_gzip(&self.objects)?),
            (RestoreFile::ItemOperations, json_to_gzip(&none)?),
            (RestoreFile::VolumeInfo, json_to_gzip(&volumes)?),
        ];
        files
            .into_iter()
            .map(|(file, bytes)| {
                let key = file.key(&self.run.name)?;
                Ok(RestoreRecordFile { file, key, bytes })
            })
            .collect()
    }
}

fn volume_info(task: &Task) -> RestoreVolumeInfo {
    let place = task.place.clone().unwrap_or_default();
    let size = i64::try_from(task.progress.bytes_total).unwrap_or(i64::MAX);
    RestoreVolumeInfo {
        pvc_namespace: claim_namespace(task),
        pvc_name: place.claim,
        pv_name: place.persistent_volume,
        restore_method: RestoreMethod::PodVolumeRestore,
        pvr_info: Some(pod_volume_info(task, size)),
        ..RestoreVolumeInfo::default()
    }
}
