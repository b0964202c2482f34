//! `BackupRepository`.

mod plan;
