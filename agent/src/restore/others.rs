//! Symbolic links, pipes, sockets and devices.

use std::{ffi::CString, os::fd::AsFd, sync::atomic::Ordering::Relaxed};

use orlop_repository::{Entry, EntryKind};
use rustix::{
    fs::{FileType, Mode, makedev, mknodat, symlinkat},
    io::Errno,
};

use super::{
    dirs::{Dir, valid_name},
    metadata, remove,
    shared::Shared,
    tally::Denied,
};

/// Makes the entry in `dir` with its metadata.
pub(super) fn make(shared: &Shared, dir: &Dir, entry: &Entry) {
    let Some(name) = valid_name(entry.name()) else {
        shared
            .tally
            .trouble(&entry.path, Errno::INVAL.raw_os_error(), "make it");
        return;
    };
    let mut attempts = 0;
    let result = loop {
        match create(dir, &name, entry) {
            Err(Errno::EXIST) if shared.replaces() && attempts < 4 => {
                attempts += 1;
                if let Err(errno) = remove::anything(shared, dir.as_fd(), &name) {
                    break Err(errno);
                }
            }
            result => break result,
        }
    };
    match result {
        Ok(()) => {
            let is_link = entry.kind == EntryKind::Symlink;
            metadata::set_named(
                shared,
                &entry.path,
                dir.as_fd(),
                &name,
                &entry.meta,
                is_link,
            );
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

fn is_device(kind: EntryKind) -> bool {
    matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice)
}

fn create(dir: &Dir, name: &CString, entry: &Entry) -> Result<(), Errno> {
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
