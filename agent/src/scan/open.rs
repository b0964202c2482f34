//! Opening one component below a directory without being led anywhere else.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::OnceLock,
};

use orlop_repository::EntryKind;
use rustix::{
    fs::{AtFlags, CWD, FsWord, Mode, OFlags, ResolveFlags, fstatfs, openat, openat2},
    io::Errno,
};

use super::{
    directory::REPLACED_MAX,
    error::ScanError,
    stat::{FileStat, Stat},
};

/// What is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// A regular file, to read.
    File,
    /// A regular file, to read and to change.
    Change,
    /// A directory, to list.
    Directory,
    /// The object itself without any right to its content, whatever its type.
    Handle,
}

impl Want {
    fn flags(self) -> OFlags {
        let read = OFlags::RDONLY
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC
            | OFlags::NOATIME;
        match self {
            Self::File => read,
            Self::Change => read | OFlags::RDWR,
            Self::Directory => read | OFlags::DIRECTORY,
            Self::Handle => HANDLE,
        }
    }

    fn admits(self, kind: EntryKind) -> bool {
        match self {
            Self::File | Self::Change => kind == EntryKind::File,
            Self::Directory => kind == EntryKind::Directory,
            Self::Handle => true,
        }
    }
}

const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Renames elsewhere can make `openat2` answer EAGAIN; a name of one component meets that hardly ever.
const ATTEMPTS: u32 = 16;

/// File systems that have no server: their attributes are never stale. Of any other `statx` asks the server, and
/// what a restore wrote is given to it file by file. (From `linux/magic.h`: ext, XFS, btrfs, tmpfs, overlayfs, F2FS,
/// ramfs, FAT, exFAT, NTFS, JFS, ISO 9660, squashfs, EROFS, bcachefs, and ZFS of OpenZFS.)
const LOCAL: [FsWord; 16] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E_u32 as FsWord,
    0x0102_1994,
    0x794C_7630,
    0xF2F5_2010_u32 as FsWord,
    0x8584_58F6_u32 as FsWord,
    0x4D44,
    0x2011_BAB0,
    0x7366_746E,
    0x3153_464A,
    0x9660,
    0x7371_7368,
    0xE0F5_E1E2_u32 as FsWord,
    0xCA45_1A4E_u32 as FsWord,
    0x2FC1_2FC1,
];

/// How entries of one volume are opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opener {
    openat2: bool,
    remote: bool,
    sync: AtFlags,
    mount: Option<u64>,
    dev: (u32, u32),
}

impl Opener {
    /// For the volume whose root is `root`; `force_fallback` does without `openat2`.
    pub(crate) fn new(root: BorrowedFd<'_>, force_fallback: bool) -> Result<Self, ScanError> {
        let stat = Stat::of_fd(root).map_err(ScanError::of_fd)?;
        let remote = !fstatfs(root).is_ok_and(|fs| LOCAL.contains(&fs.f_type));
        Ok(Self {
            openat2: !force_fallback && has_openat2(),
            remote,
            sync: if remote {
                AtFlags::STATX_FORCE_SYNC
            } else {
                AtFlags::STATX_DONT_SYNC
            },
            mount: stat.mount,
            dev: stat.file.dev,
        })
    }

    /// Whether the volume's file system may have a server, which learns of what is written when it is flushed.
    pub(crate) fn is_remote(&self) -> bool {
        self.remote
    }

    /// The entry `name` of `dir`, links not followed.
    pub(crate) fn stat(&self, dir: impl AsFd, name: &CStr) -> Result<Stat, Errno> {
        Stat::at(dir, name, self.sync)
    }

    /// Whether something is on the volume's own mount. Where the kernel does not tell mounts apart,
    /// the device decides, and a subvolume counts as another mount.
    pub(crate) fn is_inside(&self, stat: &Stat) -> bool {
        match (self.mount, stat.mount) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.dev == stat.file.dev,
        }
    }

    /// Opens `name` in `dir`, if it still is the object that `expected` describes.
    pub(crate) fn open(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        want: Want,
        expected: Option<&FileStat>,
    ) -> Result<(OwnedFd, Stat), ScanError> {
        let fd = if self.openat2 {
            Self::resolve(dir, name, want).map_err(ScanError::of_name)?
        } else {
            let handle = openat(dir, name, HANDLE, Mode::empty()).map_err(ScanError::of_name)?;
            self.verify(handle.as_fd(), want, expected)?;
            if want == Want::Handle {
                handle
            } else {
                reopen(&handle, want)?
            }
        };
        let stat = self.verify(fd.as_fd(), want, expected)?;
        Ok((fd, stat))
    }

    /// Opens the directory that has the name now, whichever it is.
    pub(crate) fn open_present(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(OwnedFd, Stat), ScanError> {
        for _ in 0..REPLACED_MAX {
            match self.open(dir, name, Want::Directory, None) {
                Err(ScanError::Changed) => {}
                opened => return opened,
            }
        }
        // What was below it is not in the snapshot, and may still be in the volume.
        Err(ScanError::Unreadable(Errno::STALE.raw_os_error()))
    }

    fn resolve(dir: BorrowedFd<'_>, name: &CStr, want: Want) -> Result<OwnedFd, Errno> {
        let resolve = BENEATH | ResolveFlags::NO_XDEV;
        let mut flags = want.flags();
        let mut attempts = 0;
        loop {
            match openat2(dir, name, flags, Mode::empty(), resolve) {
                Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => {
                    flags.remove(OFlags::NOATIME);
                }
                Err(Errno::AGAIN | Errno::INTR) if attempts < ATTEMPTS => attempts += 1,
                result => return result,
            }
        }
    }

    fn verify(
        &self,
        fd: BorrowedFd<'_>,
        want: Want,
        expected: Option<&FileStat>,
    ) -> Result<Stat, ScanError> {
        let stat = Stat::of_fd(fd).map_err(ScanError::of_fd)?;
        let same = expected.is_none_or(|expected| expected.same_object(&stat.file));
        if same && want.admits(stat.file.kind) && self.is_inside(&stat) {
            Ok(stat)
        } else {
            Err(ScanError::Changed)
        }
    }
}

/// Opens what a handle stands for, which cannot be exchanged any more.
fn reopen(handle: &OwnedFd, want: Want) -> Result<OwnedFd, ScanError> {
    let path = magic_path(handle.as_fd(), b"");
    let mut flags = want.flags() - OFlags::NOFOLLOW;
    loop {
        match openat(CWD, &path, flags, Mode::empty()) {
            Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => flags.remove(OFlags::NOATIME),
            Err(Errno::INTR) => {}
            result => return result.map_err(ScanError::of_fd),
        }
    }
}

/// The path by which calls that take no descriptor reach an object: `/proc/self/fd/N`, or the entry
/// `name` of that directory. `name` must be one component.
pub(crate) fn magic_path(fd: BorrowedFd<'_>, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    CString::new(path).expect("names without NUL were checked by the caller")
}

/// Whether the kernel has `openat2` and the sandbox lets it through (some answer EPERM for calls
/// that they do not know). Asked once a process.
pub(crate) fn has_openat2() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        !matches!(
            openat2(CWD, c".", flags, Mode::empty(), BENEATH),
            Err(Errno::NOSYS | Errno::PERM)
        )
    })
}
