//! Damage of every kind: a check says what it hits, a repair saves what is whole and marks the rest, the next backup
//! stores again what is still there, and a repair that is cut short is finished by the next.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "repair/coverage.rs"]
mod coverage;
#[path = "repair/crash.rs"]
mod crash;
#[path = "repair/kinds.rs"]
mod kinds;
#[path = "repair/parents.rs"]
mod parents;

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use orlop_core::{NoMonitor, SnapshotId};
use orlop_repository::{
    CheckOptions, CheckReport, ObjectStore as _, RepairOptions, RepairReport, Result,
    SnapshotState, store::MemoryStore,
};
use orlop_tests::{Engine, Random};
use tokio_util::sync::CancellationToken;

/// A volume of some directories with files of several sizes.
fn fill(volume: &Path) {
    for n in 0..8_u64 {
        let dir = volume.join(format!("dir-{n}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("large"), Random::new(n).bytes(400 << 10)).unwrap();
        for small in 0..5_u64 {
            let bytes = Random::new(100 + n * 10 + small).bytes(3000);
            fs::write(dir.join(format!("small-{small}")), bytes).unwrap();
        }
    }
}

/// Many files, so that the manifest has several leaves.
fn fill_many(volume: &Path) {
    for n in 0..30 {
        let dir = volume.join(format!("dir-{n:02}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..100 {
            // Small enough to be in the manifest itself.
            let bytes = Random::new(n * 1000 + file).bytes(90);
            fs::write(dir.join(format!("file-{file:03}")), bytes).unwrap();
        }
    }
}

fn repair_options(dry_run: bool) -> RepairOptions {
    RepairOptions {
        dry_run,
        read: Some(orlop_repository::Sample::All),
        ..RepairOptions::default()
    }
}

fn try_repair(engine: &Engine, options: RepairOptions) -> Result<RepairReport> {
    let repair = engine
        .repository()
        .repair(options, Arc::new(NoMonitor), CancellationToken::new());
    engine.wait(repair)
}

fn repair(engine: &Engine) -> RepairReport {
    try_repair(engine, repair_options(false)).unwrap()
}

fn check(engine: &Engine, options: CheckOptions) -> CheckReport {
    let check = engine
        .repository()
        .check(options, Arc::new(NoMonitor), CancellationToken::new());
    engine.wait(check).unwrap()
}

fn names(engine: &Engine, prefix: &str) -> Vec<String> {
    let objects = engine.wait(engine.store().list(prefix)).unwrap();
    objects.into_iter().map(|object| object.name).collect()
}

/// Flips a byte of an object.
fn flip(engine: &Engine, store: &MemoryStore, name: &str, place: impl Fn(usize) -> usize) {
    let mut bytes = engine.wait(store.get(name)).unwrap().to_vec();
    let place = place(bytes.len());
    bytes[place] ^= 1;
    store.overwrite(name, Bytes::from(bytes));
}

fn cut(engine: &Engine, store: &MemoryStore, name: &str, len: impl Fn(usize) -> usize) {
    let bytes = engine.wait(store.get(name)).unwrap();
    store.overwrite(name, bytes.slice(..len(bytes.len())));
}

fn state_of(engine: &Engine, id: SnapshotId) -> SnapshotState {
    let all = engine.wait(engine.repository().snapshots()).unwrap();
    all.iter().find(|info| info.id == id).unwrap().state
}
