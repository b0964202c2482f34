//! Frames ↔ pack object.
//!
//! ```text
//! header 32 ‖ frames ‖ sealed frame table ‖ padding to 4 KiB ‖ sealed trailer 44
//! ```
//! The object's name holds the BLAKE3 of all its bytes, so that anyone can scrub it without a key, and
//! the session that wrote it. Table and trailer are sealed under that session's key.

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    frame::{self, Frame, FrameKind},
    seal,
    secret::{ChunkId, Key, hex},
};

const MAGIC: &[u8; 8] = b"ORLOPPK0";
const HEADER: usize = 32;
const ENTRY: usize = 48;
const TRAILER: usize = 16 + seal::OVERHEAD;
const ALIGN: usize = 4096;
const TABLE_AAD: &[u8] = b"orlop 2026 v0 frame table";
const TRAILER_AAD: &[u8] = b"orlop 2026 v0 pack trailer";
/// A pack holds at most this many frames.
const MAX_FRAMES: usize = 1 << 20;

/// Which packs an object belongs to: data may be kept in a colder class than metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PackClass {
    Data,
    Meta,
}

impl PackClass {
    pub(crate) fn of(kind: FrameKind) -> Self {
        match kind {
            FrameKind::Data => Self::Data,
            _ => Self::Meta,
        }
    }

    /// The class of the pack of that name.
    pub(crate) fn of_name(name: &str) -> Self {
        if name.starts_with("p/") {
            Self::Data
        } else {
            Self::Meta
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Data => 'p',
            Self::Meta => 'm',
        }
    }
}

/// One frame of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableEntry {
    pub(crate) id: ChunkId,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) plain_len: u32,
    pub(crate) kind: FrameKind,
    pub(crate) codec: u8,
}

impl TableEntry {
    /// The entry of a frame, wherever it lies.
    pub(crate) fn of_frame(id: ChunkId, frame: &[u8]) -> Option<Self> {
        let (kind, codec, plain_len) = frame::header_of(frame)?;
        Some(Self {
            id,
            offset: 0,
            len: frame.len() as u32,
            plain_len,
            kind,
            codec,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.plain_len.to_le_bytes());
        out.extend_from_slice(&[self.kind as u8, self.codec, 0, 0]);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            id: ChunkId::from_bytes(bytes.get(..32)?.try_into().ok()?),
            offset: word(32)?,
            len: word(36)?,
            plain_len: word(40)?,
            kind: FrameKind::from_u8(*bytes.get(44)?)?,
            codec: *bytes.get(45)?,
        })
    }
}

/// A pack that is being filled.
pub(crate) struct OpenPack {
    class: PackClass,
    session: u64,
    parts: Vec<Bytes>,
    hasher: blake3::Hasher,
    len: usize,
    table: Vec<TableEntry>,
}

/// A pack that is ready to be stored.
pub(crate) struct FinishedPack {
    pub(crate) name: String,
    pub(crate) parts: Vec<Bytes>,
    pub(crate) len: u64,
    pub(crate) table: Vec<TableEntry>,
}

impl OpenPack {
    pub(crate) fn new(class: PackClass, session: u64) -> Self {
        let mut pack = Self {
            class,
            session,
            parts: Vec::new(),
            hasher: blake3::Hasher::new(),
            len: 0,
            table: Vec::new(),
        };
        let mut header = vec![0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8] = class.letter() as u8;
        header[16..24].copy_from_slice(&session.to_le_bytes());
        pack.append(header);
        pack
    }

    fn append(&mut self, bytes: Vec<u8>) {
        self.hasher.update(&bytes);
        self.len += bytes.len();
        self.parts.push(Bytes::from(bytes));
    }

    pub(crate) fn push(&mut self, frame: Frame) {
        self.table.push(TableEntry {
            id: frame.id,
            offset: self.len as u32,
            len: frame.bytes.len() as u32,
            plain_len: frame.plain_len,
            kind: frame.kind,
            codec: frame.codec as u8,
        });
        self.append(frame.bytes);
    }

    /// Adds a frame as it lies in another pack.
    pub(crate) fn copy(&mut self, entry: &TableEntry, frame: &[u8]) {
        self.table.push(TableEntry {
            offset: self.len as u32,
            ..entry.clone()
        });
        self.append(frame.to_vec());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn is_full(&self, pack_bytes: usize) -> bool {
        self.len >= pack_bytes || self.table.len() >= MAX_FRAMES
    }

    /// Adds table and trailer and names the pack.
    pub(crate) fn finish(mut self, session_key: &Key) -> Result<FinishedPack> {
        let mut table = Vec::with_capacity(self.table.len() * ENTRY);
        self.table.iter().for_each(|entry| entry.encode(&mut table));
        let sealed = seal::seal(session_key, TABLE_AAD, &table)?;
        let mut trailer = [0u8; 16];
        trailer[..8].copy_from_slice(&(self.len as u64).to_le_bytes());
        trailer[8..12].copy_from_slice(&(sealed.len() as u32).to_le_bytes());
        trailer[12..].copy_from_slice(&(self.table.len() as u32).to_le_bytes());
        self.append(sealed);
        let padding = (ALIGN - (self.len + TRAILER) % ALIGN) % ALIGN;
        self.append(vec![0; padding]);
        self.append(seal::seal(session_key, TRAILER_AAD, &trailer)?);
        let hash = hex(self.hasher.finalize().as_bytes());
        let name = format!(
            "{}/{}/{hash}.{}",
            self.class.letter(),
            &hash[..2],
            self.session
        );
        Ok(FinishedPack {
            name,
            parts: self.parts,
            len: self.len as u64,
            table: self.table,
        })
    }
}

/// The BLAKE3 and the session in a pack's name; also of an index segment's.
pub(crate) fn parse_name(name: &str) -> Result<(String, u64)> {
    let leaf = name.rsplit('/').next().unwrap_or_default();
    let parsed = leaf.split_once('.').and_then(|(hash, session)| {
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        Some((is_hash.then(|| hash.to_owned())?, session.parse().ok()?))
    });
    parsed.ok_or_else(|| Error::damaged(name, "its name is not <hash>.<session>"))
}

/// Proves without any key that a pack or a segment holds the bytes that its name says.
pub(crate) fn scrub(name: &str, bytes: &[u8]) -> Result<()> {
    let (hash, _) = parse_name(name)?;
    if hex(blake3::hash(bytes).as_bytes()) == hash {
        Ok(())
    } else {
        Err(Error::damaged(name, "its bytes do not match its name"))
    }
}

/// The frame table of a whole pack.
///
/// # Errors
/// [`Error::Damaged`]: no byte of header, table and trailer may differ.
pub(crate) fn read_table(name: &str, bytes: &[u8], session_key: &Key) -> Result<Vec<TableEntry>> {
    let fail = |reason: &str| Error::damaged(name, reason);
    if bytes.len() < HEADER + TRAILER || &bytes[..8] != MAGIC {
        return Err(fail("it does not begin as a pack does"));
    }
    let trailer = Ending::of(bytes.len() as u64);
    let table = trailer.open(name, &bytes[trailer.offset as usize..], session_key)?;
    let sealed = &bytes[table.offset as usize..(table.offset + table.len) as usize];
    open_table(name, sealed, table, session_key)
}

/// A range at the end of a pack: its trailer, and then its table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Ending {
    /// Where the trailer of a pack of `size` bytes is.
    pub(crate) fn of(size: u64) -> Self {
        Self {
            offset: size.saturating_sub(TRAILER as u64),
            len: size.min(TRAILER as u64),
        }
    }

    /// Where the table is that the trailer, which is `self`, tells of.
    pub(crate) fn open(self, name: &str, trailer: &[u8], session_key: &Key) -> Result<Self> {
        let fail = |reason: &str| Error::damaged(name, reason);
        let trailer = seal::open_vec(session_key, TRAILER_AAD, trailer)
            .ok_or_else(|| fail("its trailer cannot be opened"))?;
        if trailer.len() + seal::OVERHEAD != TRAILER {
            return Err(fail("its trailer makes no sense"));
        }
        let word = |at: usize| {
            u32::from_le_bytes([
                trailer[at],
                trailer[at + 1],
                trailer[at + 2],
                trailer[at + 3],
            ]) as usize
        };
        let (offset, len, count) = (word(0), word(8), word(12));
        if word(4) != 0 || count > MAX_FRAMES || len != count * ENTRY + seal::OVERHEAD {
            return Err(fail("its trailer makes no sense"));
        }
        let table = Self {
            offset: offset as u64,
            len: len as u64,
        };
        if table.offset + table.len > self.offset {
            return Err(fail("its table is cut off"));
        }
        Ok(table)
    }
}

/// The frame table that lies at `place`.
///
/// # Errors
/// [`Error::Damaged`].
pub(crate) fn open_table(
    name: &str,
    sealed: &[u8],
    place: Ending,
    session_key: &Key,
) -> Result<Vec<TableEntry>> {
    let fail = |reason: &str| Error::damaged(name, reason);
    let table = seal::open_vec(session_key, TABLE_AAD, sealed)
        .ok_or_else(|| fail("its table cannot be opened"))?;
    let senseless = || fail("its table makes no sense");
    let mut at = HEADER as u64;
    let mut entries = Vec::with_capacity(table.len() / ENTRY);
    for entry in table.chunks(ENTRY) {
        let entry = TableEntry::decode(entry).ok_or_else(senseless)?;
        if u64::from(entry.offset) != at {
            return Err(senseless());
        }
        at += u64::from(entry.len);
        entries.push(entry);
    }
    if at == place.offset {
        Ok(entries)
    } else {
        Err(senseless())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{Encoder, Level},
        secret::Secret,
    };

    fn sample() -> (Key, FinishedPack) {
        let (domain, session) = (Key::from_bytes([1; 32]), Key::from_bytes([2; 32]));
        let mut encoder = Encoder::new().unwrap();
        let mut pack = OpenPack::new(PackClass::Data, 7);
        for text in [&b"first"[..], &[b'x'; 10_000]] {
            pack.push(
                encoder
                    .encode(
                        FrameKind::Data,
                        &Secret::of(&domain, text),
                        text,
                        Level::default(),
                    )
                    .unwrap(),
            );
        }
        (session.clone(), pack.finish(&session).unwrap())
    }

    #[test]
    fn a_pack_tells_what_it_holds() {
        let (key, pack) = sample();
        let bytes = pack.parts.concat();
        assert_eq!(bytes.len() % ALIGN, 0);
        assert_eq!(bytes.len() as u64, pack.len);
        scrub(&pack.name, &bytes).unwrap();
        assert_eq!(read_table(&pack.name, &bytes, &key).unwrap(), pack.table);
    }

    #[test]
    fn any_flipped_byte_is_refused_by_name() {
        let (key, pack) = sample();
        let bytes = pack.parts.concat();
        for at in 0..bytes.len() {
            let mut copy = bytes.clone();
            copy[at] ^= 1;
            assert!(
                scrub(&pack.name, &copy)
                    .unwrap_err()
                    .to_string()
                    .contains(&pack.name)
            );
            // Must not panic, whatever is flipped or cut off.
            let _ = read_table(&pack.name, &copy, &key);
            let _ = read_table(&pack.name, &copy[..at], &key);
        }
    }
}
