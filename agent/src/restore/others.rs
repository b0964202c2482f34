//! Symbolic links, pipes, sockets and devices.

use std::{
    ffi::{CStr, CString},
    os::fd::AsFd,
    sync::atomic::Ordering::Relaxed,
};

use orlop_repository::{Entry, EntryKind};
use rustix::{
    fs::{FileType, Mode, makedev, mknodat, readlinkat, symlinkat},
    io::Errno,
};

use super::{
    dirs::{Dir, valid_name},
    metadata, replace,
    shared::Shared,
    tally::Denied,
};
use crate::scan::{Subject, Want, read_xattrs};

/// Makes the entry in `dir` with its metadata.
pub(super) fn make(shared: &Shared, dir: &Dir, entry: &Entry) {
    let Some(name) = valid_name(entry.name()) else {
        shared
            .tally
            .trouble(&entry.path, Errno::INVAL.raw_os_error(), "make it");
        return;
    };
    let set = |name: &CStr| {
        let is_link = entry.kind == EntryKind::Symlink;
        let (path, meta) = (&entry.path, &entry.meta);
        metadata::set_named(shared, path, dir.as_fd(), name, meta, is_link);
    };
    let result = match create(dir, &name, entry) {
        Err(Errno::EXIST) if shared.replaces() && is_there(shared, dir, &name, entry) => Ok(()),
        Err(Errno::EXIST) if shared.replaces() => {
            replace::temporary(|name| create(dir, name, entry)).and_then(|(temporary, ())| {
                set(&temporary);
                replace::put(shared, dir, &temporary, &name)
            })
        }
        result => result.map(|()| set(&name)),
    };
    match result {
        Ok(()) => {
            shared.tally.others.fetch_add(1, Relaxed);
            shared.tally.tick();
        }
        Err(errno @ Errno::PERM) if is_device(entry.kind) => {
            shared
                .tally
                .denied(Denied::Device, &entry.path, errno.raw_os_error());
        }
        Err(errno) => shared
            .tally
            .trouble(&entry.path, errno.raw_os_error(), "make it"),
    }
}

/// Whether the name stands for just this already.
fn is_there(shared: &Shared, dir: &Dir, name: &CStr, entry: &Entry) -> bool {
    let Ok((handle, stat)) = shared.opener.open(dir.as_fd(), name, Want::Handle, None) else {
        return false;
    };
    let (stat, meta) = (stat.file, &entry.meta);
    let is_link = entry.kind == EntryKind::Symlink;
    stat.kind == entry.kind
        && stat.nlink == 1
        && stat.rdev == meta.rdev
        && (stat.uid, stat.gid, stat.mtime) == (meta.uid, meta.gid, meta.mtime)
        && (is_link || stat.mode == meta.mode)
        && (!is_link
            || readlinkat(dir, name, Vec::new()).is_ok_and(|to| to.as_bytes() == entry.target))
        && read_xattrs(&Subject::handle(handle.as_fd())).is_ok_and(|list| list == meta.xattrs)
}

fn is_device(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice)
}

fn create(dir: &Dir, name: &CStr, entry: &Entry) -> Result<(), Errno> {
    let node = |kind, dev| mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, dev);
    let dev = makedev((entry.meta.rdev >> 32) as u32, entry.meta.rdev as u32);
    match entry.kind {
        EntryKind::Symlink => {
            let target = CString::new(entry.target.as_slice()).map_err(|_| Errno::INVAL)?;
            symlinkat(&target, dir, name)
        }
        EntryKind::Fifo => node(FileType::Fifo, 0),
        EntryKind::Socket => node(FileType::Socket, 0),
        EntryKind::CharDevice => node(FileType::CharacterDevice, dev),
        EntryKind::BlockDevice => node(FileType::BlockDevice, dev),
        EntryKind::File | EntryKind::Directory => Err(Errno::INVAL),
    }
}
