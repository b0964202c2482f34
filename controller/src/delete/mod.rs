//! `DeleteBackupRequest`: somebody wants a backup gone.

pub(crate) mod steps;
