//! What `statx` tells of an entry.

use std::{ffi::CStr, os::fd::AsFd};

use super::error::ScanError;
use orlop_core::Timestamp;
use orlop_repository::EntryKind;
use rustix::{
    fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp, statx},
    io::Errno,
};

/// Type, owner, permissions, size, identity and times of an entry, as `lstat` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Type.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Inode number.
    pub ino: u64,
    /// Major and minor number of the device that holds it.
    pub dev: (u32, u32),
    /// Number of names.
    pub nlink: u32,
    /// Last modification of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Device number (major << 32 | minor) of devices, else 0.
    pub rdev: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
}

impl FileStat {
    /// The stat of an open file.
    ///
    /// # Errors
    /// The system refuses.
    pub fn of_file(file: &std::fs::File) -> Result<Self, ScanError> {
        Ok(Stat::of_fd(file).map_err(ScanError::of_fd)?.file)
    }

    /// Whether both are of the same object: device, inode and type.
    pub fn same_object(&self, other: &Self) -> bool {
        self.ino == other.ino && self.dev == other.dev && self.kind == other.kind
    }
}

/// A [`FileStat`] with what the walk alone needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) file: FileStat,
    /// The mount that holds the entry; `None` before Linux 5.8.
    pub(crate) mount: Option<u64>,
    /// Opening the directory would mount something on it.
    pub(crate) automount: bool,
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS
    .difference(StatxFlags::ATIME)
    .union(StatxFlags::MNT_ID);

impl Stat {
    /// The entry `name` of `dir`, links not followed; `ENODATA` if its type is none we know.
    pub(crate) fn at(dir: impl AsFd, name: &CStr, sync: AtFlags) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | sync;
        Self::of(&statx(dir, name, flags, WANTED)?)
    }

    /// The object behind a descriptor.
    pub(crate) fn of_fd(fd: impl AsFd) -> Result<Self, Errno> {
        Self::of(&statx(fd, c"", AtFlags::EMPTY_PATH, WANTED)?)
    }

    fn of(raw: &Statx) -> Result<Self, Errno> {
        let kind = match FileType::from_raw_mode(u32::from(raw.stx_mode)) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => EntryKind::Symlink,
            FileType::Fifo => EntryKind::Fifo,
            FileType::Socket => EntryKind::Socket,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Unknown => return Err(Errno::NODATA),
        };
        let device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let rdev = (u64::from(raw.stx_rdev_major) << 32) | u64::from(raw.stx_rdev_minor);
        Ok(Self {
            file: FileStat {
                kind,
                mode: u32::from(raw.stx_mode) & 0o7777,
                uid: raw.stx_uid,
                gid: raw.stx_gid,
                size: raw.stx_size,
                ino: raw.stx_ino,
                dev: (raw.stx_dev_major, raw.stx_dev_minor),
                nlink: raw.stx_nlink,
                mtime: timestamp(raw.stx_mtime),
                ctime: timestamp(raw.stx_ctime),
                rdev: if device { rdev } else { 0 },
                blocks: raw.stx_blocks,
            },
            mount: (raw.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(raw.stx_mnt_id),
            automount: raw.stx_attributes.contains(StatxAttributes::AUTOMOUNT),
        })
    }
}

fn timestamp(raw: StatxTimestamp) -> Timestamp {
    Timestamp::new(raw.tv_sec, raw.tv_nsec)
}
