//! Wraps the root keys under a passphrase or a key file, and unwraps them.

use argon2::{Algorithm, Argon2, Params, Version};
use prost::Message;
use zeroize::Zeroize as _;

use super::{KIND_KEY_FILE, KIND_PASSPHRASE, KeyKind, MAX_EPOCHS, Unlock};
use crate::{
    error::{Error, Result},
    seal,
    secret::{Key, hex, random_bytes},
};

const AAD: &[u8] = b"orlop 2026 v0 wrapped root key";
/// Bounds for what an attacker could write into a key object to exhaust a reader.
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 64;
/// Longest label in bytes.
const MAX_LABEL: usize = 256;

/// The root keys under one passphrase or key file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WrappedKey {
    /// 1 passphrase, 2 key file.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// Salt, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub salt: Vec<u8>,
    /// Argon2id memory in KiB (passphrases).
    #[prost(uint32, tag = "3")]
    pub memory_kib: u32,
    /// Argon2id passes (passphrases).
    #[prost(uint32, tag = "4")]
    pub passes: u32,
    /// Argon2id lanes (passphrases).
    #[prost(uint32, tag = "5")]
    pub lanes: u32,
    /// The sealed root keys of all epochs up to one, the oldest first.
    #[prost(bytes = "vec", tag = "6")]
    pub sealed: Vec<u8>,
    /// When it was added, milliseconds since 1970; for people.
    #[prost(int64, tag = "7")]
    pub created_ms: i64,
    /// What people call it; empty for nothing.
    #[prost(string, tag = "8")]
    pub label: String,
    // 9: recipient of an external key service: reserved
}

impl WrappedKey {
    /// Wraps the root keys of all epochs, the oldest first; the name of the object comes first.
    ///
    /// # Errors
    /// The key file is too short, the passphrase empty, the label too long, or the system has no random
    /// numbers.
    pub(crate) fn wrap(
        roots: &[Key],
        unlock: &Unlock,
        label: &str,
        now_ms: i64,
    ) -> Result<(String, Vec<u8>)> {
        if label.len() > MAX_LABEL {
            return Err(Error::Invalid(format!(
                "the key's label has {} bytes: it may have {MAX_LABEL}",
                label.len()
            )));
        }
        match unlock {
            Unlock::Passphrase(text) if text.is_empty() => {
                return Err(Error::Invalid(
                    "the repository password is empty: set ORLOP_PASSWORD or give --password-file"
                        .to_owned(),
                ));
            }
            Unlock::KeyFile(bytes) if bytes.len() < 32 => {
                return Err(Error::Invalid(format!(
                    "the key file has {} bytes: it needs 32 random ones at least",
                    bytes.len()
                )));
            }
            _ => {}
        }
        let mut wrapped = Self {
            kind: unlock.kind(),
            salt: random_bytes::<16>()?.to_vec(),
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 1,
            sealed: Vec::new(),
            created_ms: now_ms,
            label: label.to_owned(),
        };
        let key = wrapped.stretch(unlock)?;
        let mut plain: Vec<u8> = Vec::with_capacity(roots.len() * 32);
        plain.extend(roots.iter().flat_map(Key::as_bytes));
        wrapped.sealed = seal::seal(&key, &wrapped.aad(), &plain)?;
        plain.zeroize();
        let bytes = wrapped.encode_to_vec();
        Ok((object_name(&bytes), bytes))
    }

    /// A key object as stored. Its name says what its bytes are, so that damage is not taken for a
    /// wrong passphrase.
    ///
    /// # Errors
    /// Its bytes are not those that were stored.
    pub(crate) fn decode_named(name: &str, bytes: &[u8]) -> Result<Self> {
        if object_name(bytes) != name {
            return Err(Error::damaged(name, "its bytes do not match its name"));
        }
        Self::decode(bytes).map_err(|e| Error::damaged(name, e.to_string()))
    }

    /// What the sealed keys are bound to.
    fn aad(&self) -> Vec<u8> {
        if self.label.is_empty() {
            return AAD.to_vec();
        }
        [AAD, b"\0", self.label.as_bytes()].concat()
    }

    /// How many epochs it has the root keys of, as far as its length tells.
    pub(crate) fn epochs(&self) -> usize {
        self.sealed.len().saturating_sub(seal::OVERHEAD) / 32
    }

    /// What opens it.
    pub(crate) fn opened_by(&self) -> KeyKind {
        match self.kind {
            KIND_PASSPHRASE => KeyKind::Passphrase,
            KIND_KEY_FILE => KeyKind::KeyFile,
            _ => KeyKind::Unknown,
        }
    }

    /// The root keys of all its epochs, the oldest first and never none; `None` if they are wrapped for
    /// someone else.
    ///
    /// # Errors
    /// The object's parameters are out of range.
    pub(crate) fn unwrap(&self, name: &str, unlock: &Unlock) -> Result<Option<Vec<Key>>> {
        if self.kind != unlock.kind() {
            return Ok(None);
        }
        let in_range = (8..=MAX_MEMORY_KIB).contains(&self.memory_kib)
            && (1..=MAX_PASSES).contains(&self.passes)
            && (1..=16).contains(&self.lanes)
            && (8..=64).contains(&self.salt.len());
        if !in_range {
            return Err(Error::damaged(name, "its parameters are out of range"));
        }
        let key = self.stretch(unlock)?;
        let Some(mut plain) = seal::open_vec(&key, &self.aad(), &self.sealed) else {
            return Ok(None);
        };
        let (roots, rest) = plain.as_chunks::<32>();
        let sane = rest.is_empty() && (1..=MAX_EPOCHS).contains(&roots.len());
        let roots: Vec<Key> = roots.iter().map(|bytes| Key::from_bytes(*bytes)).collect();
        plain.zeroize();
        if sane {
            Ok(Some(roots))
        } else {
            Err(Error::damaged(name, "it wraps no 256-bit keys"))
        }
    }

    fn stretch(&self, unlock: &Unlock) -> Result<Key> {
        match unlock {
            Unlock::KeyFile(bytes) => {
                let base = Key::from_bytes(*blake3::hash(bytes).as_bytes());
                Ok(base.derive("key file", &[&self.salt]))
            }
            Unlock::Passphrase(text) => {
                let invalid = |e: argon2::Error| Error::Invalid(format!("Argon2id: {e}"));
                let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
                    .map_err(invalid)?;
                let mut out = [0; 32];
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(text.as_bytes(), &self.salt, &mut out)
                    .map_err(invalid)?;
                Ok(Key::from_bytes(out))
            }
        }
    }
}

pub(crate) fn object_name(bytes: &[u8]) -> String {
    format!("keys/{}", hex(&blake3::hash(bytes).as_bytes()[..16]))
}
