//! The files of a finished restore, as Velero keeps them.

use std::path::Path;

use orlop_core::run::{RunSpec, Task, TaskPhase};
use orlop_kubernetes::{
    files::{
        FileError, LogWriter, PodVolumeInfo, ResourceList, RestoreFile, RestoreVolumeInfo,
        json_to_gzip, volume_info::RestoreMethod,
    },
    velero::{PodVolumePhase, Restore},
};
use orlop_repository::Repository;

use super::{record_of, reported};
use crate::{
    records::Document,
    runs::{Refusal, with_sources},
    state::LogLine,
};

/// Makes the files of a finished restore that has made objects, sealed where they tell of volumes, in the order in which
/// they are to be put.
///
/// # Errors
/// What was asked for is no object, or what became of the objects cannot be read.
pub(crate) fn restore_files(
    repository: &Repository,
    document: &Document,
    log: &[LogLine],
    reports: &Path,
) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let namespace = namespace_of(document)?;
    let objects = reported(reports)
        .map_err(|error| Refusal::Unavailable(format!("read {}: {error}", reports.display())))?;
    let files = files(document, log, namespace.as_deref(), &objects).map_err(|error| {
        let reason = with_sources(&error);
        Refusal::Precondition(format!("make the files of the restore: {reason}"))
    })?;
    let mut sealed = Vec::with_capacity(files.len());
    for (file, key, bytes) in files {
        let bytes = if file == RestoreFile::VolumeInfo {
            repository.seal_artifact(&key, &bytes)?
        } else {
            bytes
        };
        sealed.push((key, bytes));
    }
    Ok(sealed)
}

/// The namespace of the object that was given.
fn namespace_of(document: &Document) -> Result<Option<String>, Refusal> {
    let RunSpec::Restore(spec) = &document.spec else {
        return Err(Refusal::Precondition("it is no restore".to_owned()));
    };
    let restore: Restore =
        serde_json::from_str(&spec.velero_object).map_err(|error| Refusal::Invalid {
            field: "velero_object",
            message: error.to_string(),
        })?;
    Ok(restore.metadata.namespace)
}

type Files = Vec<(RestoreFile, String, Vec<u8>)>;

fn files(
    document: &Document,
    lines: &[LogLine],
    namespace: Option<&str>,
    objects: &ResourceList,
) -> Result<Files, FileError> {
    let name = &document.run.name;
    let mut files = Vec::new();
    let mut add = |file: RestoreFile, bytes| -> Result<(), FileError> {
        files.push((file, file.key(name)?, bytes));
        Ok(())
    };
    let mut log = LogWriter::create(Vec::new());
    for line in lines {
        log.write(&record_of(line, document, namespace))?;
    }
    let (log, results) = log.finish()?;
    add(RestoreFile::Log, log)?;
    add(RestoreFile::Results, json_to_gzip(&results)?)?;
    add(RestoreFile::ResourceList, json_to_gzip(objects)?)?;
    let none: [(); 0] = [];
    add(RestoreFile::ItemOperations, json_to_gzip(&none)?)?;
    let infos: Vec<RestoreVolumeInfo> = document.run.tasks.iter().map(volume_info).collect();
    add(RestoreFile::VolumeInfo, json_to_gzip(&infos)?)?;
    Ok(files)
}

fn volume_info(task: &Task) -> RestoreVolumeInfo {
    let place = task.place.clone().unwrap_or_default();
    let namespace = Some(&task.volume.namespace).filter(|_| !place.claim.is_empty());
    RestoreVolumeInfo {
        pvc_namespace: namespace.cloned().unwrap_or_default(),
        pvc_name: place.claim,
        pv_name: place.persistent_volume,
        restore_method: RestoreMethod::PodVolumeRestore,
        snapshot_data_moved: false,
        pvr_info: Some(PodVolumeInfo {
            snapshot_handle: task.snapshot.map(|id| id.to_string()).unwrap_or_default(),
            size: i64::try_from(task.progress.bytes_total).unwrap_or(i64::MAX),
            // The only word for it that Velero's clients know.
            uploader_type: "kopia".to_owned(),
            volume_name: task.volume.volume.clone(),
            pod_name: task.volume.pod.clone(),
            pod_namespace: task.volume.namespace.clone(),
            node_name: task.node.clone(),
            phase: match task.phase {
                TaskPhase::Completed if task.errors == 0 => PodVolumePhase::Completed,
                TaskPhase::Canceled => PodVolumePhase::Canceled,
                _ => PodVolumePhase::Failed,
            },
            ..PodVolumeInfo::default()
        }),
    }
}
