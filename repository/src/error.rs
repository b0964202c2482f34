//! Everything that can go wrong in the storage engine, one variant a cause.

mod access;

use std::io;

pub use access::AccessError;

use crate::secret::ChunkId;

/// Result of the storage engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a repository operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object does not exist.
    #[error("object {name} does not exist in {store}")]
    NotFound {
        /// Name of the object.
        name: String,
        /// The store.
        store: String,
    },
    /// The store could not do what was asked.
    #[error("cannot {action} {name} in {store}")]
    Store {
        /// What was tried, such as `read`.
        action: &'static str,
        /// Object or directory.
        name: String,
        /// The store.
        store: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A store on the network could not be used.
    #[error("cannot {action} {name} in {store}")]
    Access {
        /// What was tried, such as `read`.
        action: &'static str,
        /// Object or prefix.
        name: String,
        /// The store.
        store: String,
        /// The cause with its remedy.
        #[source]
        source: Box<AccessError>,
    },
    /// The store has no room left.
    #[error(
        "no space left in {store} (writing {name}): free some space or give the repository a larger place, then run the same command again; nothing that was stored before is lost"
    )]
    Full {
        /// Object that was written.
        name: String,
        /// The store.
        store: String,
    },
    /// There is no repository at the place.
    #[error("{store} holds no repository: check the URL, or make one with `orlop repo init`")]
    NoRepository {
        /// The store.
        store: String,
    },
    /// There is a repository already.
    #[error("{store} holds a repository already: use it, or choose another place")]
    RepositoryExists {
        /// The store.
        store: String,
    },
    /// The place for a new repository holds other things.
    #[error("{store} is not empty and holds no repository: choose an empty place")]
    NotEmpty {
        /// The store.
        store: String,
    },
    /// The URL is not understood.
    #[error(
        "{url:?} is not a repository URL: {reason}; use a directory, file:///directory, or s3://bucket/prefix"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// No key object can be opened with what was given.
    #[error(
        "wrong {what} for the repository at {store}: it opens none of the repository's keys (there are {keys})"
    )]
    WrongKey {
        /// `password` or `key file`.
        what: &'static str,
        /// How many key objects there are.
        keys: usize,
        /// The store.
        store: String,
    },
    /// The keys were rotated, and what opened the repository was not kept.
    #[error(
        "the keys of {store} were rotated, and this {what} was not kept: open it with one that was, or have this one added with `orlop repo key add`"
    )]
    LeftBehind {
        /// `password` or `key file`.
        what: &'static str,
        /// The store.
        store: String,
    },
    /// The repository is of a newer format.
    #[error(
        "the repository at {store} has format {found}, this program reads up to {known}: use a newer orlop"
    )]
    NewerFormat {
        /// The store.
        store: String,
        /// Format of the repository.
        found: u32,
        /// Newest format that is understood.
        known: u32,
    },
    /// The repository is of a format that is not read any more.
    #[error(
        "the repository at {store} has format {found}, this program reads {oldest} and later: restore from it with the orlop that made it, and back up into a new one (`orlop repo init`)"
    )]
    OlderFormat {
        /// The store.
        store: String,
        /// Format of the repository.
        found: u32,
        /// Oldest format that is understood.
        oldest: u32,
    },
    /// The repository needs a feature that this program lacks.
    #[error(
        "the repository at {store} needs the feature {feature:?} {purpose}, and this program lacks it: use a newer orlop"
    )]
    UnknownFeature {
        /// The store.
        store: String,
        /// What is not done: `to be read`, `to be written to` or `to be collected`.
        purpose: &'static str,
        /// Name of the feature.
        feature: String,
    },
    /// A stored object is not what it should be.
    #[error("object {name} is damaged: {reason}")]
    Damaged {
        /// Name of the object.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// A chunk is in no index.
    #[error("chunk {id} is in no index of the repository: run `orlop repo check`")]
    MissingChunk {
        /// Hex id.
        id: String,
    },
    /// A part of a snapshot's listing is lost; what comes before and behind it is not.
    #[error(
        "the entries from {:?} on, up to some hundreds or thousands of them, are lost: run `orlop repo check`",
        String::from_utf8_lossy(first)
    )]
    LostEntries {
        /// Path of the first of them.
        first: Vec<u8>,
        /// What cannot be read.
        #[source]
        source: Box<Error>,
    },
    /// No snapshot has the id or name.
    #[error("no snapshot {wanted:?} in {store}{hint}")]
    NoSnapshot {
        /// What was asked for.
        wanted: String,
        /// The store.
        store: String,
        /// Near misses or the way to list them, with its own leading punctuation.
        hint: String,
    },
    /// A path is not in the snapshot.
    #[error("{path} is not in snapshot {snapshot}{hint}")]
    NoPath {
        /// The path, lossily.
        path: String,
        /// The snapshot.
        snapshot: String,
        /// Advice, with its own leading punctuation.
        hint: String,
    },
    /// A session was shut out because it was silent for too long; its work is not lost.
    #[error(
        "session {session} was shut out by a collection: begin a new one, which takes over what it stored"
    )]
    Fenced {
        /// Its number.
        session: u64,
    },
    /// The store overwrites objects, so writers cannot agree on an order through it.
    #[error(
        "{store} cannot create an object only if it does not exist, so several writers would harm each other: if nothing else writes this repository, say so with --exclusive or ORLOP_EXCLUSIVE=1"
    )]
    NeedsExclusive {
        /// The store.
        store: String,
    },
    /// Two wrote at once to a store that cannot tell them apart.
    #[error(
        "the log of {store} was forked at {name}: two programs wrote at once, or the store was rolled back; nothing is written any more. End all writers but one, look at what is whole with `orlop repo check`, and go on with a new repository or a store that creates objects conditionally"
    )]
    Forked {
        /// The entry.
        name: String,
        /// The store.
        store: String,
    },
    /// The store holds less than it did.
    #[error(
        "{store} was rolled back: {name}, which this machine has seen, is not there any more or is another one. If that was done on purpose, remove {cache} and run the command again; if not, keep the store as it is and find out who did it"
    )]
    RolledBack {
        /// The last entry of the log that was seen.
        name: String,
        /// The store.
        store: String,
        /// Where the copies are.
        cache: String,
    },
    /// Another collection has begun since.
    #[error("another collection took over: it finishes what this one began")]
    Deposed,
    /// A collection would remove more than it may.
    #[error(
        "collecting would remove {removed} of {total} bytes ({percent} %), more than the {limit} % that are allowed: if that is what you want, allow it with --max-removed {percent}; nothing was removed"
    )]
    TooMuch {
        /// Bytes that would go.
        removed: u64,
        /// Bytes of all packs.
        total: u64,
        /// Their share in percent, rounded up.
        percent: u64,
        /// The allowed share in percent.
        limit: u64,
    },
    /// What a snapshot needs cannot be told, so nothing can be collected.
    #[error(
        "nothing was collected, as it cannot be told what every snapshot needs: run `orlop repo check`"
    )]
    Unmarked {
        /// What cannot be read.
        #[source]
        source: Box<Error>,
    },
    /// What was to be done breaks the rules by which writers and collectors share a repository.
    #[error("refused: {reason}")]
    Protocol {
        /// The rule.
        reason: &'static str,
    },
    /// A session has ended or was never begun.
    #[error("session {session} is not open: begin a new one")]
    NoSession {
        /// Its number.
        session: u64,
    },
    /// The coordinator refused or could not be reached.
    #[error("{action}: {message}")]
    Remote {
        /// What was tried.
        action: &'static str,
        /// What it said.
        message: String,
        /// Whether trying again may help.
        transient: bool,
    },
    /// The system's random numbers, memory or threads failed.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A parameter is out of range.
    #[error("{0}")]
    Invalid(String),
    /// The work was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// Whether trying the same again cannot help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Store { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::ReadOnlyFilesystem
            ),
            Self::Access { source, .. } => !source.is_transient(),
            Self::Remote { transient, .. } => !transient,
            Self::System { .. } => false,
            _ => true,
        }
    }

    /// Whether the store failed in a way that may pass: the same request may be tried again.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store { .. } | Self::Access { .. } | Self::Remote { .. } => !self.is_permanent(),
            _ => false,
        }
    }

    /// Whether it is the answer to a cancellation.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Whether the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::NoRepository { .. }
                | Self::NoSnapshot { .. }
                | Self::NoPath { .. }
        )
    }

    /// Whether what was to be read is lost, and not only that it could not be read just now.
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::MissingChunk { .. }
                | Self::LostEntries { .. }
                | Self::NotFound { .. }
        )
    }

    pub(crate) fn damaged(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Damaged {
            name: name.into(),
            reason: reason.into(),
        }
    }

    /// A manifest asks for bytes that a chunk does not have.
    pub(crate) fn unfit_extent(chunk: ChunkId) -> Self {
        Self::damaged("manifest", format!("an extent does not fit chunk {chunk}"))
    }
}
