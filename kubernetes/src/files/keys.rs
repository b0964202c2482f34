//! Where each file is, below the prefix of its location.

use super::error::{FileError, one_part};
use crate::velero::DownloadTargetKind;

/// The names that Velero allows at the top of a location. A location with any other is unavailable to it.
pub fn top_level_names() -> [&'static str; 6] {
    [
        "backups", "kopia", "metadata", "plugins", "restic", "restores",
    ]
}

/// A file of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackupFile {
    /// The Backup object as plain JSON. A backup exists if and only if this file does: write it last.
    Metadata,
    /// The tarball of objects.
    Contents,
    /// The log.
    Log,
    /// Errors and warnings.
    Results,
    /// The list of PodVolumeBackup objects.
    PodVolumeBackups,
    /// The names of the objects.
    ResourceList,
    /// What is known of each volume.
    VolumeInfo,
    /// Operations of plugins: an empty list.
    ItemOperations,
    /// Cloud snapshots: an empty list.
    VolumeSnapshots,
    /// CSI snapshots; we write none.
    CsiVolumeSnapshots,
    /// The contents of CSI snapshots; we write none.
    CsiVolumeSnapshotContents,
    /// The classes of CSI snapshots; we write none.
    CsiVolumeSnapshotClasses,
}

impl BackupFile {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Metadata,
        Self::Contents,
        Self::Log,
        Self::Results,
        Self::PodVolumeBackups,
        Self::ResourceList,
        Self::VolumeInfo,
        Self::ItemOperations,
        Self::VolumeSnapshots,
        Self::CsiVolumeSnapshots,
        Self::CsiVolumeSnapshotContents,
        Self::CsiVolumeSnapshotClasses,
    ];

    /// Its key for this backup.
    ///
    /// # Errors
    /// The name cannot be a part of a key.
    pub fn key(self, backup: &str) -> Result<String, FileError> {
        let b = one_part(backup)?;
        let file = match self {
            Self::Metadata => "velero-backup.json".to_owned(),
            Self::Contents => format!("{b}.tar.gz"),
            Self::Log => format!("{b}-logs.gz"),
            Self::Results => format!("{b}-results.gz"),
            Self::PodVolumeBackups => format!("{b}-podvolumebackups.json.gz"),
            Self::ResourceList => format!("{b}-resource-list.json.gz"),
            Self::VolumeInfo => format!("{b}-volumeinfo.json.gz"),
            Self::ItemOperations => format!("{b}-itemoperations.json.gz"),
            Self::VolumeSnapshots => format!("{b}-volumesnapshots.json.gz"),
            Self::CsiVolumeSnapshots => format!("{b}-csi-volumesnapshots.json.gz"),
            Self::CsiVolumeSnapshotContents => format!("{b}-csi-volumesnapshotcontents.json.gz"),
            Self::CsiVolumeSnapshotClasses => format!("{b}-csi-volumesnapshotclasses.json.gz"),
        };
        Ok(format!("backups/{b}/{file}"))
    }
}

/// A file of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestoreFile {
    /// The log.
    Log,
    /// Errors and warnings.
    Results,
    /// The names of the objects, each with what became of it.
    ResourceList,
    /// Operations of plugins: an empty list.
    ItemOperations,
    /// What is known of each volume.
    VolumeInfo,
}

impl RestoreFile {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Log,
        Self::Results,
        Self::ResourceList,
        Self::ItemOperations,
        Self::VolumeInfo,
    ];

    /// Its key for this restore.
    ///
    /// # Errors
    /// The name cannot be a part of a key.
    pub fn key(self, restore: &str) -> Result<String, FileError> {
        let r = one_part(restore)?;
        let file = match self {
            Self::Log => format!("restore-{r}-logs.gz"),
            Self::Results => format!("restore-{r}-results.gz"),
            Self::ResourceList => format!("restore-{r}-resource-list.json.gz"),
            Self::ItemOperations => format!("restore-{r}-itemoperations.json.gz"),
            Self::VolumeInfo => format!("{r}-volumeinfo.json.gz"),
        };
        Ok(format!("restores/{r}/{file}"))
    }
}

/// A file of a backup or of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    /// Of a backup.
    Backup(BackupFile),
    /// Of a restore.
    Restore(RestoreFile),
}

impl File {
    /// The file that a download request asks for; `None` for a kind that is not known.
    pub fn wanted(kind: &DownloadTargetKind) -> Option<Self> {
        use DownloadTargetKind as Kind;
        Some(match kind {
            Kind::BackupLog => Self::Backup(BackupFile::Log),
            Kind::BackupContents => Self::Backup(BackupFile::Contents),
            Kind::BackupVolumeSnapshots => Self::Backup(BackupFile::VolumeSnapshots),
            Kind::BackupItemOperations => Self::Backup(BackupFile::ItemOperations),
            Kind::BackupResourceList => Self::Backup(BackupFile::ResourceList),
            Kind::BackupResults => Self::Backup(BackupFile::Results),
            Kind::CsiBackupVolumeSnapshots => Self::Backup(BackupFile::CsiVolumeSnapshots),
            Kind::CsiBackupVolumeSnapshotContents => {
                Self::Backup(BackupFile::CsiVolumeSnapshotContents)
            }
            Kind::BackupVolumeInfos => Self::Backup(BackupFile::VolumeInfo),
            Kind::RestoreLog => Self::Restore(RestoreFile::Log),
            Kind::RestoreResults => Self::Restore(RestoreFile::Results),
            Kind::RestoreResourceList => Self::Restore(RestoreFile::ResourceList),
            Kind::RestoreItemOperations => Self::Restore(RestoreFile::ItemOperations),
            Kind::RestoreVolumeInfo => Self::Restore(RestoreFile::VolumeInfo),
            Kind::Unset | Kind::Other(_) => return None,
        })
    }

    /// Its key for the backup or restore of this name.
    ///
    /// # Errors
    /// The name cannot be a part of a key.
    pub fn key(self, name: &str) -> Result<String, FileError> {
        match self {
            Self::Backup(file) => file.key(name),
            Self::Restore(file) => file.key(name),
        }
    }
}

/// The backup whose existence `key` proves, if it does.
pub fn backup_of(key: &str) -> Option<&str> {
    let (name, file) = key.strip_prefix("backups/")?.split_once('/')?;
    (file == "velero-backup.json" && one_part(name).is_ok()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_where_velero_looks_for_it() {
        let keys: Vec<String> = BackupFile::ALL
            .iter()
            .map(|file| file.key("b").unwrap())
            .chain(RestoreFile::ALL.iter().map(|file| file.key("r").unwrap()))
            .collect();
        assert_eq!(
            keys,
            [
                "backups/b/velero-backup.json",
                "backups/b/b.tar.gz",
                "backups/b/b-logs.gz",
                "backups/b/b-results.gz",
                "backups/b/b-podvolumebackups.json.gz",
                "backups/b/b-resource-list.json.gz",
                "backups/b/b-volumeinfo.json.gz",
                "backups/b/b-itemoperations.json.gz",
                "backups/b/b-volumesnapshots.json.gz",
                "backups/b/b-csi-volumesnapshots.json.gz",
                "backups/b/b-csi-volumesnapshotcontents.json.gz",
                "backups/b/b-csi-volumesnapshotclasses.json.gz",
                "restores/r/restore-r-logs.gz",
                "restores/r/restore-r-results.gz",
                "restores/r/restore-r-resource-list.json.gz",
                "restores/r/restore-r-itemoperations.json.gz",
                "restores/r/r-volumeinfo.json.gz",
            ]
        );
    }

    #[test]
    fn no_name_leads_out_of_its_directory() {
        for name in ["", ".", "..", "../b", "a/b", "a\\b", "a\nb"] {
            assert!(BackupFile::Log.key(name).is_err(), "{name:?}");
            assert!(
                File::Restore(RestoreFile::Log).key(name).is_err(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_download_request_finds_its_file() {
        let wanted = File::wanted(&DownloadTargetKind::RestoreVolumeInfo).unwrap();
        assert_eq!(wanted.key("r").unwrap(), "restores/r/r-volumeinfo.json.gz");
        assert_eq!(File::wanted(&"Weather".into()), None);
    }

    #[test]
    fn a_backup_is_known_by_its_object_alone() {
        assert_eq!(backup_of("backups/b/velero-backup.json"), Some("b"));
        for key in [
            "backups/b/b.tar.gz",
            "restores/b/velero-backup.json",
            "backups/velero-backup.json",
            "backups/a/b/velero-backup.json",
            "backups/../velero-backup.json",
        ] {
            assert_eq!(backup_of(key), None, "{key}");
        }
    }
}
