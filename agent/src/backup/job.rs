//! What passes between walk, workers and assembler.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use orlop_repository::{Entry, ParentEntry, StatRecord, Stored};

use super::{
    blocks::Chunk,
    room::bytes_of,
    stream::{Scan, Scanned},
};
use crate::scan::{Directory, FileStat, ScanError};

/// A regular file that must be read.
pub(super) struct Member {
    pub(super) dir: Arc<Directory>,
    pub(super) name: Box<[u8]>,
    pub(super) stat: FileStat,
    pub(super) found: Option<ParentEntry>,
}

/// The finished entry of a member; `None` if the file is gone.
pub(super) type Finished = Option<(Entry, StatRecord)>;

/// Where a result appears once. Dropping the sending half without a result tells the waiting one.
struct Slot<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

enum State<T> {
    Waiting,
    Ready(T),
    Lost,
}

/// The half that gives the result.
pub(super) struct Promise<T>(Arc<Slot<T>>);

/// The half that waits for it.
pub(super) struct Future<T>(Arc<Slot<T>>);

/// Both halves.
pub(super) fn promise<T>() -> (Promise<T>, Future<T>) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State::Waiting),
        ready: Condvar::new(),
    });
    (Promise(Arc::clone(&slot)), Future(slot))
}

impl<T> Promise<T> {
    pub(super) fn keep(self, value: T) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = State::Ready(value);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Waiting) {
            *state = State::Lost;
        }
        self.0.ready.notify_all();
    }
}

impl<T> Future<T> {
    /// The result; `None` if there will never be one.
    pub(super) fn wait(self) -> Option<T> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match std::mem::replace(&mut *state, State::Lost) {
                State::Ready(value) => return Some(value),
                State::Lost => return None,
                State::Waiting => {
                    *state = State::Waiting;
                    state = self
                        .0
                        .ready
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Whether [`Self::wait`] returns at once, now or before `patience` ends.
    pub(super) fn is_ready_within(&self, patience: Duration) -> bool {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut State<T>| matches!(state, State::Waiting);
        let waited = self.0.ready.wait_timeout_while(state, patience, waiting);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Whether [`Self::wait`] would return at once.
    pub(super) fn is_ready(&self) -> bool {
        !matches!(
            *self.0.state.lock().unwrap_or_else(PoisonError::into_inner),
            State::Waiting
        )
    }
}

/// Work for a worker.
pub(super) enum Job {
    /// Small files that share a bundle.
    Small(Vec<Member>, Promise<Vec<Finished>>),
    /// A file with chunks of its own.
    Large(Member, Promise<Finished>),
}

/// A piece of a large file's work that another worker may do.
pub(super) enum Help {
    /// Read a block and find where it may be cut.
    Scan(Scan, Promise<Result<Scanned, ScanError>>),
    /// Hash, compress and seal chunks.
    Store(Vec<Chunk>, Promise<Vec<Stored>>),
}

/// Whether [`Item::Link`]s to this file may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Further {
    /// The walk will send further names as links.
    Links,
    /// It will not: there are none, or each will be read again.
    None,
}

/// One entry on its way to the manifest, in listing order.
pub(super) enum Item {
    /// As it was in the parent, with those of its bytes that no other name has counted.
    Keep(ParentEntry, u64),
    /// A directory, link or special that is new or changed.
    Ready(Box<Entry>, StatRecord),
    /// A file with chunks of its own.
    Large(Future<Finished>, Further),
    /// The first of some small files, whose results come together.
    Small(Future<Vec<Finished>>, Further),
    /// The next small file of the same bundle.
    Next(Further),
    /// Another name of a file that was read under its first name.
    Link(Box<Member>),
}

impl Item {
    /// About what it takes in memory while it waits; results of reading are counted by their readers.
    pub(super) fn waiting_bytes(&self) -> u64 {
        match self {
            Self::Ready(entry, _) => bytes_of(entry),
            Self::Link(member) => {
                (size_of::<Member>() + member.name.len() + member.dir.path.len()) as u64
            }
            Self::Keep(..) | Self::Large(..) | Self::Small(..) | Self::Next(_) => 0,
        }
    }
}
