//! The rules by which writers, readers and a collector share a repository, without I/O.
//!
//! All that happens is an entry of the log, and the log has one order. [`LogState`] is what the entries
//! add up to; [`LogState::check`] says whether an entry may follow, [`LogState::apply`] what it does.
//! The same functions are driven by the real log, by an exhaustive model and by a simulation.
//!
//! **The promise.** Every chunk that a committed snapshot needs has a copy in a pack that is on no list of
//! packs to delete. It holds because
//! 1. a list to delete is a part of an earlier list of *condemned* packs, and look-ups of sessions that
//!    begin after that entry are not answered with condemned packs;
//! 2. every session that began before it has ended or was *fenced*, and cannot commit any more;
//! 3. what snapshots need that were committed in between is *marked again* before the list is made;
//! 4. a snapshot that an open session builds upon or reads is *pinned*: it counts as needed even after
//!    it was forgotten.
//!
//! Snapshot objects that are sealed anew for a new epoch of keys are stored under a session that reads
//! everything, which collections wait for as for a writer: they are no garbage before they are named.
//!
//! No rule reads a clock. What may be deleted is in the log before it is deleted, and names never come
//! again, so a deletion that arrives late harms nothing. (Fencing by log order is the idea of epochs in
//! viewstamped replication, Oki and Liskov 1988; condemn and rescue come from the fossils of Duplicacy's
//! lock-free deduplication, 2016.)

mod entry;
#[cfg(test)]
mod model;
mod plan;
mod state;
#[cfg(test)]
mod tests;
mod transition;

pub(crate) use entry::{
    BeginBody, Body, CommitBody, CondemnBody, DeletingBody, DoneBody, FenceBody, ForgetBody,
    IndexBody, KeysBody, LeaderBody, LogEntry, Replaced, ResealBody, SessionKind,
};
pub(crate) use plan::{PackUse, Plan, PlanLimits, plan_packs, rescued};
#[cfg(test)]
pub(crate) use state::Epoch;
pub(crate) use state::{LogState, Standing};
