//! Commands that run in a pod around the backup of its volumes, and what follows when one fails.

mod sequence;
mod spec;

pub use sequence::{HookOutcome, HookTally, PodProgress, Step, next_step, tally};
#[cfg(test)]
pub(crate) use spec::sample;
pub use spec::{DEFAULT_TIMEOUT, Hook, HookPhase, HookSource, OnError, PodHooks};
