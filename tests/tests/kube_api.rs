//! The Kubernetes API server of the tests, asked by a real client. What a real server does too is asked
//! of one besides, if `ORLOP_TEST_KUBECONFIG` names one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[macro_use]
#[path = "kube_api/cluster.rs"]
mod cluster;
#[path = "kube_api/access.rs"]
mod access;
#[path = "kube_api/custom.rs"]
mod custom;
#[path = "kube_api/deletion.rs"]
mod deletion;
#[path = "kube_api/discovery.rs"]
mod discovery;
#[path = "kube_api/exec.rs"]
mod exec;
#[path = "kube_api/faults.rs"]
mod faults;
#[path = "kube_api/forward.rs"]
mod forward;
#[path = "kube_api/lists.rs"]
mod lists;
#[path = "kube_api/objects.rs"]
mod objects;
#[path = "kube_api/patches.rs"]
mod patches;
#[path = "kube_api/watches.rs"]
mod watches;
