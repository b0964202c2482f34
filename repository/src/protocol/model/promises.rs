//! What has to be true of every state, and what of the last ones.

use std::rc::Rc;

use super::{
    collector::Collector,
    setup::Setup,
    shared::Shared,
    world::{Ids, Steps, World},
};
use crate::protocol::{Body, FenceBody, Standing};

impl World {
    /// A promise that this state breaks.
    pub(super) fn broken_promise(&self) -> Option<String> {
        let index = self.index();
        let readable = self.readable(index.iter().map(|(name, ..)| *name));
        self.fault
            .clone()
            .or_else(|| self.broken_index(&index))
            .or_else(|| self.broken_snapshot(readable))
            .or_else(|| self.broken_writer(readable))
            .or_else(|| self.broken_reader(readable))
    }

    /// Objects that nobody needs and nobody will delete, after everybody has gone home and the
    /// repository was collected until nothing was left to do.
    pub(super) fn garbage_at_end(&self) -> Option<String> {
        let mut quiet = self.clone();
        quiet.flying.clear();
        quiet.setup = Rc::new(Setup::default());
        quiet.collectors = vec![Shared::new(Collector::new(6))];
        quiet.repairers.clear();
        quiet.crashes = 0;
        quiet.duplicates = 0;
        let sessions: Vec<u64> = quiet.log.open.keys().copied().collect();
        quiet.expect(Body::Fence(FenceBody { sessions }));
        loop {
            let mut steps = Steps::new(&quiet, false);
            Collector::steps(&mut steps, 0);
            let Some(next) = steps.into_first() else {
                break;
            };
            quiet = next;
            if let Some(what) = quiet.broken_promise() {
                return Some(format!("at the end: {what}"));
            }
        }
        let index = quiet.index();
        let needed = quiet.needed();
        let kept = |name: &String| match name.split('/').next() {
            Some("p") => index
                .iter()
                .any(|(p, ids, _)| p == name && ids & needed != 0),
            Some("i") => quiet.log.segments.contains(name),
            _ => quiet.log.needed().any(|commit| commit.snapshot == *name),
        };
        let left = quiet.store.iter().find(|name| !kept(name))?;
        Some(format!("{left} is garbage that nobody removes"))
    }

    /// Chunks in those of `packs` that can be read and are on no list to delete.
    fn readable<'p>(&self, packs: impl Iterator<Item = &'p str>) -> Ids {
        let listed = |name: &str| {
            let mut lists = self.log.deleting.values();
            lists.any(|list| list.iter().any(|object| object == name))
        };
        packs
            .filter(|name| {
                self.store.contains(*name)
                    && self.log.standing(name) != Standing::Dead
                    && !listed(name)
            })
            .fold(0, |all, name| all | self.ids(name))
    }

    /// Whether the snapshot of that object, which may have been sealed anew, is there.
    fn has_object(&self, name: &str) -> bool {
        let id = |name: &str| name.split('-').next().map(str::to_owned);
        let mut needed = self.log.needed();
        needed
            .any(|commit| id(&commit.snapshot) == id(name) && self.store.contains(&commit.snapshot))
    }

    /// What readers and the next collector take for granted.
    fn broken_index(&self, index: &[(&str, Ids, Standing)]) -> Option<String> {
        let gone = |name: &str| !self.store.contains(name) && self.lost_pack != Some(name);
        if let Some(segment) = self.log.segments.iter().find(|name| gone(name)) {
            return Some(format!("the log names {segment}, which is gone"));
        }
        if let Some((pack, ..)) = index.iter().find(|(name, ..)| gone(name)) {
            return Some(format!("the index names {pack}, which is gone"));
        }
        let mut needed = self.log.needed();
        let commit = needed.find(|commit| gone(&commit.snapshot))?;
        Some(format!("{} is gone", commit.snapshot))
    }

    /// Whether a loss is the one that a repair has to do with, and either nobody has taken the pack out of the
    /// index yet or one of these snapshots is marked.
    fn is_excused<'n>(&self, lacks: Ids, marked: impl Iterator<Item = &'n String>) -> bool {
        let Some(pack) = self.lost_pack else {
            return false;
        };
        let mut marked = marked;
        lacks & !self.ids(pack) == 0
            && (self.names_lost_pack() || marked.any(|name| self.log.lost.contains(name)))
    }

    /// A snapshot that lacks a chunk.
    fn broken_snapshot(&self, readable: Ids) -> Option<String> {
        self.log.needed().find_map(|commit| {
            let lacks = self.ids(&commit.snapshot) & !readable;
            let excused = self.is_excused(lacks, std::iter::once(&commit.snapshot));
            (lacks != 0 && !excused).then(|| format!("{} lacks chunks {lacks:#b}", commit.snapshot))
        })
    }

    /// A writer whose commit would be accepted, but for a chunk that it relies on.
    fn broken_writer(&self, readable: Ids) -> Option<String> {
        self.writers.iter().find_map(|writer| {
            let open = writer.open.as_ref()?;
            let logged = self.log.open.get(&open.session)?;
            let mut lacks = open.relied & !readable;
            if lacks != 0 {
                let own = open.packs(self);
                lacks &= !self.readable(own.iter().map(String::as_str));
            }
            let session = open.session;
            // What it commits is marked if what it builds upon is.
            let excused = self.is_excused(lacks, logged.pins.iter());
            (lacks != 0 && !excused)
                .then(|| format!("session {session} relies on lost chunks {lacks:#b}"))
        })
    }

    /// A reader that cannot read what it began to read.
    fn broken_reader(&self, readable: Ids) -> Option<String> {
        self.readers.iter().find_map(|reader| {
            let (session, snapshots) = reader.open.as_ref()?;
            self.log.open.get(session)?;
            snapshots.iter().find_map(|name| {
                let lacks = self.ids(name) & !readable;
                let lost = lacks != 0 && !self.is_excused(lacks, std::iter::once(name));
                let lost = lost || !self.has_object(name);
                lost.then(|| format!("session {session} cannot read {name}"))
            })
        })
    }
}
