//! A backup or restore over many volumes, decided step by step: state and event in, state and
//! actions out.

mod machine;
mod near;
mod schedule;
mod select;
mod spec;
mod state;

pub use machine::{Action, Event, NewTask, Outcome, TaskResult};
pub use near::{near_misses, not_found};
pub use schedule::{Due, Limits, schedule};
pub use select::{KnownVolume, SelectError, Selection, select};
pub use spec::{BackupSpec, RestoreSpec, RestoreVolume, RunSpec};
pub use state::{MAX_ATTEMPTS, Run, RunKind, RunPhase, Task, TaskPhase, VolumeCounts};
