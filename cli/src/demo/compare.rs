//! Decides whether a restored directory is identical to a volume as it was: its own walk with the
//! standard library, sharing no code with backup and restore.
//!
//! Compared are the set of paths and, for each, type, permission bits, owner, group, modification time to the
//! nanosecond, size, content, link target, which names are one file, device number, and whether holes stayed holes.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, Metadata},
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::Path,
};

/// A restored file may occupy so much more than the original, in bytes: file systems differ in how
/// they round.
const HOLE_SLACK_BYTES: u64 = 64 * 1024;

/// What was in a directory at one time.
#[derive(Debug)]
pub(crate) struct Record {
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
    target: Vec<u8>,
    device: u64,
    /// The first name, in order of paths, of the same file.
    same_as: Vec<u8>,
    allocated_bytes: u64,
}

impl Record {
    /// Records the directory and everything below it.
    pub(crate) fn of(root: &Path) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        let mut inodes = HashMap::new();
        add(root, &[], &mut entries, &mut inodes)?;
        for item in entries.values_mut() {
            // So far an inode's number stands for its names.
            if let Some(first) = inodes.get(&item.same_as) {
                item.same_as.clone_from(first);
            }
        }
        Ok(Self { entries })
    }

    /// How many entries there are.
    pub(crate) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Sizes of all regular files in bytes; a file with several names counts for each.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.values().map(|item| item.size).sum()
    }

    /// What is not the same in `other`, one line each; empty if the two are identical.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, item) in &self.entries {
            match other.entries.get(path) {
                None => found.push(format!("{} is missing", shown(path))),
                Some(restored) => {
                    if let Some(what) = difference(item, restored) {
                        found.push(format!("{}: {what}", shown(path)));
                    }
                }
            }
        }
        for path in other
            .entries
            .keys()
            .filter(|path| !self.entries.contains_key(*path))
        {
            found.push(format!("{} should not be there", shown(path)));
        }
        found
    }
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        "the root".to_owned()
    } else {
        path.escape_ascii().to_string()
    }
}

fn difference(a: &Item, b: &Item) -> Option<String> {
    let holes = a.allocated_bytes < a.size;
    if a.kind != b.kind {
        Some(format!("is a {} and was a {}", b.kind, a.kind))
    } else if a.mode != b.mode {
        Some(format!("has mode {:o} and had {:o}", b.mode, a.mode))
    } else if a.owner != b.owner {
        Some(format!(
            "belongs to {:?} and belonged to {:?}",
            b.owner, a.owner
        ))
    } else if a.size != b.size {
        Some(format!("has {} bytes and had {}", b.size, a.size))
    } else if a.content != b.content {
        Some("has other content".to_owned())
    } else if a.target != b.target {
        Some("points elsewhere".to_owned())
    } else if a.modified != b.modified {
        Some(format!(
            "was modified at {:?} and not at {:?}",
            b.modified, a.modified
        ))
    } else if a.device != b.device {
        Some("is another device".to_owned())
    } else if a.same_as != b.same_as {
        Some(format!(
            "is one file with {} and was with {}",
            shown(&b.same_as),
            shown(&a.same_as)
        ))
    } else if holes && b.allocated_bytes > a.allocated_bytes + HOLE_SLACK_BYTES {
        Some(format!(
            "occupies {} bytes and occupied {}",
            b.allocated_bytes, a.allocated_bytes
        ))
    } else {
        None
    }
}

type Inodes = HashMap<Vec<u8>, Vec<u8>>;

fn add(
    at: &Path,
    path: &[u8],
    entries: &mut BTreeMap<Vec<u8>, Item>,
    inodes: &mut Inodes,
) -> io::Result<()> {
    let stat = fs::symlink_metadata(at)?;
    let inode = [stat.dev().to_be_bytes(), stat.ino().to_be_bytes()].concat();
    let several = stat.is_file() && stat.nlink() > 1;
    if several {
        let first = inodes.entry(inode.clone()).or_insert_with(|| path.to_vec());
        if path < first.as_slice() {
            *first = path.to_vec();
        }
    }
    let item = Item {
        kind: kind(&stat),
        mode: stat.mode() & 0o7777,
        owner: (stat.uid(), stat.gid()),
        modified: (stat.mtime(), stat.mtime_nsec()),
        size: if stat.is_file() { stat.len() } else { 0 },
        content: if stat.is_file() { content(at)? } else { (0, 0) },
        target: if stat.is_symlink() {
            fs::read_link(at)?.as_os_str().as_bytes().to_vec()
        } else {
            Vec::new()
        },
        device: stat.rdev(),
        same_as: if several { inode } else { path.to_vec() },
        allocated_bytes: stat.blocks() * 512,
    };
    entries.insert(path.to_vec(), item);
    if stat.is_dir() {
        for child in fs::read_dir(at)? {
            let child = child?;
            let mut below = path.to_vec();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(child.file_name().as_bytes());
            add(&child.path(), &below, entries, inodes)?;
        }
    }
    Ok(())
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
    } else {
        "device"
    }
}

/// 128 bits that another content gives with a probability of 2^-128: against accidents, not against
/// an attacker.
fn content(path: &Path) -> io::Result<(u64, u64)> {
    let (mut one, mut two) = (DefaultHasher::new(), DefaultHasher::new());
    two.write_u8(1);
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 18];
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

    fn tree(dir: &Path) {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/a"), "hello!").unwrap();
        fs::hard_link(dir.join("d/a"), dir.join("b")).unwrap();
        symlink("d/a", dir.join("l")).unwrap();
    }

    #[test]
    fn each_kind_of_difference_is_named() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        let before = Record::of(dir.path()).unwrap();
        assert_eq!(
            before.differences(&Record::of(dir.path()).unwrap()),
            Vec::<String>::new()
        );
        let file = dir.path().join("d/a");
        let times =
            fs::FileTimes::new().set_modified(fs::metadata(&file).unwrap().modified().unwrap());

        fs::write(&file, "hellO!").unwrap();
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_times(times)
            .unwrap();
        let found = before.differences(&Record::of(dir.path()).unwrap());
        assert_eq!(found, ["b: has other content", "d/a: has other content"]);

        fs::write(&file, "hello!").unwrap();
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_times(times)
            .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(before.differences(&Record::of(dir.path()).unwrap())[0].contains("has mode 600"));

        fs::remove_file(dir.path().join("l")).unwrap();
        let found = before
            .differences(&Record::of(dir.path()).unwrap())
            .join("\n");
        assert!(found.contains("l is missing"), "{found}");
    }

    #[test]
    fn two_names_of_one_file_are_not_two_files() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path());
        let before = Record::of(dir.path()).unwrap();
        let (a, b) = (dir.path().join("d/a"), dir.path().join("b"));
        let modified = fs::metadata(&a).unwrap().modified().unwrap();
        fs::remove_file(&b).unwrap();
        fs::copy(&a, &b).unwrap();
        let times = fs::FileTimes::new().set_modified(modified);
        File::options()
            .write(true)
            .open(&b)
            .unwrap()
            .set_times(times)
            .unwrap();
        let found = before
            .differences(&Record::of(dir.path()).unwrap())
            .join("\n");
        assert!(
            found.contains("d/a: is one file with d/a and was with b"),
            "{found}"
        );
    }
}
