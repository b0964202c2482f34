//! Records what is in a directory and says how two records differ. Shares no code with backup and
//! restore: its own walk, by path, with the standard library.
//!
//! Compared are the set of paths and, for each, type, permission bits, owner, group, modification
//! time to the nanosecond, size, content, link target, extended attributes (with ACLs and
//! capabilities), device number, which names are one file, and whether holes stayed holes.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, Metadata},
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

/// File systems round what a file occupies differently.
const HOLE_SLACK_BYTES: u64 = 64 << 10;
/// A file of all attributes is never larger on Linux.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// What was in a directory at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    entries: BTreeMap<Vec<u8>, Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    size: u64,
    content: (u64, u64),
    target: PathBuf,
    device: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name, in order of paths, of the same file.
    same_as: Vec<u8>,
    allocated_bytes: u64,
}

impl Record {
    /// Records the directory and everything below it.
    ///
    /// # Panics
    /// Something cannot be read.
    pub fn of(root: &Path) -> Self {
        let mut walk = Walk::default();
        walk.add(root, &[])
            .unwrap_or_else(|e| panic!("record {}: {e}", root.display()));
        let mut entries = walk.entries;
        for item in entries.values_mut() {
            // So far an inode's number stands for its names.
            if let Some(first) = walk.inodes.get(&item.same_as) {
                item.same_as.clone_from(first);
            }
        }
        Self { entries }
    }

    /// How many entries there are, the root included.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// How many regular files there are.
    pub fn files(&self) -> usize {
        self.entries
            .values()
            .filter(|item| item.kind == "file")
            .count()
    }

    /// What is not the same in `other`, one line each; empty if the two are identical.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, item) in &self.entries {
            match other.entries.get(path) {
                None => found.push(format!("{} is missing", path.escape_ascii())),
                Some(restored) => {
                    for what in item.differences(restored) {
                        found.push(format!("{:?}: {what}", path.escape_ascii().to_string()));
                    }
                }
            }
        }
        let extra = other
            .entries
            .keys()
            .filter(|path| !self.entries.contains_key(*path));
        found.extend(extra.map(|path| format!("{} should not be there", path.escape_ascii())));
        found
    }
}

/// Asserts that a directory is what was recorded.
///
/// # Panics
/// It is not: the first differences are in the message.
pub fn assert_identical(before: &Record, directory: &Path) {
    let found = before.differences(&Record::of(directory));
    assert!(
        found.is_empty(),
        "{} differences in {}:\n{}",
        found.len(),
        directory.display(),
        found[..found.len().min(20)].join("\n")
    );
}

impl Item {
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
            let (a, b) = (format!("{a:?}"), format!("{b:?}"));
            if a != b {
                found.push(format!("{what} is {b} and was {a}"));
            }
        };
        compare("type", &self.kind, &other.kind);
        compare(
            "mode",
            &format!("{:o}", self.mode),
            &format!("{:o}", other.mode),
        );
        compare("owner", &self.owner, &other.owner);
        compare("modification time", &self.modified, &other.modified);
        compare("size", &self.size, &other.size);
        compare("content", &self.content, &other.content);
        compare("link target", &self.target, &other.target);
        compare("device", &self.device, &other.device);
        compare("attributes", &self.xattrs, &other.xattrs);
        compare(
            "first name",
            &self.same_as.escape_ascii().to_string(),
            &other.same_as.escape_ascii().to_string(),
        );
        let sparse = self.allocated_bytes < self.size;
        if sparse && other.allocated_bytes > self.allocated_bytes + HOLE_SLACK_BYTES {
            let (a, b) = (self.allocated_bytes, other.allocated_bytes);
            found.push(format!("occupies {b} bytes and occupied {a}"));
        }
        found
    }
}

#[derive(Default)]
struct Walk {
    entries: BTreeMap<Vec<u8>, Item>,
    inodes: HashMap<Vec<u8>, Vec<u8>>,
}

impl Walk {
    fn add(&mut self, at: &Path, path: &[u8]) -> io::Result<()> {
        let stat = fs::symlink_metadata(at)?;
        let inode = [stat.dev().to_be_bytes(), stat.ino().to_be_bytes()].concat();
        let several = !stat.is_dir() && stat.nlink() > 1;
        if several {
            let first = self
                .inodes
                .entry(inode.clone())
                .or_insert_with(|| path.to_vec());
            if path < first.as_slice() {
                *first = path.to_vec();
            }
        }
        let regular = stat.is_file();
        let item = Item {
            kind: kind(&stat),
            mode: stat.mode() & 0o7777,
            owner: (stat.uid(), stat.gid()),
            modified: (stat.mtime(), stat.mtime_nsec()),
            size: if regular { stat.len() } else { 0 },
            content: if regular { content(at)? } else { (0, 0) },
            target: if stat.is_symlink() {
                fs::read_link(at)?
            } else {
                PathBuf::new()
            },
            device: stat.rdev(),
            xattrs: xattrs(at)?,
            same_as: if several { inode } else { path.to_vec() },
            allocated_bytes: stat.blocks() * 512,
        };
        self.entries.insert(path.to_vec(), item);
        if stat.is_dir() {
            for child in fs::read_dir(at)? {
                let child = child?;
                let mut below = path.to_vec();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(child.file_name().as_bytes());
                self.add(&child.path(), &below)?;
            }
        }
        Ok(())
    }
}

fn kind(stat: &Metadata) -> &'static str {
    let kind = stat.file_type();
    if kind.is_file() {
        "file"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symbolic link"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_char_device() {
        "character device"
    } else {
        "block device"
    }
}

/// All attributes that this user may read; none where the file system has none.
fn xattrs(at: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0_u8; XATTR_BYTES_MAX];
    let len = match rustix::fs::llistxattr(at, names.as_mut_slice()) {
        Ok(len) => len,
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => 0,
        Err(errno) => return Err(errno.into()),
    };
    names.truncate(len);
    let mut found = BTreeMap::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; XATTR_BYTES_MAX];
        let len = rustix::fs::lgetxattr(at, name, value.as_mut_slice())?;
        value.truncate(len);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

/// 128 bits: against accidents, not against an attacker.
fn content(path: &Path) -> io::Result<(u64, u64)> {
    let (mut one, mut two) = (DefaultHasher::new(), DefaultHasher::new());
    two.write_u8(1);
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((one.finish(), two.finish()));
        }
        one.write(&buffer[..n]);
        two.write(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn change(what: impl FnOnce(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        fs::create_dir(at.join("d")).unwrap();
        fs::write(at.join("d/a"), "hello!").unwrap();
        fs::write(at.join("e"), "").unwrap();
        fs::hard_link(at.join("d/a"), at.join("b")).unwrap();
        symlink("d/a", at.join("l")).unwrap();
        let holes = File::create(at.join("holes")).unwrap();
        holes.set_len(1 << 20).unwrap();
        let before = Record::of(at);
        assert_eq!(before.differences(&Record::of(at)), Vec::<String>::new());
        what(at);
        before.differences(&Record::of(at)).join("\n")
    }

    #[test]
    fn each_kind_of_difference_is_seen() {
        type Case = (Box<dyn FnOnce(&Path)>, &'static str);
        let cases: Vec<Case> = vec![
            (
                Box::new(|at| fs::write(at.join("d/a"), "hellO!").unwrap()),
                "content is",
            ),
            (
                Box::new(|at| fs::write(at.join("new"), "").unwrap()),
                "new should not be there",
            ),
            (
                Box::new(|at| fs::remove_file(at.join("l")).unwrap()),
                "l is missing",
            ),
            (
                Box::new(|at| {
                    fs::set_permissions(at.join("e"), fs::Permissions::from_mode(0o601)).unwrap();
                }),
                "mode is",
            ),
            (
                Box::new(|at| {
                    let file = File::options().write(true).open(at.join("e")).unwrap();
                    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1, 1);
                    file.set_modified(old).unwrap();
                }),
                "modification time is (1, 1)",
            ),
            (
                Box::new(|at| {
                    fs::copy(at.join("b"), at.join("c")).unwrap();
                    fs::rename(at.join("c"), at.join("b")).unwrap();
                }),
                "first name is",
            ),
            (
                Box::new(|at| {
                    fs::remove_file(at.join("l")).unwrap();
                    symlink("d/b", at.join("l")).unwrap();
                }),
                "link target is",
            ),
            (
                Box::new(|at| fs::write(at.join("holes"), vec![0; 1 << 20]).unwrap()),
                "occupies",
            ),
        ];
        for (what, expected) in cases {
            let found = change(what);
            assert!(found.contains(expected), "{expected:?} is not in {found:?}");
        }
    }
}
