//! What the processes of a simulation do: each opens the repository, does one thing after the other, now
//! and then two at once, dies, and begins again without a memory.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use orlop_core::{NoMonitor, SnapshotId};
use tokio_util::sync::CancellationToken;

use super::{
    chance::Chance,
    reader::{read_all, read_one},
    store::{Shared, SimStore},
    system,
    volume::{Files, volume},
    writer::Writing,
};
use crate::{
    clock::sleep,
    collect::CollectOptions,
    config::Config,
    error::{Error, Result},
    keys::KeyRing,
    mark::snapshot_id,
    repository::Repository,
    session::Committer,
    snapshot::SnapshotState,
};

/// Volumes that are backed up.
pub(super) const VOLUMES: u64 = 3;
const YEAR_MS: i64 = 366 * 24 * 3600 * 1000;

/// What all processes share.
pub(super) struct World {
    pub(super) shared: Shared,
    pub(super) config: Config,
    pub(super) keys: KeyRing,
    /// What the volumes hold now.
    pub(super) volumes: Mutex<Vec<Files>>,
}

impl World {
    /// Opens the repository as a new process does.
    pub(super) fn open(&self) -> (Arc<SimStore>, Arc<Repository>) {
        let store = SimStore::new(self.shared.clone());
        let repository = Repository::assemble(
            Arc::clone(&store) as _,
            self.config.clone(),
            self.keys.clone(),
        );
        (store, repository)
    }

    fn note(&self, what: impl FnOnce() -> String) {
        self.shared.lock().watch.note(what);
    }

    fn fail(&self, what: String) {
        self.shared.lock().watch.fail(what);
    }
}

/// Runs one process after the other, each with the same number.
pub(super) async fn run(world: Arc<World>, number: u64, mut chance: Chance, actions: u64) {
    let (mut store, mut repository) = world.open();
    for _ in 0..actions {
        sleep(Duration::from_millis(chance.below(2500))).await;
        if chance.permille(50) {
            let by = chance.one_of(&[-YEAR_MS, YEAR_MS, 60_000]);
            world.note(|| format!("the clock jumps by {by} ms"));
            system::jump(by);
        }
        let calls = chance.permille(300).then(|| chance.between(1, 80));
        store.dies_after(calls);
        let two = chance.permille(150);
        let (first, second) = (chance.fork(), chance.fork());
        let work = async {
            let first = act(&world, &repository, number, first);
            if two {
                let second = act(&world, &repository, number, second);
                futures_util::future::join(first, second).await;
            } else {
                first.await;
            }
        };
        let died = tokio::select! {
            biased;
            () = store.death.notified() => true,
            () = work => false,
        };
        if died || chance.permille(150) {
            world.note(|| format!("process {number} ends (died: {died})"));
            (store, repository) = world.open();
        }
    }
}

/// One thing that a process does.
async fn act(world: &World, repository: &Repository, number: u64, mut chance: Chance) {
    type Work<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;
    let draw = chance.below(100);
    let (what, work): (_, Work<'_>) = match draw {
        0..45 => ("back up", Box::pin(back_up(world, repository, &mut chance))),
        45..55 => (
            "read",
            Box::pin(read_one(repository, &world.shared, &mut chance)),
        ),
        55..60 => (
            "read all",
            Box::pin(read_all(repository, &world.shared, &mut chance)),
        ),
        60..75 => ("forget", Box::pin(forget(world, repository, &mut chance))),
        75..79 => ("rotate", Box::pin(rotate(repository, &mut chance))),
        _ => ("collect", Box::pin(collect(world, repository, &mut chance))),
    };
    world.note(|| format!("process {number}: {what}"));
    let result = work.await;
    world.note(|| match &result {
        Ok(()) => format!("process {number}: {what}: done"),
        Err(error) => format!("process {number}: {what}: {error}"),
    });
    if let Err(error) = result
        && !is_expected(&error)
    {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        world.fail(format!("{what} failed: {error} ({cause:?})"));
    }
}

/// Whether somebody may meet this error though nothing is wrong with the repository.
fn is_expected(error: &Error) -> bool {
    match error {
        Error::Unmarked { source } => is_expected(source),
        Error::Store { .. } | Error::Fenced { .. } | Error::NoSession { .. } | Error::Deposed => {
            true
        }
        _ => false,
    }
}

async fn back_up(world: &World, repository: &Repository, chance: &mut Chance) -> Result<()> {
    let number = chance.below(VOLUMES);
    let files = {
        let mut volumes = world.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        let files = &mut volumes[number as usize];
        files.change(chance);
        files.clone()
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let begun = Writing::begin(repository, &world.shared, chance, volume(number)).await?;
        let session = begun.session();
        match Box::pin(write(begun, &files)).await {
            Err(Error::Fenced { .. } | Error::NoSession { .. }) if attempts < 4 => {}
            Err(error @ Error::Store { .. }) => {
                if chance.permille(500) {
                    repository.end(session).await?;
                }
                return Err(error);
            }
            other => return other,
        }
    }
}

async fn write(mut writing: Writing<'_>, files: &Files) -> Result<()> {
    for done in 1..=files.0.len() {
        writing.pause().await;
        if writing.chance().permille(250) {
            let part = files.first(done);
            writing.commit(&part, SnapshotState::Partial).await?;
        }
    }
    if writing.chance().permille(60) {
        return writing.abandon().await;
    }
    writing.commit(files, SnapshotState::Complete).await?;
    Ok(())
}

async fn forget(world: &World, repository: &Repository, chance: &mut Chance) -> Result<()> {
    let ids: Vec<SnapshotId> = {
        let objects = world.shared.lock();
        let snapshots = objects.watch.state.snapshots.iter();
        snapshots
            .filter_map(snapshot_id)
            .filter(|_| chance.permille(500))
            .collect()
    };
    repository.forget(&ids).await.map(drop)
}

async fn rotate(repository: &Repository, chance: &mut Chance) -> Result<()> {
    if chance.permille(600) {
        repository.begin_epoch().await?;
    }
    let cancel = CancellationToken::new();
    repository.reseal(&NoMonitor, &cancel).await.map(drop)
}

async fn collect(world: &World, repository: &Repository, chance: &mut Chance) -> Result<()> {
    let options = CollectOptions {
        dry_run: chance.permille(50),
        dead_percent: chance.one_of(&[0, 20, 60]),
        budget_bytes: chance.one_of(&[0, 20_000, 1 << 20]),
        max_removed_percent: 100,
        patience: Duration::from_millis(chance.one_of(&[0, 500, 5000])),
        fence_after: Duration::from_millis(chance.one_of(&[0, 2000, 3_600_000])),
    };
    let report = repository
        .collect(options, Arc::new(NoMonitor), CancellationToken::new())
        .await?;
    world.note(|| format!("collected: {report:?}"));
    let mut objects = world.shared.lock();
    objects.watch.tally.rescued += report.rescued_packs;
    objects.watch.tally.moved += report.moved_packs;
    Ok(())
}
