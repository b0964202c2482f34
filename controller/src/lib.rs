//! Turns Velero's custom resources into calls to the coordinator, and its answers into their status.

mod backup;
mod clock;
mod engine;
mod location;
mod names;
mod patch;
