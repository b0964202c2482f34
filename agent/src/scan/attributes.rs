//! Extended attributes and inode flags of one object.

use std::{
    ffi::{CStr, CString},
    os::fd::BorrowedFd,
};

use orlop_repository::Xattr;
use rustix::{
    fs::{fgetxattr, flistxattr, getxattr, ioctl_getflags, listxattr},
    io::Errno,
};

use super::{error::ScanError, open::magic_path};

/// The kernel's own limits: `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`.
const VALUE_MAX: usize = 64 << 10;
const LIST_MAX: usize = 64 << 10;
/// What one entry may bring into a manifest.
const TOTAL_MAX: usize = 1 << 20;

/// Inode flags that an owner or administrator sets and that mean something on another file system:
/// compressed 0x4, synchronous 0x8, immutable 0x10, append-only 0x20, no dump 0x40, no atime 0x80,
/// not compressed 0x400, journalled data 0x4000, no tail merging 0x8000, synchronous directory
/// 0x10000, top of hierarchy 0x20000, no copy on write 0x800000.
pub(crate) const KEPT_FLAGS: u32 = 0x0083_C4FC;

/// The object to ask: by descriptor, or by the magic path of a descriptor opened with `O_PATH`,
/// for which the calls that take descriptors do not work.
pub(crate) enum Subject<'fd> {
    /// A descriptor opened for reading or writing.
    Open(BorrowedFd<'fd>),
    /// The object's path below `/proc/self/fd`.
    Magic(CString),
}

impl<'fd> Subject<'fd> {
    /// For a descriptor opened with `O_PATH`.
    pub(crate) fn handle(fd: BorrowedFd<'fd>) -> Self {
        Self::Magic(magic_path(fd, b""))
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => flistxattr(fd, buffer),
            Self::Magic(path) => listxattr(path, buffer),
        }
    }

    fn get(&self, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fgetxattr(fd, name, buffer),
            Self::Magic(path) => getxattr(path, name, buffer),
        }
    }
}

/// All attributes, sorted by name; none where the file system has none.
pub(crate) fn read_xattrs(subject: &Subject<'_>) -> Result<Vec<Xattr>, ScanError> {
    let mut short = [0; 1024];
    match subject.list(&mut short) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Vec::new()),
        Ok(len) => read_values(subject, &short[..len]),
        Err(Errno::RANGE) => {
            let mut long = vec![0; LIST_MAX];
            match subject.list(&mut long) {
                Ok(len) => read_values(subject, &long[..len]),
                Err(Errno::RANGE | Errno::TOOBIG) => Err(ScanError::AttributesTooLarge),
                Err(errno) => Err(ScanError::of_fd(errno)),
            }
        }
        Err(Errno::TOOBIG) => Err(ScanError::AttributesTooLarge),
        Err(errno) => Err(ScanError::of_fd(errno)),
    }
}

fn read_values(subject: &Subject<'_>, names: &[u8]) -> Result<Vec<Xattr>, ScanError> {
    let mut xattrs = Vec::new();
    let mut total = 0;
    let mut short = [0; 512];
    let mut long = Vec::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let value = match subject.get(name, &mut short) {
            Ok(len) => short[..len].to_vec(),
            Err(Errno::RANGE) => {
                long.resize(VALUE_MAX, 0);
                match subject.get(name, &mut long) {
                    Ok(len) => long[..len].to_vec(),
                    Err(Errno::RANGE | Errno::TOOBIG) => {
                        return Err(ScanError::AttributesTooLarge);
                    }
                    Err(errno) => return Err(ScanError::of_fd(errno)),
                }
            }
            // Removed meanwhile, or listed without being there for us.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(errno) => return Err(ScanError::of_fd(errno)),
        };
        total += name.count_bytes() + value.len();
        if total > TOTAL_MAX {
            return Err(ScanError::AttributesTooLarge);
        }
        xattrs.push(Xattr {
            name: name.to_bytes().to_vec(),
            value,
        });
    }
    xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(xattrs)
}

/// The kept inode flags of an open file or directory; 0 where the file system has none.
pub(crate) fn read_flags(fd: BorrowedFd<'_>) -> u32 {
    ioctl_getflags(fd).map_or(0, |flags| flags.bits() & KEPT_FLAGS)
}
