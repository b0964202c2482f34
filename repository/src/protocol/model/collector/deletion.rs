//! The second half of a collection: wait, mark again, list, delete, write the index anew.

use std::collections::BTreeSet;

use super::{At, Collector, Plan};
use crate::protocol::{
    Body, DeletingBody, FenceBody, IndexBody, Standing,
    model::{
        setup::Bug,
        world::{Flying, Ids, Steps, World},
    },
    rescued,
};

impl Collector {
    pub(super) fn steps_of_wait(steps: &mut Steps<'_>, n: usize, plan: &Plan) {
        let from = steps.from();
        let Some(epoch) = &from.log.epoch else {
            // A zombie whose epoch another one has ended.
            steps.add(
                || format!("collector {n}: finds no condemned packs"),
                |world| world.collectors[n].edit(Self::rest),
            );
            return;
        };
        if !epoch.waits.is_empty() && !from.has(Bug::NoWait) {
            for session in &epoch.waits {
                let sessions = vec![*session];
                steps.add(
                    || format!("collector {n}: shuts out session {session}"),
                    |world| {
                        world.expect(Body::Fence(FenceBody { sessions }));
                    },
                );
            }
            steps.add(
                || format!("collector {n}: runs out of patience"),
                |world| world.collectors[n].edit(Self::rest),
            );
            return;
        }
        let marked = if from.has(Bug::NoRemark) {
            plan.marked
        } else {
            plan.marked | from.needed()
        };
        let objects = Self::condemned_for_good(from, plan, marked);
        let label = if steps.trace() {
            format!("{objects:?}")
        } else {
            String::new()
        };
        let commits = from.log.commits;
        let plan = plan.clone();
        let next = if from.has(Bug::EarlyDelete) {
            At::Delete(None, objects, true)
        } else if from.has(Bug::LateRescue) {
            At::List(Self::condemned_for_good(from, &plan, 0), plan, commits)
        } else {
            At::List(objects, plan, commits)
        };
        steps.add(
            || format!("collector {n}: marks {marked:#b} again, will delete {label}"),
            |world| world.collectors[n].edit(|this| this.go(next)),
        );
    }

    /// Condemned packs that really go, and objects that are nobody's.
    fn condemned_for_good(world: &World, plan: &Plan, marked: Ids) -> Vec<String> {
        let Some(epoch) = &world.log.epoch else {
            return Vec::new();
        };
        let index = world.index();
        let mut kept: BTreeSet<&str> = BTreeSet::new();
        for bit in (0..8).map(|n| 1 << n).filter(|bit| marked & bit != 0) {
            let holders = index.iter().filter(|(_, ids, _)| ids & bit != 0);
            kept.extend(rescued(
                holders.map(|(pack, _, standing)| (*pack, *standing)),
            ));
        }
        let going = epoch.packs.iter().filter(|pack| !kept.contains(&***pack));
        let mut objects: Vec<String> = going.cloned().collect();
        let indexed = |name: &String| index.iter().any(|(pack, ..)| pack == name);
        let left = plan.leftovers.iter().filter(|name| {
            !indexed(name)
                && (world.log.is_leftover(epoch, name)
                    || (world.has(Bug::IgnoresAdoption) && name.starts_with("p/")))
        });
        objects.extend(left.cloned());
        objects
    }

    pub(super) fn steps_of_list(
        steps: &mut Steps<'_>,
        n: usize,
        objects: &[String],
        plan: &Plan,
        commits: u64,
    ) {
        let from = steps.from();
        let careless = [
            Bug::NoWait,
            Bug::NoRemark,
            Bug::IgnoresAdoption,
            Bug::LateRescue,
        ];
        let careless = from.setup.bug.is_some_and(|bug| careless.contains(&bug));
        if from.log.commits != commits && !careless && !from.has(Bug::EarlyDelete) {
            steps.add(
                || format!("collector {n}: learns of a commit"),
                |world| world.collectors[n].edit(|this| this.go(At::Wait(plan.clone()))),
            );
            return;
        }
        let epoch = from.log.epoch.as_ref().map_or(0, |epoch| epoch.seq);
        let body = Body::Deleting(DeletingBody {
            leader: from.collectors[n].term,
            epoch,
            objects: objects.to_vec(),
        });
        let list = from.log.next;
        let late = from.has(Bug::LateRescue);
        let going = if late {
            Self::condemned_for_good(from, plan, plan.marked | from.needed())
        } else {
            objects.to_vec()
        };
        let next = if from.has(Bug::EarlyDelete) {
            At::Done(list, true)
        } else {
            At::Delete(Some(list), going, true)
        };
        if careless && from.log.check(&body).is_err() {
            steps.add(
                || format!("collector {n}: appends {body:?} against the rules"),
                |world| {
                    world.force(body.clone());
                    world.collectors[n].edit(|this| this.go(next));
                },
            );
            return;
        }
        Self::append(steps, n, body, next);
    }

    pub(super) fn step_of_delete(steps: &mut Steps<'_>, n: usize, objects: &[String], next: &At) {
        let deleted = |world: &mut World| {
            world.store.edit(|s| s.retain(|o| !objects.contains(o)));
            world.collectors[n].edit(|this| this.go(next.clone()));
        };
        let flying = || Flying::Delete(objects.to_vec());
        steps.add(|| format!("collector {n}: deletes {objects:?}"), deleted);
        if objects.is_empty() {
            return;
        }
        steps.duplicate(
            || format!("collector {n}: deletes {objects:?}, and again later"),
            |world| {
                deleted(world);
                world.flying.push(flying());
            },
        );
        steps.crash(
            || format!("collector {n}: dies while it deletes {objects:?}"),
            |world| {
                world.flying.push(flying());
                world.collectors[n].edit(Self::rest);
            },
        );
    }

    pub(super) fn step_of_compact(steps: &mut Steps<'_>, n: usize) {
        let from = steps.from();
        let term = from.collectors[n].term;
        let packs = |segment: &String| from.contents.packs.get(segment).into_iter().flatten();
        let dead = |pack: &String| from.log.standing(pack) == Standing::Dead;
        let removed: Vec<String> = from
            .log
            .segments
            .iter()
            .filter(|segment| packs(segment).any(dead))
            .cloned()
            .collect();
        let mut kept: Vec<String> = Vec::new();
        for pack in removed.iter().flat_map(packs) {
            if !dead(pack) && !kept.contains(pack) {
                kept.push(pack.clone());
            }
        }
        let segment = format!("i/d.{term}");
        let mut body = IndexBody {
            leader: term,
            removed,
            gone: from.log.dead.iter().cloned().collect(),
            ..IndexBody::default()
        };
        steps.add(
            || format!("collector {n}: writes the index anew without what is dead"),
            |world| {
                if !kept.is_empty() {
                    world.put_segment(&segment, kept);
                    body.added.push(segment);
                }
                world.collectors[n].edit(|this| this.go(At::Compacted(body)));
            },
        );
    }
}
