//! A small file of the coordinator that the cluster remembers, in a ConfigMap: its own disk is lost with its pod.

use std::{collections::BTreeMap, io, path::Path};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use crate::{
    client::{ClientError, Connection, Objects},
    identity::{own_metadata, write_private},
};

/// The ConfigMap that says which repository each place held.
pub const PLACES_CONFIG_MAP: &str = "orlop-repositories";

/// A ConfigMap holds no more.
const BYTES_MAX: usize = 1 << 20;

/// Writes the file that the ConfigMap `name` holds to `path`, unless there is one there. False if nothing is remembered.
///
/// # Errors
/// The cluster does not answer, or the file cannot be written.
pub async fn recall(connection: &Connection, name: &str, path: &Path) -> Result<bool, ClientError> {
    if path.exists() {
        return Ok(false);
    }
    let maps = Objects::<ConfigMap>::of(connection, Some(connection.namespace()));
    let data = maps.get(name).await?.and_then(|map| map.data);
    let Some(text) = data.and_then(|mut data| data.remove(&key(path))) else {
        return Ok(false);
    };
    write_private(path, text.as_bytes()).map_err(failed(path))?;
    Ok(true)
}

/// Lets the ConfigMap `name` hold the text of the file at `path`, whose text is `text`.
///
/// # Errors
/// The cluster does not answer or refuses, or the text is too long.
pub async fn remember(
    connection: &Connection,
    name: &str,
    path: &Path,
    text: &str,
) -> Result<(), ClientError> {
    if text.len() > BYTES_MAX {
        let large = io::Error::other("it is too large for a ConfigMap");
        return Err(failed(path)(large));
    }
    let namespace = connection.namespace();
    let maps = Objects::<ConfigMap>::of(connection, Some(namespace));
    let data = BTreeMap::from([(key(path), text.to_owned())]);
    let patch = json!({"data": data});
    let map = ConfigMap {
        metadata: own_metadata(namespace, name),
        data: Some(data),
        ..ConfigMap::default()
    };
    maps.create_or_merge(name, &map, &patch).await
}

fn key(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ClientError {
    let what = format!("the file {}", path.display());
    |error| ClientError::Unreadable {
        what,
        message: error.to_string(),
    }
}
