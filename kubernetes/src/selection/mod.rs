//! What a backup takes of a cluster: which objects, which volumes of which pods, and which hooks run.
//!
//! Pure decisions over objects that somebody has fetched. Every volume that is left out has its reason.

pub mod filters;
pub mod glob;
pub mod labels;
pub mod lists;
pub mod resources;

pub use filters::{Filters, InvalidFilters};
pub use lists::NameFilter;
pub use resources::{Choice, ResourceKind};
