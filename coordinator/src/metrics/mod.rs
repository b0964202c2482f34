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

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    registry::Unit,
};

/// Writes one metric.
fn tell(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    metric: &impl EncodeMetric,
) -> std::fmt::Result {
    tell_unit(encoder, (name, help), None, metric)
}

/// Writes one metric whose name goes on with its unit.
fn tell_unit(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> std::fmt::Result {
    let kind = metric.metric_type();
    metric.encode(encoder.encode_descriptor(name, help, unit, kind)?)
}
