//! Reading a volume's files without pushing what the workload has in memory out of it.
//!
//! Where the kernel can (Linux 6.14, `RWF_DONTCACHE`), pages that a read itself has brought in go when it is done.
//! Elsewhere a read that does not wait shows whether a block is in memory, and only a block that was not is
//! dropped after it was read. What was there before stays in either case.

use std::{
    fs::File,
    io::IoSliceMut,
    num::NonZeroU64,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use rustix::{
    fs::{Advice, fadvise},
    io::{Errno, ReadWriteFlags, pread, preadv2},
};

/// `RWF_DONTCACHE`, which the library does not name yet.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// Reads below this size are not worth a question or an advice of their own, in bytes.
const PROBED_MIN: usize = 256 << 10;

/// How a file system lets us read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    /// The kernel drops what a read brought in.
    DontCache = 0,
    /// We ask what is there, and drop what was not.
    Probe = 1,
    /// Neither can be done.
    Plain = 2,
}

/// Reads the files of one volume. Learns from the first refusal what its file system cannot do.
#[derive(Debug, Default)]
pub(super) struct Reading {
    way: AtomicU8,
}

impl Reading {
    fn way(&self) -> Way {
        match self.way.load(Relaxed) {
            0 => Way::DontCache,
            1 => Way::Probe,
            _ => Way::Plain,
        }
    }

    fn turn_to(&self, way: Way) {
        self.way.fetch_max(way as u8, Relaxed);
    }

    /// Fills the buffer with the file's bytes from `at` on, as far as the file goes; returns how many there
    /// were.
    pub(super) fn fill(&self, file: &File, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        let drop_after = self.way() == Way::Probe
            && buffer.len() >= PROBED_MIN
            && !self.is_resident(file, at, buffer.len());
        let mut done = 0;
        while done < buffer.len() {
            match self.once(file, &mut buffer[done..], at + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if drop_after && let Some(len) = NonZeroU64::new(done as u64) {
            // It is only advice.
            let _ = fadvise(file, at, Some(len), Advice::DontNeed);
        }
        Ok(done)
    }

    fn once(&self, file: &File, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
        if self.way() == Way::DontCache {
            match preadv2(file, &mut [IoSliceMut::new(buffer)], at, DONTCACHE) {
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
                    self.turn_to(Way::Probe);
                }
                result => return result,
            }
        }
        pread(file, buffer, at)
    }

    /// Whether any of three places of the range is in memory.
    fn is_resident(&self, file: &File, at: u64, len: usize) -> bool {
        let mut byte = [0];
        for place in [at, at + len as u64 / 2, at + len as u64 - 1] {
            match preadv2(
                file,
                &mut [IoSliceMut::new(&mut byte)],
                place,
                ReadWriteFlags::NOWAIT,
            ) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => {}
                Ok(_) => return true,
                Err(_) => {
                    self.turn_to(Way::Plain);
                    return true;
                }
            }
        }
        false
    }
}

/// Tells the kernel that a file will be read from its beginning to its end.
pub(super) fn expect_all(file: &File) {
    // It is only advice.
    let _ = fadvise(file, 0, None, Advice::Sequential);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn each_way_reads_the_same_up_to_the_end() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        for way in [Way::DontCache, Way::Probe, Way::Plain] {
            let reading = Reading::default();
            reading.turn_to(way);
            let mut buffer = vec![0; 600_000];
            assert_eq!(reading.fill(&file, &mut buffer, 3), Ok(600_000));
            assert!(buffer == bytes[3..600_003]);
            assert_eq!(reading.fill(&file, &mut buffer, 500_000), Ok(200_000));
            assert!(buffer[..200_000] == bytes[500_000..]);
            assert_eq!(reading.fill(&file, &mut buffer, 700_000), Ok(0));
        }
    }

    #[test]
    fn what_cannot_be_done_is_not_tried_again() {
        let reading = Reading::default();
        reading.turn_to(Way::Plain);
        reading.turn_to(Way::Probe);
        assert_eq!(reading.way(), Way::Plain);
    }
}
