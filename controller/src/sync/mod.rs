//! Backups that others have put into a store.

mod plan;
