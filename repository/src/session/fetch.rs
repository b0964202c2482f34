//! Many chunks at once: planned by pack, asked for ahead of the work, opened on several threads.

mod find;

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    ReadSession,
    ranges::Frame,
    requests::{Arrived, Lost, Requests, Work},
};
use crate::{
    error::{Error, Result},
    frame::{Decoder, FrameKind},
    secret::{ChunkId, Secret},
};

/// Bytes that one call of [`ReadSession::fetch`] may hold.
const SMALL_BUDGET: u64 = 32 << 20;
/// Batches that are served at once: the packs that two of them share are read once.
const BATCHES: usize = 2;

/// A chunk that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its secret.
    pub secret: Secret,
    /// Its plain length in bytes if that is known, else 0.
    pub len: u32,
}

/// Chunks that are wanted together, and who takes them. Its methods are called from several threads.
pub trait Batch: Send + Sync {
    /// The chunks; always the same.
    fn wanted(&self) -> &[Wanted];

    /// Takes a chunk by its index, verified, or why it cannot be had: each exactly once, in any
    /// order, unless the work ends early.
    fn chunk(&self, index: usize, chunk: Result<&[u8]>);

    /// How many parts there are of work that needs no chunk and is done beside the rest.
    fn parts(&self) -> usize {
        0
    }

    /// Does one of the parts; each is called for once.
    fn part(&self, number: usize) {
        let _ = number;
    }

    /// Whether nobody wants any of it any more: then everything ends.
    fn is_given_up(&self) -> bool {
        false
    }
}

/// How many threads and how much memory a fetch may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Threads that decrypt, decompress, verify and hand over.
    pub workers: usize,
    /// Bytes of packs that are on their way or wait to be opened; a frame that is larger still comes,
    /// alone. Each worker holds one chunk beside.
    pub memory_bytes: u64,
}

/// A batch that is served.
struct Running<'b> {
    batch: Arc<dyn Batch + 'b>,
    ids: Vec<ChunkId>,
    /// Chunks and parts that are not done, and one until all are known.
    left: AtomicUsize,
}

impl Running<'_> {
    fn done(&self, count: usize) -> bool {
        self.left.fetch_sub(count, Ordering::AcqRel) == count
    }
}

/// The batches that are served, by number.
#[derive(Default)]
struct Batches<'b> {
    first: u64,
    list: VecDeque<Arc<Running<'b>>>,
    closed: bool,
}

struct Fetch<'s, 'b> {
    session: &'s ReadSession,
    requests: Arc<Requests>,
    batches: Mutex<Batches<'b>>,
}

/// Ends the work of all threads if one of them panics.
struct Alarm<'r>(&'r Requests);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
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
        struct One<'a>(&'a [Wanted], &'a (dyn Fn(usize, Result<&[u8]>) + Sync));
        impl Batch for One<'_> {
            fn wanted(&self) -> &[Wanted] {
                self.0
            }
            fn chunk(&self, index: usize, chunk: Result<&[u8]>) {
                (self.1)(index, chunk);
            }
        }
        let limits = FetchLimits {
            workers,
            memory_bytes: SMALL_BUDGET,
        };
        let one: Arc<dyn Batch + '_> = Arc::new(One(wanted, sink));
        self.fetch_batches(&mut std::iter::once(one), limits, &mut || true)
    }

    /// Serves batches as they come, two at a time, so that the store is busy while the chunks of the
    /// one are written and the next is planned. A pack is asked for at most once for each batch, and
    /// once for both if the second comes in time. `finished` is called for each batch in order, on
    /// this thread, when all of it is done; if it answers false, everything ends.
    ///
    /// A chunk whose pack is gone, or that is damaged, is looked up afresh once and taken from its new
    /// place if it has one.
    ///
    /// # Errors
    /// [`Error::Cancelled`] only.
    pub fn fetch_batches<'b>(
        &self,
        batches: &mut (dyn Iterator<Item = Arc<dyn Batch + 'b>> + Send + '_),
        limits: FetchLimits,
        finished: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let fetch = Fetch {
            session: self,
            requests: Arc::new(Requests::new(
                Arc::clone(&self.store),
                self.handle.clone(),
                self.cancel.child_token(),
                limits.memory_bytes,
            )),
            batches: Mutex::default(),
        };
        thread::scope(|scope| {
            let _alarm = Alarm(&fetch.requests);
            scope.spawn(|| fetch.feed(batches));
            for _ in 0..limits.workers.max(1) {
                scope.spawn(|| fetch.work());
            }
            fetch.finish(finished);
        });
        if self.cancel.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

impl<'b> Fetch<'_, 'b> {
    fn lock(&self) -> MutexGuard<'_, Batches<'b>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn batch(&self, number: u64) -> Arc<Running<'b>> {
        let batches = self.lock();
        Arc::clone(&batches.list[(number - batches.first) as usize])
    }

    /// Takes batches while there is room for them.
    fn feed(&self, batches: &mut (dyn Iterator<Item = Arc<dyn Batch + 'b>> + Send + '_)) {
        let _alarm = Alarm(&self.requests);
        let room = || (self.lock().list.len() < BATCHES).then_some(());
        while self.requests.wait(room).is_some()
            && let Some(batch) = batches.next()
        {
            let running = Arc::new(Running {
                ids: batch.wanted().iter().map(|w| w.secret.id()).collect(),
                left: AtomicUsize::new(batch.wanted().len() + batch.parts() + 1),
                batch,
            });
            let number = {
                let mut batches = self.lock();
                batches.list.push_back(Arc::clone(&running));
                batches.first + batches.list.len() as u64 - 1
            };
            self.requests.add_parts(number, running.batch.parts());
            self.find(number, &running);
            if running.done(1) {
                self.requests.notify();
            }
        }
        self.lock().closed = true;
        self.requests.close();
    }

    fn work(&self) {
        let _alarm = Alarm(&self.requests);
        let mut decoder = Decoder::new();
        loop {
            match self.requests.next() {
                Work::End => return,
                Work::Part(batch, part) => {
                    let running = self.batch(batch);
                    running.batch.part(part);
                    running.done(1);
                    self.requests.done(0, Vec::new());
                }
                Work::Open(arrived) => {
                    let lost = self.open(&arrived, &mut decoder);
                    let len = arrived.range.len();
                    drop(arrived.bytes);
                    self.requests.done(len, lost);
                }
                Work::Find(lost) => {
                    self.find_again(lost);
                    self.requests.done(0, Vec::new());
                }
            }
        }
    }

    /// Hands over the chunks of a range; returns those that may be elsewhere.
    fn open(&self, arrived: &Arrived, decoder: &mut Result<Decoder>) -> Vec<Lost> {
        let mut lost = Vec::new();
        let of = arrived.range.frames.first();
        if of.is_some_and(|frame| self.batch(frame.batch).batch.is_given_up()) {
            self.requests.stop();
            return lost;
        }
        let (session, range, pack) = (self.session, &arrived.range, &arrived.pack);
        if let Ok(bytes) = &arrived.bytes {
            let len = bytes.len() as u64;
            session.fetched.fetch_add(len, Ordering::Relaxed);
        }
        // Where the frame is that the decoder holds: several may want it.
        let mut last: Option<(u32, Secret)> = None;
        for frame in &range.frames {
            if session.cancel.is_cancelled() {
                break;
            }
            let running = self.batch(frame.batch);
            let index = frame.index as usize;
            let secret = &running.batch.wanted()[index].secret;
            if last != Some((frame.offset, *secret)) {
                last = None;
                let opened = match (&arrived.bytes, &mut *decoder) {
                    (Ok(bytes), Ok(decoder)) => {
                        let from = (frame.offset - range.begin) as usize;
                        let bytes = &bytes[from..from + frame.len as usize];
                        let keys = session.grant.domain_keys.all();
                        decoder.open(&|| pack.to_string(), FrameKind::Data, secret, keys, bytes)
                    }
                    (Err(error), _) => Err(unread(pack, running.ids[index], error)),
                    (_, Err(error)) => Err(Error::Invalid(error.to_string())),
                };
                match opened {
                    Ok(()) => last = Some((frame.offset, *secret)),
                    Err(error @ Error::Damaged { .. }) if !frame.again => {
                        lost.push(Lost {
                            pack: Arc::clone(pack),
                            frame: *frame,
                            error,
                        });
                        continue;
                    }
                    Err(error) => running.batch.chunk(index, Err(error)),
                }
            }
            if let (Some(_), Ok(decoder)) = (last, &*decoder) {
                running.batch.chunk(index, Ok(decoder.last()));
            }
            running.done(1);
        }
        lost
    }

    /// Tells of batches that are done, in order, until there are no more.
    fn finish(&self, finished: &mut dyn FnMut() -> bool) {
        let done = || {
            let batches = self.lock();
            match batches.list.front() {
                Some(running) => (running.left.load(Ordering::Acquire) == 0).then_some(true),
                None => batches.closed.then_some(false),
            }
        };
        while self.requests.wait(done) == Some(true) {
            let go_on = finished();
            {
                let mut batches = self.lock();
                batches.list.pop_front();
                batches.first += 1;
            }
            if go_on {
                self.requests.notify();
            } else {
                self.requests.stop();
            }
        }
    }
}

/// Why a chunk cannot be had of a pack that could not be read. A pack that is gone or too short may
/// have been removed after its chunks were moved; of any other failure nothing is known.
fn unread(pack: &str, id: ChunkId, error: &Error) -> Error {
    match error {
        Error::NotFound { store, .. } => {
            Error::damaged(pack, format!("chunk {id}: it does not exist in {store}"))
        }
        Error::Damaged { reason, .. } => Error::damaged(pack, format!("chunk {id}: {reason}")),
        Error::Store { store, source, .. } => Error::Store {
            action: "read",
            name: pack.to_owned(),
            store: store.clone(),
            source: io::Error::new(source.kind(), format!("chunk {id}: {source}")),
        },
        error => Error::Remote {
            action: "read a pack",
            message: format!("{pack}, chunk {id}: {error}"),
            transient: !error.is_permanent(),
        },
    }
}
