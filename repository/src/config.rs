//! `repo.cfg`: what a repository is, readable without a key and authenticated by one.

use prost::Message;

use crate::{
    error::{Error, Result},
    secret::Key,
    store::{Capabilities, ChecksumMode},
};

/// The format that this program writes; it may still change while it is 0.
pub const FORMAT: u32 = 1;
/// The oldest format that this program reads: the two before its own, as far as they were released.
const OLDEST: u32 = 0;
/// Name of the object.
pub(crate) const NAME: &str = "repo.cfg";
const MAGIC: &[u8; 8] = b"ORLOPCFG";

/// Sizes of content-defined chunks in bytes, all even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkProfile {
    /// No chunk but a file's last is smaller.
    pub min: u32,
    /// Aim.
    pub avg: u32,
    /// No chunk is larger.
    pub max: u32,
}

impl ChunkProfile {
    /// 256 KiB, 1 MiB, 4 MiB.
    pub const GENERAL: Self = Self {
        min: 256 << 10,
        avg: 1 << 20,
        max: 4 << 20,
    };

    /// The profile, if a chunker can work with it.
    ///
    /// # Errors
    /// The sizes are out of order, odd, or out of 64 bytes to 16 MiB.
    pub fn validate(self) -> Result<Self> {
        let Self { min, avg, max } = self;
        let even = [min, avg, max].iter().all(|n| n % 2 == 0);
        if min < 64 || min > avg || avg > max || max > 16 << 20 || !even || !avg.is_power_of_two() {
            return Err(Error::Invalid(format!(
                "chunk sizes {min}/{avg}/{max} are not usable: 64 B <= min <= avg (a power of two) <= max <= 16 MiB, all even"
            )));
        }
        Ok(self)
    }
}

/// The configuration of a repository; fixed when it is made.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Config {
    /// Format number; a reader refuses a larger one.
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// Random id of the repository, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub id: Vec<u8>,
    /// When it was made, milliseconds since 1970; for people.
    #[prost(int64, tag = "3")]
    pub created_ms: i64,
    /// X25519 public key to which snapshot roots are sealed, 32 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub read_public_key: Vec<u8>,
    /// Algorithm suite: 1 = BLAKE3, AES-256-GCM, zstd, X25519-HKDF-SHA256.
    #[prost(uint32, tag = "5")]
    pub suite: u32,
    /// Smallest chunk in bytes.
    #[prost(uint32, tag = "6")]
    pub chunk_min: u32,
    /// Average chunk in bytes.
    #[prost(uint32, tag = "7")]
    pub chunk_avg: u32,
    /// Largest chunk in bytes.
    #[prost(uint32, tag = "8")]
    pub chunk_max: u32,
    /// Size at which a pack is closed, in bytes.
    #[prost(uint32, tag = "9")]
    pub pack_bytes: u32,
    /// Features without which nothing can be read.
    #[prost(string, repeated, tag = "10")]
    pub read_features: Vec<String>,
    /// Features without which nothing may be written.
    #[prost(string, repeated, tag = "11")]
    pub write_features: Vec<String>,
    /// Features without which nothing may be collected.
    #[prost(string, repeated, tag = "12")]
    pub maintain_features: Vec<String>,
    /// What the store was seen to do; absent for stores that leave no doubt.
    #[prost(message, optional, tag = "14")]
    pub capabilities: Option<StoreCapabilities>,
    // 13: signature of the configuration; 15: chunking profile (strict): reserved
}

/// [`Capabilities`] as they are stored.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct StoreCapabilities {
    /// Whether of racing creates one wins, and nothing is overwritten.
    #[prost(bool, tag = "1")]
    pub conditional_create: bool,
    /// What proves content: 0 the request's signature, 1 CRC-32C, 2 CRC-64/NVME.
    #[prost(uint32, tag = "2")]
    pub checksum: u32,
}

impl From<Capabilities> for StoreCapabilities {
    fn from(from: Capabilities) -> Self {
        Self {
            conditional_create: from.conditional_create,
            checksum: match from.checksum {
                ChecksumMode::Signature => 0,
                ChecksumMode::Crc32c => 1,
                ChecksumMode::Crc64Nvme => 2,
            },
        }
    }
}

/// What a repository may need features for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Anything at all.
    Read,
    /// Entries of the log, and what they name.
    Write,
    /// Collection, and whatever else removes or replaces objects.
    Maintain,
}

/// Features that this program has, of each kind: none yet.
const KNOWN: [&str; 0] = [];

impl Feature {
    /// Proves that this program has all features that `config` asks for.
    ///
    /// # Errors
    /// [`Error::UnknownFeature`].
    pub(crate) fn prove(self, config: &Config, store: &str) -> Result<()> {
        let (needed, purpose) = match self {
            Self::Read => (&config.read_features, "to be read"),
            Self::Write => (&config.write_features, "to be written to"),
            Self::Maintain => (&config.maintain_features, "to be collected"),
        };
        match needed.iter().find(|one| !KNOWN.contains(&one.as_str())) {
            None => Ok(()),
            Some(feature) => Err(Error::UnknownFeature {
                store: store.to_owned(),
                purpose,
                feature: feature.clone(),
            }),
        }
    }
}

impl Config {
    /// `magic ‖ format ‖ length ‖ protobuf ‖ MAC`, the MAC under the maintenance key.
    pub(crate) fn encode_signed(&self, mac_key: &Key) -> Vec<u8> {
        let body = self.encode_to_vec();
        let mut out = Vec::with_capacity(body.len() + 48);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
        let mac = blake3::keyed_hash(mac_key.as_bytes(), &out);
        out.extend_from_slice(mac.as_bytes());
        out
    }

    /// The configuration in `bytes`; whether it is authentic shows [`verify`](Self::verify) only.
    ///
    /// # Errors
    /// The bytes are not a configuration, or one of a newer format or with unknown features.
    pub(crate) fn decode_unverified(bytes: &[u8], store: &str) -> Result<Self> {
        let fail = |reason: &str| Error::damaged(NAME, reason);
        if bytes.len() < 48 || &bytes[..8] != MAGIC {
            return Err(fail("it does not begin as an Orlop configuration does"));
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let found = word(8);
        if !(OLDEST..=FORMAT).contains(&found) {
            return Err(if found > FORMAT {
                Error::NewerFormat {
                    store: store.to_owned(),
                    found,
                    known: FORMAT,
                }
            } else {
                Error::OlderFormat {
                    store: store.to_owned(),
                    found,
                    oldest: OLDEST,
                }
            });
        }
        if word(12) as usize != bytes.len() - 48 || bytes.len() > 1 << 16 {
            return Err(fail("its length is wrong"));
        }
        let config =
            Self::decode(&bytes[16..bytes.len() - 32]).map_err(|e| fail(&e.to_string()))?;
        Feature::Read.prove(&config, store)?;
        if config.format != found
            || config.id.len() != 16
            || config.read_public_key.len() != 32
            || config.suite != 1
        {
            return Err(fail("a field is out of range"));
        }
        if config.pack_bytes < 1 << 16 || config.pack_bytes > 1 << 30 {
            return Err(fail("the pack size is out of range"));
        }
        config
            .chunks()
            .validate()
            .map_err(|e| fail(&e.to_string()))?;
        Ok(config)
    }

    /// Proves that `bytes` were written by a holder of the maintenance key.
    ///
    /// # Errors
    /// They were not.
    pub(crate) fn verify(bytes: &[u8], mac_key: &Key) -> Result<()> {
        let (body, mac) = bytes.split_at(bytes.len().saturating_sub(32));
        let mac: [u8; 32] = mac
            .try_into()
            .map_err(|_| Error::damaged(NAME, "it is too short"))?;
        if blake3::keyed_hash(mac_key.as_bytes(), body) == blake3::Hash::from(mac) {
            Ok(())
        } else {
            Err(Error::damaged(
                NAME,
                "its authentication code is wrong: it was changed by someone without the key",
            ))
        }
    }

    /// What the store can do.
    pub(crate) fn capabilities(&self) -> Capabilities {
        let Some(stored) = self.capabilities else {
            return Capabilities::default();
        };
        Capabilities {
            conditional_create: stored.conditional_create,
            // What is not known here is not needed: all stores take signed content.
            checksum: match stored.checksum {
                1 => ChecksumMode::Crc32c,
                2 => ChecksumMode::Crc64Nvme,
                _ => ChecksumMode::Signature,
            },
        }
    }

    /// Sizes of chunks.
    pub(crate) fn chunks(&self) -> ChunkProfile {
        ChunkProfile {
            min: self.chunk_min,
            avg: self.chunk_avg,
            max: self.chunk_max,
        }
    }
}

#[cfg(test)]
mod tests;
