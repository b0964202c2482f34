//! Chunks on their way from one repository into the other.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    error::{Error, Result},
    manifest::Extent,
    secret::Secret,
    session::{ReadSession, Wanted, WriteSession, Writer},
};

/// Chunks whose counterparts are remembered: at least so many, at most twice as many.
const REMEMBERED: usize = 1 << 18;
/// Threads that open, seal and store chunks.
const WORKERS: usize = 4;

/// Which chunk there is which one here; the oldest are forgotten.
#[derive(Default)]
struct Known {
    new: HashMap<Secret, Secret>,
    old: HashMap<Secret, Secret>,
}

impl Known {
    fn get(&self, here: &Secret) -> Option<Secret> {
        self.new.get(here).or_else(|| self.old.get(here)).copied()
    }

    fn insert(&mut self, here: Secret, there: Secret) {
        if self.new.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(here, there);
    }
}

/// A part of a chunk whose digest is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    /// Whose.
    pub(super) index: usize,
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// Chunks that are to be copied together.
#[derive(Default)]
pub(super) struct Order {
    wanted: Vec<Wanted>,
    places: HashMap<Secret, usize>,
    /// Of each chunk.
    slices: Vec<Vec<Slice>>,
}

impl Order {
    pub(super) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Adds a chunk; `len` is 0 if it is not known.
    pub(super) fn add(&mut self, secret: Secret, len: u32, slice: Option<Slice>) {
        let at = *self.places.entry(secret).or_insert_with(|| {
            self.wanted.push(Wanted { secret, len });
            self.slices.push(Vec::new());
            self.wanted.len() - 1
        });
        self.slices[at].extend(slice);
    }
}

/// Copies chunks.
pub(super) struct Chunks<'s> {
    from: &'s ReadSession,
    to: &'s WriteSession,
    known: Known,
    read: u64,
}

impl<'s> Chunks<'s> {
    pub(super) fn new(from: &'s ReadSession, to: &'s WriteSession) -> Self {
        Self {
            from,
            to,
            known: Known::default(),
            read: 0,
        }
    }

    /// Chunks that were read so far.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    pub(super) fn is_known(&self, here: &Secret) -> bool {
        self.known.get(here).is_some()
    }

    /// Learns from a file that is the same here and there.
    pub(super) fn learn(&mut self, here: &Extent, there: &Extent) {
        let pair = match (here, there) {
            (
                Extent::Data { secret, len },
                Extent::Data {
                    secret: other,
                    len: other_len,
                },
            ) if len == other_len => (secret, other),
            (
                Extent::Bundle {
                    secret,
                    offset,
                    len,
                },
                Extent::Bundle {
                    secret: other,
                    offset: other_offset,
                    len: other_len,
                },
            ) if (offset, len) == (other_offset, other_len) => (secret, other),
            _ => return,
        };
        self.known.insert(*pair.0, *pair.1);
    }

    /// Reads chunks here, stores them there, and gives the digests of slices.
    ///
    /// # Errors
    /// A chunk cannot be read or stored, or a slice is not in its chunk.
    pub(super) fn copy(&mut self, order: &Order) -> Result<Vec<(usize, [u8; 16])>> {
        if order.wanted.is_empty() {
            return Ok(Vec::new());
        }
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let writers: Mutex<Vec<Writer<'_>>> = Mutex::default();
        let stored: Mutex<Vec<(usize, Secret)>> = Mutex::default();
        let digests: Mutex<Vec<(usize, [u8; 16])>> = Mutex::default();
        let failure: Mutex<Option<Error>> = Mutex::default();
        let failed = AtomicU64::new(0);
        let store = |at: usize, plain: &[u8]| -> Result<()> {
            let writer = lock(&writers).pop();
            let mut writer = writer.map_or_else(|| self.to.writer(), Ok)?;
            let secret = writer.store(plain)?.secret;
            lock(&writers).push(writer);
            lock(&stored).push((at, secret));
            for slice in &order.slices[at] {
                let from = slice.offset as usize;
                let bytes = plain.get(from..from.saturating_add(slice.len as usize));
                let unfit = || Error::unfit_extent(order.wanted[at].secret.id());
                let bytes = bytes.ok_or_else(unfit)?;
                lock(&digests).push((slice.index, self.to.digest(bytes)));
            }
            Ok(())
        };
        self.from
            .fetch(&order.wanted, workers.min(WORKERS), &|at, chunk| {
                // After a failure the rest only comes to its end.
                if failed.load(Ordering::Relaxed) > 0 {
                    return;
                }
                if let Err(error) = chunk.and_then(|plain| store(at, plain)) {
                    failed.fetch_add(1, Ordering::Relaxed);
                    lock(&failure).get_or_insert(error);
                }
            })?;
        if let Some(error) = lock(&failure).take() {
            return Err(error);
        }
        let stored = stored.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.read += stored.len() as u64;
        for (at, secret) in stored {
            self.known.insert(order.wanted[at].secret, secret);
        }
        Ok(digests.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The extent there that is this one here.
    ///
    /// # Errors
    /// Its chunk was not known any more, and cannot be read.
    pub(super) fn translate(&mut self, extent: Extent) -> Result<Extent> {
        let mut there = |secret: Secret, len: u32| {
            if !self.is_known(&secret) {
                let mut order = Order::default();
                order.add(secret, len, None);
                self.copy(&order)?;
            }
            self.known.get(&secret).ok_or_else(|| Error::MissingChunk {
                id: secret.id().to_string(),
            })
        };
        Ok(match extent {
            Extent::Data { secret, len } => Extent::Data {
                secret: there(secret, len)?,
                len,
            },
            Extent::Bundle {
                secret,
                offset,
                len,
            } => Extent::Bundle {
                secret: there(secret, 0)?,
                offset,
                len,
            },
            other => other,
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_is_there() {
        let mut known = Known::default();
        let secret = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Secret::from_bytes(bytes)
        };
        for n in 0..3 * REMEMBERED {
            known.insert(secret(n), secret(n + 1));
            assert_eq!(known.get(&secret(n)), Some(secret(n + 1)));
        }
        assert!(known.new.len() + known.old.len() <= 2 * REMEMBERED);
        assert!(known.get(&secret(2 * REMEMBERED)).is_some());
        assert_eq!(known.get(&secret(0)), None);
    }
}
