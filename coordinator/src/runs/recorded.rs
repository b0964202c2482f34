//! What is recorded of a run beside its state: the lines of its log, and the objects of a backup.

use orlop_core::run::{Event, RunKind, RunPhase, RunSpec};
use orlop_proto::v1::LogLevel;

use super::{Refusal, RunKey, Runs, table::Table};
use crate::{records::Document, state::LogLine};

/// Lines of a log that are kept with a record.
const LINES: usize = 20_000;
/// Of these, lines that tell of single entries of volumes.
const LINES_OF_ENTRIES: usize = 10_000;

/// The lines of a run's log, in order. Of a long one those about entries of volumes are left out first: what tells of hooks, and
/// of what has failed as a whole, is kept.
pub(super) fn lines(table: &Table, key: &RunKey) -> Vec<LogLine> {
    let (mut kept, mut of_entries, mut after) = (Vec::new(), 0, 0);
    loop {
        let lines = table.log_lines(key, after);
        let Some(last) = lines.last() else {
            return kept;
        };
        after = last.number;
        for line in lines {
            let of_entry = !line.task.is_empty() && line.fields.is_empty();
            of_entries += usize::from(of_entry);
            let room = if of_entry {
                of_entries <= LINES_OF_ENTRIES
            } else {
                kept.len() < LINES
            };
            if room {
                kept.push(line);
            }
        }
    }
}

impl Runs {
    /// Makes sure that the objects of a backup are there when its files are made: where they were put aside on a disk that is
    /// lost they are read again, or are missing, and the backup's log says which.
    ///
    /// # Errors
    /// The API does not answer.
    pub(super) async fn bring_objects(&self, key: &RunKey) -> Result<(), Refusal> {
        let path = self.spool.path(&key.name);
        if key.kind != RunKind::Backup || path.exists() {
            return Ok(());
        }
        let (spec, location) = match self.lock().document(key) {
            Some(Document {
                spec: RunSpec::Backup(spec),
                run,
                ..
            }) if run.objects.is_some() && run.phase == RunPhase::Finalizing => {
                (spec.clone(), run.location.clone())
            }
            _ => return Ok(()),
        };
        if self.parts.locations.artifacts(&location).is_none() {
            return Ok(());
        }
        let planned = match self.parts.cluster.plan_backup(&key.name, &spec).await {
            Err(error @ (Refusal::Unavailable(_) | Refusal::Repository(_))) => return Err(error),
            other => other,
        };
        let why = match planned.map(|plan| plan.objects) {
            Ok(Some(objects)) => {
                self.spool.keep(&key.name, &objects.file);
                "they cannot be put aside".to_owned()
            }
            Ok(None) => "there are none any more".to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        let (level, line) = if path.exists() {
            let line = "the Kubernetes objects were read at the end of the backup: the coordinator has lost its disk since it began, \
                        and with it those that were read then";
            (LogLevel::Warning, line.to_owned())
        } else {
            self.spool.put_nothing(&key.name).map_err(|error| {
                Refusal::Unavailable(format!("make {}: {error}", path.display()))
            })?;
            let line = format!(
                "the backup has no Kubernetes objects: the coordinator has lost its disk since it began, and they cannot be read \
                 again: {why}"
            );
            (LogLevel::Error, line)
        };
        let now_ms = self.now_ms();
        let mut table = self.lock();
        table.log(key, level, None, &line, now_ms);
        let noted = Event::Noted {
            warnings: u64::from(level == LogLevel::Warning),
            errors: u64::from(level == LogLevel::Error),
        };
        table.apply(key, noted, now_ms);
        Ok(())
    }
}
