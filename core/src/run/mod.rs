//! A backup or restore over many volumes, decided step by step: state and event in, state and
//! actions out.

mod event;
mod machine;
mod making;
mod near;
mod place;
mod pods;
mod schedule;
mod select;
mod spec;
mod state;

pub use event::{Action, Event, NewPod, NewTask, Outcome, TaskResult};
pub use making::{HookWait, MadePod, Making, PodId, RestoreEvent, Restored};
pub use near::{near_misses, not_found};
pub use place::Place;
pub use pods::PodRun;
pub use schedule::{Due, Limits, Turn, schedule, tasks_at_once};
pub use select::{KnownVolume, SelectError, Selection, select};
pub use spec::{BackupSpec, ClaimRef, RestoreSpec, RestoreVolume, RunSpec};
pub use state::{
    AGAIN, MAX_ATTEMPTS, Objects, Run, RunKind, RunPhase, Task, TaskPhase, VolumeCounts,
};
