//! A writer: begins, takes over, stores, commits; when it was shut out it begins again.

use std::collections::BTreeSet;

use super::{
    shared::Shared,
    world::{Flying, Ids, Steps, World},
};
use crate::protocol::{BeginBody, Body, CommitBody, SessionKind};

/// Snapshots that a writer builds upon at most.
const MAX_PARENTS: usize = 2;

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Writer {
    pub(super) volume: &'static str,
    /// What each of its snapshots needs.
    pub(super) wants: Ids,
    /// Sessions that it may still begin.
    pub(super) sessions: u8,
    pub(super) open: Option<Open>,
}

/// A session as its process sees it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Open {
    pub(super) session: u64,
    /// Sessions whose packs it has still to look for.
    adopt: Vec<u64>,
    /// Packs that were on their way out when it began.
    doomed: BTreeSet<String>,
    /// Chunks that it refers to, or will, and has not to store any more.
    pub(super) relied: Ids,
    /// Chunks that it has still to store.
    todo: Ids,
    own: Vec<String>,
    adopted: Vec<String>,
    /// How many of its own packs segments name.
    indexed: usize,
    segments: Vec<String>,
    /// The snapshot whose objects are stored, and whether it is a checkpoint.
    ready: Option<(String, bool)>,
    commits: u8,
}

impl Open {
    /// Packs of its own, and those that it has taken over or, if it lost count, would take over.
    pub(super) fn packs(&self, world: &World) -> Vec<String> {
        let mut packs = self.own.clone();
        packs.extend(self.taken_over(world));
        packs
    }

    /// What it has taken over. Who began again without a memory looks again.
    fn taken_over(&self, world: &World) -> Vec<String> {
        if !self.adopted.is_empty() {
            return self.adopted.clone();
        }
        let Some(open) = world.log.open.get(&self.session) else {
            return Vec::new();
        };
        world.adoptable_packs(&open.adopts, &world.log.doomed())
    }
}

impl World {
    fn edit_writer(&mut self, n: usize, edit: impl FnOnce(&mut Open)) {
        self.writers[n].edit(|writer| writer.open.as_mut().map(edit));
    }

    fn close_writer(&mut self, n: usize) {
        self.writers[n].edit(|writer| writer.open = None);
    }
}

impl Writer {
    pub(super) fn new(volume: &'static str, wants: Ids, sessions: u8) -> Self {
        Self {
            volume,
            wants,
            sessions,
            open: None,
        }
    }

    fn begin_body(&self, world: &World) -> BeginBody {
        let parents = world.log.parents(self.volume, MAX_PARENTS);
        BeginBody {
            volume: self.volume.to_owned(),
            kind: SessionKind::Write.into(),
            pins: parents.into_iter().map(|c| c.snapshot.clone()).collect(),
            adopts: world.log.adoptable(self.volume),
            ..BeginBody::default()
        }
    }

    /// What it learns when it begins: what it may build upon without a look at the store.
    fn begin(&mut self, world: &World, session: u64, begin: BeginBody) {
        let parents = begin.pins.iter().fold(0, |all, pin| all | world.ids(pin));
        let relied = self.wants & (parents | world.live());
        self.sessions -= 1;
        self.open = Some(Open {
            session,
            doomed: if begin.adopts.is_empty() {
                BTreeSet::new()
            } else {
                world.log.doomed()
            },
            adopt: begin.adopts,
            relied,
            todo: self.wants & !relied,
            own: Vec::new(),
            adopted: Vec::new(),
            indexed: 0,
            segments: Vec::new(),
            ready: None,
            commits: 0,
        });
    }

    /// Takes the steps that nobody else can see: who was shut out finds out when it commits.
    pub(super) fn settle(world: &mut World, n: usize) {
        let fenced = world.writers[n].open.as_ref().is_some_and(|open| {
            open.ready.is_some() && !world.log.open.contains_key(&open.session)
        });
        if fenced {
            world.close_writer(n);
        }
    }

    pub(super) fn steps(steps: &mut Steps<'_>, n: usize) {
        let from = steps.from();
        let writer = &from.writers[n];
        let who = |what: &str| format!("writer {n} of {}: {what}", writer.volume);
        let Some(open) = &writer.open else {
            if writer.sessions > 0 {
                let begin = writer.begin_body(from);
                let body = Body::Begin(begin.clone());
                steps.add(
                    || who(&format!("begins session {}", from.log.next)),
                    |world| {
                        let session = world.expect(body);
                        let mut writer = (*world.writers[n]).clone();
                        writer.begin(world, session, begin);
                        world.writers[n] = Shared::new(writer);
                    },
                );
                let body = Body::Begin(writer.begin_body(from));
                steps.crash(
                    || who("dies while it begins"),
                    |world| {
                        world.writers[n].edit(|writer| writer.sessions -= 1);
                        world.let_fly(body);
                    },
                );
            }
            return;
        };
        if !open.adopt.is_empty() {
            steps.add(
                || who("looks for packs to take over"),
                |world| {
                    let found = world.adoptable_packs(&open.adopt, &open.doomed);
                    let ids = found.iter().fold(0, |all, pack| all | world.ids(pack));
                    world.edit_writer(n, |open| {
                        open.adopt.clear();
                        open.doomed.clear();
                        open.adopted = found;
                        open.relied |= open.todo & ids;
                        open.todo &= !ids;
                    });
                },
            );
        } else if let Some((snapshot, partial)) = &open.ready {
            Self::step_of_commit(steps, n, open, snapshot, *partial);
        } else if open.todo == 0 {
            Self::step_of_objects(steps, n, false);
        } else {
            Self::step_of_store(steps, n, open);
            if from.setup.checkpoints && open.commits == 0 && open.relied != 0 {
                Self::step_of_objects(steps, n, true);
            }
        }
        steps.crash(|| who("dies"), |world| world.close_writer(n));
        if from.log.open.contains_key(&open.session) {
            let body = Body::End(open.session);
            steps.crash(
                || who("gives up"),
                |world| {
                    world.expect(body);
                    world.close_writer(n);
                },
            );
        }
        if !open.adopted.is_empty() {
            steps.crash(
                || who("forgets what it took over"),
                |world| world.edit_writer(n, |open| open.adopted.clear()),
            );
        }
    }

    fn step_of_store(steps: &mut Steps<'_>, n: usize, open: &Open) {
        let from = steps.from();
        let ids = if from.setup.checkpoints {
            open.todo & open.todo.wrapping_neg()
        } else {
            open.todo
        };
        let pack = format!("p/{}.{}", open.own.len(), open.session);
        let stored = |world: &mut World| {
            world.make(&pack, ids);
            world.put(&pack);
            world.edit_writer(n, |open| {
                open.own.push(pack.clone());
                open.relied |= ids;
                open.todo &= !ids;
            });
        };
        let label = |how: &str| format!("writer {n}: stores {ids:#b} as {pack}{how}");
        steps.add(|| label(""), stored);
        steps.duplicate(
            || label(", and again later"),
            |world| {
                stored(world);
                world.flying.push(Flying::Put(pack.clone()));
            },
        );
        steps.crash(
            || label(" and dies"),
            |world| {
                world.make(&pack, ids);
                world.flying.push(Flying::Put(pack.clone()));
                world.close_writer(n);
            },
        );
        // Another session of the same process may have read what is new.
        let seen = open.todo & from.live();
        if seen != 0 {
            steps.add(
                || format!("writer {n}: learns of {seen:#b}"),
                |world| {
                    world.edit_writer(n, |open| {
                        open.relied |= seen;
                        open.todo &= !seen;
                    });
                },
            );
        }
    }

    /// Stores segment and snapshot.
    fn step_of_objects(steps: &mut Steps<'_>, n: usize, partial: bool) {
        steps.add(
            || format!("writer {n}: stores segment and snapshot (partial: {partial})"),
            |world| {
                let Some(mut open) = world.writers[n].open.clone() else {
                    return;
                };
                let mut packs = open.own[open.indexed..].to_vec();
                open.indexed = open.own.len();
                packs.extend(open.taken_over(world));
                if !packs.is_empty() {
                    let segment = format!("i/{}.{}", open.segments.len(), open.session);
                    world.put_segment(&segment, packs);
                    open.segments.push(segment);
                }
                let volume = world.writers[n].volume;
                let snapshot = format!("s/{volume}/{}x{}", open.session, open.commits);
                world.make(&snapshot, open.relied);
                world.put(&snapshot);
                open.ready = Some((snapshot, partial));
                world.writers[n].edit(|writer| writer.open = Some(open));
            },
        );
    }

    fn step_of_commit(steps: &mut Steps<'_>, n: usize, open: &Open, snapshot: &str, partial: bool) {
        let who = |what: &str| format!("writer {n}: {what}");
        let body = Body::Commit(CommitBody {
            session: open.session,
            snapshot: snapshot.to_owned(),
            refset: format!("r{}", &snapshot[1..]),
            segments: open.segments.clone(),
            partial,
        });
        let flying = body.clone();
        steps.add(
            || who(&format!("commits {snapshot}")),
            |world| {
                world.expect(body);
                if partial {
                    world.edit_writer(n, |open| {
                        open.ready = None;
                        open.commits += 1;
                    });
                } else {
                    world.close_writer(n);
                }
            },
        );
        steps.crash(
            || who(&format!("dies while it commits {snapshot}")),
            |world| {
                world.let_fly(flying);
                world.close_writer(n);
            },
        );
    }
}
