//! Looking at directories before the walk comes to them, where that takes long: on cold disks and over networks.
//!
//! ```text
//! walk ──the next subdirectories, the next names──▶ helpers: open, list, stat
//!   ◀────────taken in the order of the walk, or done by itself where none has begun────
//! ```
//! While stats come from memory, as they do as a rule, there is nothing to gain and nothing is looked at ahead.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rustix::io::Errno;

use super::{
    error::ScanError,
    listing::Listing,
    open::{Opener, Want},
    stat::{FileStat, Stat},
};

/// Threads that look ahead.
pub(super) const HELPERS: usize = 8;
/// Directories of more names are not looked at as a whole, but their names in batches.
const NAMES_MAX: usize = 1024;
/// What may be looked at and not be taken yet: as many directories are open, and so many times the names are held.
const HELD_MAX: usize = 64;
/// Every so many stats one is timed.
const TIMED: u32 = 4;
/// Stats that are judged together, and how many of them must have been slow.
const JUDGED: u32 = 256;
const SLOW_MIN: u32 = 8;
/// A stat that took longer was not answered from memory.
const SLOW: Duration = Duration::from_micros(40);

/// When the walk looks ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LookAhead {
    /// Once stats take long.
    #[default]
    WhenSlow,
    /// From the beginning.
    Always,
    /// Never.
    Never,
}

/// Finds out whether stats take long.
#[derive(Debug, Default)]
pub(super) struct Pace {
    until_timed: u32,
    timed: u32,
    slow: u32,
}

impl Pace {
    /// Makes a stat; true with it if stats take long.
    pub(super) fn stat(
        &mut self,
        make: impl FnOnce() -> Result<Stat, Errno>,
    ) -> (Result<Stat, Errno>, bool) {
        if self.until_timed > 0 {
            self.until_timed -= 1;
            return (make(), false);
        }
        self.until_timed = TIMED - 1;
        let begun = Instant::now();
        let made = make();
        (made, self.took(begun.elapsed()))
    }

    fn took(&mut self, time: Duration) -> bool {
        self.timed += 1;
        self.slow += u32::from(time > SLOW);
        let is_slow = self.slow >= SLOW_MIN;
        if self.timed == JUDGED {
            (self.timed, self.slow) = (0, 0);
        }
        is_slow
    }
}

/// What is to be looked at.
pub(super) enum Job {
    /// A directory by its name in another one, if it still is what `expected` says.
    Directory {
        parent: Arc<OwnedFd>,
        name: CString,
        expected: FileStat,
    },
    /// Some names of a directory, in order.
    Names {
        dir: Arc<OwnedFd>,
        names: Vec<CString>,
    },
}

/// Names with their stats, in order.
pub(super) type Stats = Vec<(CString, Result<Stat, Errno>)>;

/// All names of a directory with their stats, and why there may be more.
pub(super) type Listed = (Stats, Result<(), ScanError>);

/// What was found.
pub(super) enum Found {
    Directory {
        opened: Result<(OwnedFd, Stat), ScanError>,
        /// `None` if it has too many names.
        listed: Option<Listed>,
    },
    Names(Stats),
}

impl Job {
    pub(super) fn run(self, opener: Opener, listing: &mut Listing) -> Found {
        match self {
            Self::Names { dir, names } => {
                let stat = |name: CString| {
                    let stat = opener.stat(&*dir, &name);
                    (name, stat)
                };
                Found::Names(names.into_iter().map(stat).collect())
            }
            Self::Directory {
                parent,
                name,
                expected,
            } => {
                let opened = opener.open(parent.as_fd(), &name, Want::Directory, Some(&expected));
                let listed = opened
                    .as_ref()
                    .ok()
                    .and_then(|(fd, _)| list(opener, fd, listing));
                Found::Directory { opened, listed }
            }
        }
    }
}

fn list(opener: Opener, fd: &OwnedFd, listing: &mut Listing) -> Option<Listed> {
    let read = listing.read(fd.as_fd());
    if listing.len() > NAMES_MAX || matches!(read, Err(ScanError::Spill(_))) {
        return None;
    }
    let mut stats = Vec::with_capacity(listing.len());
    let each = |name: &CStr| {
        stats.push((name.to_owned(), opener.stat(fd, name)));
        Ok::<_, ScanError>(())
    };
    listing.for_each(each).ok()?;
    Some((stats, read))
}

enum State {
    Waiting(Job),
    Working,
    Done(Found),
    Gone,
}

struct Slot {
    state: Mutex<State>,
    done: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves what was found, unless nobody wants it any more.
    fn finish(&self, found: Option<Found>) {
        let mut state = self.lock();
        if matches!(*state, State::Working) {
            *state = found.map_or(State::Gone, State::Done);
        }
        drop(state);
        self.done.notify_all();
    }
}

/// What will be found of a job.
pub(super) struct Ticket {
    slot: Arc<Slot>,
    crew: Arc<Crew>,
}

impl Ticket {
    /// What was found; the job itself if nobody has begun it; nothing if a helper has broken off.
    pub(super) fn take(self) -> Option<Result<Found, Job>> {
        let mut state = self.slot.lock();
        loop {
            match std::mem::replace(&mut *state, State::Gone) {
                State::Waiting(job) => return Some(Err(job)),
                State::Done(found) => return Some(Ok(found)),
                State::Gone => return None,
                State::Working => {
                    *state = State::Working;
                    let waited = self.slot.done.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Drop for Ticket {
    /// Whatever becomes of it, there is room for another.
    fn drop(&mut self) {
        *self.slot.lock() = State::Gone;
        self.crew.given.fetch_sub(1, SeqCst);
    }
}

/// The helpers' queue: the last that came is what the walk needs first.
pub(super) struct Crew {
    opener: Opener,
    queue: Mutex<Queue>,
    came: Condvar,
    /// Tickets that are out.
    given: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Arc<Slot>>,
    closed: bool,
}

impl Crew {
    pub(super) fn new(opener: Opener) -> Arc<Self> {
        Arc::new(Self {
            opener,
            queue: Mutex::default(),
            came: Condvar::new(),
            given: 0.into(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many more may be looked at: no more than may be held when all are done.
    pub(super) fn has_room(&self) -> bool {
        self.given.load(SeqCst) < HELD_MAX
    }

    /// Gives the helpers something to look at.
    pub(super) fn ask(self: &Arc<Self>, job: Job) -> Ticket {
        self.given.fetch_add(1, SeqCst);
        let slot = Arc::new(Slot {
            state: Mutex::new(State::Waiting(job)),
            done: Condvar::new(),
        });
        self.lock().jobs.push(Arc::clone(&slot));
        self.came.notify_one();
        Ticket {
            slot,
            crew: Arc::clone(self),
        }
    }

    /// Ends the helpers.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.came.notify_all();
    }

    /// A helper's work, until the crew is closed.
    pub(super) fn help(&self, arena_bytes: usize) {
        let mut listing = Listing::new(arena_bytes);
        loop {
            let slot = {
                let mut queue = self.lock();
                loop {
                    if queue.closed {
                        return;
                    }
                    if let Some(slot) = queue.jobs.pop() {
                        break slot;
                    }
                    let waited = self.came.wait(queue);
                    queue = waited.unwrap_or_else(PoisonError::into_inner);
                }
            };
            let job = {
                let mut state = slot.lock();
                match std::mem::replace(&mut *state, State::Working) {
                    State::Waiting(job) => job,
                    other => {
                        *state = other;
                        continue;
                    }
                }
            };
            let _working = Working(&slot);
            slot.finish(Some(job.run(self.opener, &mut listing)));
        }
    }
}

/// Tells who waits that a helper has broken off, if it does.
struct Working<'s>(&'s Slot);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.finish(None);
    }
}

/// Closes the crew whatever happens to the walk.
pub(super) struct Closing<'c>(pub(super) &'c Crew);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::scan::{Directory, WalkOptions, listing::ARENA_BYTES};

    #[test]
    fn a_directory_with_too_many_names_for_a_helper_is_listed_whole_afterwards() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("wide")).unwrap();
        let count = NAMES_MAX + 7;
        for n in 0..count {
            fs::write(top.path().join(format!("wide/{n}")), "").unwrap();
        }
        let open = |path: &std::path::Path| OwnedFd::from(File::open(path).unwrap());
        let root = Directory::open_root(open(top.path()), &WalkOptions::default()).unwrap();
        let opener = root.opener();
        let expected = opener.stat(root.as_fd(), c"wide").unwrap().file;
        // More than are looked at as a whole, and more than fit into a helper's memory.
        for arena_bytes in [ARENA_BYTES, 4000] {
            let job = Job::Directory {
                parent: root.shared_fd(),
                name: c"wide".to_owned(),
                expected,
            };
            let Found::Directory { opened, listed } =
                job.run(opener, &mut Listing::new(arena_bytes))
            else {
                panic!("a directory was asked for");
            };
            assert!(listed.is_none(), "{arena_bytes}");
            let mut listing = Listing::new(ARENA_BYTES);
            listing.read(opened.unwrap().0.as_fd()).unwrap();
            assert_eq!(listing.len(), count, "{arena_bytes}");
        }
    }

    #[test]
    fn a_few_slow_stats_in_many_are_enough_and_a_stray_one_is_not() {
        let (mut pace, fast, slow) = (Pace::default(), Duration::from_micros(2), SLOW * 2);
        for round in 0..4 * JUDGED {
            // A disk that answers for sixteen inodes at a time.
            let time = if round % (JUDGED / 2) == 7 {
                slow
            } else {
                fast
            };
            assert!(!pace.took(time), "{round}");
        }
        let turned = (0..JUDGED).find(|round| pace.took(if round % 16 == 0 { slow } else { fast }));
        assert_eq!(turned, Some(16 * (SLOW_MIN - 1)));
    }
}
