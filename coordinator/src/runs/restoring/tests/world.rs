//! A coordinator with a repository in a directory, a cluster that does what a test says, and an agent that does nothing by
//! itself.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use orlop_core::{
    LocationSpec, RepositorySecret, SnapshotId, TaskId, Timestamp, VolumeRef,
    run::{
        BackupSpec, Event, NewTask, Objects, Outcome, RestoreSpec, Run, RunKind, RunPhase, RunSpec,
        TaskResult,
    },
};
use orlop_proto::v1::{self, agent_command::Command};
use orlop_repository::{
    CommitInfo, Entry, EntryKind, Metadata, Repository, SnapshotState, SnapshotStats, StatRecord,
    WriteOptions, WriteSession, store::Durability,
};
use orlop_runtime::mac::MacKey;
use tempfile::TempDir;
use tokio::{runtime::Handle, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::fake::Fake;
use crate::{
    clock::{Clock, Reading},
    config::{Limits, StoreAccess},
    locations::Locations,
    records::Document,
    runs::{Parts, Refusal, Registration, RunKey, Runs},
};

/// Longer than any limit of a restore.
const PATIENCE: Duration = Duration::from_hours(24);

/// The test's own time.
struct TestClock(Instant);

impl Clock for TestClock {
    fn read(&self) -> Reading {
        let passed = self.0.elapsed();
        Reading {
            now_ms: 1_000_000_000_000 + passed.as_millis() as i64,
            passed,
        }
    }
}

/// The coordinator at work.
pub(super) struct World {
    dir: TempDir,
    clock: Arc<TestClock>,
    pub(super) fake: Arc<Fake>,
    pub(super) runs: Arc<Runs>,
    pub(super) repository: Arc<Repository>,
    shutdown: CancellationToken,
    loops: JoinSet<()>,
    /// Commands to the agent of node `n`.
    commands: Arc<Mutex<Vec<Command>>>,
}

impl World {
    /// A coordinator with an empty repository, and an agent on node `n`.
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(Instant::now()));
        let fake = Arc::new(Fake::default());
        let (runs, repository) = load(dir.path(), &clock, &fake).await;
        let mut world = Self {
            dir,
            clock,
            fake,
            runs,
            repository,
            shutdown: CancellationToken::new(),
            loops: JoinSet::new(),
            commands: Arc::default(),
        };
        world.begin(Vec::new());
        world
    }

    fn begin(&mut self, running: Vec<(TaskId, Vec<u8>)>) {
        self.shutdown = CancellationToken::new();
        let (runs, end) = (&self.runs, &self.shutdown);
        self.loops
            .spawn(Arc::clone(runs).run_scheduler(end.clone()));
        self.loops.spawn(Arc::clone(runs).run_recorder(end.clone()));
        self.loops.spawn(Arc::clone(runs).run_hooks(end.clone()));
        self.loops.spawn(Arc::clone(runs).run_restores(end.clone()));
        let mut connection = runs.connect(Registration {
            node: "n".to_owned(),
            version: String::new(),
            cores: 8,
            volumes: Vec::new(),
            running,
        });
        let (commands, end) = (Arc::clone(&self.commands), end.clone());
        self.loops.spawn(async move {
            while let Some(Some(command)) =
                end.run_until_cancelled(connection.commands.recv()).await
            {
                commands.lock().unwrap().extend(command.command);
            }
        });
    }

    /// Ends the coordinator as a signal would, and starts the next one, whose agent still has `running`.
    pub(super) async fn restart(&mut self, running: Vec<TaskId>) {
        self.shutdown.cancel();
        while let Some(ended) = self.loops.join_next().await {
            ended.unwrap();
        }
        self.commands.lock().unwrap().clear();
        let (runs, repository) = load(self.dir.path(), &self.clock, &self.fake).await;
        (self.runs, self.repository) = (runs, repository);
        let running = running.into_iter().map(|id| (id, Vec::new()));
        self.begin(running.collect());
    }

    /// A finished backup `b` of these volumes with a snapshot each, and one of `lost` that has none any more.
    pub(super) async fn backup(&self, volumes: &[&str], lost: &[&str]) -> Vec<SnapshotId> {
        let mut run = Run::new(RunKind::Backup, "b", "default", 1);
        let mut made = Vec::new();
        for volume in volumes {
            made.push((*volume, self.snapshot(volume).await));
        }
        let bogus = SnapshotId::from_bytes([7; 16]);
        made.extend(lost.iter().map(|volume| (*volume, bogus)));
        let task = |(number, (volume, _)): (u8, &(&str, SnapshotId))| NewTask {
            id: TaskId::from_bytes([number; 16]),
            volume: volume.parse().unwrap(),
            node: "n".to_owned(),
            lineage: None,
            snapshot: None,
            place: None,
            source: None,
        };
        let planned = Event::Planned {
            tasks: (1..).zip(&made).map(task).collect(),
            skipped: 0,
            pods: Vec::new(),
            objects: Some(Objects { total: 1, done: 1 }),
        };
        let _ = run.apply(planned, 2);
        for (number, (_, snapshot)) in (1..).zip(&made) {
            let task = TaskId::from_bytes([number; 16]);
            let _ = run.apply(Event::Assigned { task }, 3);
            let outcome = completed(*snapshot);
            let _ = run.apply(Event::Finished { task, outcome }, 4);
        }
        let _ = run.apply(Event::Recorded, 5);
        assert_eq!(run.phase, RunPhase::Completed);
        let key = RunKey::backup("b");
        {
            let mut table = self.runs.lock();
            let spec = RunSpec::Backup(BackupSpec::default());
            table.insert(Document::new(spec, run), 0);
            table.save(&key);
        }
        let name = "backups/b/b.tar.gz";
        let sealed = self.repository.seal_artifact(name, b"objects").unwrap();
        self.put(name, sealed).await;
        let object = br#"{"apiVersion": "velero.io/v1", "kind": "Backup", "metadata": {"name": "b"}, "spec": {}}"#;
        self.put("backups/b/velero-backup.json", object.to_vec())
            .await;
        made.into_iter().map(|(_, snapshot)| snapshot).collect()
    }

    async fn put(&self, name: &str, bytes: Vec<u8>) {
        let store = self.runs.locations().artifacts("default").unwrap();
        let put = store.put(name, vec![bytes.into()], Durability::Now).await;
        put.unwrap();
    }

    /// An artifact as clients read it.
    pub(super) async fn artifact(&self, name: &str) -> Vec<u8> {
        let store = self.runs.locations().artifacts("default").unwrap();
        let read = crate::artifacts::read(&*store, &self.repository, name).await;
        read.unwrap().to_vec()
    }

    async fn snapshot(&self, volume: &str) -> SnapshotId {
        let repository = Arc::clone(&self.repository);
        let volume: VolumeRef = volume.parse().unwrap();
        let handle = Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let lineage = volume.default_lineage();
            let session = WriteSession::open(
                Arc::clone(&repository) as _,
                Arc::clone(repository.store()),
                volume,
                lineage,
                WriteOptions::default(),
                handle,
                CancellationToken::new(),
            );
            let session = session.unwrap();
            let mut manifest = session.manifest().unwrap();
            let (entry, record) = root();
            manifest.push(&entry, &record).unwrap();
            let info = CommitInfo {
                time_ms: 1,
                node: String::new(),
                backup: "b".to_owned(),
                tags: Vec::new(),
                state: SnapshotState::Complete,
                stats: SnapshotStats::default(),
            };
            session.commit(manifest, info).unwrap().0
        });
        made.await.unwrap()
    }

    /// Asks for the restore `r` of backup `b`.
    pub(super) async fn create(&self, object: &str) -> Result<Document, Refusal> {
        let spec = RestoreSpec {
            from_backup: "b".to_owned(),
            velero_object: object.to_owned(),
            ..RestoreSpec::default()
        };
        let created = self.runs.create("r".to_owned(), "", RunSpec::Restore(spec));
        Ok(created.await?.0)
    }

    /// The restore `r` as it is.
    pub(super) fn run(&self) -> Run {
        self.runs.get(&key()).unwrap().run
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        let known = || (self.runs.get(&key()), self.calls());
        assert!(waited.is_ok(), "{what}: {:#?}", known());
    }

    /// Waits until the restore has ended.
    pub(super) async fn ended(&self) -> Run {
        self.until("it ends", |world| world.run().phase.is_final())
            .await;
        self.run()
    }

    /// Waits until the agent was told to begin so many tasks, and returns what it was told last of each.
    pub(super) async fn started(&self, count: usize) -> Vec<v1::StartTask> {
        self.until("tasks begin", |world| world.starts().len() >= count)
            .await;
        self.starts()
    }

    fn starts(&self) -> Vec<v1::StartTask> {
        let commands = self.commands.lock().unwrap();
        let start = |command: &Command| match command {
            Command::Start(start) => Some(start.clone()),
            _ => None,
        };
        commands.iter().filter_map(start).collect()
    }

    /// Whether the agent was told to stop a task.
    pub(super) fn stopped(&self) -> bool {
        let commands = self.commands.lock().unwrap();
        commands.iter().any(|it| matches!(it, Command::Cancel(_)))
    }

    /// A task has ended on node `n`.
    pub(super) fn finish(&self, start: &v1::StartTask, outcome: Outcome) {
        let task = start.task_id.parse().unwrap();
        self.runs.finished("n", task, outcome);
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.fake.script().calls.clone()
    }

    /// The lines of the restore's log.
    pub(super) fn log(&self) -> Vec<String> {
        let (lines, _) = self.runs.log(&key(), 0).unwrap();
        lines.into_iter().map(|line| line.message).collect()
    }
}

/// The key of the restore.
pub(super) fn key() -> RunKey {
    RunKey::new(RunKind::Restore, "r")
}

async fn load(
    dir: &Path,
    clock: &Arc<TestClock>,
    fake: &Arc<Fake>,
) -> (Arc<Runs>, Arc<Repository>) {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    let locations = Locations::load(&dir.join("data"), None, None, Arc::clone(&clock)).unwrap();
    if locations.names().is_empty() {
        let store = dir.join("store");
        std::fs::create_dir_all(&store).unwrap();
        let spec = LocationSpec {
            url: store.to_str().unwrap().to_owned(),
            unlock: Some(RepositorySecret::KeyFile(vec![7; 32])),
            is_default: true,
            repository_path: "kopia/orlop".to_owned(),
            ..LocationSpec::default()
        };
        locations.create("default".to_owned(), spec).await.unwrap();
    }
    let checked = locations.check("default", false).await.unwrap();
    let repository = checked.repository.expect("it can be opened");
    let parts = Parts {
        cluster: Arc::clone(fake) as _,
        locations: Arc::new(locations),
        store_access: StoreAccess::Gateway,
        own_node: None,
        context_key: MacKey::derive(b"secret", "test"),
        spool_dir: dir.join("data/spool"),
        limits: Limits::default(),
        clock,
    };
    let runs = Runs::load(parts, &dir.join("data/state.db")).unwrap();
    (Arc::new(runs), repository)
}

fn root() -> (Entry, StatRecord) {
    let time = Timestamp::new(1, 0);
    let entry = Entry::bare(Vec::new(), EntryKind::Directory, Metadata::default());
    let record = StatRecord {
        kind: EntryKind::Directory,
        racy: false,
        ino: 1,
        size: 0,
        mtime: time,
        ctime: time,
    };
    (entry, record)
}

/// A task that has done all.
pub(super) fn completed(snapshot: SnapshotId) -> Outcome {
    Outcome::Completed(TaskResult {
        snapshot,
        logical_bytes: 5,
        transferred_bytes: 5,
        entries: 1,
        warnings: 0,
        errors: 0,
    })
}
