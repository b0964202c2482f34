//! The repository's keys: root keys, one an epoch, wrapped in `keys/<id>` objects under a passphrase or a
//! key file, and every key that is derived from them.

mod wrapped;

use std::sync::{PoisonError, RwLock};

use orlop_core::Lineage;

pub(crate) use wrapped::WrappedKey;

use crate::{
    seal,
    secret::{EpochKeys, Key, hex},
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

/// What a key object is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A passphrase.
    Passphrase,
    /// A key file.
    KeyFile,
    /// Something that a newer program knows.
    Unknown,
}

impl std::fmt::Debug for Unlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unlock({})", self.what())
    }
}

const KIND_PASSPHRASE: u32 = 1;
const KIND_KEY_FILE: u32 = 2;
/// Epochs that a repository may have.
pub(crate) const MAX_EPOCHS: usize = 256;

/// An epoch's keys that only its root key gives.
#[derive(Clone)]
struct Epoch {
    root: Key,
    read_private: [u8; 32],
    read_public: [u8; 32],
}

impl Epoch {
    fn new(root: Key) -> Self {
        let (read_private, read_public) = seal::key_pair(&root.derive("read", &[]));
        Self {
            root,
            read_private,
            read_public,
        }
    }
}

/// The epochs that are known.
#[derive(Clone)]
struct Epochs {
    /// The oldest first, never empty. The log may not tell of the last ones yet.
    known: Vec<Epoch>,
    /// Number of the newest epoch that the log tells of.
    current: usize,
}

/// Every key that the root keys give.
pub(crate) struct KeyRing {
    /// Of the first root key, for ever.
    maintenance: Key,
    epochs: RwLock<Epochs>,
}

impl Clone for KeyRing {
    fn clone(&self) -> Self {
        Self {
            maintenance: self.maintenance.clone(),
            epochs: RwLock::new(self.read(Clone::clone)),
        }
    }
}

impl KeyRing {
    /// The keys of a repository that was never rotated.
    pub(crate) fn new(root: Key) -> Self {
        Self::with_roots(vec![root])
    }

    /// The keys of these epochs, the oldest first; the first one is current until [`Self::follow`] is told
    /// of others.
    ///
    /// # Panics
    /// There are none.
    pub(crate) fn with_roots(roots: Vec<Key>) -> Self {
        Self {
            maintenance: roots[0].derive("maintenance", &[]),
            epochs: RwLock::new(Epochs {
                known: roots.into_iter().map(Epoch::new).collect(),
                current: 0,
            }),
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Epochs) -> T) -> T {
        read(&self.epochs.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Epochs) -> T) -> T {
        write(&mut self.epochs.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Number of the epoch in which everything new is made.
    pub(crate) fn current(&self) -> usize {
        self.read(|epochs| epochs.current)
    }

    /// The root keys of all epochs up to the current one, the oldest first.
    pub(crate) fn roots(&self) -> Vec<Key> {
        self.read(|epochs| {
            let upto = epochs.known.iter().take(epochs.current + 1);
            upto.map(|epoch| epoch.root.clone()).collect()
        })
    }

    /// The root key behind the current one, if there is one that the log does not tell of: a rotation was cut
    /// short.
    pub(crate) fn prepared(&self) -> Option<Key> {
        self.read(|epochs| {
            let next = epochs.known.get(epochs.current + 1);
            next.map(|epoch| epoch.root.clone())
        })
    }

    /// Takes over what another key object holds, if it is of the same repository and holds more.
    pub(crate) fn learn(&self, roots: Vec<Key>) {
        self.write(|epochs| {
            let same = roots
                .iter()
                .zip(&epochs.known)
                .take(epochs.current + 1)
                .all(|(new, known)| *new == known.root);
            if same && roots.len() > epochs.current {
                epochs.known = roots.into_iter().map(Epoch::new).collect();
            }
        });
    }

    /// Makes the epochs current of which the log tells, by their public keys from the second on; false if
    /// the root key of one of them is not known.
    pub(crate) fn follow(&self, publics: &[Vec<u8>]) -> bool {
        self.write(|epochs| {
            for (number, public) in publics.iter().enumerate() {
                let known = epochs.known.get(number + 1);
                if known.is_none_or(|epoch| epoch.read_public.as_slice() != public) {
                    // Somebody else's rotation came first: what was prepared here is void.
                    epochs.known.truncate(number + 1);
                    return false;
                }
                epochs.current = number + 1;
            }
            true
        })
    }

    /// The public key to which roots are sealed now.
    pub(crate) fn read_public(&self) -> [u8; 32] {
        self.read(|epochs| epochs.known[epochs.current].read_public)
    }

    /// The public key of the first epoch, by which `repo.cfg` knows the repository.
    pub(crate) fn first_public(&self) -> [u8; 32] {
        self.read(|epochs| epochs.known[0].read_public)
    }

    /// The private keys of all epochs with their numbers, the newest first.
    pub(crate) fn read_privates(&self) -> Vec<(usize, [u8; 32])> {
        self.read(|epochs| {
            let known = epochs.known.iter().enumerate().rev();
            known
                .map(|(number, epoch)| (number, epoch.read_private))
                .collect()
        })
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

    /// What each epoch's root key gives for a purpose.
    fn of_epochs(&self, derive: impl Fn(usize, &Key) -> Key) -> EpochKeys {
        self.read(|epochs| {
            let of = |number: usize| derive(number, &epochs.known[number].root);
            EpochKeys::new(of(epochs.current), (0..epochs.current).rev().map(of))
        })
    }

    /// Content secrets and chunker of a domain.
    pub(crate) fn domain(&self, domain: &str) -> EpochKeys {
        self.of_epochs(|number, root| {
            let number = (number as u32).to_le_bytes();
            root.derive("domain", &[domain.as_bytes(), &number])
        })
    }

    /// Sidecar and capsule of a lineage.
    pub(crate) fn volume(&self, namespace: &str, lineage: &Lineage) -> EpochKeys {
        let parts = [namespace.as_bytes(), lineage.0.as_bytes()];
        self.of_epochs(|_, root| root.derive("volume", &parts))
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
