//! A repairer, step by step as `repair.rs` does it: it knows of a pack that is lost, marks the snapshots that need it,
//! and takes it out of the index.

use super::{
    setup::Bug,
    world::{Steps, World},
};
use crate::protocol::{
    Body, CondemnBody, DeletingBody, DoneBody, FenceBody, IndexBody, LeaderBody,
};

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Repairer {
    /// Repairs that it may still begin.
    runs: u8,
    /// Number of its leader entry.
    term: u64,
    at: At,
}

/// What it does next.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Idle,
    /// Finishes lists and ends an epoch that others have left.
    Led,
    /// Looks which snapshots lack something; whether the pack is condemned already.
    Look(bool),
    /// Marks what it found when there had been so many commits.
    Mark(bool, u64),
    Condemn,
    Wait,
    List,
    Done(u64, bool),
}

impl Repairer {
    pub(super) fn new(runs: u8) -> Self {
        Self {
            runs,
            term: 0,
            at: At::Idle,
        }
    }

    fn rest(&mut self) {
        self.term = 0;
        self.at = At::Idle;
    }

    /// Takes the steps that nobody else can see: who was overtaken finds out, who is done rests.
    pub(super) fn settle(world: &mut World, n: usize) {
        let this = &world.repairers[n];
        let deposed = this.at != At::Idle && world.log.leader != this.term;
        let out = this.at == At::Condemn && !world.names_lost_pack();
        if deposed || out {
            world.repairers[n].edit(Self::rest);
        }
    }

    pub(super) fn steps(steps: &mut Steps<'_>, n: usize) {
        let from = steps.from();
        let (Some(pack), this) = (from.lost_pack, &from.repairers[n]) else {
            return;
        };
        let term = this.term;
        match this.at {
            At::Idle => {
                if this.runs > 0 {
                    steps.add(
                        || format!("repairer {n}: leads with term {}", from.log.next),
                        |world| {
                            let term = world.expect(Body::Leader(LeaderBody::default()));
                            world.repairers[n].edit(|this| {
                                this.runs -= 1;
                                this.term = term;
                                this.at = At::Led;
                            });
                        },
                    );
                }
                return;
            }
            At::Led => Self::steps_after_lead(steps, n),
            At::Look(condemned) => {
                let next = At::Mark(condemned, from.log.commits);
                steps.add(
                    || format!("repairer {n}: looks who lacks what"),
                    |world| world.repairers[n].edit(|this| this.at = next),
                );
            }
            At::Mark(condemned, commits) if commits != from.log.commits => steps.add(
                || format!("repairer {n}: learns of a commit"),
                |world| world.repairers[n].edit(|this| this.at = At::Look(condemned)),
            ),
            At::Mark(condemned, _) => {
                let body = IndexBody {
                    leader: term,
                    lost: from.lacking(),
                    ..IndexBody::default()
                };
                let next = if condemned { At::List } else { At::Condemn };
                Self::append(steps, n, Body::Index(body), next);
            }
            At::Condemn => {
                let body = CondemnBody {
                    leader: term,
                    packs: vec![pack.to_owned()],
                };
                Self::append(steps, n, Body::Condemn(body), At::Wait);
            }
            At::Wait => {
                let next = if from.has(Bug::MarksOnce) {
                    At::List
                } else {
                    At::Look(true)
                };
                Self::steps_of_wait(steps, n, next);
            }
            At::List => Self::step_of_list(steps, n, vec![pack.to_owned()], true),
            At::Done(list, own) => {
                let body = DoneBody { leader: term, list };
                let next = if own { At::Idle } else { At::Led };
                Self::append(steps, n, Body::Done(body), next);
            }
        }
        steps.crash(
            || format!("repairer {n}: dies"),
            |world| world.repairers[n].edit(Self::rest),
        );
    }

    fn steps_after_lead(steps: &mut Steps<'_>, n: usize) {
        let from = steps.from();
        if let Some((list, objects)) = from.log.deleting.first_key_value() {
            let (list, objects) = (*list, objects.clone());
            steps.add(
                || format!("repairer {n}: deletes {objects:?} of a list that it found"),
                |world| {
                    world.store.edit(|s| s.retain(|o| !objects.contains(o)));
                    world.repairers[n].edit(|this| this.at = At::Done(list, false));
                },
            );
        } else if let Some(epoch) = &from.log.epoch {
            if epoch.waits.is_empty() {
                Self::step_of_list(steps, n, Vec::new(), false);
            } else {
                Self::steps_of_wait(steps, n, At::Led);
            }
        } else {
            steps.add(
                || format!("repairer {n}: begins to look"),
                |world| world.repairers[n].edit(|this| this.at = At::Look(false)),
            );
        }
    }

    fn steps_of_wait(steps: &mut Steps<'_>, n: usize, next: At) {
        let from = steps.from();
        let waits = from.log.epoch.iter().flat_map(|epoch| &epoch.waits);
        let mut waits: Vec<u64> = waits.copied().collect();
        if from.has(Bug::NoWait) {
            waits.clear();
        }
        if waits.is_empty() {
            steps.add(
                || format!("repairer {n}: waits for nobody"),
                |world| world.repairers[n].edit(|this| this.at = next),
            );
            return;
        }
        for session in waits {
            let sessions = vec![session];
            steps.add(
                || format!("repairer {n}: shuts out session {session}"),
                |world| {
                    world.expect(Body::Fence(FenceBody { sessions }));
                },
            );
        }
        steps.add(
            || format!("repairer {n}: runs out of patience"),
            |world| world.repairers[n].edit(Self::rest),
        );
    }

    fn step_of_list(steps: &mut Steps<'_>, n: usize, objects: Vec<String>, own: bool) {
        let from = steps.from();
        let Some(epoch) = &from.log.epoch else {
            return;
        };
        let body = Body::Deleting(DeletingBody {
            leader: from.repairers[n].term,
            epoch: epoch.seq,
            objects,
        });
        let next = At::Done(from.log.next, own);
        if from.has(Bug::NoWait) && from.log.check(&body).is_err() {
            steps.add(
                || format!("repairer {n}: appends {body:?} against the rules"),
                |world| {
                    world.force(body.clone());
                    world.repairers[n].edit(|this| this.at = next);
                },
            );
            return;
        }
        Self::append(steps, n, body, next);
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
            || format!("repairer {n}: appends {said}"),
            |world| {
                world.expect(body);
                world.repairers[n].edit(|this| match next {
                    At::Idle => this.rest(),
                    next => this.at = next,
                });
            },
        );
        if steps.from().log.check(&flying).is_ok() {
            steps.crash(
                || format!("repairer {n}: dies while it appends {said}"),
                |world| {
                    world.let_fly(flying);
                    world.repairers[n].edit(Self::rest);
                },
            );
        }
    }
}

impl World {
    /// Whether the index still names the lost pack.
    pub(super) fn names_lost_pack(&self) -> bool {
        self.index()
            .iter()
            .any(|(name, ..)| Some(*name) == self.lost_pack)
    }

    /// Needed snapshots that lack a chunk.
    fn lacking(&self) -> Vec<String> {
        let index = self.index();
        let others = index
            .iter()
            .filter(|(name, ..)| Some(*name) != self.lost_pack);
        let kept = others.fold(0, |all, (_, ids, _)| all | ids);
        let needed = self.log.needed().map(|commit| &commit.snapshot);
        needed
            .filter(|name| self.ids(name) & !kept != 0)
            .cloned()
            .collect()
    }
}
