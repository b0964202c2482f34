//! Opening the target and holding it against the mode.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use orlop_core::RestoreMode;
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::{RestoreTarget, error::RestoreError};
use crate::scan::{ARENA_BYTES, Listing};

/// What `mkfs` puts into the root of a file system.
pub(super) const LOST_AND_FOUND: &[u8] = b"lost+found";

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The open target and its name for messages.
pub(super) fn open(
    target: RestoreTarget,
    mode: RestoreMode,
) -> Result<(OwnedFd, String), RestoreError> {
    let (fd, name) = match target {
        RestoreTarget::Path(path) => (open_path(&path, mode)?, path.display().to_string()),
        RestoreTarget::Fd(fd) => {
            let name = "the target directory".to_owned();
            let own = openat(&fd, c".", FLAGS, Mode::empty())
                .map_err(|errno| failed("open", &name, errno))?;
            (own, name)
        }
    };
    if matches!(mode, RestoreMode::Empty | RestoreMode::NewDir) {
        check_empty(&fd, &name)?;
    }
    Ok((fd, name))
}

fn open_path(path: &Path, mode: RestoreMode) -> Result<OwnedFd, RestoreError> {
    let name = path.display().to_string();
    let make = |source: io::Error| RestoreError::Target {
        action: "make",
        target: name.clone(),
        source,
    };
    if mode == RestoreMode::NewDir {
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            fs::create_dir_all(parent).map_err(make)?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RestoreError::Exists {
                    path: path.to_owned(),
                });
            }
            result => result.map_err(make)?,
        }
    } else {
        fs::create_dir_all(path).map_err(make)?;
    }
    openat(CWD, path, FLAGS, Mode::empty()).map_err(|errno| failed("open", &name, errno))
}

fn failed(action: &'static str, target: &str, errno: Errno) -> RestoreError {
    RestoreError::Target {
        action,
        target: target.to_owned(),
        source: errno.into(),
    }
}

fn check_empty(fd: &OwnedFd, name: &str) -> Result<(), RestoreError> {
    let refuse = |source: io::Error| RestoreError::Target {
        action: "list",
        target: name.to_owned(),
        source,
    };
    let mut listing = Listing::new(ARENA_BYTES);
    listing
        .read(fd.as_fd())
        .map_err(|error| refuse(error.into()))?;
    let mut names = listing.names();
    while let Some(found) = names.next().map_err(|error| refuse(error.into()))? {
        if found.to_bytes() != LOST_AND_FOUND {
            return Err(RestoreError::NotEmpty {
                target: name.to_owned(),
                example: found.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}
