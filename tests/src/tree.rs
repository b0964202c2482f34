//! Trees of files as values: made up by proptest, then made on disk.
//!
//! A tree is a sequence of steps, so that the shrunk form of a failing case is a short story.

mod any;
mod sample;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Seek as _, SeekFrom},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use proptest::sample::Index;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};

pub use any::{any_step, any_tree, any_tree_as_root};
pub use sample::sample;

use crate::Random;

/// What is in a regular file.
#[derive(Debug, Clone)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes that cannot be compressed.
    Noise(u64, usize),
    /// So many lines of a log.
    Lines(u64, usize),
    /// So many written zero bytes.
    Zeros(usize),
    /// Noise of `(seed, offset, len)` in a hole of so many bytes.
    Sparse(u64, Vec<(u64, u64, usize)>),
}

impl Content {
    /// Writes it as the file `path`.
    ///
    /// # Panics
    /// The file system refuses.
    pub fn write(&self, path: &Path) {
        match self {
            Self::Bytes(bytes) => fs::write(path, bytes).unwrap(),
            Self::Noise(seed, len) => fs::write(path, Random::new(*seed).bytes(*len)).unwrap(),
            Self::Zeros(len) => fs::write(path, vec![0; *len]).unwrap(),
            Self::Lines(seed, count) => {
                let mut random = Random::new(*seed);
                let mut text = String::new();
                for line in 0..*count {
                    let _ = writeln!(
                        text,
                        "{line:08} request {:x} took {} ms",
                        random.number(),
                        line % 7
                    );
                }
                fs::write(path, text).unwrap();
            }
            Self::Sparse(len, pieces) => {
                let mut file = File::create(path).unwrap();
                file.set_len(*len).unwrap();
                for (seed, offset, count) in pieces {
                    let offset = offset % (*len).max(1);
                    let count = (*count as u64).min(len - offset) as usize;
                    file.seek(SeekFrom::Start(offset)).unwrap();
                    io::Write::write_all(&mut file, &Random::new(*seed).bytes(count)).unwrap();
                }
            }
        }
    }
}

/// Kind and payload of an entry.
#[derive(Debug, Clone)]
pub enum What {
    /// A regular file.
    File(Content),
    /// A directory.
    Directory,
    /// A symbolic link.
    Link(Vec<u8>),
    /// Another name of an earlier file.
    Hardlink(Index),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device of major and minor number; made by root only.
    Device(bool, u32, u32),
}

/// Owner, permission bits, times and attributes.
#[derive(Debug, Clone)]
pub struct Meta {
    mode: u32,
    owner: Option<(u32, u32)>,
    /// Seconds since 1970 and nanoseconds.
    modified: (i64, i64),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// A minimal POSIX ACL with one more user, and a capability; set by root only.
    privileged: Option<u32>,
}

/// One entry that is to be made: in which directory, under which name.
#[derive(Debug, Clone)]
pub struct Step {
    parent: Index,
    name: Vec<u8>,
    what: What,
    meta: Meta,
}

impl Step {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What it is.
    pub fn what(&self) -> &What {
        &self.what
    }
}

/// A whole tree; its root's metadata is that of the first step.
#[derive(Debug, Clone)]
pub struct Tree(Vec<Step>);

impl Tree {
    /// Makes the tree in `root`, which must be an empty directory. Steps whose name is taken are
    /// left out.
    ///
    /// # Panics
    /// The file system refuses.
    pub fn make(&self, root: &Path) {
        let xattrs = has_xattrs(root);
        let mut directories = vec![root.to_owned()];
        let mut files: Vec<PathBuf> = Vec::new();
        let mut made: Vec<(PathBuf, &Step)> = Vec::new();
        let mut taken = BTreeSet::new();
        for step in &self.0 {
            let parent = step.parent.get(&directories).clone();
            let path = parent.join(OsStr::from_bytes(&step.name));
            // A long name deep down may pass PATH_MAX; the steps by descriptor have tests of their own.
            if path.as_os_str().len() > 3800 || !taken.insert(path.clone()) {
                continue;
            }
            match &step.what {
                What::Hardlink(index) => {
                    if !files.is_empty() {
                        fs::hard_link(index.get(&files), &path).unwrap();
                    }
                    continue;
                }
                What::Directory => {
                    fs::create_dir(&path).unwrap();
                    directories.push(path.clone());
                }
                What::File(content) => {
                    content.write(&path);
                    files.push(path.clone());
                }
                other => make_other(other, &path),
            }
            made.push((path, step));
        }
        for (path, step) in made.iter().rev() {
            step.meta.apply(path, &step.what, xattrs);
        }
        if let Some(first) = self.0.first() {
            first.meta.apply(root, &What::Directory, xattrs);
        }
    }
}

fn make_other(what: &What, path: &Path) {
    let mode = Mode::from_raw_mode(0o600);
    match what {
        What::Link(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
        What::Fifo => mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap(),
        What::Socket => mknodat(CWD, path, FileType::Socket, mode, 0).unwrap(),
        What::Device(block, major, minor) => {
            let kind = if *block {
                FileType::BlockDevice
            } else {
                FileType::CharacterDevice
            };
            mknodat(CWD, path, kind, mode, rustix::fs::makedev(*major, *minor)).unwrap();
        }
        What::File(_) | What::Directory | What::Hardlink(_) => unreachable!("made elsewhere"),
    }
}

impl Meta {
    fn apply(&self, path: &Path, what: &What, xattrs: bool) {
        let is_link = matches!(what, What::Link(_));
        let holds_xattrs = matches!(what, What::File(_) | What::Directory);
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
        }
        if xattrs && holds_xattrs {
            for (name, value) in &self.xattrs {
                lsetxattr(path, name.as_slice(), value, XattrFlags::empty()).unwrap();
            }
        }
        let own = if matches!(what, What::Directory) {
            0o700
        } else {
            0o600
        };
        if !is_link {
            // As an ordinary user one can read back only what one may read.
            let mode = if self.owner.is_some() {
                self.mode
            } else {
                self.mode | own
            };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        if let Some(uid) = self.privileged.filter(|_| xattrs && holds_xattrs) {
            let acl = posix_acl(uid);
            lsetxattr(path, "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
            if matches!(what, What::File(_)) {
                let net_bind = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                lsetxattr(path, "security.capability", &net_bind, XattrFlags::empty()).unwrap();
            }
        }
        let modified = Timespec {
            tv_sec: self.modified.0,
            tv_nsec: self.modified.1,
        };
        let accessed = Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        };
        let times = Timestamps {
            last_access: accessed,
            last_modification: modified,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// `u::rwx,u:UID:r--,g::r-x,m::r-x,o::---` as the kernel stores it.
fn posix_acl(uid: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [
        (1u16, 7u16, NOBODY),
        (2, 4, uid),
        (4, 5, NOBODY),
        (16, 5, NOBODY),
        (32, 0, NOBODY),
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn has_xattrs(dir: &Path) -> bool {
    let has = lsetxattr(dir, "user.orlop-probe", b"", XattrFlags::empty()).is_ok();
    if has {
        rustix::fs::lremovexattr(dir, "user.orlop-probe").unwrap();
    }
    has
}
