//! Open directories of the target: made, taken over, cached.

use std::{
    collections::HashMap,
    ffi::CString,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, OnceLock},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, chmodat, fgetxattr, fremovexattr, mkdirat},
    io::Errno,
};

use super::{remove, shared::Shared};
use crate::scan::{FileStat, Opener, ScanError, Want, magic_path};

pub(super) const ACL_ACCESS: &str = "system.posix_acl_access";
pub(super) const ACL_DEFAULT: &str = "system.posix_acl_default";

/// Directories held open by one cache.
const CACHED: usize = 256;

/// An open directory of the target.
pub(super) struct Dir {
    fd: OwnedFd,
    /// What is made in it inherits an access control list.
    pub(super) default_acl: bool,
    /// Owner and group that new files in it get, known after the first.
    pub(super) new_owner: OnceLock<(u32, u32)>,
}

impl Dir {
    pub(super) fn new(fd: OwnedFd) -> Self {
        let default_acl = has_xattr(fd.as_fd(), ACL_DEFAULT);
        Self {
            fd,
            default_acl,
            new_owner: OnceLock::new(),
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(super) fn has_xattr(fd: BorrowedFd<'_>, name: &str) -> bool {
    let mut small = [0; 1];
    matches!(fgetxattr(fd, name, &mut small), Ok(_) | Err(Errno::RANGE))
}

/// The least recently used of some 256 open directories is closed for the next.
pub(super) struct DirCache {
    root: Arc<Dir>,
    opener: Opener,
    open: HashMap<Vec<u8>, (Arc<Dir>, u64)>,
    clock: u64,
}

impl DirCache {
    pub(super) fn new(root: Arc<Dir>, opener: Opener) -> Self {
        Self {
            root,
            opener,
            open: HashMap::new(),
            clock: 0,
        }
    }

    /// The directory at `path`, every component of which must be a directory of the target's own
    /// file system.
    pub(super) fn get(&mut self, path: &[u8]) -> Result<Arc<Dir>, ScanError> {
        if let Some(dir) = self.hit(path) {
            return Ok(dir);
        }
        let (mut dir, mut at) = self.nearest(path);
        while at < path.len() {
            let start = if at == 0 { 0 } else { at + 1 };
            let len = path[start..]
                .iter()
                .position(|b| *b == b'/')
                .unwrap_or(path.len() - start);
            let name = valid_name(&path[start..start + len]).ok_or(ScanError::Vanished)?;
            let (fd, _) = self
                .opener
                .open(dir.as_fd(), &name, Want::Directory, None)?;
            dir = Arc::new(Dir::new(fd));
            at = start + len;
            self.insert(&path[..at], &dir);
        }
        Ok(dir)
    }

    fn hit(&mut self, path: &[u8]) -> Option<Arc<Dir>> {
        if path.is_empty() {
            return Some(Arc::clone(&self.root));
        }
        let (dir, used) = self.open.get_mut(path)?;
        self.clock += 1;
        *used = self.clock;
        Some(Arc::clone(dir))
    }

    /// The closest open directory above `path`, and the length of its path.
    fn nearest(&mut self, path: &[u8]) -> (Arc<Dir>, usize) {
        let mut len = path.len();
        while let Some(at) = path[..len].iter().rposition(|b| *b == b'/') {
            len = at;
            if let Some(dir) = self.hit(&path[..len]) {
                return (dir, len);
            }
        }
        (Arc::clone(&self.root), 0)
    }

    fn insert(&mut self, path: &[u8], dir: &Arc<Dir>) {
        if self.open.len() >= CACHED {
            let oldest = self
                .open
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(p, _)| p.clone());
            if let Some(oldest) = oldest {
                self.open.remove(&oldest);
            }
        }
        self.clock += 1;
        self.open
            .insert(path.to_vec(), (Arc::clone(dir), self.clock));
    }

    /// Forgets the directory at `path`, which is about to be replaced.
    pub(super) fn forget(&mut self, path: &[u8]) {
        self.open.remove(path);
    }
}

/// A name that may stand for an entry: one component, not empty, `.` or `..`, without NUL.
pub(super) fn valid_name(name: &[u8]) -> Option<CString> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return None;
    }
    CString::new(name).ok()
}

/// Makes the directory `name` in `parent`, or takes over the one that is there. True if it was there.
pub(super) fn make(shared: &Shared, parent: &Dir, name: &CString) -> Result<bool, i32> {
    for _ in 0..4 {
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => {
                if parent.default_acl {
                    strip_acls(shared, parent, name);
                }
                return Ok(false);
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.raw_os_error()),
        }
        match shared.opener.open(parent.as_fd(), name, Want::Handle, None) {
            Ok((handle, stat)) if stat.file.kind == orlop_repository::EntryKind::Directory => {
                take_over(shared, handle.as_fd(), &stat.file);
                return Ok(true);
            }
            Ok(_) if shared.replaces() => {
                remove::anything(shared, parent.as_fd(), name).map_err(Errno::raw_os_error)?;
            }
            Ok(_) => return Err(Errno::EXIST.raw_os_error()),
            Err(ScanError::Vanished) => {}
            Err(error) => return Err(error.errno()),
        }
    }
    Err(Errno::EXIST.raw_os_error())
}

/// Lets us work in a directory that was there before; its own metadata comes at the end.
fn take_over(shared: &Shared, handle: BorrowedFd<'_>, stat: &FileStat) {
    let path = magic_path(handle, b"");
    if shared.ordinary_user && stat.mode & 0o700 != 0o700 {
        // A refusal shows when something is to be made in it.
        let mode = Mode::from_raw_mode(stat.mode | 0o700);
        let _ = chmodat(CWD, &path, mode, AtFlags::empty());
    }
    // What is restored into it must not inherit from what it was.
    let _ = rustix::fs::removexattr(&path, ACL_DEFAULT);
}

fn strip_acls(shared: &Shared, parent: &Dir, name: &CString) {
    if let Ok((fd, _)) = shared
        .opener
        .open(parent.as_fd(), name, Want::Directory, None)
    {
        for acl in [ACL_ACCESS, ACL_DEFAULT] {
            let _ = fremovexattr(&fd, acl);
        }
        let _ = rustix::fs::fchmod(&fd, Mode::RWXU);
    }
}
