//! Zeros and holes: allocated, cleared, punched; each returns the bytes that it had to write.

use std::{fs::File, io, os::unix::fs::FileExt};

use rustix::{
    fs::{FallocateFlags, SeekFrom, fallocate, seek},
    io::Errno,
};

const BLOCK: usize = 64 << 10;

/// Zeros in a file that has nothing there yet. They are allocated, so that a full disk shows now and
/// not later.
pub(super) fn allocate(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    if is_done(fallocate(file, FallocateFlags::empty(), offset, len))? {
        return Ok(0);
    }
    let zeros = vec![0; BLOCK];
    for (at, part) in blocks(offset, len) {
        file.write_all_at(&zeros[..part], at)?;
    }
    Ok(len)
}

/// Zeros, allocated if possible, in place of what a file has there.
pub(super) fn clear(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    if is_done(fallocate(file, FallocateFlags::ZERO_RANGE, offset, len))? {
        return Ok(0);
    }
    blank(file, offset, len)
}

/// A hole in place of what a file has there; zeros where there can be no holes.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if is_done(fallocate(file, flags, offset, len))? {
        return Ok(0);
    }
    blank(file, offset, len)
}

/// Whether the file system could; some know only some ways, or none.
fn is_done(result: Result<(), Errno>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes zeros over what is none.
fn blank(file: &File, offset: u64, len: u64) -> io::Result<u64> {
    let (zeros, mut written) = (vec![0; BLOCK], 0);
    let mut bytes = vec![0; BLOCK];
    for (at, part) in blocks(offset, len) {
        let there = read_up_to(file, &mut bytes[..part], at)?;
        if bytes[..there].iter().any(|byte| *byte != 0) {
            file.write_all_at(&zeros[..there], at)?;
            written += there as u64;
        }
    }
    Ok(written)
}

/// Whether a file has nothing but zeros there; with `hole`, whether nothing is allocated. What is
/// beyond its end counts as a hole.
pub(super) fn are_there(file: &File, offset: u64, len: u64, hole: bool) -> io::Result<bool> {
    let end = offset.saturating_add(len);
    let mut at = offset;
    let mut bytes = Vec::new();
    while at < end {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(true),
            Err(Errno::INVAL) => at,
            Err(errno) => return Err(errno.into()),
        };
        if data >= end {
            return Ok(true);
        }
        if hole {
            return Ok(false);
        }
        bytes.resize(BLOCK, 0);
        let part = usize::try_from(end - data).map_or(BLOCK, |left| left.min(BLOCK));
        let there = read_up_to(file, &mut bytes[..part], data)?;
        if there == 0 {
            return Ok(true);
        }
        if bytes[..there].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at = data + there as u64;
    }
    Ok(true)
}

/// Fills the buffer as far as the file goes.
pub(super) fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut there = 0;
    while there < bytes.len() {
        match file.read_at(&mut bytes[there..], offset + there as u64) {
            Ok(0) => break,
            Ok(n) => there += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(there)
}

fn blocks(offset: u64, len: u64) -> impl Iterator<Item = (u64, usize)> {
    let end = offset.saturating_add(len);
    let mut at = offset;
    std::iter::from_fn(move || {
        let part = usize::try_from(end - at).map_or(BLOCK, |left| left.min(BLOCK));
        at += part as u64;
        (part > 0).then(|| (at - part as u64, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; 300_000], 0).unwrap();
        file
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![1; 400_000];
        let there = read_up_to(file, &mut bytes, 0).unwrap();
        bytes.truncate(there);
        bytes
    }

    #[test]
    fn holes_and_zeros_take_the_place_of_data() {
        for way in 0..3 {
            let file = sample();
            let result = match way {
                0 => punch(&file, 10_000, 200_000),
                1 => clear(&file, 10_000, 200_000),
                _ => blank(&file, 10_000, 200_000),
            };
            result.unwrap();
            let mut expected = vec![7; 300_000];
            expected[10_000..210_000].fill(0);
            assert!(content(&file) == expected);
            assert!(are_there(&file, 10_000, 200_000, false).unwrap());
            assert!(!are_there(&file, 9_999, 200_000, false).unwrap());
            assert!(!are_there(&file, 9_000, 500_000, true).unwrap());
            assert!(are_there(&file, 300_000, 500_000, true).unwrap());
        }
        let file = sample();
        punch(&file, 65_536, 131_072).unwrap();
        assert!(are_there(&file, 65_536, 131_072, true).unwrap());
        allocate(&file, 300_000, 100_000).unwrap();
        assert_eq!(content(&file).len(), 400_000);
    }

    #[test]
    fn zeros_are_not_written_over_zeros() {
        let file = sample();
        assert_eq!(blank(&file, 0, 400_000).unwrap(), 300_000);
        assert_eq!(blank(&file, 0, 400_000).unwrap(), 0);
    }
}
