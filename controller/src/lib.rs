//! Turns Velero's custom resources into calls to the coordinator, and its answers into their status.

mod backup;
mod clock;
mod coordinator;
mod delete;
mod engine;
mod error;
mod expire;
mod guard;
mod location;
mod names;
mod patch;
mod repositories;
mod requests;
mod schedule;
mod sync;
