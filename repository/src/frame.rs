//! Chunk ↔ frame: `nonce 12 ‖ AES-256-GCM(zstd or raw bytes) ‖ tag 16`, under a key of the chunk's own.

use zstd::bulk::{Compressor, Decompressor};

use crate::{
    entropy,
    error::{Error, Result},
    seal,
    secret::{ChunkId, Key, Secret},
};

/// Largest chunk in bytes.
pub(crate) const MAX_PLAIN: usize = 16 << 20;
/// Largest page in bytes: what a reader builds of it in memory is some ten times as much.
const MAX_PAGE: usize = 4 << 20;
/// Chunks below this size are not worth a compressor's call.
const MIN_COMPRESS: usize = 64;

/// What a frame holds; part of what is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A file's chunk or a bundle.
    Data = 1,
    /// A page of a manifest.
    Manifest = 2,
    /// A page of a stat sidecar.
    Sidecar = 3,
    /// A reference page.
    Refs = 4,
    /// A page of a long extent list, or a large set of attributes.
    Extents = 5,
}

impl FrameKind {
    fn max_plain(self) -> usize {
        match self {
            Self::Data => MAX_PLAIN,
            Self::Manifest | Self::Sidecar | Self::Refs | Self::Extents => MAX_PAGE,
        }
    }

    pub(crate) fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Data,
            2 => Self::Manifest,
            3 => Self::Sidecar,
            4 => Self::Refs,
            5 => Self::Extents,
            _ => return None,
        })
    }
}

/// How the plaintext is encoded in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Codec {
    Raw = 0,
    Zstd = 1,
}

/// How hard zstd tries; a reader need not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level(i32);

impl Default for Level {
    /// That of metadata, of data whose packs the store keeps up with only just, and of what shrinks much.
    fn default() -> Self {
        Self(3)
    }
}

impl Level {
    /// For data, by how many of the packs that may wait for the store could still be added: none while the store
    /// is what everything waits for.
    pub(crate) fn of_queue(free: usize) -> Self {
        if free == 0 { Self(3) } else { Self(2) }
    }

    /// The level for data of which the chunk before shrank from `plain` to `packed` bytes: what shrinks to a quarter
    /// takes hardly longer at the usual level than at a lower one.
    fn after(self, plain: usize, packed: usize) -> Self {
        if packed * 4 <= plain {
            self.max(Self::default())
        } else {
            self
        }
    }
}

/// A frame with what its table entry says of it.
pub(crate) struct Frame {
    pub(crate) id: ChunkId,
    pub(crate) kind: FrameKind,
    pub(crate) codec: Codec,
    pub(crate) plain_len: u32,
    pub(crate) bytes: Vec<u8>,
}

/// Longest frame in bytes: a chunk that compression would make longer is stored as it is.
pub(crate) const MAX_FRAME: usize = HEADER + MAX_PLAIN + seal::OVERHEAD;

/// Bytes before the frame proper that say how to open it: `kind ‖ codec ‖ plain length`.
pub(crate) const HEADER: usize = 6;

fn aad(header: &[u8], id: &ChunkId) -> [u8; HEADER + 36] {
    let mut out = [0; HEADER + 36];
    // 2 bytes of format, 2 of dictionary id: zero in version 0.
    out[4..4 + HEADER].copy_from_slice(header);
    out[4 + HEADER..].copy_from_slice(id.as_bytes());
    out
}

fn header(kind: FrameKind, codec: Codec, plain_len: u32) -> [u8; HEADER] {
    let mut out = [0; HEADER];
    out[0] = kind as u8;
    out[1] = codec as u8;
    out[2..].copy_from_slice(&plain_len.to_le_bytes());
    out
}

/// Kind, codec and plain length of a frame.
pub(crate) fn header_of(frame: &[u8]) -> Option<(FrameKind, u8, u32)> {
    let head: &[u8; HEADER] = frame.first_chunk()?;
    let plain_len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
    Some((FrameKind::from_u8(head[0])?, head[1], plain_len))
}

/// Makes frames; keeps a compressor and its buffer between calls.
pub(crate) struct Encoder {
    compressor: Compressor<'static>,
    level: Level,
    buffer: Vec<u8>,
    /// Length of the chunk before, and of what became of it.
    before: (usize, usize),
}

impl Encoder {
    pub(crate) fn new() -> Result<Self> {
        let system = |source| Error::System {
            action: "make a compressor",
            source,
        };
        let level = Level::default();
        let mut compressor = Compressor::new(level.0).map_err(system)?;
        compressor.include_checksum(false).map_err(system)?;
        compressor.include_contentsize(true).map_err(system)?;
        Ok(Self {
            compressor,
            level,
            buffer: Vec::new(),
            before: (0, 1),
        })
    }

    /// The frame of `plain`, whose secret is `secret`.
    pub(crate) fn encode(
        &mut self,
        kind: FrameKind,
        secret: &Secret,
        plain: &[u8],
        level: Level,
    ) -> Result<Frame> {
        if plain.len() > kind.max_plain() {
            return Err(Error::Invalid(format!(
                "a chunk of {} bytes is too large",
                plain.len()
            )));
        }
        let id = secret.id();
        let compressed = self.compress(plain, level)?;
        let (codec, body) = if compressed {
            (Codec::Zstd, &self.buffer[..])
        } else {
            (Codec::Raw, plain)
        };
        let head = header(kind, codec, plain.len() as u32);
        let mut bytes = Vec::with_capacity(HEADER + body.len() + seal::OVERHEAD);
        bytes.extend_from_slice(&head);
        seal::seal_into(&secret.frame_key(), &aad(&head, &id), body, &mut bytes)?;
        Ok(Frame {
            id,
            kind,
            codec,
            plain_len: plain.len() as u32,
            bytes,
        })
    }

    /// Length of `plain` when it is compressed, unless raw bytes are the better choice: for benches.
    #[cfg(feature = "testing")]
    pub(crate) fn compressed_len(&mut self, plain: &[u8], level: Level) -> Result<Option<usize>> {
        Ok(self.compress(plain, level)?.then_some(self.buffer.len()))
    }

    /// Compresses into the buffer, at `level` or a higher one; false if raw bytes are the better choice.
    fn compress(&mut self, plain: &[u8], level: Level) -> Result<bool> {
        if plain.len() < MIN_COMPRESS || !entropy::looks_compressible(plain) {
            return Ok(false);
        }
        self.buffer.clear();
        self.buffer
            .reserve(zstd::zstd_safe::compress_bound(plain.len()));
        let system = |source| Error::System {
            action: "compress a chunk",
            source,
        };
        let level = level.after(self.before.0, self.before.1);
        if self.level != level {
            self.compressor
                .set_compression_level(level.0)
                .map_err(system)?;
            self.level = level;
        }
        self.compressor
            .compress_to_buffer(plain, &mut self.buffer)
            .map_err(system)?;
        self.before = (plain.len(), self.buffer.len());
        Ok(self.buffer.len() + self.buffer.len() / 64 < plain.len())
    }
}

/// Opens frames; keeps a decompressor and two buffers of the largest chunk so far between calls, as memory that
/// is asked for anew for each chunk costs a restore a fifth of its processor time.
pub(crate) struct Decoder {
    decompressor: Decompressor<'static>,
    /// The frame that is being opened.
    sealed: Vec<u8>,
    /// What the last frame held.
    plain: Vec<u8>,
    /// Position of the key that proved the last chunk: the next one is mostly of the same epoch.
    proved: usize,
}

impl Decoder {
    pub(crate) fn new() -> Result<Self> {
        let decompressor = Decompressor::new().map_err(|source| Error::System {
            action: "make a decompressor",
            source,
        })?;
        Ok(Self {
            decompressor,
            sealed: Vec::new(),
            plain: Vec::new(),
            proved: 0,
        })
    }

    /// What the last frame held if it was opened without an error; else nothing of use.
    pub(crate) fn last(&self) -> &[u8] {
        &self.plain
    }

    /// As [`Decoder::open`], in a buffer of its own.
    ///
    /// # Errors
    /// Those of [`Decoder::open`].
    pub(crate) fn decode(
        &mut self,
        what: &dyn Fn() -> String,
        kind: FrameKind,
        secret: &Secret,
        keys: &[Key],
        frame: &[u8],
    ) -> Result<Vec<u8>> {
        self.open(what, kind, secret, keys, frame)?;
        Ok(std::mem::take(&mut self.plain))
    }

    /// The plaintext of `frame`, proven to be the chunk of `secret` under one of `keys`; [`Decoder::last`] gives it.
    ///
    /// `keys` are those that content secrets are made with, one an epoch, if the reader has them; a reader
    /// that has only the secret proves as much through the authenticated encryption, whose key comes from it.
    ///
    /// # Errors
    /// [`Error::Damaged`] under the name `what`.
    pub(crate) fn open(
        &mut self,
        what: &dyn Fn() -> String,
        kind: FrameKind,
        secret: &Secret,
        keys: &[Key],
        frame: &[u8],
    ) -> Result<()> {
        let fail =
            |reason: &str| Error::damaged(what(), format!("chunk {}: {reason}", secret.id()));
        if frame.len() < HEADER + seal::OVERHEAD {
            return Err(fail("the frame is too short"));
        }
        let (head, sealed) = frame.split_at(HEADER);
        if FrameKind::from_u8(head[0]) != Some(kind) {
            return Err(fail("the frame is of another kind"));
        }
        let plain_len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
        if plain_len > kind.max_plain() {
            return Err(fail("the frame says that it holds too much"));
        }
        self.sealed.clear();
        self.sealed.extend_from_slice(sealed);
        let aad = aad(head, &secret.id());
        let opened = seal::open(&secret.frame_key(), &aad, &mut self.sealed)
            .ok_or_else(|| fail("its authentication tag is wrong"))?;
        self.plain.clear();
        match head[1] {
            0 => self.plain.extend_from_slice(opened),
            1 => {
                self.plain.reserve(plain_len);
                self.decompressor
                    .decompress_to_buffer(opened, &mut self.plain)
                    .map_err(|_| fail("it cannot be decompressed"))?;
            }
            _ => return Err(fail("its encoding is unknown")),
        }
        if self.plain.len() != plain_len {
            return Err(fail("its length is wrong"));
        }
        if !proves(&mut self.proved, keys, secret, &self.plain) {
            return Err(fail("its content is not what its secret was made of"));
        }
        Ok(())
    }
}

/// Whether `secret` was made of `plain` with one of the keys, of which that at `proved` is tried first, or there are
/// none to tell.
fn proves(proved: &mut usize, keys: &[Key], secret: &Secret, plain: &[u8]) -> bool {
    let made_with = |key: &Key| Secret::of(key, plain) == *secret;
    if keys.is_empty() || keys.get(*proved).is_some_and(made_with) {
        return true;
    }
    let others = keys.iter().enumerate().filter(|(at, _)| at != proved);
    let found = others.into_iter().find(|(_, key)| made_with(key));
    found.is_some_and(|(at, _)| {
        *proved = at;
        true
    })
}
