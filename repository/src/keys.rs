//! The repository's keys: the root key, wrapped in `keys/<id>` objects under a passphrase or a key
//! file, and every key that is derived from it.

use argon2::{Algorithm, Argon2, Params, Version};
use orlop_core::Lineage;
use prost::Message;

use crate::{
    error::{Error, Result},
    seal,
    secret::{Key, hex, random_bytes},
};

/// What opens a repository.
#[derive(Clone)]
pub enum Unlock {
    /// A passphrase, stretched by Argon2id.
    Passphrase(String),
    /// The bytes of a key file: at least 32, of high entropy.
    KeyFile(Vec<u8>),
}

impl Unlock {
    fn kind(&self) -> u32 {
        match self {
            Self::Passphrase(_) => KIND_PASSPHRASE,
            Self::KeyFile(_) => KIND_KEY_FILE,
        }
    }

    /// What people call it.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "password",
            Self::KeyFile(_) => "key file",
        }
    }
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unlock({})", self.what())
    }
}

const KIND_PASSPHRASE: u32 = 1;
const KIND_KEY_FILE: u32 = 2;
const AAD: &[u8] = b"orlop 2026 v0 wrapped root key";
/// Bounds for what an attacker could write into a key object to exhaust a reader.
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 64;

/// The root key under one passphrase or key file.
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
    /// The sealed root key.
    #[prost(bytes = "vec", tag = "6")]
    pub sealed: Vec<u8>,
    /// When it was added, milliseconds since 1970; for people.
    #[prost(int64, tag = "7")]
    pub created_ms: i64,
    // 8: label, 9: recipient of an external key service: reserved
}

impl WrappedKey {
    /// Wraps `root`; the name of the object comes first.
    ///
    /// # Errors
    /// The key file is too short, the passphrase empty, or the system has no random numbers.
    pub(crate) fn wrap(root: &Key, unlock: &Unlock, now_ms: i64) -> Result<(String, Vec<u8>)> {
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
        };
        let key = wrapped.stretch(unlock)?;
        wrapped.sealed = seal::seal(&key, AAD, root.as_bytes())?;
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

    /// The root key; `None` if it is wrapped for someone else.
    ///
    /// # Errors
    /// The object's parameters are out of range.
    pub(crate) fn unwrap(&self, name: &str, unlock: &Unlock) -> Result<Option<Key>> {
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
        let Some(plain) = seal::open_vec(&key, AAD, &self.sealed) else {
            return Ok(None);
        };
        let bytes: [u8; 32] = plain
            .try_into()
            .map_err(|_| Error::damaged(name, "it wraps no 256-bit key"))?;
        Ok(Some(Key::from_bytes(bytes)))
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

fn object_name(bytes: &[u8]) -> String {
    format!("keys/{}", hex(&blake3::hash(bytes).as_bytes()[..16]))
}

/// Every key that the root key gives.
#[derive(Clone)]
pub(crate) struct KeyRing {
    root: Key,
    maintenance: Key,
    read_private: [u8; 32],
    read_public: [u8; 32],
}

impl KeyRing {
    pub(crate) fn new(root: Key) -> Self {
        let maintenance = root.derive("maintenance", &[]);
        let (read_private, read_public) = seal::key_pair(&root.derive("read", &[]));
        Self {
            root,
            maintenance,
            read_private,
            read_public,
        }
    }

    pub(crate) fn read_public(&self) -> &[u8; 32] {
        &self.read_public
    }

    pub(crate) fn read_private(&self) -> &[u8; 32] {
        &self.read_private
    }

    /// Authenticates `repo.cfg` and the log.
    pub(crate) fn mac(&self) -> Key {
        self.maintenance.derive("mac", &[])
    }

    /// Encrypts the maintenance part of snapshots.
    pub(crate) fn records(&self) -> Key {
        self.maintenance.derive("records", &[])
    }

    /// Frame tables and index segments of one session.
    pub(crate) fn session(&self, session: u64) -> Key {
        self.maintenance
            .derive("session", &[&session.to_le_bytes()])
    }

    /// Content secrets and chunker of a domain.
    pub(crate) fn domain(&self, domain: &str) -> Key {
        self.root
            .derive("domain", &[domain.as_bytes(), &0u32.to_le_bytes()])
    }

    /// Sidecar and capsule of a lineage.
    pub(crate) fn volume(&self, namespace: &str, lineage: &Lineage) -> Key {
        self.root
            .derive("volume", &[namespace.as_bytes(), lineage.0.as_bytes()])
    }

    /// Reference pages of a lineage: read by collection and check, which hold no other key.
    pub(crate) fn refs(&self, namespace: &str, lineage: &Lineage) -> Key {
        self.maintenance
            .derive("refs", &[namespace.as_bytes(), lineage.0.as_bytes()])
    }

    /// The names under which a domain and a lineage appear in the store.
    pub(crate) fn pseudonym(&self, what: &str, name: &str) -> String {
        hex(&self
            .maintenance
            .derive("pseudonym", &[what.as_bytes(), name.as_bytes()])
            .as_bytes()[..10])
    }
}
