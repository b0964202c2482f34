//! Owner, attributes, mode and times, in the order in which none undoes another: changing the owner
//! clears setuid and capabilities, attributes may change the mode, everything changes times.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
};

use orlop_core::{IssueKind, Timestamp};
use orlop_repository::{Metadata, Xattr};
use rustix::{
    fs::{
        AtFlags, CWD, Gid, IFlags, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
        chmodat, chownat, fchmod, fchown, flistxattr, fremovexattr, fsetxattr, futimens,
        ioctl_getflags, ioctl_setflags, lsetxattr, utimensat,
    },
    io::Errno,
};

use super::{
    dirs::{ACL_ACCESS, ACL_DEFAULT, has_xattr},
    shared::Shared,
    tally::{Denied, Tally},
};
use crate::scan::{FileStat, KEPT_FLAGS, Subject, Want, magic_path, read_xattrs};

const SET_ID: u32 = 0o6000;

/// What an object has before its metadata is set; `None` for what is not known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Present {
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    /// It has an access control list that it inherited, or had before.
    pub(super) acl: bool,
    /// Last modification.
    pub(super) mtime: Option<Timestamp>,
    /// Its attributes are what they are to be.
    pub(super) attributes: bool,
}

impl Present {
    /// What an object has that was there before.
    pub(super) fn of(fd: BorrowedFd<'_>, stat: &FileStat, meta: &Metadata) -> Self {
        let attributes = read_xattrs(&Subject::Open(fd)).is_ok_and(|list| list == meta.xattrs);
        Self {
            owner: Some((stat.uid, stat.gid)),
            mode: Some(stat.mode),
            acl: !attributes && has_xattr(fd, ACL_ACCESS),
            mtime: Some(stat.mtime),
            attributes,
        }
    }

    /// Whether nothing is to be set but inode flags.
    pub(super) fn is_complete(&self, meta: &Metadata) -> bool {
        self.owner == Some((meta.uid, meta.gid))
            && self.mode == Some(meta.mode)
            && self.mtime == Some(meta.mtime)
            && self.attributes
    }
}

/// Sets everything but inode flags on an open file or directory.
pub(super) fn set_open(
    tally: &Tally,
    path: &[u8],
    fd: BorrowedFd<'_>,
    meta: &Metadata,
    present: Present,
) {
    let mut mode = meta.mode;
    let chown = present.owner != Some((meta.uid, meta.gid));
    if chown && let Err(errno) = own(fd, meta, present) {
        tally.denied(Denied::Owner, path, errno.raw_os_error());
        mode &= !SET_ID;
    }
    if present.acl
        && !meta
            .xattrs
            .iter()
            .any(|xattr| xattr.name == ACL_ACCESS.as_bytes())
    {
        let _ = fremovexattr(fd, ACL_ACCESS);
    }
    let attributes = !present.attributes && !meta.xattrs.is_empty();
    if attributes {
        for xattr in &meta.xattrs {
            set_xattr(tally, path, xattr, |name, value| {
                fsetxattr(fd, name, value, XattrFlags::empty())
            });
        }
    }
    if (chown || present.acl || attributes || present.mode != Some(mode))
        && let Err(errno) = fchmod(fd, Mode::from_raw_mode(mode))
    {
        metadata_issue(tally, path, errno, "set its mode");
    }
    if present.mtime != Some(meta.mtime)
        && let Err(errno) = futimens(fd, &times(meta.mtime))
    {
        metadata_issue(tally, path, errno, "set its times");
    }
}

/// Sets everything but inode flags on an open file or directory that was there before.
pub(super) fn reset_open(
    tally: &Tally,
    path: &[u8],
    fd: BorrowedFd<'_>,
    meta: &Metadata,
    present: Present,
) {
    if !present.attributes {
        drop_foreign_xattrs(tally, path, fd, meta);
    }
    set_open(tally, path, fd, meta, present);
}

/// Attributes that the object had before and that the snapshot does not hold. Those that the system keeps for itself,
/// such as labels, stay.
fn drop_foreign_xattrs(tally: &Tally, path: &[u8], fd: BorrowedFd<'_>, meta: &Metadata) {
    let mut names = vec![0; 64 << 10];
    let Ok(len) = flistxattr(fd, names.as_mut_slice()) else {
        return;
    };
    for name in names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let ours = name.starts_with(b"user.")
            || name.starts_with(b"trusted.")
            || name == b"security.capability"
            || name == ACL_ACCESS.as_bytes()
            || name == ACL_DEFAULT.as_bytes();
        if ours
            && !meta.xattrs.iter().any(|xattr| xattr.name == name)
            && let Err(errno) = fremovexattr(fd, name)
            && errno != Errno::NODATA
        {
            tally.denied(Denied::Attribute, path, errno.raw_os_error());
        }
    }
}

fn own(fd: BorrowedFd<'_>, meta: &Metadata, present: Present) -> Result<(), Errno> {
    let (uid, gid) = ids(meta)?;
    let result = fchown(fd, Some(uid), Some(gid));
    if result.is_err() && present.owner.is_none_or(|owner| owner.1 != meta.gid) {
        // An ordinary user may still give it to one of the own groups.
        let group = fchown(fd, None, Some(gid));
        if present.owner.is_some_and(|owner| owner.0 == meta.uid) {
            return group;
        }
    }
    result
}

/// Owner and group; the all-ones id means none to the system and cannot be given to anybody.
fn ids(meta: &Metadata) -> Result<(Uid, Gid), Errno> {
    if meta.uid == u32::MAX || meta.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    Ok((Uid::from_raw(meta.uid), Gid::from_raw(meta.gid)))
}

/// Sets what a link, pipe, socket or device has, by its name in `dir`.
pub(super) fn set_named(
    shared: &Shared,
    path: &[u8],
    dir: BorrowedFd<'_>,
    name: &CStr,
    meta: &Metadata,
    is_link: bool,
) {
    let tally = &shared.tally;
    let mut mode = meta.mode;
    let owner = shared
        .opener
        .stat(dir, name)
        .ok()
        .map(|stat| (stat.file.uid, stat.file.gid));
    if owner != Some((meta.uid, meta.gid)) {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let result =
            ids(meta).and_then(|(uid, gid)| chownat(dir, name, Some(uid), Some(gid), nofollow));
        if let Err(errno) = result {
            tally.denied(Denied::Owner, path, errno.raw_os_error());
            mode &= !SET_ID;
        }
    }
    if !meta.xattrs.is_empty() {
        let magic = magic_path(dir, name.to_bytes());
        for xattr in &meta.xattrs {
            set_xattr(tally, path, xattr, |name, value| {
                lsetxattr(&magic, name, value, XattrFlags::empty())
            });
        }
    }
    // Links have no mode of their own. The others are reached through a handle, as `fchmodat`
    // would follow a link that took their place.
    if !is_link && let Ok((handle, stat)) = shared.opener.open(dir, name, Want::Handle, None) {
        let magic = magic_path(handle.as_fd(), b"");
        if stat.file.mode != mode
            && stat.file.kind != orlop_repository::EntryKind::Symlink
            && let Err(errno) = chmodat(CWD, &magic, Mode::from_raw_mode(mode), AtFlags::empty())
        {
            metadata_issue(tally, path, errno, "set its mode");
        }
    }
    if let Err(errno) = utimensat(dir, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW) {
        metadata_issue(tally, path, errno, "set its times");
    }
}

/// Sets the kept inode flags, leaving the others as they are.
pub(super) fn set_flags(tally: &Tally, path: &[u8], fd: BorrowedFd<'_>, flags: u32) {
    let result = ioctl_getflags(fd).and_then(|now| {
        let wanted = (now.bits() & !KEPT_FLAGS) | (flags & KEPT_FLAGS);
        if wanted == now.bits() {
            return Ok(());
        }
        ioctl_setflags(fd, IFlags::from_bits_retain(wanted))
    });
    if let Err(errno) = result {
        tally.denied(Denied::Flags, path, errno.raw_os_error());
    }
}

fn set_xattr(
    tally: &Tally,
    path: &[u8],
    xattr: &Xattr,
    set: impl FnOnce(&[u8], &[u8]) -> Result<(), Errno>,
) {
    match set(&xattr.name, &xattr.value) {
        Ok(()) => {}
        Err(errno @ (Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)) => {
            tally.denied(Denied::Attribute, path, errno.raw_os_error());
        }
        Err(errno) => {
            let action = format!("set attribute {}", String::from_utf8_lossy(&xattr.name));
            metadata_issue(tally, path, errno, &action);
        }
    }
}

pub(super) fn metadata_issue(tally: &Tally, path: &[u8], errno: Errno, action: &str) {
    let message = format!("cannot {action}: {errno}");
    tally.issue(path, IssueKind::Metadata, errno.raw_os_error(), message);
}

fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: mtime.nanos.into(),
        },
    }
}
