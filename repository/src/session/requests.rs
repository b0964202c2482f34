//! Ranges on their way from the store to the threads that open them.
//!
//! ```text
//! pool ──► ranges ──► asked ──► arrived ──► a worker ──► lost (once) ──► pool
//!          (of the    (tasks    (held until it is done)
//!          pack whose  of the
//!          turn it is) runtime)
//! ```
//! What was asked for and what has arrived is bounded in bytes together. A worker that gives bytes back
//! asks for the next range itself, so that requests run on while all workers are at work.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::ranges::{self, Frame, Pool, Range};
use crate::{
    error::{Error, Result},
    store::ObjectStore,
};

/// Requests that are under way at a time, at most.
const ASKED_MAX: usize = 64;
/// Longest range in bytes: a whole pack of the usual size, with the chunk that closed it.
const RANGE_MAX: u64 = 24 << 20;

/// A range that has arrived, or why it did not.
pub(super) struct Arrived {
    pub(super) pack: Arc<str>,
    pub(super) range: Range,
    pub(super) bytes: Result<Bytes>,
}

/// A frame that was not where it was said to be.
pub(super) struct Lost {
    pub(super) pack: Arc<str>,
    pub(super) frame: Frame,
    pub(super) error: Error,
}

/// What a worker is to do next.
pub(super) enum Work {
    /// A part of a batch that needs no chunk: number of the batch, of the part.
    Part(u64, usize),
    /// Open the frames of a range.
    Open(Arrived),
    /// Look up again where these are; everything else that is known is done.
    Find(Vec<Lost>),
    /// Nothing is left.
    End,
}

#[derive(Default)]
struct State {
    pool: Pool,
    /// Ranges of the pack whose turn it is.
    ranges: VecDeque<(Arc<str>, Range)>,
    parts: VecDeque<(u64, usize)>,
    arrived: VecDeque<Arrived>,
    lost: Vec<Lost>,
    /// Bytes asked for, arrived or being opened.
    held: u64,
    asked: usize,
    /// Workers that have something to do.
    busy: usize,
    /// No batch will come.
    closed: bool,
    stopped: bool,
}

impl State {
    /// Whether nothing is under way that could make more work.
    fn is_quiet(&self) -> bool {
        self.asked == 0
            && self.busy == 0
            && self.arrived.is_empty()
            && self.ranges.is_empty()
            && self.pool.is_empty()
            && self.parts.is_empty()
    }
}

pub(super) struct Requests {
    store: Arc<dyn ObjectStore>,
    handle: Handle,
    cancel: CancellationToken,
    /// Bound of [`State::held`].
    budget: u64,
    range_max: u32,
    state: Mutex<State>,
    wake: Condvar,
}

/// A range that was asked for; it arrives when this is dropped, whatever became of the request.
struct Asked {
    requests: Arc<Requests>,
    arrived: Option<Arrived>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = self.requests.lock();
        state.asked -= 1;
        state.arrived.extend(self.arrived.take());
        drop(state);
        self.requests.wake.notify_all();
    }
}

impl Requests {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        handle: Handle,
        cancel: CancellationToken,
        budget: u64,
    ) -> Self {
        Self {
            store,
            handle,
            cancel,
            budget,
            range_max: (budget / 2).min(RANGE_MAX) as u32,
            state: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` gives something; `None` when the work was stopped. It is asked again
    /// whenever anything has happened.
    pub(super) fn wait<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            if self.cancel.is_cancelled() {
                state.stopped = true;
                self.wake.notify_all();
            }
            if state.stopped {
                return None;
            }
            if let Some(result) = ready() {
                return Some(result);
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Something happened that a waiter may wait for.
    pub(super) fn notify(&self) {
        // A waiter that has just looked must be asleep before it can be woken.
        drop(self.lock());
        self.wake.notify_all();
    }

    /// Adds what a batch needs no chunk for.
    pub(super) fn add_parts(&self, batch: u64, parts: usize) {
        self.lock().parts.extend((0..parts).map(|n| (batch, n)));
        self.wake.notify_all();
    }

    /// Adds frames with the packs that hold them.
    pub(super) fn add<'p>(self: &Arc<Self>, frames: impl Iterator<Item = (&'p str, Frame)>) {
        let mut state = self.lock();
        for (pack, frame) in frames {
            state.pool.add(pack, frame);
        }
        self.ask(&mut state);
        drop(state);
        self.wake.notify_all();
    }

    /// No batch will be added any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Ends all waiting; what is under way is given up.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.cancel.cancel();
        self.wake.notify_all();
    }

    /// The next thing to do for a worker, which says [`Requests::done`] after it.
    pub(super) fn next(self: &Arc<Self>) -> Work {
        let mut state = self.lock();
        loop {
            if self.cancel.is_cancelled() && !state.stopped {
                state.stopped = true;
                self.wake.notify_all();
            }
            // The tasks of requests hold the store: nothing may go on before they have ended.
            if state.stopped && state.asked == 0 {
                return Work::End;
            }
            if !state.stopped {
                self.ask(&mut state);
                let part = state.parts.pop_front();
                if let Some((batch, part)) = part {
                    state.busy += 1;
                    return Work::Part(batch, part);
                }
                if let Some(arrived) = state.arrived.pop_front() {
                    state.busy += 1;
                    return Work::Open(arrived);
                }
                if state.is_quiet() {
                    if !state.lost.is_empty() {
                        state.busy += 1;
                        return Work::Find(std::mem::take(&mut state.lost));
                    }
                    if state.closed {
                        return Work::End;
                    }
                }
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A worker has done what it was given: `len` bytes of a range, with frames that were not there.
    pub(super) fn done(self: &Arc<Self>, len: u32, lost: Vec<Lost>) {
        let mut state = self.lock();
        state.busy -= 1;
        state.held -= u64::from(len);
        state.lost.extend(lost);
        if !state.stopped {
            self.ask(&mut state);
        }
        drop(state);
        self.wake.notify_all();
    }

    /// Asks for as many ranges as there is room for.
    fn ask(self: &Arc<Self>, state: &mut State) {
        while state.asked < ASKED_MAX && !self.cancel.is_cancelled() {
            if state.ranges.is_empty() {
                // Not before there is room: until then more of a pack may be wanted.
                if state.held >= self.budget {
                    return;
                }
                let Some((pack, frames)) = state.pool.next() else {
                    return;
                };
                let ranges = ranges::plan(frames, self.range_max);
                let ranges = ranges.into_iter().map(|range| (Arc::clone(&pack), range));
                state.ranges.extend(ranges);
            }
            let Some((_, range)) = state.ranges.front() else {
                return;
            };
            if state.held > 0 && state.held + u64::from(range.len()) > self.budget {
                return;
            }
            if let Some((pack, range)) = state.ranges.pop_front() {
                state.held += u64::from(range.len());
                state.asked += 1;
                self.spawn(pack, range);
            }
        }
    }

    fn spawn(self: &Arc<Self>, pack: Arc<str>, range: Range) {
        let (begin, len) = (u64::from(range.begin), u64::from(range.len()));
        let broken = Error::System {
            action: "wait for a pack",
            source: std::io::Error::other("the request broke off"),
        };
        let mut asked = Asked {
            requests: Arc::clone(self),
            arrived: Some(Arrived {
                pack: Arc::clone(&pack),
                range,
                bytes: Err(broken),
            }),
        };
        let (store, cancel) = (Arc::clone(&self.store), self.cancel.clone());
        self.handle.spawn(async move {
            let result = tokio::select! {
                result = store.get_range(&pack, begin, len) => result,
                () = cancel.cancelled() => Err(Error::Cancelled),
            };
            if let Some(arrived) = &mut asked.arrived {
                arrived.bytes = result;
            }
        });
    }
}
