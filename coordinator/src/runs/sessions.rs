//! Which task may use which repository session, and for how long.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use orlop_core::{
    TaskId,
    run::{Event, RunKind, RunSpec, Task, TaskPhase},
};
use orlop_repository::SessionId;
use tokio_util::sync::CancellationToken;

use super::{Refusal, RunKey, Runs};

/// Sessions whose end the store did not take are ended again this often.
const AGAIN: Duration = Duration::from_secs(30);

/// A task that may use the repository.
pub(crate) struct Holder {
    /// The task.
    pub(crate) task: Task,
    /// The backup or restore that it belongs to.
    pub(crate) run: String,
    /// What was asked of it.
    pub(crate) spec: RunSpec,
    /// Location of its repository.
    pub(crate) location: String,
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
            location: document.run.location.clone(),
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
        match table.db.session(&holder.location, session) {
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
        self.lock()
            .apply(&key, Event::Touches { task }, self.now_ms());
    }

    /// Remembers that a task has begun a session.
    pub(crate) fn bind_session(&self, holder: &Holder, session: SessionId) {
        let (location, task) = (&holder.location, holder.task.id);
        if let Err(error) = self.lock().db.bind_session(location, session, task) {
            tracing::error!(task_id = %task, error = %error, "cannot write the state database");
        }
        self.signals.sessions.notify_one();
    }

    /// Ends sessions that no task uses any more, until `shutdown`: collection would wait for them.
    pub(crate) async fn run_session_ender(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let mut failed = BTreeSet::new();
            for (location, session) in self.left_sessions() {
                if failed.contains(&location) {
                    continue;
                }
                let ended = tokio::select! {
                    () = shutdown.cancelled() => return,
                    ended = self.end(&location, session) => ended,
                };
                match ended {
                    Ok(()) => self.release(&location, session),
                    Err(reason) => {
                        tracing::warn!(session, location, %reason, "cannot end a session and will try again");
                        failed.insert(location);
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.signals.sessions.notified() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    async fn end(&self, location: &str, session: SessionId) -> Result<(), Refusal> {
        match self.committer_at(location) {
            Ok(committer) => Ok(committer.end(session).await?),
            // Its location is no more, and nobody waits for it.
            Err(Refusal::NotFound { .. }) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Sessions of tasks that do not run, and those of running tasks that are not the task's last: an attempt
    /// before this one has left them.
    fn left_sessions(&self) -> Vec<(String, SessionId)> {
        let table = self.lock();
        let held = table.db.sessions().unwrap_or_else(|error| {
            tracing::error!(error = %error, "cannot read the state database");
            Vec::new()
        });
        let last: HashMap<TaskId, SessionId> =
            held.iter().map(|(_, s, task)| (*task, *s)).collect();
        let runs = |task: &TaskId| {
            let document = table.tasks.get(task).and_then(|key| table.document(key));
            let task = document.and_then(|document| document.run.task(*task));
            task.is_some_and(|task| task.phase == TaskPhase::Running)
        };
        let left = held
            .iter()
            .filter(|(_, s, task)| !runs(task) || last[task] != *s);
        left.map(|(location, session, _)| (location.clone(), *session))
            .collect()
    }

    fn release(&self, location: &str, session: SessionId) {
        if let Err(error) = self.lock().db.release_session(location, session) {
            tracing::error!(session, error = %error, "cannot write the state database");
        }
    }
}
