//! What is to be done at the very end, last come first served: metadata of directories, whose times
//! their children would disturb, and inode flags, which would forbid the rest.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use orlop_core::Timestamp;
use orlop_repository::{Metadata, Xattr};

/// Records kept in memory before they go to the temporary file.
const BLOCK_BYTES: usize = 4 << 20;

/// One thing to be done late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Late {
    /// All metadata of a directory.
    Directory {
        path: Vec<u8>,
        meta: Metadata,
        /// It was there before the restore.
        existed: bool,
    },
    /// Inode flags of a regular file.
    FileFlags { path: Vec<u8>, flags: u32 },
}

/// A stack of [`Late`] records; memory is bounded.
#[derive(Default)]
pub(super) struct Deferred {
    block: Vec<u8>,
    /// Lengths of the blocks in the temporary file.
    spilled: Vec<u64>,
    file: Option<File>,
}

impl Deferred {
    pub(super) fn push(&mut self, late: &Late) -> io::Result<()> {
        encode(late, &mut self.block);
        if self.block.len() < BLOCK_BYTES {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        file.write_all(&self.block)?;
        self.spilled.push(self.block.len() as u64);
        self.block.clear();
        Ok(())
    }

    /// The records that were pushed last, in the order in which they were pushed; `None` when there
    /// are no more. Nothing may be pushed after the first call.
    pub(super) fn pop_block(&mut self) -> io::Result<Option<Vec<Late>>> {
        if self.block.is_empty() {
            let (Some(len), Some(file)) = (self.spilled.pop(), &mut self.file) else {
                return Ok(None);
            };
            let at: u64 = self.spilled.iter().sum();
            file.seek(SeekFrom::Start(at))?;
            self.block
                .resize(usize::try_from(len).map_err(io::Error::other)?, 0);
            file.read_exact(&mut self.block)?;
        }
        let mut rest = self.block.as_slice();
        let mut records = Vec::new();
        while !rest.is_empty() {
            records.push(decode(&mut rest)?);
        }
        self.block = Vec::new();
        Ok(Some(records))
    }
}

const DIRECTORY: u8 = 0;
const EXISTING_DIRECTORY: u8 = 1;
const FILE_FLAGS: u8 = 2;

fn encode(late: &Late, out: &mut Vec<u8>) {
    match late {
        Late::Directory {
            path,
            meta,
            existed,
        } => {
            out.push(if *existed {
                EXISTING_DIRECTORY
            } else {
                DIRECTORY
            });
            put_bytes(out, path);
            for number in [meta.mode, meta.uid, meta.gid, meta.flags, meta.mtime.nanos] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&meta.mtime.secs.to_le_bytes());
            out.extend_from_slice(&(meta.xattrs.len() as u32).to_le_bytes());
            for xattr in &meta.xattrs {
                put_bytes(out, &xattr.name);
                put_bytes(out, &xattr.value);
            }
        }
        Late::FileFlags { path, flags } => {
            out.push(FILE_FLAGS);
            put_bytes(out, path);
            out.extend_from_slice(&flags.to_le_bytes());
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn decode(input: &mut &[u8]) -> io::Result<Late> {
    let [kind] = take(input)?;
    let path = take_bytes(input)?;
    if kind == FILE_FLAGS {
        return Ok(Late::FileFlags {
            path,
            flags: take_u32(input)?,
        });
    }
    let mut meta = Metadata {
        mode: take_u32(input)?,
        uid: take_u32(input)?,
        gid: take_u32(input)?,
        flags: take_u32(input)?,
        ..Metadata::default()
    };
    let nanos = take_u32(input)?;
    meta.mtime = Timestamp::new(i64::from_le_bytes(take(input)?), nanos);
    for _ in 0..take_u32(input)? {
        let name = take_bytes(input)?;
        meta.xattrs.push(Xattr {
            name,
            value: take_bytes(input)?,
        });
    }
    Ok(Late::Directory {
        path,
        meta,
        existed: kind == EXISTING_DIRECTORY,
    })
}

fn take<const N: usize>(input: &mut &[u8]) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take_u32(input: &mut &[u8]) -> io::Result<u32> {
    Ok(u32::from_le_bytes(take(input)?))
}

fn take_bytes(input: &mut &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; take_u32(input)? as usize];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_last_first_also_from_the_file() {
        let mut deferred = Deferred::default();
        let value = vec![7; 50_000];
        let late = |n: u32| Late::Directory {
            path: n.to_string().into_bytes(),
            meta: Metadata {
                mode: 0o750,
                uid: n,
                gid: 3,
                mtime: Timestamp::new(-5, 9),
                flags: 16,
                rdev: 0,
                xattrs: vec![Xattr {
                    name: b"user.a".to_vec(),
                    value: value.clone(),
                }],
            },
            existed: n.is_multiple_of(2),
        };
        for n in 0..300 {
            deferred.push(&late(n)).unwrap();
        }
        deferred
            .push(&Late::FileFlags {
                path: b"f".to_vec(),
                flags: 32,
            })
            .unwrap();
        assert!(deferred.spilled.len() >= 3);
        let mut all = Vec::new();
        while let Some(block) = deferred.pop_block().unwrap() {
            all.extend(block.into_iter().rev());
        }
        assert_eq!(
            all[0],
            Late::FileFlags {
                path: b"f".to_vec(),
                flags: 32
            }
        );
        let expected: Vec<Late> = (0..300).rev().map(late).collect();
        assert!(all[1..] == expected);
    }
}
