//! Blocks of tables that were read lately, up to a number of bytes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A table, by a number of this process, and a place in it.
type Place = (u64, u64);

struct Kept {
    bytes: Arc<[u8]>,
    /// Whether it was asked for since it was last passed over.
    used: AtomicBool,
}

#[derive(Default)]
struct Inner {
    kept: HashMap<Place, Kept>,
    /// The order in which blocks go.
    order: VecDeque<Place>,
    bytes: usize,
}

/// A bounded cache of blocks whose codes fit.
pub(super) struct Blocks {
    limit: usize,
    inner: Mutex<Inner>,
}

impl Blocks {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            inner: Mutex::default(),
        }
    }

    pub(super) fn get(&self, table: u64, offset: u64) -> Option<Arc<[u8]>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = inner.kept.get(&(table, offset))?;
        kept.used.store(true, Ordering::Relaxed);
        Some(Arc::clone(&kept.bytes))
    }

    /// Keeps a block. Those that were not asked for lately make room for it.
    pub(super) fn put(&self, table: u64, offset: u64, bytes: &Arc<[u8]>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        let kept = Kept {
            bytes: Arc::clone(bytes),
            used: AtomicBool::new(false),
        };
        if inner.kept.insert((table, offset), kept).is_some() {
            return;
        }
        inner.order.push_back((table, offset));
        inner.bytes += bytes.len();
        while inner.bytes > self.limit {
            let Some(place) = inner.order.pop_front() else {
                return;
            };
            match inner.kept.get(&place) {
                Some(kept) if kept.used.swap(false, Ordering::Relaxed) => {
                    inner.order.push_back(place);
                }
                Some(kept) => {
                    inner.bytes -= kept.bytes.len();
                    inner.kept.remove(&place);
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let blocks = Blocks::new(1000);
        for n in 0..50 {
            blocks.put(1, n, &vec![n as u8; 100].into());
            assert!(
                blocks.get(1, 0).is_some(),
                "what is asked for again and again stays"
            );
            assert!(blocks.inner.lock().unwrap().bytes <= 1000);
        }
        assert_eq!(blocks.get(1, 49).unwrap()[0], 49);
        assert!(blocks.get(1, 20).is_none());
        assert!(blocks.get(2, 49).is_none());
        let inner = blocks.inner.lock().unwrap();
        assert_eq!(inner.order.len(), inner.kept.len());
    }
}
