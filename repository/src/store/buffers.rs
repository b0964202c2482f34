//! Large buffers that are used again: an allocator would keep their memory in as many places as there
//! are threads, and the system takes longer to give new memory than a disk cache to fill it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;

/// Smaller ones are left to the allocator, in bytes.
const LARGE: usize = 2 << 20;
/// Capacities are multiples of this, so that a buffer fits objects of about the same size.
const STEP: usize = 4 << 20;
/// Bytes of buffers that nobody uses.
const FREE_MAX: usize = 64 << 20;

/// Buffers of one store; their memory goes with it.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<Vec<u8>>>,
}

/// A buffer in use; comes back when the last [`Bytes`] of it is dropped.
struct Lent {
    bytes: Vec<u8>,
    len: usize,
    home: Weak<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.take_back(std::mem::take(&mut self.bytes));
        }
    }
}

impl Buffers {
    /// `len` bytes that `fill` has written, all of them.
    pub(crate) fn filled(
        self: &Arc<Self>,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Bytes> {
        if len < LARGE {
            let mut bytes = vec![0; len];
            fill(&mut bytes)?;
            return Ok(bytes.into());
        }
        let mut lent = Lent {
            bytes: self.take(len),
            len,
            home: Arc::downgrade(self),
        };
        fill(&mut lent.bytes[..len])?;
        Ok(Bytes::from_owner(lent))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The smallest free buffer that is large enough, or a new one.
    fn take(&self, len: usize) -> Vec<u8> {
        let mut free = self.lock();
        let fitting = free
            .iter()
            .enumerate()
            .filter(|(_, bytes)| bytes.len() >= len);
        match fitting
            .min_by_key(|(_, bytes)| bytes.len())
            .map(|(at, _)| at)
        {
            Some(at) => free.swap_remove(at),
            None => vec![0; len.next_multiple_of(STEP)],
        }
    }

    fn take_back(&self, bytes: Vec<u8>) {
        let mut free = self.lock();
        let kept: usize = free.iter().map(Vec::len).sum();
        if kept + bytes.len() <= FREE_MAX {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_nobody_has_it() {
        let buffers = Arc::new(Buffers::default());
        let fill = |value: u8| {
            move |bytes: &mut [u8]| {
                bytes.fill(value);
                Ok(())
            }
        };
        let first = buffers.filled(LARGE + 5, fill(1)).unwrap();
        let slice = first.slice(7..9);
        let place = first.as_ptr();
        drop(first);
        let second = buffers.filled(LARGE, fill(2)).unwrap();
        assert_eq!(&slice[..], [1, 1]);
        assert_ne!(second.as_ptr(), place);
        drop(slice);
        let third = buffers.filled(LARGE + 1, fill(3)).unwrap();
        assert_eq!((third.as_ptr(), third.len()), (place, LARGE + 1));
        assert!(
            buffers
                .filled(LARGE, |_| Err(io::Error::other("no")))
                .is_err()
        );
        drop((second, third));
        assert_eq!(buffers.lock().len(), 3);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = Arc::new(Buffers::default());
        let all: Vec<_> = (0..20)
            .map(|_| buffers.filled(2 * STEP, |_| Ok(())).unwrap())
            .collect();
        drop(all);
        assert_eq!(buffers.lock().len(), FREE_MAX / (2 * STEP));
        let late = buffers.filled(LARGE, |_| Ok(())).unwrap();
        drop(buffers);
        assert_eq!(late.len(), LARGE);
    }
}
