//! The stages of a backup one by one, as benches measure them.

use crate::{
    error::Result,
    frame::{Encoder, Frame, FrameKind, Level},
    pack::{OpenPack, PackClass},
    secret::{Key, Secret},
};

/// What a writer does with a chunk, step by step, under keys of its own.
pub struct Stages {
    key: Key,
    encoder: Encoder,
}

/// A chunk that is ready for a pack.
pub struct Sealed(Frame);

impl Stages {
    /// For one thread.
    ///
    /// # Errors
    /// No memory for a compressor.
    pub fn new() -> Result<Self> {
        Ok(Self {
            key: Key::from_bytes([7; 32]),
            encoder: Encoder::new()?,
        })
    }

    /// Hashes a chunk.
    pub fn hash(&self, plain: &[u8]) -> Secret {
        Secret::of(&self.key, plain)
    }

    /// Compresses a chunk at the level that a queue of uploads with so many free places asks for;
    /// returns how long it is then, and nothing of a chunk that is better left as it is.
    ///
    /// # Errors
    /// The compressor fails.
    pub fn compress(&mut self, plain: &[u8], free: usize) -> Result<Option<usize>> {
        self.encoder.compressed_len(plain, Level::of_queue(free))
    }

    /// The frame of a chunk: compressed if that helps, and encrypted.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal(&mut self, plain: &[u8], secret: &Secret) -> Result<Sealed> {
        let level = Level::default();
        let frame = self.encoder.encode(FrameKind::Data, secret, plain, level)?;
        Ok(Sealed(frame))
    }

    /// Makes a pack of frames; returns its size in bytes.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn pack(&self, frames: Vec<Sealed>) -> Result<u64> {
        let mut pack = OpenPack::new(PackClass::Data, 1);
        for frame in frames {
            pack.push(frame.0);
        }
        Ok(pack.finish(&self.key)?.len)
    }
}
