//! A model of everything that writers, readers, collectors, the store and the network may do to each
//! other, small enough to visit all of it.
//!
//! The model's processes do what the real ones do, one shared action a step, and their entries go through
//! [`LogState::check`](super::LogState::check) and [`apply`](super::LogState::apply), the same that the
//! real log uses. Objects are names, chunks are bits. Between any two steps of a process any step of
//! another may come; a process may die; a request may be repeated, and its second may arrive at any time
//! later, or the first after its sender's death. After each step the promises of `promises.rs` are proven,
//! and where nothing more can happen, that no garbage is left.
//!
//! `cargo test --release -p orlop-repository model -- --nocapture` prints how many states were visited;
//! `ORLOP_MODEL=large` allows more of everything, and `ORLOP_MODEL=trace` prints how each seeded
//! mistake leads to a loss.

mod collector;
mod explore;
mod promises;
mod reader;
mod repairer;
mod resealer;
mod setup;
mod shared;
mod world;
mod writer;

use std::hash::Hash;

use collector::Collector;
use explore::{Found, Order, explore};
use reader::Reader;
use repairer::Repairer;
use resealer::Resealer;
use setup::{Bug, Setup};
use shared::Shared;
use world::World;
use writer::Writer;

use super::{BeginBody, Body, CommitBody, ForgetBody};

const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 4;

/// A repository with a snapshot of volume `v` that needs A, and a forgotten one of `w` that needed B.
/// Both chunks lie in packs of their own, or in one pack.
fn begun(setup: Setup, one_pack: bool) -> World {
    let mut world = World::new(setup);
    let packs: [(&str, u8); 2] = if one_pack {
        [("p/0.1", A | B), ("p/0.1", A | B)]
    } else {
        [("p/0.1", A), ("p/0.3", B)]
    };
    for ((volume, ids), (pack, held)) in [("v", A), ("w", B)].into_iter().zip(packs) {
        let session = world.expect(Body::Begin(BeginBody {
            volume: volume.to_owned(),
            ..BeginBody::default()
        }));
        world.make(pack, held);
        world.put(pack);
        let segment = format!("i/0.{session}");
        world.put_segment(&segment, vec![pack.to_owned()]);
        let snapshot = format!("s/{volume}/{session}x0");
        world.make(&snapshot, ids);
        world.put(&snapshot);
        world.expect(Body::Commit(CommitBody {
            session,
            refset: format!("r{}", &snapshot[1..]),
            snapshot,
            segments: vec![segment],
            partial: false,
        }));
    }
    world.expect(Body::Forget(ForgetBody {
        snapshots: vec!["s/w/3x0".to_owned()],
    }));
    assert!(world.fault.is_none());
    world
}

fn shared<T: Hash + Clone>(processes: impl IntoIterator<Item = T>) -> Vec<Shared<T>> {
    processes.into_iter().map(Shared::new).collect()
}

fn report(name: &str, found: &Found) {
    println!(
        "{name}: {} states, {} steps between them, {} ends, longest way {}",
        found.states, found.steps, found.ends, found.longest
    );
    if let Some(broken) = &found.broken {
        println!("{broken}");
    }
}

fn holds(name: &str, world: &World) {
    let found = explore(world, Order::Deep);
    report(name, &found);
    assert!(found.broken.is_none(), "{name}: a promise is broken");
}

/// Whether the environment asks for this.
fn asked(what: &str) -> bool {
    std::env::var("ORLOP_MODEL").is_ok_and(|v| v.split(',').any(|word| word == what))
}

/// More of something where the environment asks for a large world.
fn and_more(few: u8, more: u8) -> u8 {
    if asked("large") { few + more } else { few }
}

#[test]
fn model_two_volumes() {
    let mut world = begun(Setup::default(), false);
    world.writers = shared([Writer::new("w", B, 1), Writer::new("v", A | B, 1)]);
    world.collectors = shared([Collector::new(1)]);
    world.forgets = 1;
    world.crashes = 1;
    world.duplicates = and_more(0, 1);
    holds("two volumes", &world);
}

#[test]
fn model_one_volume() {
    let mut world = begun(Setup::default(), false);
    world.writers = shared([
        Writer::new("w", C, and_more(1, 1)),
        Writer::new("w", B | C, 1),
    ]);
    world.collectors = shared([Collector::new(1)]);
    world.crashes = 1;
    world.duplicates = and_more(0, 1);
    holds("one volume", &world);
}

#[test]
fn model_adoption() {
    let mut world = begun(Setup::default(), false);
    world.writers = shared([Writer::new("w", C, 3)]);
    world.collectors = shared([Collector::new(and_more(1, 1))]);
    world.crashes = 2;
    world.duplicates = and_more(0, 1);
    holds("adoption", &world);
}

#[test]
fn model_late_requests() {
    let mut world = begun(Setup::default(), false);
    world.writers = shared([Writer::new("w", B | C, 2)]);
    world.collectors = shared([Collector::new(2)]);
    world.crashes = and_more(0, 1);
    world.duplicates = 2;
    holds("late requests", &world);
}

#[test]
fn model_checkpoints() {
    let setup = Setup {
        checkpoints: true,
        ..Setup::default()
    };
    let mut world = begun(setup, false);
    world.writers = shared([Writer::new("w", B | C, 2)]);
    world.collectors = shared([Collector::new(and_more(1, 1))]);
    world.crashes = 1;
    world.duplicates = and_more(0, 1);
    world.forgets = 1;
    holds("checkpoints", &world);
}

#[test]
fn model_readers() {
    let setup = Setup {
        read_all: true,
        ..Setup::default()
    };
    let mut world = begun(setup, false);
    world.writers = shared([Writer::new("w", B, 1)]);
    world.readers = shared([Reader::new(and_more(1, 1))]);
    world.collectors = shared([Collector::new(1)]);
    world.forgets = 2;
    world.crashes = 1;
    holds("readers", &world);
}

#[test]
fn model_collectors() {
    let setup = Setup {
        repack: true,
        fences: asked("large"),
        ..Setup::default()
    };
    let mut world = begun(setup, true);
    world.writers = shared([Writer::new("w", B, 1)]);
    world.collectors = shared([Collector::new(1), Collector::new(1)]);
    world.forgets = 1;
    world.crashes = 1;
    world.duplicates = and_more(0, 1);
    holds("collectors", &world);
}

#[test]
fn model_everything() {
    let mut world = begun(Setup::default(), true);
    world.writers = shared([Writer::new("w", B, 1), Writer::new("v", A, 1)]);
    world.readers = shared([Reader::new(and_more(0, 1))]);
    world.collectors = shared([Collector::new(1), Collector::new(1)]);
    world.forgets = and_more(0, 1);
    holds("everything", &world);
}

#[test]
fn model_rotation() {
    let mut world = begun(Setup::default(), false);
    world.writers = shared([Writer::new("w", B, 1)]);
    world.readers = shared([Reader::new(and_more(0, 1))]);
    world.collectors = shared([Collector::new(1)]);
    world.resealers = shared([Resealer::new(2)]);
    world.forgets = 1;
    world.crashes = 1;
    world.duplicates = and_more(0, 1);
    holds("rotation", &world);
}

#[test]
fn model_two_rotations() {
    let setup = Setup {
        fences: true,
        ..Setup::default()
    };
    let mut world = begun(setup, false);
    world.collectors = shared([Collector::new(and_more(1, 1))]);
    world.resealers = shared([Resealer::new(1), Resealer::new(1)]);
    world.forgets = 1;
    world.crashes = and_more(0, 1);
    world.duplicates = 1;
    holds("two rotations", &world);
}

/// A world in which the pack of chunk A is lost.
fn damaged(setup: Setup) -> World {
    let mut world = begun(setup, false);
    world.lost_pack = Some("p/0.1");
    world.store.edit(|store| store.remove("p/0.1"));
    world
}

#[test]
fn model_repair() {
    let mut world = damaged(Setup::default());
    world.writers = shared([Writer::new("v", A | C, 2), Writer::new("w", A, 1)]);
    world.repairers = shared([Repairer::new(1)]);
    world.crashes = and_more(0, 1);
    holds("repair", &world);
}

#[test]
fn model_repair_that_dies() {
    let mut world = damaged(Setup::default());
    world.writers = shared([Writer::new("v", A, and_more(2, 1))]);
    world.repairers = shared([Repairer::new(2)]);
    world.crashes = 1;
    holds("repair that dies", &world);
}

#[test]
fn model_repair_beside_a_collection() {
    let setup = Setup {
        checkpoints: true,
        ..Setup::default()
    };
    let mut world = damaged(setup);
    world.writers = shared([Writer::new("v", A | B, 1)]);
    world.repairers = shared([Repairer::new(1)]);
    world.collectors = shared([Collector::new(1)]);
    world.forgets = and_more(0, 1);
    holds("repair beside a collection", &world);
}

#[test]
fn model_repair_beside_a_rotation() {
    let mut world = damaged(Setup::default());
    world.writers = shared([Writer::new("v", A, 1)]);
    world.repairers = shared([Repairer::new(1)]);
    world.resealers = shared([Resealer::new(1)]);
    holds("repair beside a rotation", &world);
}

/// Asserts that the model shows what comes of a repairer's mistake.
#[track_caller]
fn repair_finds(bug: Bug) {
    let mut world = damaged(Setup {
        bug: Some(bug),
        ..Setup::default()
    });
    world.writers = shared([Writer::new("w", A, 1)]);
    world.repairers = shared([Repairer::new(1)]);
    let found = explore(&world, Order::Broad);
    let broken = found
        .broken
        .unwrap_or_else(|| panic!("{bug:?} was not found"));
    assert!(broken.what.contains("lost chunks") || broken.what.contains("lacks chunks"));
}

#[test]
fn model_finds_a_repair_that_does_not_wait() {
    repair_finds(Bug::NoWait);
}

#[test]
fn model_finds_a_repair_that_marks_only_once() {
    repair_finds(Bug::MarksOnce);
}

/// A world in which a mistake of this kind breaks a promise.
fn mistaken(bug: Bug) -> World {
    let setup = Setup {
        bug: Some(bug),
        repack: bug == Bug::Zombie,
        ..Setup::default()
    };
    let mut world = begun(setup, bug == Bug::Zombie);
    world.collectors = shared([Collector::new(1)]);
    match bug {
        Bug::Zombie => world.collectors = shared([Collector::new(1), Collector::new(1)]),
        Bug::IgnoresAdoption => world.writers = shared([Writer::new("w", C, 2)]),
        Bug::ResealsAlone => world.resealers = shared([Resealer::new(1)]),
        Bug::NoPins => {
            world.readers = shared([Reader::new(1)]);
            world.forgets = 1;
        }
        _ => world.writers = shared([Writer::new("w", B, 1)]),
    }
    world
}

/// Asserts that the model shows what comes of a mistake.
#[track_caller]
fn finds(bug: Bug, expected: &str) {
    let found = explore(&mistaken(bug), Order::Broad);
    if asked("trace") {
        report(&format!("{bug:?}"), &found);
    }
    let broken = found
        .broken
        .unwrap_or_else(|| panic!("{bug:?} was not found"));
    assert!(broken.what.contains(expected), "{bug:?}: {broken}");
}

#[test]
fn model_finds_a_collector_that_does_not_wait() {
    finds(Bug::NoWait, "relies on lost chunks");
}

#[test]
fn model_finds_a_collector_that_does_not_mark_again() {
    finds(Bug::NoRemark, "lacks chunks");
}

#[test]
fn model_finds_a_rescue_that_comes_too_late() {
    finds(Bug::LateRescue, "lacks chunks");
}

#[test]
fn model_finds_a_deletion_that_comes_too_early() {
    finds(Bug::EarlyDelete, "the index names p/0.3, which is gone");
}

#[test]
fn model_finds_a_zombie_that_tries_again() {
    finds(Bug::Zombie, "which is gone");
}

#[test]
fn model_finds_a_writer_that_builds_upon_condemned_packs() {
    finds(Bug::UsesCondemned, "relies on lost chunks");
}

#[test]
fn model_finds_a_collector_that_ignores_adoption() {
    finds(Bug::IgnoresAdoption, "relies on lost chunks");
}

#[test]
fn model_finds_a_reader_that_pins_nothing() {
    finds(Bug::NoPins, "cannot read");
}

#[test]
fn model_finds_objects_that_are_sealed_anew_while_nobody_waits() {
    finds(Bug::ResealsAlone, "an object that may be needed");
}
