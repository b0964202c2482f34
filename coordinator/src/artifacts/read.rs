//! Reading artifacts of backups and restores, whoever has made them.

use std::collections::BTreeSet;

use bytes::Bytes;
use orlop_kubernetes::files::{BackupFile, File, RestoreFile, backup_of};
use orlop_proto::v1::ArtifactKind;
use orlop_repository::{ObjectStore, Repository, Result};

/// The key of an artifact below the location's URL; `None` for a kind that is not known or a name that is none.
pub(crate) fn key_of(kind: ArtifactKind, name: &str) -> Option<String> {
    use ArtifactKind as Kind;
    let file = match kind {
        Kind::Unspecified => return None,
        Kind::BackupLog => File::Backup(BackupFile::Log),
        Kind::BackupContents => File::Backup(BackupFile::Contents),
        Kind::BackupVolumeSnapshots => File::Backup(BackupFile::VolumeSnapshots),
        Kind::BackupItemOperations => File::Backup(BackupFile::ItemOperations),
        Kind::BackupResourceList => File::Backup(BackupFile::ResourceList),
        Kind::BackupResults => File::Backup(BackupFile::Results),
        Kind::RestoreLog => File::Restore(RestoreFile::Log),
        Kind::RestoreResults => File::Restore(RestoreFile::Results),
        Kind::RestoreResourceList => File::Restore(RestoreFile::ResourceList),
        Kind::RestoreItemOperations => File::Restore(RestoreFile::ItemOperations),
        Kind::CsiBackupVolumeSnapshots => File::Backup(BackupFile::CsiVolumeSnapshots),
        Kind::CsiBackupVolumeSnapshotContents => {
            File::Backup(BackupFile::CsiVolumeSnapshotContents)
        }
        Kind::BackupVolumeInfos => File::Backup(BackupFile::VolumeInfo),
        Kind::RestoreVolumeInfo => File::Restore(RestoreFile::VolumeInfo),
        Kind::BackupMetadata => File::Backup(BackupFile::Metadata),
        Kind::BackupPodVolumeBackups => File::Backup(BackupFile::PodVolumeBackups),
    };
    file.key(name).ok()
}

/// An artifact's bytes, opened if they are sealed.
pub(crate) async fn read(
    store: &dyn ObjectStore,
    repository: &Repository,
    key: &str,
) -> Result<Bytes> {
    let bytes = store.get(key).await?;
    if Repository::is_sealed_artifact(&bytes) {
        return Ok(repository.open_artifact(key, &bytes)?.into());
    }
    Ok(bytes)
}

/// The names of the backups and restores in a store, in order.
pub(crate) async fn list(store: &dyn ObjectStore) -> Result<(Vec<String>, Vec<String>)> {
    let backups: BTreeSet<String> = store
        .list("backups/")
        .await?
        .iter()
        .filter_map(|object| backup_of(&object.name).map(str::to_owned))
        .collect();
    let restores: BTreeSet<String> = store
        .list("restores/")
        .await?
        .iter()
        .filter_map(|object| Some(object.name.split('/').nth(1)?.to_owned()))
        .collect();
    Ok((
        backups.into_iter().collect(),
        restores.into_iter().collect(),
    ))
}
