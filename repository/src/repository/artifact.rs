//! Artifacts: files beside the repository that hold what only the holder of its key may read, such as the
//! objects of a backup with their secrets.
//!
//! `magic 8 ‖ file key sealed to the READ key 80 ‖ nonce 12 ‖ AES-256-GCM of the whole ‖ tag 16`, bound to the
//! artifact's name. `docs/format.md` specifies it.

use super::Repository;
use crate::{
    error::{Error, Result},
    seal,
    secret::Key,
};

/// What a sealed artifact begins with.
const MAGIC: &[u8; 8] = b"ORLOPART";
/// A key of 32 bytes, encapsulated key and tag.
const SEALED_KEY: usize = 32 + 32 + 16;
const AAD: &[u8] = b"orlop 2026 v0 artifact ";

fn aad(name: &str) -> Vec<u8> {
    [AAD, name.as_bytes()].concat()
}

impl Repository {
    /// Seals an artifact of this name, so that only this repository opens it and only under this name.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal_artifact(&self, name: &str, plaintext: &[u8]) -> Result<Vec<u8>> {
        let key = Key::random()?;
        let aad = aad(name);
        let mut out = Vec::with_capacity(8 + SEALED_KEY + plaintext.len() + seal::OVERHEAD);
        out.extend_from_slice(MAGIC);
        let sealed = seal::seal_to(&self.keys.read_public(), &aad, key.as_bytes())?;
        out.extend_from_slice(&sealed);
        seal::seal_into(&key, &aad, plaintext, &mut out)?;
        Ok(out)
    }

    /// Whether `bytes` begin as a sealed artifact does; others are kept in the clear.
    pub fn is_sealed_artifact(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// What [`Self::seal_artifact`] sealed.
    ///
    /// # Errors
    /// [`Error::Damaged`]: a byte or the name differs, or another repository has sealed it.
    pub fn open_artifact(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let damaged = |reason: &str| Error::damaged(name, reason);
        let body = sealed
            .strip_prefix(MAGIC)
            .ok_or_else(|| damaged("it does not begin as a sealed artifact does"))?;
        let (key, body) = body
            .split_at_checked(SEALED_KEY)
            .ok_or_else(|| damaged("it is too short"))?;
        let aad = aad(name);
        let wrong = || damaged("it was changed, has another name, or is of another repository");
        let mut privates = self.keys.read_privates().into_iter();
        let opened = privates.find_map(|(_, private)| seal::open_from(&private, &aad, key));
        let key = opened.ok_or_else(wrong)?;
        let key: [u8; 32] = key.try_into().map_err(|_| wrong())?;
        seal::open_vec(&Key::from_bytes(key), &aad, body).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{InitOptions, Unlock, store::MemoryStore};

    async fn repository(seed: u8) -> Arc<Repository> {
        let store = Arc::new(MemoryStore::new());
        let unlock = Unlock::KeyFile(vec![seed; 32]);
        let made = Repository::init(store, &unlock, InitOptions::default()).await;
        made.unwrap()
    }

    #[tokio::test]
    async fn an_artifact_opens_under_its_name_in_its_repository_only() {
        let (one, other) = (repository(1).await, repository(2).await);
        for plain in [&b""[..], b"secrets", &vec![7; 100_000]] {
            let sealed = one.seal_artifact("backups/b/b.tar.gz", plain).unwrap();
            assert!(Repository::is_sealed_artifact(&sealed));
            assert_ne!(
                sealed,
                one.seal_artifact("backups/b/b.tar.gz", plain).unwrap()
            );
            assert_eq!(
                one.open_artifact("backups/b/b.tar.gz", &sealed).unwrap(),
                plain
            );
            assert!(one.open_artifact("backups/c/c.tar.gz", &sealed).is_err());
            assert!(other.open_artifact("backups/b/b.tar.gz", &sealed).is_err());
        }
    }

    #[tokio::test]
    async fn no_byte_may_differ_or_be_missing() {
        let one = repository(1).await;
        let sealed = one.seal_artifact("n", b"secrets").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(one.open_artifact("n", &changed).is_err(), "byte {at}");
            assert!(one.open_artifact("n", &sealed[..at]).is_err(), "{at} bytes");
        }
    }
}
