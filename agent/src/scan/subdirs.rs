//! The subdirectories of one directory that the walk has yet to enter.

use std::{
    ffi::CString,
    fs::File,
    io::{self, BufReader, Read, Seek, Write},
};

use super::stat::FileStat;

/// One subdirectory as it was listed.
pub(crate) struct Subdir {
    pub(crate) name: CString,
    pub(crate) ino: u64,
    pub(crate) dev: (u32, u32),
}

/// First in, first out; beyond `limit_bytes` in a temporary file.
pub(crate) struct Subdirs {
    bytes: Vec<u8>,
    at: usize,
    limit_bytes: usize,
    spill: Option<File>,
    reader: Option<BufReader<File>>,
}

impl Subdirs {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            bytes: Vec::new(),
            at: 0,
            limit_bytes,
            spill: None,
            reader: None,
        }
    }

    /// Memory in use, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn push(&mut self, name: &[u8], stat: &FileStat) -> io::Result<()> {
        let len = u16::try_from(name.len()).map_err(io::Error::other)?;
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(&stat.ino.to_le_bytes());
        self.bytes.extend_from_slice(&stat.dev.0.to_le_bytes());
        self.bytes.extend_from_slice(&stat.dev.1.to_le_bytes());
        self.bytes.extend_from_slice(name);
        if self.bytes.len() > self.limit_bytes {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.spill {
            Some(file) => file,
            None => self.spill.insert(tempfile::tempfile()?),
        };
        file.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }

    /// No more are pushed from here on.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.spill.is_some() {
            self.flush()?;
            self.bytes = Vec::new();
        }
        self.bytes.shrink_to_fit();
        if let Some(mut file) = self.spill.take() {
            file.rewind()?;
            self.reader = Some(BufReader::new(file));
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Subdir>> {
        if let Some(reader) = &mut self.reader {
            return read_one(reader);
        }
        let mut rest = &self.bytes[self.at..];
        let before = rest.len();
        let one = read_one(&mut rest)?;
        self.at += before - rest.len();
        Ok(one)
    }
}

fn read_one(input: &mut impl Read) -> io::Result<Option<Subdir>> {
    let mut head = [0; 18];
    match input.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let mut name = vec![0; usize::from(u16::from_le_bytes([head[0], head[1]]))];
    input.read_exact(&mut name)?;
    Ok(Some(Subdir {
        name: CString::new(name).map_err(io::Error::other)?,
        ino: u64::from(word(2)) | (u64::from(word(6)) << 32),
        dev: (word(10), word(14)),
    }))
}
