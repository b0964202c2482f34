//! Directories above what is restored, when they are not restored themselves: they are made as the
//! snapshot has them, and left as they are where they are there.

use std::collections::HashMap;

use orlop_repository::{Entry, EntryKind, Error, Metadata, Scope, split_path};

use super::{
    deferred::Late,
    dirs::{self, DirCache, valid_name},
    select,
    shared::Shared,
    source::Source,
};

/// Directories whose metadata is remembered; of others it is looked up.
const REMEMBERED_MAX: usize = 16 << 10;

/// Directories that were passed over and may yet be needed.
#[derive(Default)]
pub(super) struct Parents {
    passed: HashMap<Vec<u8>, Metadata>,
}

impl Parents {
    /// An entry that is not restored.
    pub(super) fn pass(&mut self, entry: Entry) {
        if entry.kind == EntryKind::Directory {
            if self.passed.len() >= REMEMBERED_MAX {
                self.passed.clear();
            }
            self.passed.insert(entry.path, entry.meta);
        }
    }

    /// Makes the directory and those above it, as far as they are not there. What cannot be made
    /// shows when something is to be made in it.
    ///
    /// # Errors
    /// The snapshot cannot be read.
    pub(super) fn make(
        &mut self,
        shared: &Shared,
        source: &dyn Source,
        cache: &mut DirCache,
        directory: &[u8],
    ) -> Result<(), Error> {
        if directory.is_empty() || cache.get(directory).is_ok() {
            return Ok(());
        }
        for path in select::above(directory).chain([directory]) {
            if cache.get(path).is_ok() {
                continue;
            }
            let (parent, name) = split_path(path);
            let (Ok(parent), Some(name)) = (cache.get(parent), valid_name(name)) else {
                return Ok(());
            };
            if dirs::make(shared, &parent, &name) != Ok(false) {
                continue;
            }
            cache.forget(path);
            let meta = match self.passed.remove(path) {
                Some(meta) => Some(meta),
                None => match source.entries(Scope::default().entry(path)).next() {
                    Some(Ok(entry)) => Some(entry.meta),
                    // Who reads the whole listing tells of that.
                    None | Some(Err(Error::LostEntries { .. })) => None,
                    Some(Err(error)) => return Err(error),
                },
            };
            shared.tally.dir();
            if let Some(meta) = meta {
                shared.defer(&Late::Directory {
                    path: path.to_vec(),
                    meta,
                    existed: false,
                });
            }
        }
        Ok(())
    }
}
