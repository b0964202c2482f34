//! Accepting a backup or restore: what it concerns is decided before it is accepted.

use std::{path::Path, time::Duration};

use orlop_core::run::{Event, Outcome, RestoreEvent, Run, RunKind, RunSpec};
use orlop_proto::v1::LogLevel;

use super::{Refusal, RunKey, Runs, agents::Agent, plan::Plan};
use crate::{artifacts, records::Document};

/// How long agents may take to look for volumes before an older inventory is used.
const INVENTORY_PATIENCE: Duration = Duration::from_secs(5);

/// Why a volume fails that the backup took when it was begun before.
const LOST: &str = "it is not there any more: its pod has gone since the backup was first begun, before the coordinator was \
                    restarted without its state";

impl Runs {
    /// Begins the run that is asked for, unless the same request was accepted before. True if it is new. An empty
    /// location is the default one's for a backup, and that of the snapshots for a restore.
    pub(crate) async fn create(
        &self,
        name: String,
        location: &str,
        spec: RunSpec,
    ) -> Result<(Document, bool), Refusal> {
        let locations = &self.parts.locations;
        let location = match spec.kind() {
            RunKind::Restore if location.is_empty() => String::new(),
            _ => locations.name_of(location)?,
        };
        let key = RunKey::new(spec.kind(), name);
        if let Some(existing) = self.same_request(&key, &location, &spec)? {
            return Ok((existing, false));
        }
        if spec.kind() == RunKind::Backup {
            locations.writable(&location)?;
        }
        if !makes_objects(&spec) && !self.refresh_inventories(INVENTORY_PATIENCE).await {
            let message = "no agent is connected: start one on the node that has the volumes";
            return Err(Refusal::Unavailable(message.to_owned()));
        }
        let plan = match &spec {
            RunSpec::Backup(spec) => self.plan_backup(&key.name, spec, location).await?,
            RunSpec::Restore(spec) if spec.makes_objects() => {
                Plan::opening(self.objects_at(&key.name, spec, &location)?)
            }
            RunSpec::Restore(spec) => self.plan_restore(spec, &location).await?,
        };
        if self.records(&plan.location)?.has(&key).await? {
            // Another coordinator has made it since this one looked.
            self.sync(&plan.location, false).await?;
            if self.lock().document(&key).is_none() {
                return Err(Refusal::Exists {
                    kind: key.kind.as_str(),
                    name: key.name,
                });
            }
        }
        self.accept(&key, spec, plan)
    }

    fn same_request(
        &self,
        key: &RunKey,
        location: &str,
        spec: &RunSpec,
    ) -> Result<Option<Document>, Refusal> {
        let table = self.lock();
        let same = |existing: &Document| {
            let there = &existing.run.location;
            existing.spec == *spec && (location.is_empty() || location == there)
        };
        match table.document(key) {
            None => Ok(None),
            Some(existing) if same(existing) => Ok(Some(existing.clone())),
            Some(_) => Err(Refusal::Exists {
                kind: key.kind.as_str(),
                name: key.name.clone(),
            }),
        }
    }

    fn accept(&self, key: &RunKey, spec: RunSpec, plan: Plan) -> Result<(Document, bool), Refusal> {
        if let Some(existing) = self.same_request(key, &plan.location, &spec)? {
            if let Some(objects) = &plan.objects {
                self.take_objects(&existing, &objects.file);
            }
            return Ok((existing, false));
        }
        let now = self.now_ms();
        let mut table = self.lock();
        if table.document(key).is_some() {
            return Err(Refusal::Exists {
                kind: key.kind.as_str(),
                name: key.name.clone(),
            });
        }
        let mut run = Run::new(key.kind, &key.name, &plan.location, now);
        run.order = plan.order;
        table.insert(Document::new(spec, run), 0);
        table.count_begun(key);
        for (volume, reason) in &plan.skipped {
            let line = format!("{volume}: left out: {reason}");
            table.log(key, LogLevel::Warning, None, &line, now);
        }
        for task in &plan.tasks {
            table.tasks.insert(task.id, key.clone());
            table
                .agents
                .entry(task.node.clone())
                .or_insert_with(Agent::awaited);
        }
        for (level, line) in &plan.notes {
            table.log(key, *level, None, line, now);
        }
        let warnings = plan.skipped.len() + count(&plan.notes, LogLevel::Warning);
        let errors = count(&plan.notes, LogLevel::Error);
        let has_notes = !plan.notes.is_empty();
        let objects = plan.objects.map(|objects| {
            self.spool.keep(&key.name, &objects.file);
            objects.counts
        });
        let planned = if plan.opens {
            Event::Restore(RestoreEvent::Opened)
        } else {
            Event::Planned {
                tasks: plan.tasks,
                skipped: plan.skipped.len() as u32,
                pods: plan.pods,
                objects,
            }
        };
        table.apply(key, planned, now);
        if objects.is_some() || has_notes {
            let noted = Event::Noted {
                warnings: warnings as u64,
                errors: errors as u64,
            };
            table.apply(key, noted, now);
        }
        for task in plan.lost {
            let outcome = Outcome::Failed {
                message: LOST.to_owned(),
                retry: false,
            };
            table.apply(key, Event::Finished { task, outcome }, now);
        }
        let document = table.document(key).cloned();
        document
            .map(|document| (document, true))
            .ok_or_else(|| Refusal::unknown_run(key, &[]))
    }
}

impl Runs {
    /// Objects that were read for a backup that runs already: it needs them if its own were on a disk that is lost.
    fn take_objects(&self, backup: &Document, file: &Path) {
        let (run, path) = (&backup.run, self.spool.path(&backup.run.name));
        if backup.recovered && run.objects.is_some() && !run.phase.is_final() && !path.exists() {
            self.spool.keep(&run.name, file);
        } else {
            artifacts::remove(file);
        }
    }
}

fn makes_objects(spec: &RunSpec) -> bool {
    matches!(spec, RunSpec::Restore(spec) if spec.makes_objects())
}

fn count(notes: &[(LogLevel, String)], wanted: LogLevel) -> usize {
    notes.iter().filter(|(level, _)| *level == wanted).count()
}
