//! Replacing what has the name already, only when what comes in its place is whole.
//!
//! Until then it has a temporary name, which takes room on the target beside what is replaced. A restore
//! that is killed leaves such names behind: mode `exact` removes them as it does all that the snapshot
//! does not hold, mode `overwrite` lets them be, as it does everything else.

use std::{
    ffi::{CStr, CString},
    hash::{BuildHasher as _, RandomState},
    os::fd::AsFd as _,
};

use rustix::{
    fs::{AtFlags, renameat, unlinkat},
    io::Errno,
};

use super::{dirs::Dir, remove, shared::Shared};

const ATTEMPTS: u32 = 16;

/// Makes something under a temporary name of `dir`.
pub(super) fn temporary<T>(
    make: impl Fn(&CStr) -> Result<T, Errno>,
) -> Result<(CString, T), Errno> {
    let mut attempt = 0;
    loop {
        // The hasher is random: nobody knows the name beforehand.
        let name = format!(".orlop-{:016x}", RandomState::new().hash_one(attempt));
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        match make(&name) {
            Err(Errno::EXIST) if attempt < ATTEMPTS => attempt += 1,
            result => return Ok((name, result?)),
        }
    }
}

/// Gives what is whole its name, in place of what has the name. On failure the old one stays and
/// the new one is gone.
pub(super) fn put(shared: &Shared, dir: &Dir, temporary: &CStr, name: &CStr) -> Result<(), Errno> {
    let result = match renameat(dir, temporary, dir, name) {
        // A directory is in the way: it goes with all that is in it.
        Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
            remove::anything(shared, dir.as_fd(), name)
                .and_then(|()| renameat(dir, temporary, dir, name))
        }
        result => result,
    };
    if result.is_err() {
        drop_temporary(dir, temporary);
    }
    result
}

/// Removes a temporary name; that it stays is no worse than after a killed restore.
pub(super) fn drop_temporary(dir: &Dir, temporary: &CStr) {
    let _ = unlinkat(dir, temporary, AtFlags::empty());
}
