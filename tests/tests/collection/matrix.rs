//! The damage matrix: each kind of object × each kind of damage × each operation, with what is promised.
//!
//! Whatever the cell, two things hold: nothing wrong is ever restored, and once the object is as it was
//! every snapshot restores and a check finds nothing: no operation makes damage worse.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc};

use bytes::Bytes;
use orlop_core::SnapshotId;
use orlop_repository::{
    ObjectStore as _,
    store::{Durability, MemoryStore},
};
use orlop_tests::{Engine, Random, Record, copy_store};

use crate::{all, try_collect};

/// What an operation does in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// It succeeds, and what it gives is right.
    Works,
    /// It fails or reports, and names the object (or its store, where the repository itself is gone).
    Tells,
    /// Either: it depends on whether the operation comes to the damaged part.
    Either,
}

use Promise::{Either, Tells, Works};

const DAMAGES: [&str; 5] = ["truncated", "flipped", "missing", "swapped", "rolled back"];
const OPERATIONS: [&str; 6] = ["open", "snapshots", "restore", "backup", "check", "collect"];

/// What is promised for each operation, in the order of [`OPERATIONS`].
#[allow(
    clippy::match_same_arms,
    reason = "a row for each kind of object, with its own reason"
)]
fn promises(kind: &str, damage: &str) -> [Promise; 6] {
    match (kind, damage) {
        // Without these nothing can be known.
        ("repo.cfg" | "keys", _) => [Tells; 6],
        // A log whose last entries are gone is a log that ends there: only who remembers more can tell, see
        // `a_log_that_was_rolled_back_is_an_alarm_for_who_remembers_it`.
        ("log", "rolled back") => [Works, Works, Works, Works, Either, Works],
        ("log", _) => [Tells; 6],
        // An index is made again from the packs, but what may be missing from it is no garbage.
        ("segment", _) => [Works, Works, Works, Works, Tells, Tells],
        // A backup builds upon what is not lost, or says why not.
        ("data pack", "truncated" | "missing") => [Works, Works, Tells, Works, Tells, Works],
        ("data pack", _) => [Works, Works, Tells, Works, Tells, Either],
        ("meta pack", _) => [Works, Works, Either, Works, Tells, Either],
        ("snapshot", _) => [Works, Works, Tells, Works, Tells, Works],
        ("refset", _) => [Works, Works, Works, Works, Tells, Tells],
        (kind, damage) => panic!("no promise for {kind} that is {damage}"),
    }
}

struct World {
    store: Arc<MemoryStore>,
    volume: tempfile::TempDir,
    snapshots: Vec<(SnapshotId, Record)>,
}

/// Three snapshots, of which none is built upon damage, and one that is forgotten: collection has work.
fn world() -> World {
    let volume = orlop_tests::quick_dir();
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    let mut snapshots = Vec::new();
    for round in 0..4u64 {
        let bytes = Random::new(round).bytes(700 << 10);
        fs::write(volume.path().join(format!("large-{}", round % 3)), bytes).unwrap();
        fs::write(
            volume.path().join(format!("small-{round}")),
            "x".repeat(3000),
        )
        .unwrap();
        let id = engine.backup(volume.path()).snapshot;
        snapshots.push((id, Record::of(volume.path())));
    }
    let (forgotten, _) = snapshots.remove(0);
    engine
        .wait(engine.repository().forget(&[forgotten]))
        .unwrap();
    World {
        store,
        volume,
        snapshots,
    }
}

/// The objects of each kind that matter for the snapshots that are there; of the log not the last entry,
/// whose absence is a rollback.
fn objects(world: &World) -> BTreeMap<&'static str, Vec<String>> {
    let engine = Engine::open(world.store.clone()).unwrap();
    let names: Vec<String> = engine
        .wait(world.store.list(""))
        .unwrap()
        .into_iter()
        .map(|object| object.name)
        .collect();
    let newest = world.snapshots.last().unwrap().0.to_string();
    let of = |prefix: &str| -> Vec<String> {
        let mut of: Vec<String> = names
            .iter()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        if prefix == "log/" {
            of.pop();
            of.drain(..1);
        }
        of
    };
    let of_newest = |prefix: &str| -> Vec<String> {
        of(prefix)
            .into_iter()
            .filter(|name| name.ends_with(&newest))
            .collect()
    };
    // Packs that a snapshot needs, wherever they are damaged: of what the forgotten one has stored, only a
    // part is still needed.
    let needed = |prefix: &str| -> Vec<String> {
        let is_needed = |name: &String| {
            if name.ends_with(".1") {
                return false;
            }
            let copy = copy_store(&*world.store);
            engine.wait(copy.delete(name)).unwrap();
            let report = Engine::open(copy).unwrap().try_check().unwrap();
            report.damage.iter().any(|damage| damage.object == *name)
        };
        of(prefix).into_iter().filter(is_needed).collect()
    };
    BTreeMap::from([
        ("repo.cfg", of("repo.cfg")),
        ("keys", of("keys/")),
        ("log", of("log/").into_iter().step_by(3).collect()),
        ("segment", of("i/")),
        ("data pack", needed("p/")),
        ("meta pack", needed("m/")),
        ("snapshot", of_newest("s/")),
        ("refset", of_newest("r/")),
    ])
}

/// Does the damage; `None` where it makes no sense.
fn harm(store: &MemoryStore, engine: &Engine, kind: &str, name: &str, damage: &str) -> Option<()> {
    let get = |name: &str| engine.wait(store.get(name)).unwrap();
    let whole = get(name);
    let wrong = match damage {
        "truncated" => whole.slice(..whole.len() / 2),
        "flipped" => {
            let mut bytes = whole.to_vec();
            // Where a pack has frames.
            let at = if kind.ends_with("pack") {
                100
            } else {
                bytes.len() / 2
            };
            bytes[at] ^= 4;
            bytes.into()
        }
        "missing" => {
            engine.wait(store.delete(name)).unwrap();
            return Some(());
        }
        "swapped" => {
            let prefix = format!("{}/", name.split('/').next().unwrap());
            let others = engine.wait(store.list(&prefix)).ok()?;
            let other = others.into_iter().find(|other| other.name != name)?;
            get(&other.name)
        }
        // What was there before the last two entries of the log.
        _ if kind == "log" => {
            for entry in engine
                .wait(store.list("log/"))
                .unwrap()
                .iter()
                .rev()
                .take(2)
            {
                engine.wait(store.delete(&entry.name)).unwrap();
            }
            return Some(());
        }
        _ => return None,
    };
    if wrong == whole {
        return None;
    }
    store.overwrite(name, wrong);
    Some(())
}

/// What an operation said: whether all went well, and everything that it told.
fn run(store: &Arc<MemoryStore>, world: &World, operation: &str) -> (bool, String) {
    let engine = match Engine::open(store.clone()) {
        Ok(engine) => engine,
        Err(error) => return (false, chain(&error)),
    };
    let failed = |error: &(dyn std::error::Error + 'static)| (false, chain(error));
    match operation {
        "open" => (true, String::new()),
        "snapshots" => match engine.wait(engine.repository().snapshots()) {
            Ok(_) => (true, String::new()),
            Err(error) => failed(&error),
        },
        "restore" => {
            let mut told = String::new();
            let mut well = true;
            for (id, record) in &world.snapshots {
                let target = orlop_tests::quick_dir();
                match engine.try_restore(*id, &target.path().join("x")) {
                    Ok(report) if report.issues.is_empty() => {
                        orlop_tests::assert_identical(record, &target.path().join("x"));
                    }
                    Ok(report) => {
                        well = false;
                        let _ = write!(told, "{:?}", report.issues);
                    }
                    // A log that was rolled back does not know it.
                    Err(orlop_repository::Error::NoSnapshot { .. }) => {}
                    Err(error) => {
                        well = false;
                        told += &chain(&error);
                    }
                }
            }
            (well, told)
        }
        "backup" => match engine.try_backup(world.volume.path()) {
            Ok(_) => (true, String::new()),
            Err(error) => failed(&error),
        },
        "check" => match engine.try_check() {
            Ok(report) => (report.ok, format!("{:?}", report.damage)),
            Err(error) => failed(&error),
        },
        _ => match try_collect(&engine, all()) {
            Ok(_) => (true, String::new()),
            Err(error) => failed(&error),
        },
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn cell(world: &World, kind: &str, name: &str, damage: &str) {
    for (operation, promise) in OPERATIONS.into_iter().zip(promises(kind, damage)) {
        let store = copy_store(&*world.store);
        let helper = Engine::in_memory();
        let before: BTreeMap<String, Bytes> = {
            let list = helper.wait(store.list("")).unwrap();
            let get = |name: String| {
                let bytes = helper.wait(store.get(&name)).unwrap();
                (name, bytes)
            };
            list.into_iter().map(|object| get(object.name)).collect()
        };
        if harm(&store, &helper, kind, name, damage).is_none() {
            return;
        }
        let what = format!("{operation} with {kind} {name} {damage}");
        let (well, told) = run(&store, world, operation);
        match promise {
            Works => assert!(well, "{what}: {told}"),
            Tells => {
                assert!(!well, "{what} says nothing");
                let named = told.contains(name)
                    || (kind == "repo.cfg" || kind == "keys") && told.contains("memory");
                assert!(named, "{what}: {told}");
            }
            Either => assert!(well || told.contains(name), "{what}: {told}"),
        }
        // As it was: nothing was made worse. A log that was rolled back has gone another way since.
        if damage == "rolled back" {
            continue;
        }
        restore_object(&store, &helper, name, &before[name]);
        let engine = Engine::open(store).unwrap_or_else(|error| panic!("{what}: {error}"));
        for (id, record) in &world.snapshots {
            engine.assert_restores(*id, record);
        }
        engine.assert_sound();
    }
}

fn restore_object(store: &MemoryStore, helper: &Engine, name: &str, bytes: &Bytes) {
    helper.wait(store.delete(name)).unwrap();
    let put = store.put(name, vec![bytes.clone()], Durability::Now);
    helper.wait(put).unwrap();
}

#[test]
fn every_kind_of_damage_keeps_its_promises() {
    let world = world();
    let objects = objects(&world);
    std::thread::scope(|scope| {
        for (kind, names) in &objects {
            assert!(!names.is_empty(), "no {kind}");
            let world = &world;
            scope.spawn(move || {
                // The first and the last of a kind are enough: cells are many.
                let some: Vec<&String> = match names.as_slice() {
                    [one] => vec![one],
                    [first, .., last] => vec![first, last],
                    [] => Vec::new(),
                };
                for name in some {
                    for damage in DAMAGES {
                        cell(world, kind, name, damage);
                    }
                }
            });
        }
    });
}

#[test]
fn a_log_that_was_rolled_back_is_an_alarm_for_who_remembers_it() {
    let world = world();
    let cache = orlop_tests::quick_dir();
    let helper = Engine::in_memory();
    let key = orlop_tests::key_file();
    let open = |store: &Arc<MemoryStore>, cache: &Path| {
        let open = orlop_repository::Repository::open_cached(store.clone(), &key, Some(cache));
        helper.wait(open)
    };
    open(&world.store, cache.path()).unwrap();
    let store = copy_store(&*world.store);
    harm(
        &store,
        &helper,
        "log",
        "log/0000000000000001",
        "rolled back",
    )
    .unwrap();
    let error = open(&store, cache.path()).map(drop).unwrap_err();
    assert!(error.to_string().contains("was rolled back"), "{error}");
    assert!(error.to_string().contains("log/"), "{error}");
    // A machine that has seen nothing sees a shorter log.
    open(&store, orlop_tests::quick_dir().path()).unwrap();
}
