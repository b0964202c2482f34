//! One regular file on its way: made by whoever writes first, completed by whoever writes last.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use orlop_repository::{Metadata, split_path};
use rustix::{
    fs::{
        AtFlags, IFlags, Mode, OFlags, fchmod, fstat, ftruncate, ioctl_getflags, ioctl_setflags,
        openat, unlinkat,
    },
    io::Errno,
};

use super::{
    dirs::Dir,
    metadata::{self, Present},
    replace,
    shared::Shared,
    writeback, zeros,
};
use crate::scan::{Stat, read_flags};

/// Must be set while the file is empty.
pub(super) const NOCOW: u32 = 0x0080_0000;

/// Bytes that need no chunk.
#[derive(Debug)]
pub(super) enum Piece {
    Inline(Vec<u8>),
    /// Zeros that are allocated.
    Zero(u64),
    /// A hole where the file that is changed has data.
    Hole(u64),
}

/// A regular file that is being written.
pub(super) struct PendingFile {
    pub(super) dir: Arc<Dir>,
    pub(super) path: Vec<u8>,
    pub(super) meta: Metadata,
    pub(super) size: u64,
    /// The size must be set, as the file has holes or may have.
    pub(super) sparse: bool,
    /// Pieces yet to be written, and one for the planner while it has more.
    left: AtomicUsize,
    state: Mutex<State>,
}

enum State {
    /// With the file that is there if it is to be changed in place.
    Untouched(Option<File>),
    Open(Writing),
    Failed,
}

struct Writing {
    file: Arc<File>,
    present: Present,
    place: Place,
}

/// Where a file is written.
enum Place {
    /// Under its name, which nothing had.
    New,
    /// Under another name until it is whole, as there is something of its name.
    Beside(CString),
    /// Into the file that is there.
    Within,
}

impl PendingFile {
    /// A file at a path whose last component is a valid name.
    pub(super) fn new(
        dir: Arc<Dir>,
        path: Vec<u8>,
        meta: Metadata,
        size: u64,
        sparse: bool,
        existing: Option<File>,
    ) -> Self {
        let (left, state) = (AtomicUsize::new(1), Mutex::new(State::Untouched(existing)));
        Self {
            dir,
            path,
            meta,
            size,
            sparse,
            left,
            state,
        }
    }

    fn name(&self) -> Result<CString, Errno> {
        CString::new(split_path(&self.path).1).map_err(|_| Errno::INVAL)
    }

    /// One more piece will be written.
    pub(super) fn expect_piece(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes one piece, and completes the file if it was the last.
    pub(super) fn write(&self, shared: &Shared, offset: u64, bytes: &[u8]) {
        self.put(shared, |file, _| {
            let written = write(file, offset, bytes)?;
            writeback::begin(file, offset, written);
            Ok(written)
        });
        self.piece_done(shared);
    }

    /// As [`PendingFile::write`], for what comes without a chunk.
    pub(super) fn write_piece(&self, shared: &Shared, offset: u64, piece: &Piece) {
        match piece {
            Piece::Inline(bytes) => self.put(shared, |file, _| write(file, offset, bytes)),
            Piece::Zero(len) => self.put(shared, |file, within| {
                if within {
                    zeros::clear(file, offset, *len)
                } else {
                    zeros::allocate(file, offset, *len)
                }
            }),
            Piece::Hole(len) => self.put(shared, |file, _| zeros::punch(file, offset, *len)),
        }
        self.piece_done(shared);
    }

    /// Gives the file up: it would not be what the snapshot holds, so nothing of it is left behind,
    /// unless it is a file that was there and of which a part was written over.
    pub(super) fn fail(&self, shared: &Shared, errno: i32, action: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Failed) {
            return;
        }
        let mut action = action.to_owned();
        if let State::Open(writing) = std::mem::replace(&mut *state, State::Failed) {
            match writing.place {
                Place::New => {
                    if let Ok(name) = self.name() {
                        let _ = unlinkat(&*self.dir, &*name, AtFlags::empty());
                    }
                }
                Place::Beside(temporary) => replace::drop_temporary(&self.dir, &temporary),
                Place::Within => {
                    action.push_str(
                        " (it was being changed in place and is neither what it was nor what it is \
                         to be: restore it again)",
                    );
                }
            }
        }
        drop(state);
        shared.give_up(&self.path);
        shared.tally.trouble(&self.path, errno, &action);
    }

    fn put(&self, shared: &Shared, write: impl FnOnce(&File, bool) -> io::Result<u64>) {
        match self.open(shared) {
            Ok(Some((file, within))) => match write(&file, within) {
                Ok(bytes) => {
                    shared.tally.written.fetch_add(bytes, Ordering::Relaxed);
                }
                Err(error) => {
                    self.fail(shared, error.raw_os_error().unwrap_or(0), "write to it");
                }
            },
            Ok(None) => {}
            Err(errno) => self.fail(shared, errno.raw_os_error(), "create it"),
        }
    }

    /// One piece is written or given up.
    pub(super) fn piece_done(&self, shared: &Shared) {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        if shared.opener.is_remote() {
            self.flush(shared);
        }
        let state = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, State::Failed)
        };
        if let State::Open(writing) = state {
            self.complete(shared, &writing);
        }
    }

    /// Gives the file to its server, which may have no room for what the system took: after that nothing would tell
    /// which file it was, and on kernels before 5.8 not even that there was one.
    fn flush(&self, shared: &Shared) {
        let file = match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Open(writing) => Arc::clone(&writing.file),
            State::Untouched(_) | State::Failed => return,
        };
        if let Err(error) = file.sync_data() {
            let errno = error.raw_os_error().unwrap_or(0);
            self.fail(shared, errno, "write it to its server");
        }
    }

    fn complete(&self, shared: &Shared, writing: &Writing) {
        let (fd, tally) = (writing.file.as_fd(), &shared.tally);
        let mut flags = 0;
        match &writing.place {
            Place::New | Place::Beside(_) => {
                metadata::set_open(tally, &self.path, fd, &self.meta, writing.present);
            }
            Place::Within => {
                flags = read_flags(fd);
                let mut present = writing.present;
                if let Ok(stat) = Stat::of_fd(fd) {
                    present = Present::of(fd, &stat.file, &self.meta);
                }
                metadata::reset_open(tally, &self.path, fd, &self.meta, present);
                tally.updated.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Place::Beside(temporary) = &writing.place {
            let result = self
                .name()
                .and_then(|name| replace::put(shared, &self.dir, temporary, &name));
            if let Err(errno) = result {
                shared.give_up(&self.path);
                let action = "replace what is there";
                tally.trouble(&self.path, errno.raw_os_error(), action);
                return;
            }
        }
        if (self.meta.flags ^ flags) & !NOCOW != 0 {
            shared.defer_flags(&self.path, self.meta.flags);
        }
        tally.file(self.size);
    }

    /// The open file and whether it was there before; `None` if it was given up.
    fn open(&self, shared: &Shared) -> Result<Option<(Arc<File>, bool)>, Errno> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let existing = match &mut *state {
            State::Open(writing) => {
                let within = matches!(writing.place, Place::Within);
                return Ok(Some((Arc::clone(&writing.file), within)));
            }
            State::Failed => return Ok(None),
            State::Untouched(existing) => existing.take(),
        };
        let writing = match existing {
            Some(existing) => Writing {
                file: Arc::new(existing),
                present: Present::default(),
                place: Place::Within,
            },
            None => self.create(shared)?,
        };
        let file = Arc::clone(&writing.file);
        let within = matches!(writing.place, Place::Within);
        *state = State::Open(writing);
        if within {
            // Whoever could read what was there may not be to read what comes.
            let now = fstat(&*file)?;
            let mode = now.st_mode & 0o7777 & self.meta.mode;
            if mode != now.st_mode & 0o7777 {
                fchmod(&*file, Mode::from_raw_mode(mode))?;
            }
        }
        if self.sparse || within {
            ftruncate(&*file, self.size)?;
        }
        Ok(Some((file, within)))
    }

    fn create(&self, shared: &Shared) -> Result<Writing, Errno> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let owner = self.dir.new_owner.get().copied();
        // With its final mode at once if nothing will touch the mode after that.
        let at_once = owner == Some((self.meta.uid, self.meta.gid))
            && self.meta.xattrs.is_empty()
            && !self.dir.default_acl
            && self.meta.mode & 0o7000 == 0
            && shared
                .umask
                .is_some_and(|umask| self.meta.mode & umask == 0);
        let mode = if at_once { self.meta.mode } else { 0o600 };
        let make = |name: &CStr| openat(&*self.dir, name, flags, Mode::from_raw_mode(mode));
        let (place, fd) = match make(&self.name()?) {
            Err(Errno::EXIST) if shared.replaces() => {
                let (temporary, fd) = replace::temporary(make)?;
                (Place::Beside(temporary), fd)
            }
            result => (Place::New, result?),
        };
        let owner = if let Some(owner) = owner {
            owner
        } else {
            let stat = fstat(&fd)?;
            *self
                .dir
                .new_owner
                .get_or_init(|| (stat.st_uid, stat.st_gid))
        };
        if self.meta.flags & NOCOW != 0 {
            let _ = ioctl_getflags(&fd)
                .and_then(|now| ioctl_setflags(&fd, IFlags::from_bits_retain(now.bits() | NOCOW)));
        }
        let present = Present {
            owner: Some(owner),
            mode: at_once.then_some(mode),
            acl: self.dir.default_acl,
            ..Present::default()
        };
        Ok(Writing {
            file: Arc::new(File::from(fd)),
            present,
            place,
        })
    }
}

impl Drop for PendingFile {
    /// A restore that ends early leaves no temporary names.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(writing) = state
            && let Place::Beside(temporary) = &writing.place
        {
            replace::drop_temporary(&self.dir, temporary);
        }
    }
}

fn write(file: &File, offset: u64, bytes: &[u8]) -> io::Result<u64> {
    file.write_all_at(bytes, offset)?;
    Ok(bytes.len() as u64)
}
