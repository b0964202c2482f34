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

use orlop_repository::Metadata;
use rustix::{
    fs::{
        AtFlags, FallocateFlags, IFlags, Mode, OFlags, fallocate, fstat, ftruncate, ioctl_getflags,
        ioctl_setflags, openat, unlinkat,
    },
    io::Errno,
};

use super::{
    deferred::Late,
    dirs::Dir,
    metadata::{self, Present},
    replace,
    shared::Shared,
};

/// Must be set while the file is empty.
const NOCOW: u32 = 0x0080_0000;
const ZEROS: usize = 64 << 10;

/// Bytes that need no chunk.
#[derive(Debug)]
pub(super) enum Piece {
    Inline(Vec<u8>),
    Zero(u64),
}

/// A regular file that is being written.
pub(super) struct PendingFile {
    pub(super) dir: Arc<Dir>,
    pub(super) name: CString,
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
    Untouched,
    Open(Writing),
    Failed,
}

struct Writing {
    file: Arc<File>,
    present: Present,
    /// The name until the file is whole, if there is another file of its name.
    temporary: Option<CString>,
}

impl PendingFile {
    pub(super) fn new(
        dir: Arc<Dir>,
        name: CString,
        path: Vec<u8>,
        meta: Metadata,
        size: u64,
        sparse: bool,
    ) -> Self {
        let (left, state) = (AtomicUsize::new(1), Mutex::new(State::Untouched));
        Self {
            dir,
            name,
            path,
            meta,
            size,
            sparse,
            left,
            state,
        }
    }

    /// One more piece will be written.
    pub(super) fn expect_piece(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes one piece, and completes the file if it was the last.
    pub(super) fn write(&self, shared: &Shared, offset: u64, bytes: &[u8]) {
        self.put(shared, |file| file.write_all_at(bytes, offset));
        self.piece_done(shared);
    }

    /// As [`PendingFile::write`], for what comes without a chunk.
    pub(super) fn write_piece(&self, shared: &Shared, offset: u64, piece: &Piece) {
        match piece {
            Piece::Inline(bytes) => self.put(shared, |file| file.write_all_at(bytes, offset)),
            Piece::Zero(len) => self.put(shared, |file| write_zeros(file, offset, *len)),
        }
        self.piece_done(shared);
    }

    /// Gives the file up: it would not be what the snapshot holds, so nothing of it is left behind.
    pub(super) fn fail(&self, shared: &Shared, errno: i32, action: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Failed) {
            return;
        }
        if let State::Open(writing) = std::mem::replace(&mut *state, State::Failed) {
            let name = writing.temporary.as_ref().unwrap_or(&self.name);
            let _ = unlinkat(&*self.dir, &**name, AtFlags::empty());
        }
        drop(state);
        shared.give_up(&self.path);
        shared.tally.trouble(&self.path, errno, action);
    }

    fn put(&self, shared: &Shared, write: impl FnOnce(&File) -> io::Result<()>) {
        match self.open(shared) {
            Ok(Some(file)) => {
                if let Err(error) = write(&file) {
                    self.fail(shared, error.raw_os_error().unwrap_or(0), "write to it");
                }
            }
            Ok(None) => {}
            Err(errno) => self.fail(shared, errno.raw_os_error(), "create it"),
        }
    }

    /// One piece is written or given up.
    pub(super) fn piece_done(&self, shared: &Shared) {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let state = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, State::Failed)
        };
        if let State::Open(writing) = state {
            let (fd, present) = (writing.file.as_fd(), writing.present);
            metadata::set_open(&shared.tally, &self.path, fd, &self.meta, present);
            if let Some(temporary) = &writing.temporary
                && let Err(errno) = replace::put(shared, &self.dir, temporary, &self.name)
            {
                shared.give_up(&self.path);
                let action = "replace what is there";
                shared
                    .tally
                    .trouble(&self.path, errno.raw_os_error(), action);
                return;
            }
            if self.meta.flags & !NOCOW != 0 {
                let path = self.path.clone();
                shared.defer(&Late::FileFlags {
                    path,
                    flags: self.meta.flags,
                });
            }
            shared.tally.files.fetch_add(1, Ordering::Relaxed);
            shared.tally.bytes.fetch_add(self.size, Ordering::Relaxed);
            shared.tally.tick();
        }
    }

    /// The open file, `None` if it was given up.
    fn open(&self, shared: &Shared) -> Result<Option<Arc<File>>, Errno> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Open(writing) => Ok(Some(Arc::clone(&writing.file))),
            State::Failed => Ok(None),
            State::Untouched => {
                let writing = self.create(shared)?;
                let file = Arc::clone(&writing.file);
                *state = State::Open(writing);
                if self.sparse {
                    ftruncate(&*file, self.size)?;
                }
                Ok(Some(file))
            }
        }
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
        let (temporary, fd) = match make(&self.name) {
            Err(Errno::EXIST) if shared.replaces() => {
                let (temporary, fd) = replace::temporary(make)?;
                (Some(temporary), fd)
            }
            result => (None, result?),
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
        };
        Ok(Writing {
            file: Arc::new(File::from(fd)),
            present,
            temporary,
        })
    }
}

impl Drop for PendingFile {
    /// A restore that ends early leaves no temporary names.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(writing) = state
            && let Some(temporary) = &writing.temporary
        {
            replace::drop_temporary(&self.dir, temporary);
        }
    }
}

/// Zeros that were written are allocated again, so that a full disk shows now and not later.
fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), offset, len) {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    let zeros = vec![0; ZEROS];
    let mut at = offset;
    while at < offset + len {
        let part = usize::try_from(offset + len - at).map_or(ZEROS, |left| left.min(ZEROS));
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}
