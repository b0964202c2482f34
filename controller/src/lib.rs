//! Turns Velero's custom resources into calls to the coordinator, and its answers into their status.

mod location;
