//! Who seals snapshots anew: stores the objects that take the place of all, and then names them.

use super::{
    setup::Bug,
    world::{Flying, Steps, World},
};
use crate::protocol::{BeginBody, Body, Replaced, ResealBody, SessionKind};

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Resealer {
    /// Sessions that it may still begin.
    sessions: u8,
    at: At,
}

/// What it does next.
#[derive(Clone, PartialEq, Eq, Hash)]
enum At {
    Idle,
    Store(u64),
    Name(u64, Vec<Replaced>),
    End(u64),
}

impl Resealer {
    pub(super) fn new(sessions: u8) -> Self {
        Self {
            sessions,
            at: At::Idle,
        }
    }

    /// Takes the steps that nobody else can see.
    pub(super) fn settle(world: &mut World, n: usize) {
        let (At::Store(session) | At::Name(session, _) | At::End(session)) = world.resealers[n].at
        else {
            return;
        };
        if !world.log.open.contains_key(&session) {
            world.resealers[n].edit(|this| this.at = At::Idle);
        }
    }

    pub(super) fn steps(steps: &mut Steps<'_>, n: usize) {
        let from = steps.from();
        let this = &from.resealers[n];
        let who = |what: &str| format!("resealer {n}: {what}");
        let go = |world: &mut World, at: At| world.resealers[n].edit(|this| this.at = at);
        match &this.at {
            At::Idle if this.sessions == 0 => return,
            At::Idle => {
                // Collections wait for readers of everything; for others they do not.
                let kind = if from.has(Bug::ResealsAlone) {
                    SessionKind::Read
                } else {
                    SessionKind::ReadAll
                };
                let begin = BeginBody {
                    kind: kind.into(),
                    ..BeginBody::default()
                };
                steps.add(
                    || who(&format!("begins session {}", from.log.next)),
                    |world| {
                        let session = world.expect(Body::Begin(begin));
                        world.resealers[n].edit(|this| this.sessions -= 1);
                        go(world, At::Store(session));
                    },
                );
                return;
            }
            At::Store(session) => {
                let commits = from.log.snapshots.iter();
                let objects: Vec<Replaced> = commits
                    .map(|commit| Replaced::by(*session, &commit.snapshot))
                    .collect();
                let late = objects.clone();
                let make = |world: &mut World, objects: &[Replaced]| {
                    for object in objects {
                        let ids = world.ids(&object.from);
                        world.make(&object.to, ids);
                    }
                };
                steps.duplicate(
                    || who("stores objects, once more than it knows"),
                    |world| {
                        make(world, &late);
                        for object in &late {
                            world.put(&object.to);
                            world.flying.push(Flying::Put(object.to.clone()));
                        }
                        go(world, At::Name(*session, late));
                    },
                );
                steps.add(
                    || who("stores objects"),
                    |world| {
                        make(world, &objects);
                        for object in &objects {
                            world.put(&object.to);
                        }
                        go(world, At::Name(*session, objects));
                    },
                );
            }
            At::Name(session, objects) => {
                let there = objects.iter().filter(|o| from.log.is_live(&o.from));
                let body = Body::Reseal(ResealBody {
                    session: *session,
                    objects: there.cloned().collect(),
                });
                let flying = body.clone();
                steps.add(
                    || who("names them"),
                    |world| {
                        if world.has(Bug::ResealsAlone) {
                            world.force(body);
                        } else {
                            world.expect(body);
                        }
                        go(world, At::End(*session));
                    },
                );
                if !from.has(Bug::ResealsAlone) {
                    steps.crash(
                        || who("dies while it names them"),
                        |world| {
                            world.let_fly(flying);
                            go(world, At::Idle);
                        },
                    );
                }
            }
            At::End(session) => steps.add(
                || who("ends its session"),
                |world| {
                    world.expect(Body::End(*session));
                    go(world, At::Idle);
                },
            ),
        }
        steps.crash(|| who("dies"), |world| go(world, At::Idle));
    }
}
