//! Orlop in a real cluster, as it is installed there: what a person sees who uses `kubectl` and the bucket's other clients.
//!
//! Needs `KUBE_BIN` (the directory of kubectl) and `KUBECONFIG` of a cluster of one node in which the overlay
//! `deploy/overlays/hostpath` is installed, whose directory this machine has too; CONTRIBUTING.md says how. Without them each
//! test says `skipped`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "e2e/backups.rs"]
mod backups;
#[path = "e2e/cluster.rs"]
mod cluster;
#[path = "e2e/downloads.rs"]
mod downloads;
#[path = "e2e/guide.rs"]
mod guide;
#[path = "e2e/lifetime.rs"]
mod lifetime;
#[path = "e2e/restores.rs"]
mod restores;
#[path = "e2e/volumes.rs"]
mod volumes;
#[path = "e2e/worst_day.rs"]
mod worst_day;
