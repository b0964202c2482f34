//! Which task may use which repository session.

use orlop_core::{
    TaskId,
    run::{Event, RunKind, RunSpec, Task, TaskPhase},
};
use orlop_repository::SessionId;

use super::{Refusal, RunKey, Runs};
use crate::clock::now_ms;

/// A task that may use the repository.
pub(crate) struct Holder {
    /// The task.
    pub(crate) task: Task,
    /// The backup or restore that it belongs to.
    pub(crate) run: String,
    /// What was asked of it.
    pub(crate) spec: RunSpec,
}

impl Runs {
    /// The task, if it runs on `node`.
    ///
    /// A task whose end was told already may still repeat a call whose answer was lost; sessions are what
    /// ends.
    pub(crate) fn holder(&self, node: &str, task: TaskId) -> Result<Holder, Refusal> {
        let table = self.lock();
        let found = table.tasks.get(&task).and_then(|key| {
            let document = table.document(key)?;
            Some((document, document.run.task(task)?))
        });
        let forbidden = |reason: &str| Refusal::Forbidden(format!("task {task} {reason}"));
        let (document, task) = found.ok_or_else(|| forbidden("is not known"))?;
        if task.node != node {
            return Err(forbidden("is on another node"));
        }
        if task.phase != TaskPhase::Running {
            return Err(forbidden("does not run"));
        }
        Ok(Holder {
            task: task.clone(),
            run: document.run.name.clone(),
            spec: document.spec.clone(),
        })
    }

    /// Lets a task that runs on `node` use a session that it began. True with a session of which nothing is known
    /// (the state database was lost): it is the task's only if it turns out to be of the task's volume.
    pub(crate) fn session_holder(
        &self,
        node: &str,
        task: TaskId,
        session: SessionId,
    ) -> Result<(Holder, bool), Refusal> {
        let holder = self.holder(node, task)?;
        let table = self.lock();
        match table.db.session(session) {
            Ok(Some(owner)) if owner == task => Ok((holder, false)),
            Ok(Some(_)) => Err(Refusal::Forbidden(format!(
                "session {session} is not of task {task}"
            ))),
            Ok(None) => Ok((holder, true)),
            Err(error) => Err(Refusal::Unavailable(format!(
                "read the state database: {error}"
            ))),
        }
    }

    /// A task looks chunks up. A restore does so before it writes anything, and after it has found its target
    /// fit for its mode.
    pub(crate) fn looks_up(&self, holder: &Holder) {
        if holder.task.touched || holder.spec.kind() != RunKind::Restore {
            return;
        }
        let (key, task) = (
            RunKey::new(RunKind::Restore, holder.run.clone()),
            holder.task.id,
        );
        self.lock().apply(&key, Event::Touches { task }, now_ms());
    }

    /// Remembers that a task has begun a session.
    pub(crate) fn bind_session(&self, session: SessionId, task: TaskId) {
        if let Err(error) = self.lock().db.bind_session(session, task) {
            tracing::error!(task_id = %task, error = %error, "cannot write the state database");
        }
    }
}
