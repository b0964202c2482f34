//! The loop that makes results durable and removes what was deleted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use orlop_core::{
    SnapshotId,
    run::{Event, RunKind},
};
use orlop_proto::v1::LogLevel;
use orlop_repository::store::Durability;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Refusal, RunKey, Runs,
    jobs::{Job, Work},
    lines::run_line,
    recorded,
};
use crate::{
    artifacts,
    records::{Document, Records},
    state::LogLine,
};

/// A store that failed is left alone for this long.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// Runs that are removed together: their snapshots are looked for and forgotten once for all of them.
const TOGETHER: usize = 100;
/// Longest sleep when nothing is postponed.
const IDLE: Duration = Duration::from_hours(1);

impl Runs {
    /// Makes results durable and removes what was deleted, each location for itself, until `shutdown`. What was
    /// begun is finished.
    pub(crate) async fn run_recorder(self: Arc<Self>, shutdown: CancellationToken) {
        let mut working = JoinSet::new();
        let mut busy: HashMap<Id, String> = HashMap::new();
        loop {
            let now = Instant::now();
            while let Some(jobs) = {
                let is_busy = |location: &str| busy.values().any(|other| other == location);
                self.lock().jobs.take(now, TOGETHER, is_busy)
            } {
                let location = jobs[0].location.clone();
                let runs = Arc::clone(&self);
                let id = working.spawn(async move { runs.work(jobs).await }).id();
                busy.insert(id, location);
            }
            let next = self.lock().jobs.next().unwrap_or(now + IDLE).max(now);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.signals.record.notified() => {}
                () = tokio::time::sleep_until(next.into()), if busy.is_empty() => {}
                Some(done) = working.join_next_with_id() => {
                    let id = match done {
                        Ok((id, ())) => id,
                        Err(error) => {
                            tracing::error!(error = %error, "recording has panicked");
                            error.id()
                        }
                    };
                    busy.remove(&id);
                }
            }
        }
        while working.join_next().await.is_some() {}
    }

    /// Jobs of one kind and one location.
    async fn work(&self, jobs: Vec<Job>) {
        let done = match jobs[0].work {
            Work::Record => {
                for job in jobs {
                    if let Err(refusal) = self.record(&job.key).await {
                        self.postpone(vec![job], &refusal);
                    }
                }
                return;
            }
            Work::Remove => self.remove(&jobs).await,
        };
        if let Err(refusal) = done {
            self.postpone(jobs, &refusal);
        }
    }

    fn postpone(&self, jobs: Vec<Job>, refusal: &Refusal) {
        let reason = refusal.to_string();
        tracing::warn!(reason, "cannot write records and will try again");
        let (now_ms, until) = (self.now_ms(), Instant::now() + STORE_PAUSE);
        let mut table = self.lock();
        for job in jobs {
            if job.work == Work::Remove {
                let reason = format!("it cannot be deleted yet: {reason}");
                table.count_removal(&job.key, false);
                table.apply(&job.key, Event::Delayed { reason }, now_ms);
            }
            table.jobs.postpone(job, until);
        }
    }

    /// Puts the files of a backup or restore that has Kubernetes objects beside its repository.
    async fn put_artifacts(&self, document: &Document, log: &[LogLine]) -> Result<(), Refusal> {
        let (run, locations) = (&document.run, &self.parts.locations);
        let Some(store) = locations.artifacts(&run.location) else {
            return Ok(());
        };
        if run.objects.is_none() {
            return Ok(());
        }
        let repository = locations.repository(&run.location)?;
        let (objects, reports) = (self.spool.path(&run.name), self.spool.reports(&run.name));
        let (copy, log) = (document.clone(), log.to_vec());
        let files = tokio::task::spawn_blocking(move || match copy.run.kind {
            RunKind::Backup => artifacts::backup_files(&repository, &copy, &log, &objects),
            RunKind::Restore => artifacts::restore_files(&repository, &copy, &log, &reports),
        });
        let files = files
            .await
            .map_err(|error| Refusal::Unavailable(format!("make artifacts: {error}")))??;
        let contents = artifacts::contents_key(&run.name).filter(|_| run.kind == RunKind::Backup);
        for (key, bytes) in files {
            if contents.as_ref() == Some(&key) {
                self.lock()
                    .count_objects(&RunKey::of(run), bytes.len() as u64);
            }
            store.put(&key, vec![bytes.into()], Durability::Now).await?;
        }
        Ok(())
    }

    /// Removes the files of a backup or restore, the one by which it exists first.
    async fn remove_artifacts(&self, location: &str, key: &RunKey) -> Result<(), Refusal> {
        self.spool.remove(key.kind, &key.name);
        let Some(store) = self.parts.locations.artifacts(location) else {
            return Ok(());
        };
        for file in artifacts::keys(key.kind, &key.name) {
            store.delete(&file).await?;
        }
        Ok(())
    }

    /// Restores from a location that is read-only are known to the state database alone.
    pub(super) fn keeps_no_record(&self, kind: RunKind, location: &str) -> bool {
        kind == RunKind::Restore && self.parts.locations.is_read_only(location)
    }

    async fn record(&self, key: &RunKey) -> Result<(), Refusal> {
        self.bring_objects(key).await?;
        let now = self.now_ms();
        let (document, log) = {
            let table = self.lock();
            let Some(mut document) = table.document(key).cloned() else {
                return Ok(());
            };
            // The record is of the run as it will be once the record is durable.
            let _ = document.run.apply(Event::Recorded, now);
            if !document.run.phase.is_final() {
                return Ok(());
            }
            document.recovered = false;
            let mut log = recorded::lines(&table, key);
            // So is its log: the line that says how it ended is told when the record is durable.
            let (mut level, task, text) = run_line(&document.run);
            if document.run.errors_of_parts() > 0 {
                // Each of them has a line; this one sums them up and is not one more.
                level = LogLevel::Info;
            }
            log.push(LogLine {
                number: log.last().map_or(0, |line| line.number) + 1,
                time_ms: now,
                level: level.into(),
                task: task.map(|id| id.to_string()).unwrap_or_default(),
                message: text,
                fields: BTreeMap::new(),
            });
            (document, log)
        };
        if !self.keeps_no_record(key.kind, &document.run.location) {
            let records = self.records(&document.run.location)?;
            self.put_artifacts(&document, &log).await?;
            records.put(&document, &log).await?;
        }
        // Until here all may have to be done again, with what was put aside.
        self.lock().apply(key, Event::Recorded, now);
        self.spool.remove(key.kind, &key.name);
        Ok(())
    }

    /// Removes runs that were deleted: their snapshots first, then their records. As long as a record is there, the
    /// removal can be asked for again.
    async fn remove(&self, jobs: &[Job]) -> Result<(), Refusal> {
        let (location, locations) = (&jobs[0].location, &self.parts.locations);
        let gone: BTreeSet<&RunKey> = {
            let table = self.lock();
            let here = |key: &&RunKey| table.document(key).is_some();
            jobs.iter().map(|job| &job.key).filter(here).collect()
        };
        let backups: BTreeSet<&str> = gone
            .iter()
            .filter(|key| key.kind == RunKind::Backup)
            .map(|key| key.name.as_str())
            .collect();
        let repository = match locations.repository(location) {
            // Nothing can be removed where nobody can go any more.
            Err(Refusal::NotFound { .. }) => None,
            other => Some(other?),
        };
        if !backups.is_empty() && locations.is_read_only(location) {
            return Err(Refusal::Precondition(format!(
                "location {location} is read-only"
            )));
        }
        if let Some(repository) = repository.as_ref().filter(|_| !backups.is_empty()) {
            let all = repository.snapshots().await?;
            let held = all.iter().filter(|s| backups.contains(s.backup.as_str()));
            let held: Vec<SnapshotId> = held.map(|snapshot| snapshot.id).collect();
            if !held.is_empty() {
                let forgotten = repository.forget(&held).await?;
                tracing::info!(
                    snapshots = forgotten.len(),
                    "snapshots of deleted backups are forgotten"
                );
            }
        }
        for key in gone {
            self.remove_artifacts(location, key).await?;
            let recorded = !self.keeps_no_record(key.kind, location);
            if let Some(repository) = repository.as_ref().filter(|_| recorded) {
                let records = Records::new(Arc::clone(repository.store()));
                records.remove(key.kind, &key.name).await?;
            }
            let mut table = self.lock();
            table.count_removal(key, true);
            table.forget(key);
        }
        Ok(())
    }
}
