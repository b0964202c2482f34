//! Restores that make Kubernetes objects again: one future each, which goes on wherever the run is.
//!
//! ```text
//! prove that all snapshots are there ─► fetch the objects ─► make them ─► finish persistent volumes ─► closed
//!                                                             └─► follow pods: tasks begin where they wait
//! ```
//! After a restart everything begins anew; what was made is found. Cancelling stops all of it.

mod accept;
mod evict;
mod follow;
mod judge;
mod own;
mod prepare;
mod prove;
mod sink;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use orlop_core::run::{Event, RestoreEvent, RunKind};
use orlop_proto::v1::LogLevel;
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

pub(super) use self::accept::at_location;
use self::{
    prepare::{Prepared, Trouble},
    sink::TableSink,
};
use super::{RunKey, Runs};

/// Restores that are at work at once; others wait for their turn.
const AT_ONCE: usize = 4;
/// What passes by itself is waited for so long.
const PATIENCE: Duration = Duration::from_mins(10);
/// First pause before another try, doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// A restore at work.
struct Restoring<'a> {
    runs: &'a Arc<Runs>,
    key: &'a RunKey,
    /// Cancelled when the run is to stop, or the program.
    cancel: &'a CancellationToken,
}

impl Runs {
    /// Works on restores that make objects, some at once, until `shutdown`; the next coordinator goes on with them.
    pub(crate) async fn run_restores(self: Arc<Self>, shutdown: CancellationToken) {
        let mut working = JoinSet::new();
        let mut busy: BTreeMap<RunKey, CancellationToken> = BTreeMap::new();
        let mut ids: HashMap<Id, RunKey> = HashMap::new();
        loop {
            for (key, canceled) in self.open_restores() {
                match (busy.get(&key), canceled) {
                    (Some(cancel), true) => cancel.cancel(),
                    (None, true) => self.tell_restore(&key, RestoreEvent::Closed),
                    (None, false) if busy.len() < AT_ONCE => {
                        let cancel = shutdown.child_token();
                        busy.insert(key.clone(), cancel.clone());
                        let (runs, name) = (Arc::clone(&self), key.clone());
                        let end = shutdown.clone();
                        let work = async move { runs.restore(&name, &cancel, &end).await };
                        ids.insert(working.spawn(work).id(), key);
                    }
                    _ => {}
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.signals.restores.notified() => {}
                Some(done) = working.join_next_with_id() => {
                    let id = done.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
                    let key = ids.remove(&id);
                    if let (Err(error), Some(key)) = (&done, &key) {
                        tracing::error!(run_id = key.name, error = %error, "a restore has panicked");
                        let reason = "the coordinator met a bug: its log has the place".to_owned();
                        self.tell_restore(key, RestoreEvent::Broken { reason });
                        self.tell_restore(key, RestoreEvent::Closed);
                    }
                    key.and_then(|key| busy.remove(&key));
                }
            }
        }
        while working.join_next().await.is_some() {}
    }

    /// Restores whose objects are not done, oldest first, and whether they are to stop.
    fn open_restores(&self) -> Vec<(RunKey, bool)> {
        let table = self.lock();
        let open = table.documents(RunKind::Restore).filter(|document| {
            let making = document.run.making.is_some_and(|making| !making.closed);
            making && !document.run.phase.is_final()
        });
        let mut open: Vec<_> = open.map(|document| &document.run).collect();
        open.sort_by_key(|run| run.created_ms);
        open.iter()
            .map(|run| (RunKey::of(run), run.cancel))
            .collect()
    }

    fn tell_restore(&self, key: &RunKey, event: RestoreEvent) {
        self.lock().apply(key, Event::Restore(event), self.now_ms());
    }

    /// Works on one restore until nothing is left but what tasks and hooks do, or until `cancel`.
    async fn restore(
        self: &Arc<Self>,
        key: &RunKey,
        cancel: &CancellationToken,
        shutdown: &CancellationToken,
    ) {
        let restoring = Restoring {
            runs: self,
            key,
            cancel,
        };
        let made = CancellationToken::new();
        let work = async {
            let prepared = restoring.make_objects().await;
            made.cancel();
            prepared
        };
        let (prepared, ()) = tokio::join!(work, restoring.follow(&made, shutdown));
        if shutdown.is_cancelled() {
            return;
        }
        restoring.finish(prepared).await;
        if !shutdown.is_cancelled() {
            crate::artifacts::remove(&self.spool.archive(&key.name));
            self.tell_restore(key, RestoreEvent::Closed);
        }
    }
}

impl Restoring<'_> {
    fn tell(&self, event: RestoreEvent) {
        self.runs.tell_restore(self.key, event);
    }

    fn log(&self, level: LogLevel, line: &str) {
        let now_ms = self.runs.now_ms();
        self.runs.lock().log(self.key, level, None, line, now_ms);
    }

    /// Something that is no task's and no object's has gone wrong.
    fn note(&self, level: LogLevel, line: &str) {
        self.log(level, line);
        let noted = Event::Noted {
            warnings: u64::from(level == LogLevel::Warning),
            errors: u64::from(level == LogLevel::Error),
        };
        self.runs.lock().apply(self.key, noted, self.runs.now_ms());
    }

    /// Whether all objects were gone through before.
    fn is_applied(&self) -> bool {
        let table = self.runs.lock();
        let making = table
            .document(self.key)
            .and_then(|document| document.run.making);
        making.is_some_and(|making| making.applied)
    }

    /// Makes all objects, with patience for what passes. What it has prepared is of use later.
    async fn make_objects(&self) -> Option<Prepared> {
        if self.is_applied() {
            return None;
        }
        let mut first = None;
        let mut pause = PAUSE;
        loop {
            let trouble = match self.try_to_make().await {
                Ok(prepared) => {
                    self.tell(RestoreEvent::Applied);
                    return Some(prepared);
                }
                Err(_) if self.cancel.is_cancelled() => return None,
                Err(trouble) => trouble,
            };
            let since = *first.get_or_insert_with(Instant::now);
            match trouble {
                Trouble::Passing(reason) if since.elapsed() < PATIENCE => {
                    let line = format!("{reason}; it will be tried again");
                    self.log(LogLevel::Warning, &line);
                }
                Trouble::Passing(reason) | Trouble::Lasting(reason) => {
                    self.log(LogLevel::Error, &reason);
                    self.tell(RestoreEvent::Broken { reason });
                    return None;
                }
            }
            let waited = self.cancel.run_until_cancelled(sleep(pause)).await;
            waited?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_to_make(&self) -> Result<Prepared, Trouble> {
        self.tell(RestoreEvent::Begun);
        let prepared = self.prepare().await?;
        self.prove(&prepared).await?;
        self.fetch(&prepared).await?;
        let backup = self.backup_object(&prepared).await?;
        let mut sink = TableSink::new(self.runs, self.key)?;
        let cluster = &self.runs.parts.cluster;
        let request = prepared.request(&backup);
        let made = cluster.restore_objects(&request, &mut sink, self.cancel);
        made.await?;
        sink.finish()?;
        Ok(prepared)
    }

    /// Gives new persistent volumes what they are still to get, unless the restore ends early.
    async fn finish(&self, prepared: Option<Prepared>) {
        if self.cancel.is_cancelled() || !self.is_applied() {
            return;
        }
        let finished = async {
            let prepared = if let Some(prepared) = prepared {
                prepared
            } else {
                // They were made before the coordinator was started.
                let prepared = self.prepare().await?;
                self.fetch(&prepared).await?;
                prepared
            };
            let backup = self.backup_object(&prepared).await?;
            let cluster = &self.runs.parts.cluster;
            let request = prepared.request(&backup);
            Ok::<_, Trouble>(cluster.finish_volumes(&request, self.cancel).await)
        };
        match finished.await {
            Ok(warnings) => {
                for warning in warnings {
                    self.note(LogLevel::Warning, &warning);
                }
            }
            Err(_) if self.cancel.is_cancelled() => {}
            Err(trouble) => {
                let line = format!(
                    "persistent volumes keep the reclaim policy and labels that they were made with: {trouble}"
                );
                self.note(LogLevel::Warning, &line);
            }
        }
    }
}
