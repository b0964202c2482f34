//! How many bytes of entries may wait for the assembler: the walk waits while there are too many.

use std::{
    mem::size_of,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use orlop_repository::{Content, Entry, Extent};
use tokio_util::sync::CancellationToken;

/// Entries may have attributes of 1 MiB each: as many of them as fit the queue would be gigabytes.
const MAX_BYTES: u64 = 32 << 20;
/// A waiting walk looks this often whether it was cancelled.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes of what waits. What is being read is added when it is finished, so the bound may be passed by
/// what the workers hold.
#[derive(Default)]
pub(super) struct Room {
    used_bytes: AtomicU64,
    lock: Mutex<()>,
    freed: Condvar,
}

impl Room {
    /// Counts bytes that wait from now on; never waits itself.
    pub(super) fn take(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, SeqCst);
    }

    /// The bytes wait no longer.
    pub(super) fn give(&self, bytes: u64) {
        let before = self.used_bytes.fetch_sub(bytes, SeqCst);
        if before >= MAX_BYTES && before - bytes < MAX_BYTES {
            self.freed.notify_all();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.used_bytes.load(SeqCst) >= MAX_BYTES
    }

    /// Waits until there is room, or until `stop`.
    pub(super) fn wait(&self, stop: &CancellationToken) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.is_full() && !stop.is_cancelled() {
            let waited = self.freed.wait_timeout(guard, LOOK);
            guard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// About what an entry takes in memory, in bytes.
pub(super) fn bytes_of(entry: &Entry) -> u64 {
    let xattrs = entry.meta.xattrs.iter();
    let xattrs: usize = xattrs.map(|x| x.name.len() + x.value.len() + 48).sum();
    let extents: usize = match &entry.content {
        Content::Extents(extents) => extents
            .iter()
            .map(|extent| {
                size_of::<Extent>()
                    + match extent {
                        Extent::Inline(bytes) => bytes.len(),
                        _ => 0,
                    }
            })
            .sum(),
        _ => 0,
    };
    (size_of::<Entry>() + entry.path.len() + entry.target.len() + xattrs + extents) as u64
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn who_waits_goes_on_when_there_is_room_or_no_more_sense_in_waiting() {
        let (room, stop) = (Room::default(), CancellationToken::new());
        room.wait(&stop);
        room.take(MAX_BYTES + 5);
        assert!(room.is_full());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| room.wait(&stop));
            room.give(6);
            waiting.join().unwrap();
        });
        assert!(!room.is_full());
        room.take(1);
        stop.cancel();
        room.wait(&stop);
    }
}
