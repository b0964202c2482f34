//! Keys of labels and annotations that Velero, its clients and we put on objects, and values fit for a label.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Label of what belongs to a backup; its value is a [`valid_name`].
pub const BACKUP_NAME: &str = "velero.io/backup-name";
/// Label of what belongs to a backup: the backup's UID.
pub const BACKUP_UID: &str = "velero.io/backup-uid";
/// Label of what belongs to a restore; its value is a [`valid_name`].
pub const RESTORE_NAME: &str = "velero.io/restore-name";
/// Label of what belongs to a restore: the restore's UID.
pub const RESTORE_UID: &str = "velero.io/restore-uid";
/// Label of a volume's backup or restore: the pod's UID.
pub const POD_UID: &str = "velero.io/pod-uid";
/// Label of a volume's backup or restore: the claim's UID.
pub const PVC_UID: &str = "velero.io/pvc-uid";
/// Annotation of a volume's backup: the claim's name.
pub const PVC_NAME: &str = "velero.io/pvc-name";
/// Label of a schedule's backups.
pub const SCHEDULE_NAME: &str = "velero.io/schedule-name";
/// Label of a backup or repository: its location.
pub const STORAGE_LOCATION: &str = "velero.io/storage-location";
/// Label of a repository: the namespace of its volumes.
pub const VOLUME_NAMESPACE: &str = "velero.io/volume-namespace";
/// Label of a repository: its engine.
pub const REPOSITORY_TYPE: &str = "velero.io/repository-type";
/// Label of a backup that is too old but cannot be deleted: why.
pub const GC_FAILURE: &str = "velero.io/gc-failure";
/// Annotation of a backup: the cluster's version.
pub const SOURCE_CLUSTER_GIT_VERSION: &str = "velero.io/source-cluster-k8s-gitversion";
/// Annotation of a backup: the cluster's major version.
pub const SOURCE_CLUSTER_MAJOR_VERSION: &str = "velero.io/source-cluster-k8s-major-version";
/// Annotation of a backup: the cluster's minor version.
pub const SOURCE_CLUSTER_MINOR_VERSION: &str = "velero.io/source-cluster-k8s-minor-version";
/// Annotation of a backup or restore: how long all its volumes may take.
pub const POD_VOLUME_TIMEOUT: &str = "velero.io/pod-volume-timeout";
/// Label of an object that no backup takes, with the value `true`.
pub const EXCLUDE_FROM_BACKUP: &str = "velero.io/exclude-from-backup";
/// Annotation of an object: whether its status is restored.
pub const RESTORE_STATUS: &str = "velero.io/restore-status";
/// Label of ConfigMaps that configure a plugin.
pub const PLUGIN_CONFIG: &str = "velero.io/plugin-config";
/// Label of the ConfigMap by which kURL says what restores change in the KOTS Admin Console.
pub const KOTSADM_PLUGIN: &str = "kurl.sh/restore-kotsadm-plugin";
/// Annotation of a pod: the volumes to back up, by name, separated by commas.
pub const VOLUMES: &str = "backup.velero.io/backup-volumes";
/// Annotation of a pod: the volumes to leave out where all are taken.
pub const VOLUMES_EXCLUDED: &str = "backup.velero.io/backup-volumes-excludes";
/// Finalizer of a restore, by which its files go with it.
pub const RESTORE_FINALIZER: &str = "restores.velero.io/external-resources-finalizer";
/// Finalizer of a volume's backup or restore while it runs.
pub const POD_VOLUME_FINALIZER: &str = "velero.io/pod-volume-finalizer";
/// Annotation of ours: which engine really keeps the data.
pub const ENGINE: &str = "orlop.io/engine";

/// Longest value of a label, in bytes.
const VALUE_MAX: usize = 63;
/// How much of the hash takes the place of what is cut off.
const HASH_LEN: usize = 6;

/// `name` as the value of a label: itself if it is short enough, else its first 57 characters and the first
/// six hexadecimal digits of its SHA-256. Clients search by such values, so every server must make the same.
pub fn valid_name(name: &str) -> String {
    if name.len() <= VALUE_MAX {
        return name.to_owned();
    }
    let mut value = name[..name.floor_char_boundary(VALUE_MAX - HASH_LEN)].to_owned();
    for byte in &Sha256::digest(name)[..HASH_LEN / 2] {
        write!(value, "{byte:02x}").expect("a String takes everything");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_fits_stays_as_it_is() {
        assert_eq!(
            valid_name("nightly-20260102030405"),
            "nightly-20260102030405"
        );
        let longest = "a".repeat(63);
        assert_eq!(valid_name(&longest), longest);
    }

    #[test]
    fn a_longer_name_ends_with_six_digits_of_its_hash() {
        // printf 'a%.0s' {1..64} | sha256sum
        assert_eq!(
            valid_name(&"a".repeat(64)),
            format!("{}ffe054", "a".repeat(57))
        );
        assert_ne!(valid_name(&"b".repeat(64)), valid_name(&"b".repeat(65)));
    }
}
