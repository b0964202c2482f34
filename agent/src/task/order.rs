//! What a task is to do, checked on receipt.

use std::num::NonZeroUsize;

use orlop_core::{Chunking, Lineage, RestoreMode, S3Keys, SnapshotId, TaskId, VolumeRef};
use orlop_proto::{
    ProtocolError, locations, receive,
    v1::{self, StartTask, start_task},
};

/// Largest context that is kept for the coordinator.
const MAX_CONTEXT_BYTES: usize = 512 << 10;
/// Most volumes of one pod.
const MAX_VOLUMES: usize = 200;

/// What a task is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    /// The task.
    pub(super) id: TaskId,
    /// The backup or restore that it belongs to.
    pub(super) run: String,
    /// The volume to back up or to restore into.
    pub(super) volume: VolumeRef,
    /// Where the volume is, if the coordinator knows.
    pub(super) place: Option<Place>,
    /// How to reach the store.
    pub(super) store: Route,
    /// Comes back to the coordinator.
    pub(super) context: Vec<u8>,
    /// What to do.
    pub(super) work: Work,
}

/// Where a volume is on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// UID of its pod.
    pub(crate) pod_uid: String,
    /// Name of its directory below those of its pod and plugin.
    pub(crate) directory: String,
    /// The node's directory that it is; empty for one below the kubelet's.
    pub(crate) host_path: String,
    /// The identity by which its snapshots are found.
    pub(crate) lineage: Lineage,
}

/// The way to the store of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// The task opens the store of this URL itself, with these keys or those of the agent's environment.
    Direct {
        /// URL of the store.
        url: String,
        /// Keys to its bucket.
        keys: Option<S3Keys>,
        /// Authorities to trust; empty for those of the system or the URL.
        ca_pem: String,
    },
    /// Through the coordinator.
    Gateway,
}

/// Backup or restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// Back the volume up.
    Backup {
        /// Patterns of entries to leave out.
        exclude: Vec<String>,
        /// Labels of the snapshot.
        tags: Vec<String>,
        /// Read every file again.
        force_full: bool,
        /// How large files are cut, if the order says so.
        chunking: Chunking,
    },
    /// Restore into the volume.
    Restore {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What to do with what the volume holds, or with what `directory` holds.
        mode: RestoreMode,
        /// A directory in the volume to make and to restore into instead.
        directory: Option<String>,
        /// Only this entry and what is below it.
        path: Option<Vec<u8>>,
        /// All volumes of the pod that this run restores, for who waits in it; empty for this one.
        marks_expected: Vec<String>,
        /// Whether a pod waits for it: what somebody can mend is tried again.
        awaited: bool,
        /// Files at once at most; `None` for as many as there is memory for.
        parallel: Option<NonZeroUsize>,
    },
}

impl TryFrom<StartTask> for Order {
    type Error = ProtocolError;

    fn try_from(start: StartTask) -> Result<Self, ProtocolError> {
        let names = receive::MAX_NAME_BYTES;
        let work = match receive::required("work", start.work)? {
            start_task::Work::Backup(backup) => Work::Backup {
                chunking: backup.chunking().into(),
                exclude: receive::texts("backup.exclude", backup.exclude, 1000, 4096)?,
                tags: receive::texts("backup.tags", backup.tags, 100, names)?,
                force_full: backup.force_full,
            },
            start_task::Work::Restore(restore) => Work::Restore {
                mode: mode(&restore),
                directory: directory(&restore)?,
                snapshot: receive::snapshot_id("restore.snapshot_id", &restore.snapshot_id)?,
                path: (!restore.path.is_empty()).then(|| restore.path.to_vec()),
                awaited: restore.awaited,
                parallel: usize::try_from(restore.parallel)
                    .ok()
                    .and_then(NonZeroUsize::new),
                marks_expected: receive::texts(
                    "restore.marks_expected",
                    restore.marks_expected,
                    MAX_VOLUMES,
                    names,
                )?,
            },
        };
        let volume = receive::volume("volume", start.volume)?;
        // Nobody looks for snapshots of what is restored into.
        let lineage = match &work {
            Work::Restore { .. } if start.lineage.is_empty() => volume.default_lineage().0,
            _ => start.lineage,
        };
        Ok(Self {
            id: receive::task_id("task_id", &start.task_id)?,
            run: receive::some_text("run", start.run, names)?,
            volume,
            place: start.place.map(|found| place(found, lineage)).transpose()?,
            store: match receive::required("store", start.store)? {
                start_task::Store::StoreUrl(url) => Route::Direct {
                    url: receive::some_text("store_url", url, locations::MAX_URL_BYTES)?,
                    keys: start.s3_keys.map(locations::s3_keys).transpose()?,
                    ca_pem: locations::ca_pem(&start.ca_pem)?,
                },
                start_task::Store::Gateway(_) => Route::Gateway,
            },
            context: receive::blob("context", start.context, MAX_CONTEXT_BYTES)?.to_vec(),
            work,
        })
    }
}

/// The mode, in a directory of a task that goes on: what it has made there is no reason to refuse it.
fn mode(restore: &v1::RestoreTask) -> RestoreMode {
    match restore.mode().into() {
        RestoreMode::NewDir if restore.directory_may_exist => RestoreMode::Overwrite,
        mode => mode,
    }
}

fn directory(restore: &v1::RestoreTask) -> Result<Option<String>, ProtocolError> {
    let (field, name) = ("restore.directory", &restore.directory);
    if restore.mode() != v1::RestoreMode::NewDir {
        return if name.is_empty() {
            Ok(None)
        } else {
            Err(ProtocolError::new(field, "is for mode NEW_DIR alone"))
        };
    }
    let name = receive::some_text(field, name.clone(), receive::MAX_NAME_BYTES)?;
    if name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err(ProtocolError::new(field, "is no name of a directory"));
    }
    Ok(Some(name))
}

fn place(place: v1::Place, lineage: String) -> Result<Place, ProtocolError> {
    let names = receive::MAX_NAME_BYTES;
    let checked = || {
        let host_path = receive::text("host_path", place.host_path, 4096)?;
        if !host_path.is_empty() && !host_path.starts_with('/') {
            return Err(ProtocolError::new("host_path", "is no absolute path"));
        }
        let directory = receive::text("directory", place.directory, names)?;
        if directory.contains('/') || (directory.is_empty() && host_path.is_empty()) {
            return Err(ProtocolError::new("directory", "is no name of a directory"));
        }
        Ok(Place {
            pod_uid: receive::some_text("pod_uid", place.pod_uid, names)?,
            directory,
            host_path,
            lineage: Lineage(receive::some_text(
                "lineage",
                lineage,
                receive::MAX_LINEAGE_BYTES,
            )?),
        })
    };
    checked().map_err(|error: ProtocolError| error.within("place"))
}

#[cfg(test)]
mod tests {
    use orlop_proto::v1::{BackupTask, RestoreTask};

    use super::*;

    fn start() -> StartTask {
        StartTask {
            task_id: TaskId::from_bytes([1; 16]).to_string(),
            run: "nightly".to_owned(),
            volume: Some((&VolumeRef::new("ns", "p", "v")).into()),
            store: Some(start_task::Store::StoreUrl("/repo".to_owned())),
            context: vec![1, 2].into(),
            work: Some(start_task::Work::Backup(BackupTask::default())),
            s3_keys: None,
            ca_pem: bytes::Bytes::new(),
            place: None,
            lineage: String::new(),
        }
    }

    #[test]
    fn a_place_leads_nowhere_else() {
        let at = |directory: &str, host_path: &str| StartTask {
            place: Some(v1::Place {
                pod_uid: "uid".to_owned(),
                directory: directory.to_owned(),
                host_path: host_path.to_owned(),
            }),
            lineage: "pvc:1".to_owned(),
            ..start()
        };
        let order = Order::try_from(at("pv-1", "")).unwrap();
        let place = order.place.unwrap();
        assert_eq!(
            (place.pod_uid.as_str(), place.directory.as_str()),
            ("uid", "pv-1")
        );
        assert_eq!(place.lineage, Lineage("pvc:1".to_owned()));
        assert!(Order::try_from(at("", "/opt/local/pv")).is_ok());
        let mut restore = at("pv-1", "");
        restore.lineage.clear();
        assert!(
            Order::try_from(restore.clone()).is_err(),
            "a backup's snapshots are looked for"
        );
        restore.work = Some(start_task::Work::Restore(RestoreTask {
            snapshot_id: SnapshotId::from_bytes([1; 16]).to_string(),
            ..RestoreTask::default()
        }));
        assert!(Order::try_from(restore).is_ok());
        for (directory, host_path) in [("a/b", ""), ("", ""), ("", "opt"), ("../x", "")] {
            let error = Order::try_from(at(directory, host_path)).unwrap_err();
            assert!(error.field.starts_with("place."), "{error}");
        }
    }

    #[test]
    fn a_new_directory_has_a_name_of_its_own() {
        let into = |mode: v1::RestoreMode, directory: &str, again| {
            let work = RestoreTask {
                snapshot_id: SnapshotId::from_bytes([1; 16]).to_string(),
                mode: mode.into(),
                directory: directory.to_owned(),
                directory_may_exist: again,
                ..RestoreTask::default()
            };
            let work = Some(start_task::Work::Restore(work));
            Order::try_from(StartTask { work, ..start() }).map(|order| match order.work {
                Work::Restore {
                    mode, directory, ..
                } => (mode, directory),
                Work::Backup { .. } => unreachable!("it is a restore"),
            })
        };
        let new = v1::RestoreMode::NewDir;
        let name = Some("r-1".to_owned());
        assert_eq!(
            into(new, "r-1", false),
            Ok((RestoreMode::NewDir, name.clone()))
        );
        assert_eq!(into(new, "r-1", true), Ok((RestoreMode::Overwrite, name)));
        for bad in ["", ".", "..", "a/b", "a\0b"] {
            let error = into(new, bad, false).unwrap_err();
            assert_eq!(error.field, "restore.directory", "{bad:?}");
        }
        assert!(into(v1::RestoreMode::Overwrite, "r-1", false).is_err());
    }

    #[test]
    fn an_order_has_what_the_command_says() {
        let order = Order::try_from(start()).unwrap();
        assert_eq!(order.volume, VolumeRef::new("ns", "p", "v"));
        assert_eq!(order.context, [1, 2]);
        assert_eq!(
            order.store,
            Route::Direct {
                url: "/repo".to_owned(),
                keys: None,
                ca_pem: String::new(),
            }
        );
        let store = Some(start_task::Store::Gateway(v1::Gateway {}));
        let order = Order::try_from(StartTask { store, ..start() }).unwrap();
        assert_eq!(order.store, Route::Gateway);
    }

    #[test]
    fn an_order_without_its_parts_is_refused_by_name() {
        let order = StartTask {
            work: None,
            ..start()
        };
        assert_eq!(Order::try_from(order).unwrap_err().field, "work");
        let work = Some(start_task::Work::Restore(RestoreTask::default()));
        let order = StartTask { work, ..start() };
        assert_eq!(
            Order::try_from(order).unwrap_err().field,
            "restore.snapshot_id"
        );
        let order = StartTask {
            store: None,
            ..start()
        };
        assert_eq!(Order::try_from(order).unwrap_err().field, "store");
        let order = StartTask {
            volume: None,
            ..start()
        };
        assert_eq!(Order::try_from(order).unwrap_err().field, "volume");
    }
}
