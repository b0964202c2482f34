//! The `orlop` command as on an administrator's machine: nothing but a kubeconfig leads to the coordinator.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "kubeconfig/refusals.rs"]
mod refusals;
#[path = "kubeconfig/work.rs"]
mod work;
#[path = "kubeconfig/world.rs"]
mod world;
