//! The end of a restore: directories get their metadata, children before parents, then all is synced.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
};

use orlop_core::IssueKind;
use orlop_repository::{EntryKind, Metadata, split_path};
use rustix::{
    fs::{CWD, Mode, OFlags, openat, syncfs},
    io::Errno,
};
use tokio_util::sync::CancellationToken;

use super::{
    deferred::Late,
    dirs::{DirCache, valid_name},
    error::RestoreError,
    metadata::{self, Present},
    remove,
    shared::Shared,
    target::LOST_AND_FOUND,
};
use crate::scan::{KEPT_FLAGS, ScanError, Stat, Want, magic_path, read_flags};

/// Does everything that was deferred, and syncs the target's file system.
pub(super) fn run(shared: &Shared, cancel: &CancellationToken) -> Result<(), RestoreError> {
    let mut deferred = shared.take_deferred();
    let mut cache = shared.cache();
    while let Some(block) = deferred.pop_block().map_err(RestoreError::Spill)? {
        for late in block.into_iter().rev() {
            if cancel.is_cancelled() {
                return Err(RestoreError::Cancelled);
            }
            match late {
                Late::Directory {
                    path,
                    meta,
                    existed,
                } => {
                    if let Err(error) = directory(shared, &mut cache, &path, &meta, existed) {
                        let message = format!("its metadata was not set: {error}");
                        shared
                            .tally
                            .issue(&path, IssueKind::Metadata, error.errno(), message);
                    }
                }
                Late::FileFlags { path, flags } => {
                    if let Err(error) = file_flags(shared, &mut cache, &path, flags) {
                        let message = format!("its inode flags were not set: {error}");
                        shared
                            .tally
                            .issue(&path, IssueKind::Metadata, error.errno(), message);
                    }
                }
            }
        }
    }
    shared.tally.failure()?;
    syncfs(&*shared.root).map_err(|errno| RestoreError::Target {
        action: "sync",
        target: "the target's file system".to_owned(),
        source: errno.into(),
    })
}

fn directory(
    shared: &Shared,
    cache: &mut DirCache,
    path: &[u8],
    meta: &Metadata,
    existed: bool,
) -> Result<(), ScanError> {
    if path.is_empty() {
        return open_directory(shared, path, shared.root.as_fd(), meta, existed);
    }
    let (parent, name) = split_path(path);
    let parent = cache.get(parent)?;
    let name = valid_name(name).ok_or(ScanError::Vanished)?;
    let (fd, _) = shared
        .opener
        .open(parent.as_fd(), &name, Want::Directory, None)?;
    open_directory(shared, path, fd.as_fd(), meta, existed)
}

fn open_directory(
    shared: &Shared,
    path: &[u8],
    fd: BorrowedFd<'_>,
    meta: &Metadata,
    existed: bool,
) -> Result<(), ScanError> {
    if existed && shared.visit(path) {
        empty(shared, path, fd);
    }
    let stat = Stat::of_fd(fd).map_err(ScanError::of_fd)?.file;
    if existed {
        let present = Present::of(fd, &stat, meta);
        metadata::reset_open(&shared.tally, path, fd, meta, present);
    } else {
        let present = Present {
            owner: Some((stat.uid, stat.gid)),
            mode: Some(stat.mode),
            ..Present::default()
        };
        metadata::set_open(&shared.tally, path, fd, meta, present);
    }
    let flags = if existed { read_flags(fd) } else { 0 };
    if meta.flags & KEPT_FLAGS != flags {
        metadata::set_flags(&shared.tally, path, fd, meta.flags);
    }
    Ok(())
}

/// In mode `exact`: the snapshot's directory is empty.
fn empty(shared: &Shared, path: &[u8], fd: BorrowedFd<'_>) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let keep = |name: &CStr| path.is_empty() && name.to_bytes() == LOST_AND_FOUND;
    let result =
        openat(fd, c".", flags, Mode::empty()).and_then(|own| remove::contents(shared, own, &keep));
    if let Err(errno) = result {
        let action = "remove what the snapshot does not hold in it";
        shared.tally.trouble(path, errno.raw_os_error(), action);
    }
}

fn file_flags(
    shared: &Shared,
    cache: &mut DirCache,
    path: &[u8],
    flags: u32,
) -> Result<(), ScanError> {
    let (parent, name) = split_path(path);
    let parent = cache.get(parent)?;
    let name = valid_name(name).ok_or(ScanError::Vanished)?;
    let (handle, stat) = shared
        .opener
        .open(parent.as_fd(), &name, Want::Handle, None)?;
    if stat.file.kind != EntryKind::File {
        return Err(ScanError::Changed);
    }
    let flags_to_open = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let magic = magic_path(handle.as_fd(), b"");
    let fd = openat(CWD, &magic, flags_to_open, Mode::empty())
        .map_err(|errno: Errno| ScanError::Unreadable(errno.raw_os_error()))?;
    metadata::set_flags(&shared.tally, path, fd.as_fd(), flags);
    Ok(())
}
