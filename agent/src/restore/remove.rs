//! Removing what stands in the way, or what an exact restore does not want, without leaving the
//! target's file system.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering::Relaxed,
};

use orlop_repository::EntryKind;
use rustix::{
    fs::{AtFlags, unlinkat},
    io::Errno,
};

use super::shared::Shared;
use crate::scan::{ARENA_BYTES, Listing, ScanError, Want};

/// Removes the entry `name` of `dir`, with all that is below it. Gone already is fine.
pub(super) fn anything(shared: &Shared, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR, POSIX says EPERM, which immutable files say as well.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOTDIR) => return Err(Errno::PERM),
        Err(errno) => return Err(errno),
    }
    let fd = open(shared, dir, name)?;
    contents(shared, fd, &|_| false)?;
    unlinkat(dir, name, AtFlags::REMOVEDIR)
}

/// Removes everything in `dir` but the names that `keep` wants kept.
pub(super) fn contents(
    shared: &Shared,
    dir: OwnedFd,
    keep: &dyn Fn(&CStr) -> bool,
) -> Result<(), Errno> {
    /// One directory and its subdirectories yet to be emptied.
    struct Level {
        fd: OwnedFd,
        subdirs: Vec<std::ffi::CString>,
    }
    let mut listing = Listing::new(ARENA_BYTES);
    let mut level = |fd: OwnedFd, top: bool| -> Result<Level, Errno> {
        listing.read(fd.as_fd()).map_err(errno_of)?;
        let mut subdirs = Vec::new();
        let mut names = listing.names();
        while let Some(name) = names.next().map_err(errno_of)? {
            if top && keep(name) {
                continue;
            }
            match shared.opener.stat(&fd, name) {
                Ok(stat) if stat.file.kind == EntryKind::Directory => subdirs.push(name.to_owned()),
                Ok(_) | Err(Errno::NOENT) => {
                    match unlinkat(&fd, name, AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(errno) => return Err(errno),
                    }
                    shared.tally.removed.fetch_add(1, Relaxed);
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(Level { fd, subdirs })
    };
    let mut stack = vec![level(dir, true)?];
    while let Some(top) = stack.last() {
        if let Some(name) = top.subdirs.last() {
            let fd = open(shared, top.fd.as_fd(), name)?;
            let next = level(fd, false)?;
            stack.push(next);
            continue;
        }
        stack.pop();
        if let Some(parent) = stack.last_mut()
            && let Some(name) = parent.subdirs.pop()
        {
            unlinkat(&parent.fd, &*name, AtFlags::REMOVEDIR)?;
            shared.tally.removed.fetch_add(1, Relaxed);
        }
    }
    Ok(())
}

fn open(shared: &Shared, dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let (fd, _) = shared
        .opener
        .open(dir, name, Want::Directory, None)
        .map_err(errno_of)?;
    Ok(fd)
}

fn errno_of(error: ScanError) -> Errno {
    match error {
        // Another file system is mounted there, or somebody exchanged it.
        ScanError::Changed => Errno::BUSY,
        error => match error.errno() {
            0 => Errno::IO,
            errno => Errno::from_raw_os_error(errno),
        },
    }
}
