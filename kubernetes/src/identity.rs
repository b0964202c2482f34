//! The coordinator's certificate authority, which the cluster remembers: in a Secret what only the coordinator may
//! read, in a ConfigMap the certificate that agents check it by.

use std::{collections::BTreeMap, io, path::Path};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::{Value, json};

use crate::client::{ClientError, Connection, Objects};

/// The Secret.
pub const AUTHORITY_SECRET: &str = "orlop-authority";
/// The ConfigMap.
pub const CA_CONFIG_MAP: &str = "orlop-ca";
/// The certificates that agents check the coordinator by; where it is, the authority is there.
pub(crate) const CA_FILE: &str = "ca.pem";

/// Why the authority cannot be remembered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The cluster does not answer or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file of the authority cannot be read or written.
    #[error("use the file {name} of the authority")]
    File {
        /// The file.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn failed(name: &str) -> impl FnOnce(io::Error) -> IdentityError {
    let name = name.to_owned();
    |source| IdentityError::File { name, source }
}

/// Writes the authority that the cluster remembers into `directory`, unless there is one there. `files` are those that
/// it may consist of; what agents check it by is written last.
///
/// # Errors
/// The cluster does not answer, or the files cannot be written.
pub async fn recall(
    connection: &Connection,
    directory: &Path,
    files: &[&str],
) -> Result<(), IdentityError> {
    if directory.join(CA_FILE).exists() {
        return Ok(());
    }
    let secrets = Objects::<Secret>::of(connection, Some(connection.namespace()));
    let Some(data) = secrets.get(AUTHORITY_SECRET).await?.and_then(|s| s.data) else {
        return Ok(());
    };
    if !data.contains_key(CA_FILE) {
        return Ok(());
    }
    std::fs::create_dir_all(directory).map_err(failed("its directory"))?;
    let others = files.iter().filter(|name| **name != CA_FILE);
    for name in others.chain([&CA_FILE]) {
        if let Some(bytes) = data.get(*name) {
            write_private(&directory.join(name), &bytes.0).map_err(failed(name))?;
        }
    }
    Ok(())
}

/// Lets the cluster remember the authority in `directory`, which consists of those of `files` that are there, and shows
/// its certificates to agents.
///
/// # Errors
/// The cluster does not answer or refuses, or a file cannot be read.
pub async fn remember(
    connection: &Connection,
    directory: &Path,
    files: &[&str],
) -> Result<(), IdentityError> {
    let mut data = BTreeMap::new();
    for name in files {
        match std::fs::read(directory.join(name)) {
            Ok(bytes) => drop(data.insert((*name).to_owned(), ByteString(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && *name != CA_FILE => {}
            Err(error) => return Err(failed(name)(error)),
        }
    }
    let namespace = connection.namespace();
    let ca_pem = data
        .get(CA_FILE)
        .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    let secrets = Objects::<Secret>::of(connection, Some(namespace));
    // A file that is no more is taken out.
    let gone = files.iter().filter(|name| !data.contains_key(**name));
    let mut patch = json!({"data": data});
    for name in gone {
        patch["data"][*name] = Value::Null;
    }
    let secret = Secret {
        metadata: own_metadata(namespace, AUTHORITY_SECRET),
        data: Some(data),
        ..Secret::default()
    };
    secrets
        .create_or_merge(AUTHORITY_SECRET, &secret, &patch)
        .await?;
    let maps = Objects::<ConfigMap>::of(connection, Some(namespace));
    let map = ConfigMap {
        metadata: own_metadata(namespace, CA_CONFIG_MAP),
        data: ca_pem
            .clone()
            .map(|pem| BTreeMap::from([(CA_FILE.to_owned(), pem)])),
        ..ConfigMap::default()
    };
    let patch = json!({"data": {CA_FILE: ca_pem}});
    maps.create_or_merge(CA_CONFIG_MAP, &map, &patch).await?;
    Ok(())
}

/// Metadata of an object of the installation's own.
pub(crate) fn own_metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([(
            "component".to_owned(),
            "velero".to_owned(),
        )])),
        ..ObjectMeta::default()
    }
}

pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
