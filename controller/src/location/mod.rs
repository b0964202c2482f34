//! `BackupStorageLocation`: where backups live, as locations of the coordinator.

mod ini;
mod mount;
mod password;
mod provider;
