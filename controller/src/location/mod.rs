//! `BackupStorageLocation`: where backups live, as locations of the coordinator.

mod ini;
