//! Where the chunks of a batch are, and where they are when they are not there any more.

use super::{Fetch, Frame, Lost, Running};
use crate::{
    error::{Error, Result},
    frame::MAX_FRAME,
    secret::ChunkId,
    session::Location,
};

impl Fetch<'_, '_> {
    /// Looks up where the chunks of a batch are.
    pub(super) fn find(&self, number: u64, running: &Running<'_>) {
        if running.ids.is_empty() {
            return;
        }
        let locations = match self.session.pages.locate(&running.ids) {
            Ok(locations) => locations,
            Err(Error::Cancelled) => return self.requests.stop(),
            Err(error) => {
                for index in 0..running.ids.len() {
                    running.batch.chunk(index, Err(not_found(&error)));
                }
                running.done(running.ids.len());
                return;
            }
        };
        let mut frames = Vec::with_capacity(locations.len());
        for (index, location) in locations.iter().enumerate() {
            match place(running.ids[index], location.as_ref()) {
                Ok(location) => frames.push((
                    location.pack.as_str(),
                    frame(location, number, index as u32, false),
                )),
                Err(error) => {
                    running.batch.chunk(index, Err(error));
                    running.done(1);
                }
            }
        }
        self.requests.add(frames.into_iter());
    }

    /// Looks up afresh where chunks are that were not where they should be: collection has moved them
    /// meanwhile, or there is another copy.
    pub(super) fn find_again(&self, lost: Vec<Lost>) {
        let ids: Vec<ChunkId> = lost
            .iter()
            .map(|one| self.batch(one.frame.batch).ids[one.frame.index as usize])
            .collect();
        let locations = match self.session.pages.locate_again(&ids) {
            Ok(locations) => locations,
            Err(Error::Cancelled) => return self.requests.stop(),
            Err(error) => {
                tracing::warn!(%error, "cannot look up where chunks have gone");
                vec![None; ids.len()]
            }
        };
        let mut frames = Vec::new();
        for ((one, id), location) in lost.into_iter().zip(ids).zip(&locations) {
            let Lost {
                pack,
                frame: old,
                error,
            } = one;
            let moved = place(id, location.as_ref())
                .ok()
                .filter(|at| (&*at.pack, at.offset) != (&*pack, old.offset));
            if let Some(at) = moved {
                frames.push((at.pack.as_str(), frame(at, old.batch, old.index, true)));
            } else {
                let running = self.batch(old.batch);
                running.batch.chunk(old.index as usize, Err(error));
                running.done(1);
            }
        }
        self.requests.add(frames.into_iter());
    }
}

fn frame(location: &Location, batch: u64, index: u32, again: bool) -> Frame {
    Frame {
        offset: location.offset,
        len: location.len,
        batch,
        index,
        again,
    }
}

/// The place of a chunk, if it can be one.
fn place(id: ChunkId, location: Option<&Location>) -> Result<&Location> {
    let location = location.ok_or_else(|| Error::MissingChunk { id: id.to_string() })?;
    if location.len as usize > MAX_FRAME || location.offset.checked_add(location.len).is_none() {
        let reason = format!("chunk {id}: the index says that it is where no chunk can be");
        return Err(Error::damaged(&location.pack, reason));
    }
    Ok(location)
}

/// The same for each chunk of a look-up that failed.
fn not_found(error: &Error) -> Error {
    Error::Remote {
        action: "find chunks",
        message: error.to_string(),
        transient: true,
    }
}
