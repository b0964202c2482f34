//! Hard links: the first name of a group is written, the others become links to it.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    ffi::CStr,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use orlop_repository::{Entry, HardlinkGroup, split_path};
use rustix::{
    fs::{AtFlags, linkat},
    io::Errno,
};

use super::{
    dirs::{Dir, DirCache, valid_name},
    replace,
    shared::Shared,
};

/// Groups of which further names may come, as many as a table of 2^20 places takes: 35 MB, and half as much
/// more while it grows. Beyond, names are restored as
/// copies.
const GROUPS_MAX: usize = (1 << 20) / 8 * 7;
/// Bytes of paths that wait in memory.
const PATHS_BYTES: usize = 1 << 20;

/// The first names of hard link groups. What is long of them, their paths, lies in a file without a name.
#[derive(Default)]
pub(super) struct Groups {
    known: HashMap<u64, Group>,
    paths: Paths,
    hasher: RandomState,
}

struct Group {
    /// Where its first name is in [`Paths`], and how long it is.
    at: u64,
    len: u32,
    seen: u32,
    /// Of what all names of a file have in common.
    content: u64,
}

#[derive(Default)]
struct Paths {
    /// What comes after that in the file.
    last: Vec<u8>,
    written: u64,
    file: Option<File>,
}

impl Paths {
    fn push(&mut self, path: &[u8]) -> io::Result<(u64, u32)> {
        if self.last.len() + path.len() > PATHS_BYTES {
            let file = match &self.file {
                Some(file) => file,
                None => self.file.insert(tempfile::tempfile()?),
            };
            file.write_all_at(&self.last, self.written)?;
            self.written += self.last.len() as u64;
            self.last.clear();
        }
        let at = self.written + self.last.len() as u64;
        self.last.extend_from_slice(path);
        let len = u32::try_from(path.len()).map_err(io::Error::other)?;
        Ok((at, len))
    }

    fn get(&self, at: u64, len: u32) -> io::Result<Vec<u8>> {
        let mut path = vec![0; len as usize];
        match (at.checked_sub(self.written), &self.file) {
            (Some(at), _) => path.copy_from_slice(&self.last[at as usize..][..len as usize]),
            (None, Some(file)) => file.read_exact_at(&mut path, at)?,
            (None, None) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(path)
    }
}

/// What is to be done with a name of a group.
pub(super) enum Name {
    /// Write it.
    First,
    /// Link it to this path.
    Further(Vec<u8>),
    /// Write it; the table is full, or cannot be read.
    Unknown,
}

impl Groups {
    pub(super) fn name(&mut self, group: HardlinkGroup, entry: &Entry) -> Name {
        let full = self.known.len() >= GROUPS_MAX;
        // An inode number may have been given to another file while the snapshot was made.
        let mtime = entry.meta.mtime;
        let content = (entry.size, mtime.secs, mtime.nanos, entry.digest);
        let content = self.hasher.hash_one(content);
        let paths = &mut self.paths;
        let mut begin = || {
            let (at, len) = paths.push(&entry.path)?;
            io::Result::Ok(Group {
                at,
                len,
                seen: 1,
                content,
            })
        };
        match self.known.entry(group.id) {
            Slot::Occupied(mut slot) if slot.get().content != content => {
                begin().map_or(Name::Unknown, |group| {
                    slot.insert(group);
                    Name::First
                })
            }
            Slot::Occupied(mut slot) => {
                slot.get_mut().seen += 1;
                let (at, len) = (slot.get().at, slot.get().len);
                if slot.get().seen >= group.links {
                    slot.remove();
                }
                self.paths.get(at, len).map_or(Name::Unknown, Name::Further)
            }
            Slot::Vacant(_) if group.links <= 1 => Name::First,
            Slot::Vacant(_) if full => Name::Unknown,
            Slot::Vacant(slot) => begin().map_or(Name::Unknown, |group| {
                slot.insert(group);
                Name::First
            }),
        }
    }
}

/// A further name, to be linked when its first name is there.
pub(super) struct Link {
    pub(super) dir: Arc<Dir>,
    pub(super) first: Vec<u8>,
    pub(super) entry: Entry,
}

/// Links the name, or says that the file is to be written as a copy.
pub(super) fn link(shared: &Shared, cache: &mut DirCache, link: &Link) -> Result<(), Errno> {
    let (parent, first) = split_path(&link.first);
    let parent = cache.get(parent).map_err(|_| Errno::NOENT)?;
    let first = valid_name(first).ok_or(Errno::INVAL)?;
    let name = valid_name(link.entry.name()).ok_or(Errno::INVAL)?;
    if shared.was_given_up(&link.first) {
        return Err(Errno::NOENT);
    }
    // Without AT_SYMLINK_FOLLOW: a link that took the first name's place would itself be linked.
    let make = |name: &CStr| linkat(&*parent, &*first, &*link.dir, name, AtFlags::empty());
    match make(&name) {
        Err(Errno::EXIST) if shared.replaces() => {
            let inode = |dir: &Dir, name: &CStr| {
                shared
                    .opener
                    .stat(dir, name)
                    .map(|stat| (stat.file.dev, stat.file.ino))
            };
            if inode(&parent, &first)? == inode(&link.dir, &name)? {
                shared.tally.files.fetch_add(1, Relaxed);
                shared.tally.unchanged.fetch_add(1, Relaxed);
                return Ok(());
            }
            let (temporary, ()) = replace::temporary(make)?;
            replace::put(shared, &link.dir, &temporary, &name)?;
        }
        result => result?,
    }
    shared.tally.files.fetch_add(1, Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use orlop_repository::{EntryKind, Metadata};

    use super::*;

    fn entry(path: String, size: u64) -> Entry {
        Entry {
            size,
            ..Entry::bare(path.into_bytes(), EntryKind::File, Metadata::default())
        }
    }

    fn link(groups: &mut Groups, id: u64, path: String, size: u64) -> Option<String> {
        match groups.name(HardlinkGroup { id, links: 3 }, &entry(path, size)) {
            Name::Further(first) => Some(String::from_utf8(first).unwrap()),
            Name::First => None,
            Name::Unknown => panic!("there is room"),
        }
    }

    #[test]
    fn the_first_names_of_many_groups_are_found_again() {
        let mut groups = Groups::default();
        let first = |n: u64| format!("{}/{n}", "directory/".repeat(20));
        // More bytes than stay in memory.
        for n in 0..20_000 {
            assert_eq!(link(&mut groups, n, first(n), n), None);
        }
        assert!(groups.paths.file.is_some());
        for n in (0..20_000).rev() {
            let further = link(&mut groups, n, format!("second/{n}"), n);
            assert_eq!(further, Some(first(n)));
        }
        // Another file has the number by now.
        assert_eq!(link(&mut groups, 7, "other".to_owned(), 8), None);
        let further = link(&mut groups, 7, "third".to_owned(), 8);
        assert_eq!(further.as_deref(), Some("other"));
        assert_eq!(
            link(&mut groups, 7, "fourth".to_owned(), 8).as_deref(),
            Some("other")
        );
        assert!(!groups.known.contains_key(&7), "all its names were met");
    }
}
