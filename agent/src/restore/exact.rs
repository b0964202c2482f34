//! Mode `exact`: what the target's directories hold is merged with what the snapshot holds.

use std::{
    ffi::CStr,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use rustix::fs::{Mode, OFlags, openat};

use super::{dirs::Dir, remove, shared::Shared, target::LOST_AND_FOUND};
use crate::scan::{ARENA_BYTES, Listing, ScanError};

/// The names that are in `dir` now, sorted as the snapshot's entries are.
pub(super) fn list_present(shared: &Shared, dir: &Dir, path: &[u8]) -> Listing {
    let mut listing = Listing::new(ARENA_BYTES);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let result = openat(dir, c".", flags, Mode::empty())
        .map_err(ScanError::of_fd)
        .and_then(|own| listing.read(own.as_fd()));
    if let Err(error) = result {
        shared
            .tally
            .trouble(path, error.errno(), "list what is in it");
    }
    listing
}

/// Removes an entry that the snapshot does not hold.
pub(super) fn remove(shared: &Shared, dir: Result<&Arc<Dir>, i32>, parent: &[u8], name: &CStr) {
    let Ok(dir) = dir else { return };
    if parent.is_empty() && name.to_bytes() == LOST_AND_FOUND {
        return;
    }
    match remove::anything(shared, dir.as_fd(), name) {
        Ok(()) => {
            shared.tally.removed.fetch_add(1, Relaxed);
        }
        Err(errno) => {
            let mut path = parent.to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.to_bytes());
            let action = "remove it, which the snapshot does not hold";
            shared.tally.trouble(&path, errno.raw_os_error(), action);
        }
    }
}
