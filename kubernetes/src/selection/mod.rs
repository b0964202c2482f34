//! What a backup takes of a cluster: which objects, which volumes of which pods, and which hooks run.
//!
//! Pure decisions over objects that somebody has fetched. Every volume that is left out has its reason.

pub mod annotations;
pub mod filters;
pub mod glob;
pub mod hooks;
pub mod label_text;
pub mod labels;
pub mod lineage;
pub mod lists;
pub mod policy;
pub mod resources;
pub mod skip;
pub mod volumes;

pub use filters::{Filters, InvalidFilters};
pub use hooks::{PodHookPlan, pod_hooks};
pub use lists::NameFilter;
pub use policy::{PolicyAction, PolicyError, VolumePolicies};
pub use resources::{Choice, ResourceKind};
pub use skip::{Severity, SkipReason};
pub use volumes::{
    ClaimRef, PodObjects, PodVolumes, SkippedVolume, TakenVolume, VolumeOptions, pod_volumes,
};

#[cfg(test)]
mod samples;
