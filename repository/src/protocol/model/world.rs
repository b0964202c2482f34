//! The log, the store, and what is on its way between them and the processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    rc::Rc,
};

use super::{
    collector::Collector,
    explore::{Explored, Step},
    reader::Reader,
    repairer::Repairer,
    resealer::Resealer,
    setup::{Bug, Setup},
    shared::Shared,
    writer::Writer,
};
use crate::protocol::{Body, ForgetBody, LogState, Standing, state::session_of};

/// A set of chunks: bit n for chunk n.
pub(super) type Ids = u8;

/// What objects hold. A name never stands for two things.
#[derive(Debug, Clone, Default, Hash)]
pub(super) struct Contents {
    /// Chunks of packs, and what snapshots need.
    pub(super) ids: BTreeMap<String, Ids>,
    /// Packs that index segments name.
    pub(super) packs: BTreeMap<String, Vec<String>>,
}

/// A request whose sender does not wait for it any more. It may take effect at any time, or never.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Flying {
    Put(String),
    Delete(Vec<String>),
    /// An entry of the log, and its number.
    Append(u64, Entry),
}

/// A body with an order of no meaning, so that requests can be sorted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry(pub(super) Body);

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        format!("{self:?}").cmp(&format!("{other:?}"))
    }
}

/// One state of everything.
#[derive(Clone)]
pub(super) struct World {
    pub(super) setup: Rc<Setup>,
    pub(super) log: Shared<LogState>,
    pub(super) contents: Shared<Contents>,
    /// Names of objects that exist.
    pub(super) store: Shared<BTreeSet<String>>,
    pub(super) flying: Vec<Flying>,
    pub(super) writers: Vec<Shared<Writer>>,
    pub(super) readers: Vec<Shared<Reader>>,
    pub(super) collectors: Vec<Shared<Collector>>,
    pub(super) resealers: Vec<Shared<Resealer>>,
    pub(super) repairers: Vec<Shared<Repairer>>,
    /// A pack that is not in the store though the index names it.
    pub(super) lost_pack: Option<&'static str>,
    /// How many snapshots may still be forgotten.
    pub(super) forgets: u8,
    /// How often a process may still die, an answer be lost.
    pub(super) crashes: u8,
    /// How many requests may still be repeated, the second of them late.
    pub(super) duplicates: u8,
    /// A promise that the last step broke.
    pub(super) fault: Option<String>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.log.hash(state);
        self.contents.hash(state);
        self.store.hash(state);
        self.flying.hash(state);
        self.writers.hash(state);
        self.readers.hash(state);
        self.collectors.hash(state);
        self.resealers.hash(state);
        self.repairers.hash(state);
        [self.forgets, self.crashes, self.duplicates].hash(state);
        self.fault.is_some().hash(state);
    }
}

/// Collects the steps that lead on from a state.
pub(super) struct Steps<'w> {
    from: &'w World,
    trace: bool,
    found: Vec<Step<World>>,
}

impl<'w> Steps<'w> {
    pub(super) fn new(from: &'w World, trace: bool) -> Self {
        Self {
            from,
            trace,
            found: Vec::new(),
        }
    }

    /// The first that was added.
    pub(super) fn into_first(self) -> Option<World> {
        self.found.into_iter().next().map(|step| step.world)
    }

    /// The state before the step.
    pub(super) fn from(&self) -> &'w World {
        self.from
    }

    /// Whether labels are wanted.
    pub(super) fn trace(&self) -> bool {
        self.trace
    }

    /// Adds a step.
    pub(super) fn add(&mut self, label: impl FnOnce() -> String, change: impl FnOnce(&mut World)) {
        let mut world = self.from.clone();
        change(&mut world);
        world.settle();
        let next = world.log.next;
        // Nobody will make room in the log for an entry that came too late.
        world
            .flying
            .retain(|flying| !matches!(flying, Flying::Append(at, _) if *at != next));
        world.flying.sort_unstable();
        let label = if self.trace { label() } else { String::new() };
        self.found.push(Step { label, world });
    }

    /// Adds a step that uses up a crash.
    pub(super) fn crash(
        &mut self,
        label: impl FnOnce() -> String,
        change: impl FnOnce(&mut World),
    ) {
        if self.from.crashes > 0 {
            self.add(label, |world| {
                world.crashes -= 1;
                change(world);
            });
        }
    }

    /// Adds a step that uses up a duplicate.
    pub(super) fn duplicate(
        &mut self,
        label: impl FnOnce() -> String,
        change: impl FnOnce(&mut World),
    ) {
        if self.from.duplicates > 0 {
            self.add(label, |world| {
                world.duplicates -= 1;
                change(world);
            });
        }
    }
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup: Rc::new(setup),
            log: Shared::new(LogState::new()),
            contents: Shared::new(Contents::default()),
            store: Shared::new(BTreeSet::new()),
            flying: Vec::new(),
            writers: Vec::new(),
            readers: Vec::new(),
            collectors: Vec::new(),
            resealers: Vec::new(),
            repairers: Vec::new(),
            lost_pack: None,
            forgets: 0,
            crashes: 0,
            duplicates: 0,
            fault: None,
        }
    }

    fn settle(&mut self) {
        (0..self.writers.len()).for_each(|n| Writer::settle(self, n));
        (0..self.readers.len()).for_each(|n| Reader::settle(self, n));
        (0..self.collectors.len()).for_each(|n| Collector::settle(self, n));
        (0..self.resealers.len()).for_each(|n| Resealer::settle(self, n));
        (0..self.repairers.len()).for_each(|n| Repairer::settle(self, n));
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.setup.bug == Some(bug)
    }

    /// Appends an entry that must be allowed.
    pub(super) fn expect(&mut self, body: Body) -> u64 {
        let seq = self.log.next;
        if let Err(reason) = self.log.check(&body) {
            self.fault = Some(format!("{body:?} was refused: {reason}"));
            return 0;
        }
        let applied = self.log.edit(|log| log.apply(body, 0));
        if applied.is_err() {
            self.fault = Some("what was allowed was not done".to_owned());
        }
        seq
    }

    /// Appends an entry against the rules.
    pub(super) fn force(&mut self, body: Body) -> u64 {
        let seq = self.log.next;
        self.log.edit(|log| log.apply_unchecked(body, 0));
        seq
    }

    /// Sends an entry that nobody waits for.
    pub(super) fn let_fly(&mut self, body: Body) {
        self.flying.push(Flying::Append(self.log.next, Entry(body)));
    }

    pub(super) fn put(&mut self, name: &str) {
        self.store.edit(|store| store.insert(name.to_owned()));
    }

    /// Tells what an object that will be put holds.
    pub(super) fn make(&mut self, name: &str, ids: Ids) {
        self.contents
            .edit(|contents| contents.ids.insert(name.to_owned(), ids));
    }

    /// Makes and puts an index segment.
    pub(super) fn put_segment(&mut self, name: &str, packs: Vec<String>) {
        self.contents
            .edit(|contents| contents.packs.insert(name.to_owned(), packs));
        self.put(name);
    }

    /// Chunks of a pack, or what a snapshot needs.
    pub(super) fn ids(&self, name: &str) -> Ids {
        self.contents.ids.get(name).copied().unwrap_or_default()
    }

    /// The packs that whoever opens the repository now finds in the index, in order, each once.
    pub(super) fn index(&self) -> Vec<(&str, Ids, Standing)> {
        let mut found: Vec<(&str, Ids, Standing)> = Vec::new();
        for segment in &self.log.segments {
            for pack in self.contents.packs.get(segment).into_iter().flatten() {
                let standing = self.log.standing(pack);
                let known = found.iter().any(|(name, ..)| name == pack);
                if standing != Standing::Dead && !known {
                    found.push((pack, self.ids(pack), standing));
                }
            }
        }
        found
    }

    /// The chunks that look-ups find in packs to build upon.
    pub(super) fn live(&self) -> Ids {
        let usable = |standing| {
            standing == Standing::Live
                || (standing == Standing::Condemned && self.has(Bug::UsesCondemned))
        };
        let index = self.index();
        let live = index.iter().filter(|(.., standing)| usable(*standing));
        live.fold(0, |all, (_, ids, _)| all | ids)
    }

    /// The chunks that committed and pinned snapshots need.
    pub(super) fn needed(&self) -> Ids {
        self.log
            .needed()
            .fold(0, |all, commit| all | self.ids(&commit.snapshot))
    }

    /// What an adoption by a session finds: packs of `from` that are in no index and not `doomed`.
    pub(super) fn adoptable_packs(&self, from: &[u64], doomed: &BTreeSet<String>) -> Vec<String> {
        let index = self.index();
        let there = self.store.iter().filter(|name| {
            name.starts_with("p/")
                && session_of(name).is_some_and(|of| from.contains(&of))
                && !index.iter().any(|(pack, ..)| pack == name)
                && !doomed.contains(*name)
        });
        there.cloned().collect()
    }

    fn step_of_network(steps: &mut Steps<'_>) {
        for (n, flying) in steps.from().flying.iter().enumerate() {
            steps.add(
                || format!("network: {flying:?} takes effect"),
                |world| match world.flying.remove(n) {
                    Flying::Put(name) => world.put(&name),
                    Flying::Delete(names) => {
                        world.store.edit(|s| s.retain(|o| !names.contains(o)));
                    }
                    Flying::Append(_, Entry(body)) => {
                        world.expect(body);
                    }
                },
            );
        }
    }

    fn step_of_forgetter(steps: &mut Steps<'_>) {
        let from = steps.from();
        if from.forgets == 0 {
            return;
        }
        for commit in &from.log.snapshots {
            let name = commit.snapshot.clone();
            let label = format!("forget {name}");
            let snapshots = vec![name];
            steps.add(
                || label,
                |world| {
                    world.forgets -= 1;
                    world.expect(Body::Forget(ForgetBody { snapshots }));
                },
            );
        }
    }
}

impl Explored for World {
    fn steps(&self, trace: bool) -> Vec<Step<Self>> {
        let mut steps = Steps::new(self, trace);
        for n in 0..self.writers.len() {
            Writer::steps(&mut steps, n);
        }
        for n in 0..self.readers.len() {
            Reader::steps(&mut steps, n);
        }
        for n in 0..self.collectors.len() {
            Collector::steps(&mut steps, n);
        }
        for n in 0..self.resealers.len() {
            Resealer::steps(&mut steps, n);
        }
        for n in 0..self.repairers.len() {
            Repairer::steps(&mut steps, n);
        }
        Self::step_of_forgetter(&mut steps);
        Self::step_of_network(&mut steps);
        steps.found
    }

    fn broken(&self) -> Option<String> {
        self.broken_promise()
    }

    fn broken_at_end(&self) -> Option<String> {
        self.garbage_at_end()
    }
}
