//! Why a coordinator cannot begin or go on.

use std::{io, net::SocketAddr, path::PathBuf};

/// Result of the coordinator.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a coordinator cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be listened on.
    #[error("listen on {address}: is another orlop running? choose another address with --listen")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another coordinator works in the data directory.
    #[error("another orlop works in {}: stop it, or choose another directory with --data-dir", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The data directory cannot be locked.
    #[error("lock the directory {}", dir.display())]
    Lock {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The state database cannot be used.
    #[error(
        "open the state database {path}: it may be deleted, finished backups are kept in the repository"
    )]
    OpenState {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The state database was made by a newer version.
    #[error(
        "the state database {path} has version {found}, this program knows up to {known}: use a newer orlop or delete the file"
    )]
    NewerState {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that is known.
        known: i64,
    },
    /// The state database failed.
    #[error("use the state database")]
    State(#[from] rusqlite::Error),
    /// The files of locations cannot be used.
    #[error("use the files of locations in {directory}")]
    Locations {
        /// Their directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the coordinator's own cannot be used.
    #[error(transparent)]
    File(#[from] orlop_runtime::Error),
    /// The repository failed.
    #[error("read what is finished from the repository")]
    Repository(#[from] orlop_repository::Error),
    /// The location that it is started with can never be opened as it is.
    #[error("{0}")]
    Begin(String),
    /// TLS, reflection or the server itself failed.
    #[error("serve gRPC: {0}")]
    Serve(String),
}
