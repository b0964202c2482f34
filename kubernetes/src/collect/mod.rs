//! Reads all objects of the cluster that a backup means.
//!
//! Kinds are listed one after another in pages of 500 objects, and each object is handed on at once: what is held
//! in memory is one page, and the names of what has been taken.

mod kinds;
mod related;
mod report;
mod run;
mod scope;

pub use kinds::{ServedKind, discover};
pub use report::{CollectError, CollectReport, CollectedObject, ObjectSink, Problem};
pub use run::collect;
