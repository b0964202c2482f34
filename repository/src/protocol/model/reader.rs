//! A reader: one of a snapshot, or one of everything that there is.

use super::{
    setup::Bug,
    world::{Steps, World},
};
use crate::protocol::{BeginBody, Body, SessionKind};

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Reader {
    /// Sessions that it may still begin.
    pub(super) sessions: u8,
    /// The session, and the snapshots that it wants to read.
    pub(super) open: Option<(u64, Vec<String>)>,
}

impl Reader {
    pub(super) fn new(sessions: u8) -> Self {
        Self {
            sessions,
            open: None,
        }
    }

    /// Takes the steps that nobody else can see.
    pub(super) fn settle(world: &mut World, n: usize) {
        let open = world.readers[n].open.as_ref();
        if open.is_some_and(|(session, _)| !world.log.open.contains_key(session)) {
            world.readers[n].edit(|reader| reader.open = None);
        }
    }

    pub(super) fn steps(steps: &mut Steps<'_>, n: usize) {
        let from = steps.from();
        let reader = &from.readers[n];
        if let Some((session, _)) = &reader.open {
            let session = *session;
            steps.add(
                || format!("reader {n}: ends session {session}"),
                |world| {
                    world.expect(Body::End(session));
                    world.readers[n].edit(|reader| reader.open = None);
                },
            );
            return;
        }
        if reader.sessions == 0 {
            return;
        }
        let all: Vec<String> = from
            .log
            .snapshots
            .iter()
            .map(|c| c.snapshot.clone())
            .collect();
        let mut choices: Vec<(SessionKind, Vec<String>)> = all
            .iter()
            .map(|name| (SessionKind::Read, vec![name.clone()]))
            .collect();
        if from.setup.read_all {
            choices.push((SessionKind::ReadAll, all));
        }
        for (kind, wanted) in choices {
            let pins = match kind {
                SessionKind::Read if !from.has(Bug::NoPins) => wanted.clone(),
                _ => Vec::new(),
            };
            let begin = BeginBody {
                kind: kind.into(),
                pins,
                ..BeginBody::default()
            };
            let label = if steps.trace() {
                format!("{wanted:?}")
            } else {
                String::new()
            };
            steps.add(
                || format!("reader {n}: begins session {} on {label}", from.log.next),
                |world| {
                    let session = world.expect(Body::Begin(begin));
                    world.readers[n].edit(|reader| {
                        reader.sessions -= 1;
                        reader.open = Some((session, wanted));
                    });
                },
            );
        }
    }
}
