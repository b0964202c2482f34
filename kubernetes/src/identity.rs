//! The coordinator's certificate authority, which the cluster remembers: in a Secret what only the coordinator may
//! read, in a ConfigMap the certificate that agents check it by.

use std::{collections::BTreeMap, io, path::Path};

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::json;

use crate::client::{ClientError, Connection, Objects};

/// The Secret.
pub const AUTHORITY_SECRET: &str = "orlop-authority";
/// The ConfigMap.
pub const CA_CONFIG_MAP: &str = "orlop-ca";
/// The files that are remembered; the server's own certificate is made anew.
const FILES: [&str; 2] = ["ca.pem", "ca.key"];
const CA_FILE: &str = "ca.pem";

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

/// Writes the authority that the cluster remembers into `directory`, unless there is one there.
///
/// # Errors
/// The cluster does not answer, or the files cannot be written.
pub async fn recall(connection: &Connection, directory: &Path) -> Result<(), IdentityError> {
    if directory.join(CA_FILE).exists() {
        return Ok(());
    }
    let secrets = Objects::<Secret>::of(connection, Some(connection.namespace()));
    let Some(data) = secrets.get(AUTHORITY_SECRET).await?.and_then(|s| s.data) else {
        return Ok(());
    };
    if FILES.iter().any(|name| !data.contains_key(*name)) {
        return Ok(());
    }
    std::fs::create_dir_all(directory).map_err(failed("its directory"))?;
    // The certificate last: with it the authority is there.
    for name in FILES.iter().rev() {
        write_private(&directory.join(name), &data[*name].0).map_err(failed(name))?;
    }
    Ok(())
}

/// Lets the cluster remember the authority in `directory`, unless it remembers one, and shows the certificate to agents.
///
/// # Errors
/// The cluster does not answer or refuses, or a file cannot be read.
pub async fn remember(connection: &Connection, directory: &Path) -> Result<(), IdentityError> {
    let mut files = BTreeMap::new();
    for name in FILES {
        let bytes = std::fs::read(directory.join(name)).map_err(failed(name))?;
        files.insert(name.to_owned(), ByteString(bytes));
    }
    let namespace = connection.namespace();
    let ca_pem = String::from_utf8_lossy(&files[CA_FILE].0).into_owned();
    let secrets = Objects::<Secret>::of(connection, Some(namespace));
    let metadata = |name: &str| ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([(
            "component".to_owned(),
            "velero".to_owned(),
        )])),
        ..ObjectMeta::default()
    };
    let secret = Secret {
        metadata: metadata(AUTHORITY_SECRET),
        data: Some(files),
        ..Secret::default()
    };
    match secrets.create(&secret).await {
        Err(ClientError::AlreadyExists { .. }) | Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let maps = Objects::<ConfigMap>::of(connection, Some(namespace));
    let map = ConfigMap {
        metadata: metadata(CA_CONFIG_MAP),
        data: Some(BTreeMap::from([(CA_FILE.to_owned(), ca_pem.clone())])),
        ..ConfigMap::default()
    };
    match maps.create(&map).await {
        Err(ClientError::AlreadyExists { .. }) => {
            let patch = json!({"data": {CA_FILE: ca_pem}});
            maps.merge_patch(CA_CONFIG_MAP, &patch).await?;
        }
        other => drop(other?),
    }
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
