//! Small files, of which many lie in one chunk: who reads them one after the other opens the chunk once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use super::{FileSink, ReadSession, stream::failed};
use crate::{
    error::{Error, Result},
    frame::FrameKind,
    manifest::{Entry, Extent},
    secret::{ChunkId, Secret},
};

/// Larger files have chunks of their own, in bytes.
const SIZE_MAX: u64 = 1 << 20;
/// Extents that are looked at.
const EXTENTS_MAX: usize = 8;
/// Bytes of bundles that are kept; one is kept however large it is.
const KEPT: usize = 8 << 20;

/// Bundles that were opened; the one used last comes first.
#[derive(Default)]
pub(super) struct Bundles(Mutex<VecDeque<(ChunkId, Arc<Vec<u8>>)>>);

impl Bundles {
    fn of(&self, id: ChunkId, open: impl FnOnce() -> Result<Vec<u8>>) -> Result<Arc<Vec<u8>>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| *known == id);
        let found = match at.and_then(|at| kept.remove(at)) {
            Some(found) => found,
            None => (id, Arc::new(open()?)),
        };
        let bundle = Arc::clone(&found.1);
        kept.push_front(found);
        let mut bytes = 0;
        kept.retain(|(known, bundle)| {
            bytes += bundle.len();
            *known == id || bytes <= KEPT
        });
        Ok(bundle)
    }
}

impl ReadSession {
    /// Writes a file whose bytes lie in its entry and in bundles; `None`, and nothing is written, if it is another
    /// one or its extents cannot be read.
    pub(super) fn read_small(&self, entry: &Entry, out: &mut dyn FileSink) -> Option<Result<u64>> {
        if entry.size > SIZE_MAX {
            return None;
        }
        let mut extents = Vec::new();
        for extent in self.extents(entry) {
            match extent {
                Ok(Extent::Data { .. }) | Err(_) => return None,
                Ok(_) if extents.len() == EXTENTS_MAX => return None,
                Ok(extent) => extents.push(extent),
            }
        }
        Some(self.write_small(&extents, out))
    }

    fn write_small(&self, extents: &[Extent], out: &mut dyn FileSink) -> Result<u64> {
        let mut total = 0;
        for extent in extents {
            match extent {
                Extent::Bundle {
                    secret,
                    offset,
                    len,
                } => {
                    let bundle = self.bundle(secret)?;
                    let begin = *offset as usize;
                    let bytes = bundle.get(begin..begin.saturating_add(*len as usize));
                    let bytes = bytes.ok_or_else(|| Error::unfit_extent(secret.id()))?;
                    out.bytes(bytes)
                }
                Extent::Inline(bytes) => out.bytes(bytes),
                Extent::Zero(len) => out.zeros(*len),
                Extent::Hole(len) => out.hole(*len),
                Extent::Data { .. } => continue,
            }
            .map_err(failed)?;
            total += extent.len();
        }
        Ok(total)
    }

    fn bundle(&self, secret: &Secret) -> Result<Arc<Vec<u8>>> {
        self.bundles.of(secret.id(), || {
            let keys = self.grant.domain_keys.all();
            self.pages.read(FrameKind::Data, secret, keys)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_opened_once_while_its_files_are_read() {
        let bundles = Bundles::default();
        let id = |n: u8| ChunkId::from_bytes([n; 32]);
        let mut opened = Vec::new();
        for n in [1_u8, 1, 2, 1, 3, 4, 4, 1] {
            let bundle = bundles.of(id(n), || {
                opened.push(n);
                Ok(vec![n; 3 << 20])
            });
            assert_eq!(bundle.unwrap()[0], n);
        }
        assert_eq!(opened, [1, 2, 3, 4, 1], "two of this size are kept");
        let large = bundles.of(id(9), || Ok(vec![9; KEPT + 1])).unwrap();
        let again = bundles.of(id(9), || Err(Error::Cancelled)).unwrap();
        assert!(Arc::ptr_eq(&large, &again));
        assert!(bundles.of(id(8), || Err(Error::Cancelled)).is_err());
    }
}
