//! Opening the target and holding it against the mode.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use orlop_core::RestoreMode;
use rustix::{
    fs::{CWD, Mode, OFlags, mkdirat, openat},
    io::Errno,
};

use super::{RestoreTarget, dirs::valid_name, error::RestoreError};
use crate::scan::{ARENA_BYTES, Listing, Opener, Want};

/// What `mkfs` puts into the root of a file system.
pub(super) const LOST_AND_FOUND: &[u8] = b"lost+found";

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The open target and its name for messages.
pub(super) fn open(
    target: RestoreTarget,
    mode: RestoreMode,
    force_fallback: bool,
) -> Result<(OwnedFd, String), RestoreError> {
    let (fd, name) = match target {
        RestoreTarget::Path(path) => (open_path(&path, mode)?, path.display().to_string()),
        RestoreTarget::Fd(fd, name) => {
            let own = openat(&fd, c".", FLAGS, Mode::empty())
                .map_err(|errno| failed("open", &name, errno))?;
            (own, name)
        }
        RestoreTarget::Inside(root, name) => {
            let fd = open_inside(&root, &name, force_fallback)?;
            (fd, format!("the volume's directory {name}"))
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

/// Makes and opens a directory in `root`, whatever whoever owns `root` puts there meanwhile.
fn open_inside(root: &OwnedFd, name: &str, force_fallback: bool) -> Result<OwnedFd, RestoreError> {
    let refuse = |action, source: io::Error| RestoreError::Target {
        action,
        target: format!(
            "the directory {name} in the volume (if something else has that name, give the restore another one)"
        ),
        source,
    };
    let own = valid_name(name.as_bytes());
    let own = own.ok_or_else(|| refuse("make", Errno::INVAL.into()))?;
    match mkdirat(root, &own, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(refuse("make", errno.into())),
    }
    let opener = Opener::new(root.as_fd(), force_fallback);
    let opener = opener.map_err(|error| refuse("open", error.into()))?;
    let opened = opener.open(root.as_fd(), &own, Want::Directory, None);
    let (fd, _) = opened.map_err(|error| refuse("open", error.into()))?;
    Ok(fd)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn inside(root: &Path, name: &str, mode: RestoreMode) -> Result<OwnedFd, RestoreError> {
        let root = openat(CWD, root, FLAGS, Mode::empty()).unwrap();
        let fallback = open(
            RestoreTarget::Inside(root.try_clone().unwrap(), name.to_owned()),
            mode,
            true,
        );
        let direct = open(RestoreTarget::Inside(root, name.to_owned()), mode, false);
        assert_eq!(fallback.is_ok(), direct.is_ok());
        direct.map(|(fd, _)| fd)
    }

    #[test]
    fn a_directory_in_a_volume_is_made_and_one_that_holds_something_is_not_taken() {
        let place = tempfile::tempdir().unwrap();
        let made = inside(place.path(), "r-1", RestoreMode::NewDir).unwrap();
        let there = fs::metadata(place.path().join("r-1")).unwrap();
        assert_eq!(rustix::fs::fstat(&made).unwrap().st_ino, there.ino());
        fs::write(place.path().join("r-1/x"), "").unwrap();
        let refused = inside(place.path(), "r-1", RestoreMode::NewDir).unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("r-1") && refused.contains("\"x\""),
            "{refused}"
        );
        inside(place.path(), "r-1", RestoreMode::Overwrite).unwrap();
        for bad in ["", ".", "..", "a/b"] {
            assert!(
                inside(place.path(), bad, RestoreMode::NewDir).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn what_a_pod_puts_in_the_way_leads_nowhere() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(outside.path(), place.path().join("link")).unwrap();
        symlink("/nowhere", place.path().join("dangling")).unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        for name in ["link", "dangling", "file"] {
            for mode in [RestoreMode::NewDir, RestoreMode::Overwrite] {
                let refused = inside(place.path(), name, mode).unwrap_err();
                assert!(refused.to_string().contains(name), "{refused}");
            }
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
