//! Proves that a password opens the repository of a bucket, from the machine that this runs on.

use std::time::Duration;

use anyhow::Result;
use orlop_controller::bucket_address;
use orlop_core::with_causes;
use orlop_kubernetes::{
    install::{LOCATION, StoreChoice},
    velero::BackupStorageLocation,
};
use orlop_repository::{
    Error, Repository, StoreOptions, Unlock, open_store_with, store::S3Credentials, url_below,
};
use serde_json::Value;
use tokio::time::timeout;

use crate::exit;

/// A bucket that does not answer for so long is not reached from here.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known of the repository before anything is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// The password opens it.
    Opens {
        /// Snapshots in it.
        snapshots: u64,
    },
    /// It cannot be reached from here: the reason.
    Elsewhere(String),
}

/// Tries the password. Nothing is written anywhere.
///
/// # Errors
/// The password is wrong, there is no repository, or the location cannot be used as it was chosen.
pub(super) async fn prove(store: &StoreChoice, objects: &[Value], password: &str) -> Result<Proof> {
    let StoreChoice::S3(s3) = store else {
        let reason = "its directory is mounted in the cluster alone".to_owned();
        return Ok(Proof::Elsewhere(reason));
    };
    let location = objects
        .iter()
        .find(|object| object["kind"] == "BackupStorageLocation");
    let location = location.cloned().unwrap_or_default();
    let location: BackupStorageLocation = serde_json::from_value(location)?;
    let address = bucket_address(LOCATION, &location.spec, s3.credentials.as_deref());
    let Some(address) = address.map_err(exit::usage)? else {
        return Ok(Proof::Elsewhere("it is no bucket".to_owned()));
    };
    let options = StoreOptions {
        credentials: address.keys.as_ref().map(S3Credentials::from),
        ca_pem: address.ca_pem,
    };
    let url = url_below(&address.url, address.repository_path);
    let tried = timeout(PATIENCE, open(&url, options, password)).await;
    let error = match tried {
        Ok(Ok(snapshots)) => return Ok(Proof::Opens { snapshots }),
        Ok(Err(error)) => error,
        Err(_) => {
            let reason = format!("it has not answered within {} s", PATIENCE.as_secs());
            return Ok(Proof::Elsewhere(reason));
        }
    };
    let reason = with_causes(&error);
    match error {
        Error::NoRepository { .. } => Err(exit::not_found(format!(
            "{url} holds no repository: check the bucket, the prefix and the endpoint; nothing was installed"
        ))),
        Error::WrongKey { .. } => Err(exit::failure(
            exit::FAILED,
            format!("{reason}; nothing was installed"),
        )),
        // The nodes may have rights that this machine lacks.
        Error::Access { .. } if s3.credentials.is_none() => Ok(Proof::Elsewhere(reason)),
        error if error.is_permanent() => Err(exit::failure(
            exit::FAILED,
            format!("{reason}; nothing was installed"),
        )),
        _ => Ok(Proof::Elsewhere(reason)),
    }
}

/// The number of snapshots.
async fn open(url: &str, options: StoreOptions, password: &str) -> Result<u64, Error> {
    let store = open_store_with(url, options)?;
    let unlock = Unlock::Passphrase(password.to_owned());
    let repository = Repository::open(store, &unlock).await?;
    Ok(repository.snapshots().await?.len() as u64)
}
