//! Hard links: the first name of a group is written, the others become links to it.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    ffi::CStr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use orlop_core::Timestamp;
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

/// Groups of which further names may come. Beyond, names are restored as copies.
const GROUPS_MAX: usize = 1_000_000;

/// The first names of hard link groups.
#[derive(Default)]
pub(super) struct Groups(HashMap<u64, Group>);

struct Group {
    path: Vec<u8>,
    seen: u32,
    size: u64,
    mtime: Timestamp,
    digest: [u8; 16],
}

impl Group {
    fn new(entry: &Entry) -> Self {
        Self {
            path: entry.path.clone(),
            seen: 1,
            size: entry.size,
            mtime: entry.meta.mtime,
            digest: entry.digest,
        }
    }

    /// Whether the entry can be another name of the first: an inode number may have been given to
    /// another file while the snapshot was made.
    fn admits(&self, entry: &Entry) -> bool {
        self.size == entry.size && self.mtime == entry.meta.mtime && self.digest == entry.digest
    }
}

/// What is to be done with a name of a group.
pub(super) enum Name {
    /// Write it.
    First,
    /// Link it to this path.
    Further(Vec<u8>),
    /// Write it; the table is full.
    Unknown,
}

impl Groups {
    pub(super) fn name(&mut self, group: HardlinkGroup, entry: &Entry) -> Name {
        let full = self.0.len() >= GROUPS_MAX;
        match self.0.entry(group.id) {
            Slot::Occupied(mut slot) if !slot.get().admits(entry) => {
                slot.insert(Group::new(entry));
                Name::First
            }
            Slot::Occupied(mut slot) => {
                slot.get_mut().seen += 1;
                let first = if slot.get().seen >= group.links {
                    slot.remove().path
                } else {
                    slot.get().path.clone()
                };
                Name::Further(first)
            }
            Slot::Vacant(_) if group.links <= 1 => Name::First,
            Slot::Vacant(_) if full => Name::Unknown,
            Slot::Vacant(slot) => {
                slot.insert(Group::new(entry));
                Name::First
            }
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
