//! Regular files that the target has already: what is as it should be stays, a large file is changed
//! in place, and any other is replaced.

use std::{
    fs::File,
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use orlop_repository::{Entry, EntryKind};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use super::{
    InPlace,
    compare::Comparison,
    dirs::{Dir, valid_name},
    file::NOCOW,
    metadata::{self, Present},
    shared::Shared,
    source::Source,
    zeros,
};
use crate::scan::{FileStat, Want, read_flags};

/// A smaller file is replaced: that is quick, and at no time there is a half of it.
const CHANGED_MIN: u64 = 8 << 20;
/// Several threads compare a larger one.
const SHARED_MIN: u64 = 64 << 20;
/// Files that have a digest are smaller.
const DIGESTED_MAX: u64 = 4 << 20;
const FROZEN: u32 = IFlags::IMMUTABLE.bits() | IFlags::APPEND.bits();

/// A file of the snapshot whose name may be taken.
pub(super) struct Candidate {
    pub(super) dir: Arc<Dir>,
    pub(super) entry: Entry,
}

/// What there is of its name.
pub(super) enum Found {
    /// Nothing that is of use.
    Nothing,
    /// The file as it should be; its metadata was set.
    Kept,
    /// A file to be changed where these extents are.
    Changed(File, Vec<bool>),
}

/// Looks for the files of a restore.
pub(super) struct Looker<'a> {
    pub(super) shared: &'a Shared,
    pub(super) source: &'a dyn Source,
    pub(super) workers: usize,
    pub(super) given_up: &'a (dyn Fn() -> bool + Sync),
}

impl Looker<'_> {
    /// What there is of each, in order.
    pub(super) fn look(&self, candidates: &[Candidate]) -> Vec<Found> {
        let slots: Vec<Mutex<Found>> = candidates
            .iter()
            .map(|_| Mutex::new(Found::Nothing))
            .collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while !(self.given_up)() {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let (Some(one), Some(slot)) = (candidates.get(at), slots.get(at)) else {
                    return;
                };
                // Large ones are for all threads together.
                if one.entry.size < SHARED_MIN {
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = self.find(one, 1);
                }
            }
        };
        let helpers = self.workers.min(candidates.len() / 16 + 1) - 1;
        thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(work);
            }
            work();
        });
        for (one, slot) in candidates.iter().zip(&slots) {
            if one.entry.size >= SHARED_MIN && !(self.given_up)() {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = self.find(one, self.workers);
            }
        }
        let found = slots.into_iter().map(Mutex::into_inner);
        found
            .map(|found| found.unwrap_or_else(PoisonError::into_inner))
            .collect()
    }

    fn find(&self, one: &Candidate, workers: usize) -> Found {
        let Candidate { dir, entry } = one;
        let Some(name) = valid_name(entry.name()) else {
            return Found::Nothing;
        };
        let there = self.shared.opener.stat(&**dir, &name);
        let Ok(there) = there.map(|stat| stat.file) else {
            return Found::Nothing;
        };
        if there.kind != EntryKind::File {
            return Found::Nothing;
        }
        let change = there.nlink == 1
            && match self.shared.in_place {
                InPlace::Auto => entry.size >= CHANGED_MIN,
                InPlace::Always => true,
                InPlace::Never => false,
            };
        let open = |want| {
            self.shared
                .opener
                .open(dir.as_fd(), &name, want, Some(&there))
        };
        // One that may not be written to, or that is being executed, can still be as it should be.
        let change = change.then(|| open(Want::Change).ok()).flatten();
        let (change, opened) = match change {
            Some(opened) => (true, Some(opened)),
            None => (false, open(Want::File).ok()),
        };
        let Some((fd, stat)) = opened else {
            return Found::Nothing;
        };
        let (file, stat) = (File::from(fd), stat.file);
        // A further name may belong to another file of the snapshot.
        if stat.nlink > 1 && !self.shared.claim(&stat, entry.hardlink) {
            return self.nothing(&file);
        }
        let Some(differs) = self.compare(entry, &file, &stat, change, workers) else {
            return self.nothing(&file);
        };
        if stat.size == entry.size && !differs.contains(&true) {
            self.keep(entry, &file, &stat);
            return Found::Kept;
        }
        Found::Changed(file, differs)
    }

    /// Which extents differ; `None` if the file is to be replaced.
    fn compare(
        &self,
        entry: &Entry,
        file: &File,
        stat: &FileStat,
        change: bool,
        workers: usize,
    ) -> Option<Vec<bool>> {
        if !change && stat.size != entry.size {
            return None;
        }
        if entry.digest != [0; 16] {
            let same = stat.size == entry.size && self.is_digested(entry, file);
            let extents = self.source.extents(entry).count();
            return (same || change).then(|| vec![!same; extents]);
        }
        let extents = self.source.extents(entry);
        let comparison = Comparison::new(self.source, file, extents, change, self.given_up);
        thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| comparison.work());
            }
            comparison.work();
        });
        let found = comparison.finish()?;
        let most = found.equal >= found.differing || self.shared.in_place == InPlace::Always;
        (found.is_none() || (change && most)).then_some(found.differs)
    }

    fn is_digested(&self, entry: &Entry, file: &File) -> bool {
        if entry.size > DIGESTED_MAX {
            return false;
        }
        let mut bytes = vec![0; entry.size as usize];
        zeros::read_up_to(file, &mut bytes, 0).is_ok_and(|there| there == bytes.len())
            && self.source.has_digest(&bytes, &entry.digest)
    }

    /// The file will be replaced, which flags of its inode would forbid.
    fn nothing(&self, file: &File) -> Found {
        if self.shared.replaces() {
            thaw(file);
        }
        Found::Nothing
    }

    fn keep(&self, entry: &Entry, file: &File, stat: &FileStat) {
        let (tally, meta) = (&self.shared.tally, &entry.meta);
        let (flags, wanted) = (read_flags(file.as_fd()) & !NOCOW, meta.flags & !NOCOW);
        let present = Present::of(file.as_fd(), stat, meta);
        let complete = present.is_complete(meta);
        if !complete {
            if flags & FROZEN != 0 {
                thaw(file);
            }
            metadata::reset_open(tally, &entry.path, file.as_fd(), meta, present);
        }
        if flags != wanted || (!complete && flags & FROZEN != 0) {
            self.shared.defer_flags(&entry.path, meta.flags);
        }
        let count = if complete && flags == wanted {
            &tally.unchanged
        } else {
            &tally.updated
        };
        count.fetch_add(1, Ordering::Relaxed);
        tally.file(entry.size);
    }
}

/// Takes away the flags that forbid any change; who may not do that meets them again.
fn thaw(file: &File) {
    if let Ok(flags) = ioctl_getflags(file)
        && flags.bits() & FROZEN != 0
    {
        let _ = ioctl_setflags(file, IFlags::from_bits_retain(flags.bits() & !FROZEN));
    }
}
