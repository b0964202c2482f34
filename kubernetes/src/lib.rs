//! What Orlop knows of Kubernetes: Velero's custom resources and files, and what a backup takes of a cluster.
//!
//! A module may use only modules listed above it. Nothing here decides about the repository or speaks the wire.

pub mod api;

pub mod yaml;

mod quantity;

pub mod velero;

pub mod crds;

pub mod files;

pub mod selection;

pub mod record;

pub mod client;

pub mod exec;

pub mod plan;

pub mod remembered;

pub mod identity;

pub mod collect;

pub mod restore;

pub mod access;

pub mod events;

pub mod lease;

pub mod cluster_info;

pub mod reach;

pub mod install;
