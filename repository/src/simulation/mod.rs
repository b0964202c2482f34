//! A simulation of the real code: several processes with real repositories, packs, segments, pages and log
//! entries share a store behind a bad network, die and begin again. One number decides everything that
//! happens, so that what went wrong once can be looked at again and again.
//!
//! After each change of the store that matters its promises are proven without asking any process
//! (`watch.rs`); at the end every snapshot is read to the byte, and when all is quiet no garbage may be
//! left (`verify.rs`).
//!
//! `ORLOP_SEEDS=n` runs so many seeds, `ORLOP_SEED=n` one and prints what happens:
//! `ORLOP_SEED=42 cargo test --release --workspace --lib simulation_of_seeds -- --nocapture`.

mod chance;
mod process;
mod reader;
mod store;
pub(crate) mod system;
mod verify;
mod volume;
mod watch;
mod writer;

use std::{
    ops::Range,
    panic::catch_unwind,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use chance::Chance;
use process::{VOLUMES, World};
use store::{LONGEST, Shared, Weather};
use volume::Files;
use watch::Watch;

use crate::{
    clock::sleep,
    config::{self, ChunkProfile, Config},
    error::Result,
    keys::KeyRing,
    mistake::{self, Mistake},
    secret::Key,
};

/// What a run was.
#[derive(Debug, Default, Clone, Copy)]
struct Run {
    digest: u64,
    tally: watch::Tally,
}

fn weather(chance: &mut Chance) -> Weather {
    match chance.below(4) {
        0 => Weather::default(),
        1 => Weather {
            slow: 100,
            doubled: 100,
            ..Weather::default()
        },
        2 => Weather {
            lost: 4,
            unanswered: 4,
            overtaken: 4,
            retried: 10,
            doubled: 20,
            slow: 20,
        },
        _ => Weather {
            lost: 15,
            unanswered: 15,
            overtaken: 15,
            retried: 20,
            doubled: 50,
            slow: 50,
        },
    }
}

/// Epochs of keys that there may be.
const EPOCHS: u8 = 6;

/// Longest time that a simulation may take, by its own clock.
const LIMIT: Duration = Duration::from_hours(24);

/// One simulation; what broke, or what happened.
fn simulate(seed: u64, mistake: Option<Mistake>, print: bool) -> std::result::Result<Run, String> {
    mistake::seed(mistake);
    let ended = catch_unwind(|| system::run(seed, LIMIT, run(seed, print)));
    mistake::seed(None);
    match ended {
        Ok(Ok(Ok(run))) => run,
        Ok(Ok(Err(error))) => Err(format!("the last look failed: {error}")),
        Ok(Err(stuck)) => Err(stuck),
        Err(_) => Err("it panicked, see above".to_owned()),
    }
}

async fn run(seed: u64, print: bool) -> Result<std::result::Result<Run, String>> {
    let mut chance = Chance::new(seed ^ 0x6f72_6c6f_7021);
    // Of more epochs than the log tells of: a rotation makes the next one current.
    let roots = (7..7 + EPOCHS).map(|n| Key::from_bytes([n; 32]));
    let keys = KeyRing::with_roots(roots.collect());
    let weather = weather(&mut chance);
    let watch = Watch::new(keys.clone(), print);
    let shared = Shared::new(watch, weather, chance.fork());
    let profile = ChunkProfile::GENERAL;
    let world = Arc::new(World {
        shared: shared.clone(),
        config: Config {
            format: config::FORMAT,
            id: vec![1; 16],
            read_public_key: keys.first_public().to_vec(),
            suite: 1,
            chunk_min: profile.min,
            chunk_avg: profile.avg,
            chunk_max: profile.max,
            pack_bytes: 30_000,
            ..Config::default()
        },
        keys,
        volumes: Mutex::new(vec![Files::default(); VOLUMES as usize]),
    });
    let processes = chance.between(1, 4);
    let actions = chance.between(3, 8);
    let mut tasks = Vec::new();
    for number in 0..processes {
        let work = process::run(Arc::clone(&world), number, chance.fork(), actions);
        let (done, end) = oneshot::channel();
        tasks.push(end);
        system::spawn(async move {
            work.await;
            // Whoever waited for it is gone only if the simulation is over.
            let _ = done.send(());
        });
    }
    join_all(tasks).await;
    // What is still on its way arrives.
    sleep(LONGEST * 2).await;
    shared.lock().weather = Weather::default();
    let fault = || shared.lock().watch.fault.clone();
    if let Some(fault) = fault() {
        return Ok(Err(fault));
    }
    let (_, repository) = world.open();
    if let Some(what) = verify::verify(&world, &repository).await? {
        return Ok(Err(what));
    }
    if let Some(what) = verify::sweep(&world, &repository).await? {
        return Ok(Err(what));
    }
    let (_, repository) = world.open();
    if let Some(what) = verify::verify(&world, &repository).await? {
        return Ok(Err(format!("after the last collection: {what}")));
    }
    if let Some(fault) = fault() {
        return Ok(Err(fault));
    }
    let objects = shared.lock();
    Ok(Ok(Run {
        digest: objects.watch.digest(),
        tally: objects.watch.tally,
    }))
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn fail(seed: u64, what: &str) -> ! {
    panic!(
        "seed {seed}: {what}\nrun it again with ORLOP_SEED={seed} cargo test --release --workspace --lib simulation_of_seeds -- --nocapture"
    );
}

/// Runs seeds on all processors; the lowest one that broke, and how much happened.
fn simulate_all(seeds: Range<u64>) -> (Option<(u64, String)>, watch::Tally) {
    let next = AtomicU64::new(seeds.start);
    let broken: Mutex<Option<(u64, String)>> = Mutex::default();
    let total = Mutex::new(watch::Tally::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match simulate(seed, None, false) {
                Ok(run) => total.lock().unwrap().add(&run.tally),
                Err(what) => {
                    let mut broken = broken.lock().unwrap();
                    if broken.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                        *broken = Some((seed, what));
                    }
                    // Those below are on their way already.
                    next.store(seeds.end, Ordering::Relaxed);
                    return;
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    (broken.into_inner().unwrap(), total.into_inner().unwrap())
}

/// Seeds that are tried unless `ORLOP_SEEDS` says otherwise.
const SEEDS: u64 = 2000;

#[test]
fn simulation_of_seeds() {
    if let Some(seed) = number("ORLOP_SEED") {
        match simulate(seed, None, true) {
            Ok(run) => println!("{run:?}"),
            Err(what) => fail(seed, &what),
        }
        return;
    }
    let first = number("ORLOP_FIRST_SEED").unwrap_or(0);
    let seeds = number("ORLOP_SEEDS").unwrap_or(SEEDS);
    let (broken, total) = simulate_all(first..first + seeds);
    if let Some((seed, what)) = broken {
        fail(seed, &what);
    }
    println!("{seeds} seeds: {total:?}");
}

/// Seeds that showed mistakes of ours when they were tried first. What they do changes with the code; what
/// they showed is among what all seeds look for.
const MENDED: [(u64, &str); 3] = [
    (
        34,
        "a snapshot was forgotten before its reader's session began",
    ),
    (
        446,
        "an overtaken collector marked what others had collected",
    ),
    (
        863,
        "a writer that was shut out missed its segments when it committed",
    ),
];

#[test]
fn simulation_of_seeds_that_failed_once() {
    for (seed, why) in MENDED {
        if let Err(what) = simulate(seed, None, false) {
            fail(seed, &format!("{what} ({why})"));
        }
    }
}

#[test]
fn simulation_is_determined_by_its_seed() {
    for seed in 0..20 {
        let digests = [false; 2].map(|print| match simulate(seed, None, print) {
            Ok(run) => run.digest,
            Err(what) => fail(seed, &what),
        });
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

/// Seeds of which one must show a mistake; a tenth or less has always been enough.
const MISTAKEN: u64 = 2000;

/// Runs seeds until one shows `mistake` as the loss of something: a request that fails is not enough.
fn finds(mistake: Mistake) {
    for seed in 0..MISTAKEN {
        let losses = ["lacks chunk", "is gone", "will be deleted", "is lost"];
        if let Err(what) = simulate(seed, Some(mistake), false)
            && losses.iter().any(|loss| what.contains(loss))
        {
            println!("{mistake:?} is found by seed {seed}: {what}");
            return;
        }
    }
    panic!("{mistake:?} was not found in {MISTAKEN} seeds");
}

#[test]
fn simulation_finds_a_collector_that_does_not_wait() {
    finds(Mistake::NoWait);
}

#[test]
fn simulation_finds_a_collector_that_does_not_mark_again() {
    finds(Mistake::NoRemark);
}

#[test]
fn simulation_finds_a_rescue_that_comes_too_late() {
    finds(Mistake::LateRescue);
}

#[test]
fn simulation_finds_a_deletion_that_comes_too_early() {
    finds(Mistake::EarlyDelete);
}

#[test]
fn simulation_finds_a_zombie_that_tries_again() {
    finds(Mistake::Zombie);
}
