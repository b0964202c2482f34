//! Repository, backup and restore together in one process: what goes in comes out, nothing leaks,
//! damage is named, and a store that fails costs nothing that was stored before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "repository/changes.rs"]
mod changes;
#[path = "repository/checkpoints.rs"]
mod checkpoints;
#[path = "repository/comparisons.rs"]
mod comparisons;
#[path = "repository/copies.rs"]
mod copies;
#[path = "repository/damage.rs"]
mod damage;
#[path = "repository/exports.rs"]
mod exports;
#[path = "repository/failures.rs"]
mod failures;
#[path = "repository/fetching.rs"]
mod fetching;
#[path = "repository/incremental.rs"]
mod incremental;
#[path = "repository/privacy.rs"]
mod privacy;
#[path = "repository/recovery.rs"]
mod recovery;
#[path = "repository/rotation.rs"]
mod rotation;
#[path = "repository/round_trip.rs"]
mod round_trip;
#[path = "repository/writers.rs"]
mod writers;
