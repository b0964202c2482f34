//! A directory on the way down, with those of its subdirectories that are still to be entered.

use std::{collections::VecDeque, io, os::fd::OwnedFd, sync::Arc};

use orlop_repository::EntryKind;
use rustix::fs::{Mode, OFlags, openat};

use super::{
    ahead::{Crew, Job, Ticket},
    stat::{FileStat, Stat},
    subdirs::{Subdir, Subdirs},
};

/// Subdirectories of one directory that are looked at ahead.
const COMING: usize = 8;

/// A directory on the way down.
pub(super) struct Frame {
    /// `None` when too many are open: opened again through `..` of its child.
    pub(super) fd: Option<Arc<OwnedFd>>,
    pub(super) stat: FileStat,
    pub(super) path_len: usize,
    subdirs: Subdirs,
    coming: VecDeque<(Subdir, Option<Ticket>)>,
}

impl Frame {
    pub(super) fn new(fd: Arc<OwnedFd>, stat: FileStat, path_len: usize, subdirs: Subdirs) -> Self {
        Self {
            fd: Some(fd),
            stat,
            path_len,
            subdirs,
            coming: VecDeque::new(),
        }
    }

    /// Memory of what is still to be entered, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.subdirs.held_bytes()
    }

    /// What a subdirectory must be to be the one that was listed.
    pub(super) fn expected(&self, subdir: &Subdir) -> FileStat {
        FileStat {
            kind: EntryKind::Directory,
            ino: subdir.ino,
            dev: subdir.dev,
            ..self.stat
        }
    }

    /// The next subdirectory to enter, and what `crew`, if there is one, will have found of it.
    pub(super) fn next(
        &mut self,
        crew: Option<&Arc<Crew>>,
    ) -> io::Result<Option<(Subdir, Option<Ticket>)>> {
        if let Some(crew) = crew {
            self.look_ahead(crew)?;
        }
        match self.coming.pop_front() {
            Some(next) => Ok(Some(next)),
            None => Ok(self.subdirs.next()?.map(|subdir| (subdir, None))),
        }
    }

    fn look_ahead(&mut self, crew: &Arc<Crew>) -> io::Result<()> {
        let mut fresh = Vec::new();
        while self.coming.len() + fresh.len() < COMING
            && let Some(subdir) = self.subdirs.next()?
        {
            fresh.push(subdir);
        }
        // The first comes last, as the last that comes is looked at first.
        let ask = |subdir: &Subdir| {
            let parent = Arc::clone(self.fd.as_ref()?);
            let (name, expected) = (subdir.name.clone(), self.expected(subdir));
            crew.has_room().then(|| {
                crew.ask(Job::Directory {
                    parent,
                    name,
                    expected,
                })
            })
        };
        let tickets: Vec<_> = fresh.iter().rev().map(ask).collect();
        self.coming
            .extend(fresh.into_iter().zip(tickets.into_iter().rev()));
        Ok(())
    }
}

/// The parent of an open directory, if it still is the one that it was entered from.
pub(super) fn open_parent(child: &OwnedFd, expected: &FileStat) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(child, c"..", flags, Mode::empty()).ok()?;
    let stat = Stat::of_fd(&fd).ok()?;
    stat.file.same_object(expected).then_some(fd)
}
