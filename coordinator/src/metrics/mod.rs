//! What monitoring is told: counts of what ends, and how things are when somebody looks.
//!
//! What Velero measures too has Velero's name (`pkg/metrics/metrics.go`), so that rules and dashboards made for it go on to
//! work; everything else begins with `orlop_`. A label is the name of a schedule, a location or a node, never that of a
//! backup, a pod or a path.

mod counted;
mod labels;
mod told;

pub(crate) use counted::Counted;
pub(crate) use labels::schedule_of;
pub(crate) use told::{LastEnd, Standing, Told};
