//! Hard links: the first name of a group is written, the others become links to it.

use std::{
    collections::{HashMap, hash_map::Entry as Slot},
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use orlop_repository::{Entry, HardlinkGroup, split_path};
use rustix::{
    fs::{AtFlags, linkat},
    io::Errno,
};

use super::{
    dirs::{Dir, DirCache, valid_name},
    remove,
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
    pub(super) fn name(&mut self, group: HardlinkGroup, path: &[u8]) -> Name {
        let full = self.0.len() >= GROUPS_MAX;
        match self.0.entry(group.id) {
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
                slot.insert(Group {
                    path: path.to_vec(),
                    seen: 1,
                });
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
    let mut attempts = 0;
    loop {
        // Without AT_SYMLINK_FOLLOW: a link that took the first name's place would itself be linked.
        match linkat(&*parent, &*first, &*link.dir, &*name, AtFlags::empty()) {
            Ok(()) => break,
            Err(Errno::EXIST) if shared.replaces() && attempts < 4 => {
                attempts += 1;
                remove::anything(shared, link.dir.as_fd(), &name)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    shared.tally.files.fetch_add(1, Relaxed);
    Ok(())
}
