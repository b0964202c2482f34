//! Which snapshots of a volume, or backups of a schedule, are kept and which may be forgotten.

mod decide;
mod policy;
mod reason;

pub use decide::{Completeness, Decision, Guard, Item, decide, decide_among, decide_named};
pub use policy::{KeepSpan, ParsePolicyError, RetentionPolicy, parse_count};
pub use reason::{Reason, Unit};

#[cfg(test)]
mod tests;
