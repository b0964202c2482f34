//! Many chunks at once: planned by pack, fetched in few ranges, opened on several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::ReadSession;
use crate::{
    error::{Error, Result},
    frame::{Decoder, FrameKind},
    secret::Secret,
    session::Location,
};

/// Gaps up to this are read through, in bytes.
const GAP: u32 = 64 << 10;
/// A range grows up to this many bytes.
const RANGE: u32 = 4 << 20;

/// A chunk that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its secret.
    pub secret: Secret,
    /// Its plain length in bytes if that is known, else 0.
    pub len: u32,
}

/// A range of a pack with the frames in it: index into what is wanted, offset, length.
struct Range {
    pack: String,
    begin: u32,
    end: u32,
    frames: Vec<(usize, u32, u32)>,
}

impl ReadSession {
    /// Fetches chunks and gives each to `sink`, verified, in any order, from up to `workers` threads
    /// at once. A chunk that cannot be had is given as an error; every index is given exactly once,
    /// unless the work is cancelled.
    ///
    /// # Errors
    /// [`Error::Cancelled`] only.
    pub fn fetch(
        &self,
        wanted: &[Wanted],
        workers: usize,
        sink: &(dyn Fn(usize, Result<&[u8]>) + Sync),
    ) -> Result<()> {
        let ids: Vec<_> = wanted.iter().map(|w| w.secret.id()).collect();
        let locations = match self.pages.locate(&ids) {
            Ok(locations) => locations,
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                let message = error.to_string();
                for i in 0..wanted.len() {
                    sink(
                        i,
                        Err(Error::Remote {
                            action: "find chunks",
                            message: message.clone(),
                            transient: true,
                        }),
                    );
                }
                return Ok(());
            }
        };
        let mut found: Vec<(usize, Location)> = Vec::with_capacity(wanted.len());
        for (i, location) in locations.into_iter().enumerate() {
            match location {
                Some(location) => found.push((i, location)),
                None => sink(
                    i,
                    Err(Error::MissingChunk {
                        id: ids[i].to_string(),
                    }),
                ),
            }
        }
        let ranges = plan(found);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut decoder = Decoder::new();
            while let Some(range) = ranges.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.cancel.is_cancelled() {
                    return;
                }
                match &mut decoder {
                    Ok(decoder) => self.fetch_range(range, wanted, decoder, sink),
                    Err(error) => {
                        for (i, ..) in &range.frames {
                            sink(*i, Err(Error::Invalid(error.to_string())));
                        }
                    }
                }
            }
        };
        let workers = workers.min(ranges.len());
        if workers <= 1 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 1..workers {
                    scope.spawn(work);
                }
                work();
            });
        }
        if self.cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    fn fetch_range(
        &self,
        range: &Range,
        wanted: &[Wanted],
        decoder: &mut Decoder,
        sink: &(dyn Fn(usize, Result<&[u8]>) + Sync),
    ) {
        match self.get_range(&range.pack, range.begin, range.end - range.begin) {
            Ok(bytes) => {
                for (i, offset, len) in &range.frames {
                    let from = (offset - range.begin) as usize;
                    let frame = &bytes[from..from + *len as usize];
                    match self.decode(&range.pack, &wanted[*i].secret, decoder, frame) {
                        Ok(plain) => sink(*i, Ok(&plain)),
                        Err(error) => sink(*i, Err(error)),
                    }
                }
            }
            // Collection may have moved the chunks: each is looked for once more.
            Err(error) if error.is_not_found() => {
                for (i, ..) in &range.frames {
                    match self.fetch_moved(&range.pack, &wanted[*i].secret, decoder) {
                        Ok(plain) => sink(*i, Ok(&plain)),
                        Err(error) => sink(*i, Err(error)),
                    }
                }
            }
            Err(error) => {
                let text = error.to_string();
                for (i, ..) in &range.frames {
                    sink(*i, Err(Error::damaged(&range.pack, text.clone())));
                }
            }
        }
    }

    /// A chunk whose pack `gone` does not exist.
    fn fetch_moved(&self, gone: &str, secret: &Secret, decoder: &mut Decoder) -> Result<Vec<u8>> {
        let fail = |error: &Error| Error::damaged(gone, error.to_string());
        let place = self.pages.relocate(secret.id())?;
        let place = place.ok_or_else(|| Error::damaged(gone, "it does not exist"))?;
        let frame = self.get_range(&place.pack, place.offset, place.len);
        let frame = frame.map_err(|error| fail(&error))?;
        self.decode(&place.pack, secret, decoder, &frame)
    }

    fn get_range(&self, pack: &str, begin: u32, len: u32) -> Result<Bytes> {
        let get = self.store.get_range(pack, begin.into(), len.into());
        let bytes = self.handle.block_on(get)?;
        self.fetched
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    fn decode(
        &self,
        pack: &str,
        secret: &Secret,
        decoder: &mut Decoder,
        frame: &[u8],
    ) -> Result<Vec<u8>> {
        let what = || pack.to_owned();
        let key = Some(&self.grant.domain_key);
        decoder.decode(&what, FrameKind::Data, secret, key, frame)
    }
}

/// Orders chunks by pack and offset and joins neighbours.
fn plan(mut found: Vec<(usize, Location)>) -> Vec<Range> {
    found.sort_by(|(_, a), (_, b)| (&a.pack, a.offset).cmp(&(&b.pack, b.offset)));
    let mut ranges: Vec<Range> = Vec::new();
    for (i, location) in found {
        let end = location.offset.saturating_add(location.len);
        if let Some(last) = ranges.last_mut()
            && last.pack == location.pack
            && location.offset <= last.end.saturating_add(GAP)
            && end - last.begin <= RANGE
        {
            last.end = last.end.max(end);
            last.frames.push((i, location.offset, location.len));
            continue;
        }
        ranges.push(Range {
            pack: location.pack,
            begin: location.offset,
            end,
            frames: vec![(i, location.offset, location.len)],
        });
    }
    ranges
}
