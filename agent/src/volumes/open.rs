//! Opening a found volume, wherever its pod would lead us.

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use super::FoundVolume;
use crate::scan::has_openat2;

const LIST: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const PASS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl FoundVolume {
    /// Opens the volume's root directory for listing, from the pod's directory downwards: mounts are
    /// crossed, links are not followed. The path of a listed volume is taken as it is.
    ///
    /// The descriptor stays good when the volume is unmounted or renamed afterwards.
    ///
    /// # Errors
    /// It is gone, not a directory, or there is a link on the way.
    pub fn open(&self) -> io::Result<OwnedFd> {
        self.open_with(has_openat2())
    }

    pub(super) fn open_with(&self, openat2: bool) -> io::Result<OwnedFd> {
        let Some((base, below)) = self.split() else {
            return Ok(openat(
                CWD,
                &self.path,
                LIST - OFlags::NOFOLLOW,
                Mode::empty(),
            )?);
        };
        let pod = openat(CWD, base, PASS, Mode::empty())?;
        if openat2 {
            beneath(&pod, below)
        } else {
            step_by_step(pod, below)
        }
    }

    /// The pod's directory, or another that holds it, and the volume's path below it.
    fn split(&self) -> Option<(&Path, &Path)> {
        if let Some(base) = &self.base {
            return Some((base, self.path.strip_prefix(base).ok()?));
        }
        if self.pod_uid.is_empty() {
            return None;
        }
        let base = self.path.ancestors().find(|dir| {
            dir.file_name() == Some(OsStr::new(&self.pod_uid))
                && dir.parent().and_then(Path::file_name) == Some(OsStr::new("pods"))
        })?;
        Some((base, self.path.strip_prefix(base).ok()?))
    }
}

fn beneath(pod: &OwnedFd, below: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..16 {
        match openat2(pod, below, LIST, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
    Err(Errno::AGAIN.into())
}

fn step_by_step(pod: OwnedFd, below: &Path) -> io::Result<OwnedFd> {
    let mut dir = pod;
    for component in below.components() {
        let Component::Normal(name) = component else {
            return Err(Errno::INVAL.into());
        };
        dir = openat(dir.as_fd(), name, PASS, Mode::empty())?;
    }
    Ok(openat(&dir, c".", LIST, Mode::empty())?)
}
