//! A collector, step by step as `collect.rs` does it, and its seeded mistakes.

mod deletion;

use std::collections::BTreeSet;

use super::{
    setup::Bug,
    world::{Ids, Steps, World},
};
use crate::protocol::{Body, CondemnBody, DoneBody, FenceBody, IndexBody, LeaderBody};

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Collector {
    /// Collections that it may still begin.
    runs: u8,
    /// Number of its leader entry.
    term: u64,
    at: At,
}

/// What it does next.
#[derive(Clone, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// Deletes what earlier collectors had logged, or goes on with their epoch, or lists.
    Led,
    Mark {
        listing: BTreeSet<String>,
    },
    /// Makes copies known, whose packs and segment are stored.
    Moved(Plan, String),
    Condemn(Plan),
    /// Waits, and then marks again.
    Wait(Plan),
    /// Logs the list.
    List(Vec<String>, Plan, u64),
    /// Deletes the objects of a list; whether the epoch was its own.
    Delete(Option<u64>, Vec<String>, bool),
    Done(u64, bool),
    Compact,
    Compacted(IndexBody),
}

/// What it has found out.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Plan {
    marked: Ids,
    condemn: Vec<String>,
    leftovers: Vec<String>,
}

impl Collector {
    pub(super) fn new(runs: u8) -> Self {
        Self {
            runs,
            term: 0,
            at: At::Idle,
        }
    }

    /// Whether somebody else collects by now, and it would find that out before its next step counts.
    fn deposed(&self, world: &World) -> bool {
        let asks = !matches!(
            self.at,
            At::Idle | At::Led | At::Mark { .. } | At::Delete(Some(_), ..) | At::Compact
        );
        asks && world.log.leader != self.term && !world.has(Bug::Zombie)
    }

    /// Takes the steps that nobody else can see.
    pub(super) fn settle(world: &mut World, n: usize) {
        let this = &world.collectors[n];
        let idle = match this.at {
            At::Compact => world.log.dead.is_empty(),
            _ => this.deposed(world),
        };
        if idle {
            world.collectors[n].edit(Self::rest);
        }
    }

    pub(super) fn steps(steps: &mut Steps<'_>, n: usize) {
        let from = steps.from();
        let this = &from.collectors[n];
        let who = |what: &str| format!("collector {n}: {what}");
        let stop = |world: &mut World| world.collectors[n].edit(Self::rest);
        if this.at == At::Idle {
            if this.runs > 0 {
                steps.add(
                    || who(&format!("leads with term {}", from.log.next)),
                    |world| {
                        let term = world.expect(Body::Leader(LeaderBody::default()));
                        world.collectors[n].edit(|this| {
                            this.runs -= 1;
                            this.term = term;
                            this.at = At::Led;
                        });
                    },
                );
            }
            return;
        }
        match &this.at {
            At::Idle => {}
            At::Led => Self::step_after_lead(steps, n),
            At::Mark { listing } => Self::steps_of_mark(steps, n, listing),
            At::Moved(plan, segment) => {
                let body = IndexBody {
                    leader: this.term,
                    added: vec![segment.clone()],
                    ..IndexBody::default()
                };
                Self::append(steps, n, Body::Index(body), At::Condemn(plan.clone()));
            }
            At::Condemn(plan) => {
                let body = CondemnBody {
                    leader: this.term,
                    packs: plan.condemn.clone(),
                };
                Self::append(steps, n, Body::Condemn(body), At::Wait(plan.clone()));
            }
            At::Wait(plan) => Self::steps_of_wait(steps, n, plan),
            At::List(objects, plan, commits) => {
                Self::steps_of_list(steps, n, objects, plan, *commits);
            }
            At::Delete(list, objects, own) => {
                let next = match list {
                    Some(list) => At::Done(*list, *own),
                    // Only after this the list is logged.
                    None => At::List(objects.clone(), Plan::default(), from.log.commits),
                };
                Self::step_of_delete(steps, n, objects, &next);
            }
            At::Done(list, own) => {
                let body = DoneBody {
                    leader: this.term,
                    list: *list,
                };
                let next = if *own { At::Compact } else { At::Led };
                Self::append(steps, n, Body::Done(body), next);
            }
            At::Compact => Self::step_of_compact(steps, n),
            At::Compacted(body) => {
                Self::append(steps, n, Body::Index(body.clone()), At::Idle);
            }
        }
        steps.crash(|| who("dies"), stop);
    }

    /// Ends a run, as after a crash.
    fn rest(&mut self) {
        self.go(At::Idle);
    }

    fn go(&mut self, next: At) {
        if next == At::Idle {
            self.term = 0;
        }
        self.at = next;
    }

    /// Appends an entry and goes on; a crash may leave the entry on its way.
    fn append(steps: &mut Steps<'_>, n: usize, body: Body, next: At) {
        let said = if steps.trace() {
            format!("{body:?}")
        } else {
            String::new()
        };
        let flying = body.clone();
        steps.add(
            || format!("collector {n}: appends {said}"),
            |world| {
                if world.has(Bug::Zombie) && world.log.check(&body).is_err() {
                    world.force(body);
                } else {
                    world.expect(body);
                }
                world.collectors[n].edit(|this| this.go(next));
            },
        );
        if steps.from().log.check(&flying).is_ok() {
            steps.crash(
                || format!("collector {n}: dies while it appends {said}"),
                |world| {
                    world.let_fly(flying);
                    world.collectors[n].edit(Self::rest);
                },
            );
        }
    }

    fn step_after_lead(steps: &mut Steps<'_>, n: usize) {
        let from = steps.from();
        let (what, next) = if let Some((list, objects)) = from.log.deleting.first_key_value() {
            let next = At::Delete(Some(*list), objects.clone(), false);
            ("finds a list", next)
        } else if from.log.epoch.is_some() {
            ("finds condemned packs", At::Wait(Plan::default()))
        } else {
            let listing = (*from.store).clone();
            ("lists what is there", At::Mark { listing })
        };
        steps.add(
            || format!("collector {n}: {what}"),
            |world| world.collectors[n].edit(|this| this.go(next)),
        );
        if from.setup.fences {
            for session in from.log.open.keys() {
                let sessions = vec![*session];
                steps.add(
                    || format!("collector {n}: shuts out {session} at the beginning"),
                    |world| {
                        world.expect(Body::Fence(FenceBody { sessions }));
                    },
                );
            }
        }
    }

    fn steps_of_mark(steps: &mut Steps<'_>, n: usize, listing: &BTreeSet<String>) {
        let from = steps.from();
        let term = from.collectors[n].term;
        let marked = from.needed();
        let index = from.index();
        let indexed = |name: &String| index.iter().any(|(pack, ..)| pack == name);
        let named = |name: &String| from.log.segments.contains(name);
        let used = |name: &String| from.log.needed().any(|commit| commit.snapshot == *name);
        let leftovers: Vec<String> = listing
            .iter()
            .filter(|name| !indexed(name) && !named(name) && !used(name))
            .cloned()
            .collect();
        // A chunk is read from the pack that was indexed last: what others hold of it is garbage.
        let mut live: Vec<(&str, Ids)> = Vec::new();
        let mut seen = 0;
        for (pack, ids, _) in index.iter().rev() {
            live.push((pack, ids & marked & !seen));
            seen |= ids;
        }
        let dead = live.iter().filter(|(_, ids)| *ids == 0);
        let dead: Vec<String> = dead.map(|(pack, _)| (*pack).to_owned()).collect();
        let mut plans = Vec::new();
        if dead.is_empty() && leftovers.is_empty() {
            steps.add(
                || format!("collector {n}: finds nothing to do"),
                |world| world.collectors[n].edit(|this| this.go(At::Compact)),
            );
        } else {
            plans.push(None);
        }
        if from.setup.repack {
            plans.extend(live.iter().filter(|(_, ids)| *ids != 0).map(Some));
        }
        for repack in plans {
            let mut plan = Plan {
                marked,
                condemn: dead.clone(),
                leftovers: leftovers.clone(),
            };
            plan.condemn
                .extend(repack.map(|(pack, _)| (*pack).to_owned()));
            plan.condemn.sort_unstable();
            steps.add(
                || format!("collector {n}: marks {marked:#b}, will move {repack:?}"),
                |world| {
                    let next = if let Some((_, ids)) = repack {
                        let (pack, segment) = (format!("p/c.{term}"), format!("i/c.{term}"));
                        world.make(&pack, *ids);
                        world.put(&pack);
                        world.put_segment(&segment, vec![pack]);
                        At::Moved(plan, segment)
                    } else {
                        At::Condemn(plan)
                    };
                    world.collectors[n].edit(|this| this.go(next));
                },
            );
        }
    }
}
