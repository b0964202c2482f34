//! How long work tells what it has done: bars, gRPC events and tests each implement [`Monitor`].

use serde::{Deserialize, Serialize};

use crate::issue::Issue;

/// Counters of a running backup, restore or check. They only grow until the work begins again, except the
/// totals, which are estimates until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Entries (files, directories, others) finished.
    pub entries_done: u64,
    /// Entries expected; 0 while unknown.
    pub entries_total: u64,
    /// Logical bytes of regular files finished.
    pub bytes_done: u64,
    /// Logical bytes expected; 0 while unknown.
    pub bytes_total: u64,
    /// Bytes sent to the store (backup) or fetched from it (restore, check).
    pub transferred_bytes: u64,
}

/// Receives progress and troubles. Calls come from several threads, must return at once and must not
/// panic.
pub trait Monitor: Send + Sync {
    /// The counters have moved; called at most some times a second.
    fn progress(&self, progress: Progress);

    /// One entry had trouble; the work goes on.
    fn issue(&self, issue: &Issue);

    /// The work begins again from its start: the counters go back to 0. `reason` is for a person.
    fn begins_again(&self, reason: &str) {
        let _ = reason;
    }
}

/// A monitor that ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMonitor;

impl Monitor for NoMonitor {
    fn progress(&self, _progress: Progress) {}
    fn issue(&self, _issue: &Issue) {}
}
