//! Takes what is told while objects are made: counts, log lines, reports, and pods whose tasks become known.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use orlop_core::{
    SnapshotId, VolumeRef,
    hook::{Hook, HookPhase, PodHooks},
    run::{Event, HookWait, MadePod, NewTask, Objects, PodId, RestoreEvent, RunSpec},
};
use orlop_proto::v1::LogLevel;
use tokio::time::Instant;

use super::prepare::Trouble;
use crate::{
    artifacts::ReportWriter,
    cluster::{ItemReport, RestoreHook, RestoreSink, RestoredPod},
    runs::{RunKey, Runs, lines::one_line, plan::new_task_id},
};

/// Counts are told this often.
const TELL: Duration = Duration::from_millis(500);
/// A hook that says nothing of it waits so long for its container.
const HOOK_WAIT: Duration = Duration::from_hours(4);

/// Puts everything into the table.
pub(super) struct TableSink<'a> {
    runs: &'a Arc<Runs>,
    key: &'a RunKey,
    counts: Objects,
    warnings: u64,
    errors: u64,
    told: Instant,
    reports: ReportWriter,
    /// Logical bytes of the backup's snapshots.
    sizes: HashMap<SnapshotId, u64>,
    /// Why reports are not kept.
    failed: Option<std::io::Error>,
}

impl<'a> TableSink<'a> {
    /// A sink of the run `key`, whose reports begin anew.
    pub(super) fn new(runs: &'a Arc<Runs>, key: &'a RunKey) -> Result<Self, Trouble> {
        let reports = ReportWriter::create(&runs.spool.reports(&key.name));
        Ok(Self {
            runs,
            key,
            counts: Objects::default(),
            warnings: 0,
            errors: 0,
            told: Instant::now(),
            sizes: sizes(runs, key),
            reports: reports.map_err(|error| unkept(&error))?,
            failed: None,
        })
    }

    /// All objects were told of.
    pub(super) fn finish(mut self) -> Result<(), Trouble> {
        self.tell();
        let flushed = self.reports.flush();
        match self.failed.take().map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(unkept(&error)),
        }
    }

    fn tell(&mut self) {
        let now_ms = self.runs.now_ms();
        let mut table = self.runs.lock();
        let progressed = RestoreEvent::Progressed(self.counts);
        table.apply(self.key, Event::Restore(progressed), now_ms);
        let (warnings, errors) = (self.warnings, self.errors);
        if warnings + errors > 0 {
            table.apply(self.key, Event::Noted { warnings, errors }, now_ms);
        }
        drop(table);
        (self.warnings, self.errors) = (0, 0);
        self.told = Instant::now();
    }

    fn log(&self, report: &ItemReport, level: LogLevel, text: &str) {
        let fields = BTreeMap::from([
            ("resource".to_owned(), report.resource.clone()),
            ("namespace".to_owned(), report.namespace.clone()),
            ("name".to_owned(), report.name.clone()),
        ]);
        let name = match report.namespace.as_str() {
            "" => report.name.clone(),
            namespace => format!("{namespace}/{}", report.name),
        };
        let line = one_line(&format!("{} {name}: {text}", report.resource));
        let now_ms = self.runs.now_ms();
        let mut table = self.runs.lock();
        table.log_fields(self.key, level, None, line, fields, now_ms);
    }
}

fn unkept(error: &std::io::Error) -> Trouble {
    Trouble::Passing(format!("keep what became of the objects: {error}"))
}

impl RestoreSink for TableSink<'_> {
    fn total(&mut self, items: u64) {
        self.counts.total = items;
        self.tell();
    }

    fn item(&mut self, report: ItemReport) {
        self.counts.done += 1;
        self.warnings += report.warnings.len() as u64;
        self.errors += report.errors.len() as u64;
        for text in &report.warnings {
            self.log(&report, LogLevel::Warning, text);
        }
        for text in &report.errors {
            self.log(&report, LogLevel::Error, text);
        }
        if self.failed.is_none() {
            self.failed = self.reports.write(&report).err();
        }
        if self.told.elapsed() >= TELL {
            self.tell();
        }
    }

    fn pod(&mut self, pod: RestoredPod) {
        let now_ms = self.runs.now_ms();
        let made = RestoreEvent::PodMade(made(pod, now_ms, &self.sizes));
        self.runs.tell_restore(self.key, made);
    }
}

/// Logical bytes of the snapshots of the backup that a restore is of.
fn sizes(runs: &Runs, key: &RunKey) -> HashMap<SnapshotId, u64> {
    let table = runs.lock();
    let spec = table.document(key).map(|document| &document.spec);
    let Some(RunSpec::Restore(spec)) = spec else {
        return HashMap::new();
    };
    let Some(backup) = table.document(&RunKey::backup(&spec.from_backup)) else {
        return HashMap::new();
    };
    let tasks = backup.run.tasks.iter();
    tasks
        .filter_map(|task| Some((task.snapshot?, task.progress.bytes_total)))
        .collect()
}

/// The pod with tasks that have ids. `sizes`: logical bytes of snapshots.
pub(super) fn made(pod: RestoredPod, now_ms: i64, sizes: &HashMap<SnapshotId, u64>) -> MadePod {
    let RestoredPod {
        namespace,
        pod,
        uid,
        volumes,
        hooks,
    } = pod;
    let task = |(volume, source, snapshot)| NewTask {
        id: new_task_id(now_ms),
        volume: VolumeRef::new(namespace.clone(), pod.clone(), volume),
        node: String::new(),
        lineage: None,
        snapshot: Some(snapshot),
        place: None,
        source: Some(source),
    };
    let sizes = volumes
        .iter()
        .map(|(_, _, snapshot)| sizes.get(snapshot).copied().unwrap_or_default())
        .collect();
    let tasks = volumes.into_iter().map(task).collect();
    let waits = hooks.iter().map(wait_of).collect();
    let post = hooks.into_iter().map(hook_of).collect();
    MadePod {
        id: PodId {
            namespace: namespace.clone(),
            pod: pod.clone(),
            uid,
        },
        tasks,
        sizes,
        hooks: PodHooks {
            pre: Vec::new(),
            post,
        },
        waits,
    }
}

fn wait_of(hook: &RestoreHook) -> HookWait {
    let timeout = match hook.wait_timeout {
        Duration::ZERO => HOOK_WAIT,
        said => said,
    };
    HookWait {
        timeout,
        ready: hook.wait_for_ready,
    }
}

fn hook_of(hook: RestoreHook) -> Hook {
    Hook {
        name: hook.name,
        container: hook.container,
        command: hook.command,
        on_error: Some(hook.on_error),
        timeout: hook.exec_timeout,
        kill: false,
        source: hook.source,
        phase: HookPhase::Post,
    }
}

#[cfg(test)]
mod tests {
    use orlop_core::hook::{HookSource, OnError};

    use super::*;

    #[test]
    fn a_hook_that_says_nothing_does_not_wait_for_ever() {
        let hook = |wait_timeout| RestoreHook {
            name: "warm".to_owned(),
            source: HookSource::Spec,
            container: "app".to_owned(),
            command: vec!["true".to_owned()],
            on_error: OnError::Continue,
            exec_timeout: Duration::from_secs(30),
            wait_timeout,
            wait_for_ready: true,
        };
        assert_eq!(wait_of(&hook(Duration::ZERO)).timeout, HOOK_WAIT);
        let minute = Duration::from_mins(1);
        let wait = wait_of(&hook(minute));
        assert_eq!((wait.timeout, wait.ready), (minute, true));
    }
}
