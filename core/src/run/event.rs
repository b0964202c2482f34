//! What happens to a run, and what is to be done about it.

#[cfg(doc)]
use super::state::Run;
use super::{making::RestoreEvent, place::Place, state::Objects};
use crate::{
    Lineage, Progress, SnapshotId, TaskId, VolumeRef,
    hook::{HookOutcome, PodHooks},
};

/// A volume that a run is to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// The task.
    pub id: TaskId,
    /// The volume that is backed up or restored into.
    pub volume: VolumeRef,
    /// The node that has the volume.
    pub node: String,
    /// The lineage that a backup writes to; `None` for a restore.
    pub lineage: Option<Lineage>,
    /// The snapshot to restore.
    pub snapshot: Option<SnapshotId>,
    /// Where the volume is in a cluster.
    pub place: Option<Place>,
    /// The volume that the snapshot of a restore was made of.
    pub source: Option<VolumeRef>,
}

/// A pod with hooks that a run is to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its hooks, at least one.
    pub hooks: PodHooks,
}

/// What a task has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskResult {
    /// The snapshot that was made or restored.
    pub snapshot: SnapshotId,
    /// Logical bytes of the volume.
    pub logical_bytes: u64,
    /// Bytes sent to the store or fetched from it.
    pub transferred_bytes: u64,
    /// Entries of the volume.
    pub entries: u64,
    /// Entries that changed, vanished or were left out.
    pub warnings: u64,
    /// Entries that could not be read or written.
    pub errors: u64,
}

/// How a task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With a result.
    Completed(TaskResult),
    /// Without one.
    Failed {
        /// Why, for a person.
        message: String,
        /// Whether another attempt may succeed.
        retry: bool,
    },
    /// It was stopped.
    Canceled,
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its volumes were chosen.
    Planned {
        /// One for each volume.
        tasks: Vec<NewTask>,
        /// Volumes of the selected pods that are left out.
        skipped: u32,
        /// Pods whose hooks run around their volumes.
        pods: Vec<NewPod>,
        /// Kubernetes objects that are part of it.
        objects: Option<Objects>,
    },
    /// Something that is no task's had trouble.
    Noted {
        /// What a person should know.
        warnings: u64,
        /// What is missing now.
        errors: u64,
    },
    /// It is the turn of a pod whose hooks run before its volumes.
    HooksBegun {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// Nobody runs the hooks of a pod any more, because none is to run.
    HooksLeft {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// The hook of a pod that ran has ended.
    HookEnded {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// How.
        outcome: HookOutcome,
        /// Why it failed, for a person; empty if it did not.
        message: String,
    },
    /// Its volumes cannot be chosen.
    Unplannable {
        /// Why, for a person.
        reason: String,
    },
    /// It is the turn of a queued task.
    Assigned {
        /// The task.
        task: TaskId,
    },
    /// A task has moved on.
    Progressed {
        /// The task.
        task: TaskId,
        /// Its counters.
        progress: Progress,
    },
    /// The agent of a restore looks for what it will write: the target was found fit for the mode, and from
    /// now on what it holds may be the restore's own.
    Touches {
        /// The task.
        task: TaskId,
    },
    /// A task has ended.
    Finished {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// A task that runs has stood still for too long.
    GivenUp {
        /// The task.
        task: TaskId,
        /// What to say of it.
        message: String,
    },
    /// The agent of a node is connected and tells which tasks it has.
    Reported {
        /// The node.
        node: String,
        /// All tasks that it runs or whose end it has still to tell.
        tasks: Vec<TaskId>,
    },
    /// The agent of a node has not been heard of for too long.
    NodeLost {
        /// The node.
        node: String,
        /// What to say of its tasks.
        message: String,
    },
    /// Something about the Kubernetes objects of a restore.
    Restore(RestoreEvent),
    /// Somebody wants it to stop.
    Cancel,
    /// Its result is durable.
    Recorded,
    /// Somebody wants it gone.
    Delete,
    /// It cannot be removed yet.
    Delayed {
        /// Why, for a person.
        reason: String,
    },
}

/// What is to be done after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the agent of the task's node to begin the task.
    Start(TaskId),
    /// Tell the agent of the task's node to stop the task.
    Stop(TaskId),
    /// Tell the agent of this node, which had the task, to stop it.
    StopThere {
        /// The task, which may be known no more.
        task: TaskId,
        /// The node.
        node: String,
    },
    /// Tell the agent of the task's node that the end is known, once the new state is durable.
    Acknowledge(TaskId),
    /// Run the hooks of a pod one after the other, as [`Run::hook_to_run`] says, and apply [`Event::HookEnded`] after
    /// each, until it says none.
    RunHooks {
        /// The pod's namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// Make the result durable, then apply [`Event::Recorded`].
    Record,
    /// Remove the run and everything recorded of it.
    Remove,
}
