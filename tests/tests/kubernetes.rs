//! What Orlop does with a Kubernetes API server, against the server of the tests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "kubernetes/cluster.rs"]
mod cluster;
#[path = "kubernetes/collect.rs"]
mod collect;
#[path = "kubernetes/exec.rs"]
mod exec;
#[path = "kubernetes/identity.rs"]
mod identity;
#[path = "kubernetes/objects.rs"]
mod objects;
#[path = "kubernetes/recover.rs"]
mod recover;
#[path = "kubernetes/restore.rs"]
mod restore;
#[path = "kubernetes/reviews.rs"]
mod reviews;
#[path = "kubernetes/target.rs"]
mod target;
#[path = "kubernetes/tell.rs"]
mod tell;
#[path = "kubernetes/watches.rs"]
mod watches;
