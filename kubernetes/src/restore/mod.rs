//! Restores a backup's objects: reads them from its tarball, makes of each what fits this cluster and this moment, and
//! creates it unless it exists.
//!
//! Kinds come in a fixed order, definitions of custom kinds first. A pod whose volumes have snapshots gets an init
//! container that waits for them; what follows from its pods is others' to do, by [`pod_state`] and
//! [`container_state`]. What goes wrong with one object is said of that object, and the others come all the same.

mod actions;
mod api;
mod apply;
mod compare;
mod finish;
mod hooks;
mod items;
mod json;
mod load;
mod namespaces;
mod order;
mod pod;
mod request;
mod reset;
mod run;
mod scope;
mod settings;
mod target;
mod volumes;
mod wait_container;
mod wait_resources;

pub use finish::finish_volumes;
pub use pod::{ContainerState, PodState, container_state, pod_state};
pub use request::{
    BackedVolume, ItemEnd, ItemReport, RestoreError, RestoreHook, RestoreRequest, RestoreSink,
    RestoredPod,
};
pub use run::restore_objects;
pub use target::{LocatedVolume, NotLocated, locate_claim, locate_volume};

/// Annotation of ours on each object that a restore has made: the uid of the Restore object.
pub const RESTORE_UID: &str = "orlop.io/restore-uid";
