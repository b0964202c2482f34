//! Keys, content secrets and chunk ids: one keyed hash of the plaintext serves deduplication, key
//! derivation and end-to-end integrity.
//!
//! ```text
//! secret = BLAKE3-keyed(domain key, plaintext)        kept in manifests
//! id     = BLAKE3-derive("… chunk id", secret)        kept in the index, the packs, the reference pages
//! key    = BLAKE3-derive("… frame key", secret)       encrypts the frame, kept nowhere
//! ```

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::{Error, Result};

const ID_CONTEXT: &str = "orlop 2026 v0 chunk id";
const FRAME_KEY_CONTEXT: &str = "orlop 2026 v0 frame key";
const DERIVE_CONTEXT: &str = "orlop 2026 v0 subkey";

/// A 256-bit secret key; wiped from memory when dropped, never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key from the system's random numbers.
    ///
    /// # Errors
    /// The system has none to give.
    pub fn random() -> Result<Self> {
        Ok(Self(random_bytes()?))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key for one purpose, told apart by `parts`; each part counts with its length, so that
    /// `["ab", "c"]` and `["a", "bc"]` give different keys.
    #[must_use]
    pub fn derive(&self, purpose: &str, parts: &[&[u8]]) -> Self {
        let mut input = blake3::Hasher::new_derive_key(DERIVE_CONTEXT);
        input.update(&self.0);
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            input.update(&(part.len() as u64).to_le_bytes());
            input.update(part);
        }
        Self(*input.finalize().as_bytes())
    }

    /// A keyed 128-bit digest.
    pub fn digest16(&self, data: &[u8]) -> [u8; 16] {
        let full = blake3::keyed_hash(&self.0, data);
        let mut out = [0; 16];
        out.copy_from_slice(&full.as_bytes()[..16]);
        out
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The key of the newest epoch, with which everything new is made, and those of the epochs before it, which
/// prove what was stored then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochKeys(Vec<Key>);

impl EpochKeys {
    /// The key of the newest epoch and those before it, the newer first.
    pub fn new(newest: Key, older: impl IntoIterator<Item = Key>) -> Self {
        Self(std::iter::once(newest).chain(older).collect())
    }

    /// The key of the newest epoch.
    pub fn newest(&self) -> &Key {
        &self.0[0]
    }

    /// Those of the epochs before, the newer first.
    pub fn older(&self) -> &[Key] {
        &self.0[1..]
    }

    /// All, the newest first; never empty.
    pub fn all(&self) -> &[Key] {
        &self.0
    }

    /// For each epoch the key that `derive` makes of its key.
    #[must_use]
    pub fn map(&self, derive: impl FnMut(&Key) -> Key) -> Self {
        Self(self.0.iter().map(derive).collect())
    }
}

/// `N` bytes from the system's random numbers.
///
/// # Errors
/// The system has none to give.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    #[cfg(test)]
    if crate::simulation::system::fill(&mut bytes) {
        return Ok(bytes);
    }
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::System {
        action: "get random numbers",
        source: std::io::Error::other("the generator failed"),
    })?;
    Ok(bytes)
}

/// The content secret of a chunk: whoever has it can find, decrypt and verify the chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret of `plaintext` under `key`.
    pub fn of(key: &Key, plaintext: &[u8]) -> Self {
        Self(*blake3::keyed_hash(&key.0, plaintext).as_bytes())
    }

    /// The secret with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret in `bytes`, if there are 32 of them.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id under which the chunk is found; it tells nothing about the secret.
    pub fn id(&self) -> ChunkId {
        ChunkId(blake3::derive_key(ID_CONTEXT, &self.0))
    }

    /// The key of the chunk's frames.
    pub(crate) fn frame_key(&self) -> Key {
        Key(blake3::derive_key(FRAME_KEY_CONTEXT, &self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(of {})", self.id())
    }
}

/// The name of a chunk in index, packs and reference pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId([u8; 32]);

/// The first half of a [`ChunkId`]: what the index holds.
pub(crate) type Prefix = [u8; 16];

impl ChunkId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn prefix(&self) -> Prefix {
        let mut out = [0; 16];
        out.copy_from_slice(&self.0[..16]);
        out
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkId({self})")
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
            let _ = write!(out, "{b:02x}");
            out
        })
}

/// The bytes that hexadecimal digits of either case say; `None` if it is anything else.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(nibble(*high)? << 4 | nibble(*low)?).ok(),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read_back_and_nothing_else() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        assert_eq!(unhex("0aFf"), Some(vec![0x0a, 0xff]));
        assert_eq!(unhex(""), Some(Vec::new()));
        for other in ["0", "abc", "+1", "0g", " 1", "\u{e9}0"] {
            assert_eq!(unhex(other), None, "{other:?}");
        }
    }

    #[test]
    fn ids_and_keys_of_a_secret_are_pinned() {
        let key = Key::from_bytes([7; 32]);
        let secret = Secret::of(&key, b"hello");
        assert_eq!(hex(secret.as_bytes()), golden("secret"));
        assert_eq!(secret.id().to_string(), golden("id"));
        assert_eq!(hex(secret.frame_key().as_bytes()), golden("frame-key"));
        assert_eq!(
            hex(key.derive("test", &[b"a", b"bc"]).as_bytes()),
            golden("subkey")
        );
    }

    fn golden(name: &str) -> String {
        include_str!("../golden/secret.txt")
            .lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(' ')
                    .map(str::to_owned)
            })
            .unwrap()
    }

    #[test]
    fn parts_count_with_their_lengths() {
        let key = Key::from_bytes([7; 32]);
        assert!(key.derive("p", &[b"ab", b"c"]) != key.derive("p", &[b"a", b"bc"]));
    }
}
