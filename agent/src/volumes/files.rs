//! The list of volumes that an operator gives: JSON, or lines.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use orlop_core::{Chunking, VolumeRef};
use serde::Deserialize;

use super::{DiscoverError, FoundVolume, read_file};

const EXPECTED: &str = "JSON objects with namespace, pod, volume and path, or lines \
                        NAMESPACE/POD/VOLUME PATH";

#[derive(Deserialize)]
struct Listed {
    namespace: String,
    pod: String,
    volume: String,
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    List(Vec<Listed>),
    Wrapped { volumes: Vec<Listed> },
}

/// The volumes that the file lists; all are selected.
pub(super) fn read_volumes(file: &Path) -> Result<Vec<FoundVolume>, DiscoverError> {
    let text = read_file(file)?;
    let fail = |reason: String| DiscoverError::Parse {
        path: file.to_owned(),
        reason,
        expected: EXPECTED,
    };
    if text.trim_start().starts_with(['[', '{']) {
        let document = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
        let (Document::List(listed) | Document::Wrapped { volumes: listed }) = document;
        let mut volumes = Vec::with_capacity(listed.len());
        let mut names = HashSet::new();
        for one in listed {
            let text = format!("{}/{}/{}", one.namespace, one.pod, one.volume);
            let volume = text
                .parse::<VolumeRef>()
                .map_err(|error| fail(error.to_string()))?;
            if !names.insert(volume.clone()) {
                return Err(fail(twice(&volume)));
            }
            volumes.push(found(volume, one.path));
        }
        return Ok(volumes);
    }
    let (mut volumes, mut names) = (Vec::new(), HashSet::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |reason: String| fail(format!("line {}: {reason}", number + 1));
        let Some((name, path)) = line.split_once(char::is_whitespace) else {
            return Err(fail("it has no path".to_owned()));
        };
        let volume = name
            .parse::<VolumeRef>()
            .map_err(|error| fail(error.to_string()))?;
        if !names.insert(volume.clone()) {
            return Err(fail(twice(&volume)));
        }
        volumes.push(found(volume, PathBuf::from(path.trim_start())));
    }
    Ok(volumes)
}

fn twice(volume: &VolumeRef) -> String {
    format!("{volume} is listed twice: each volume needs a name of its own")
}

fn found(volume: VolumeRef, path: PathBuf) -> FoundVolume {
    FoundVolume {
        lineage: volume.default_lineage(),
        volume,
        pod_uid: String::new(),
        directory: String::new(),
        base: None,
        unfit: false,
        chunking: Chunking::Auto,
        plugin: "path".to_owned(),
        path,
        selected: true,
        skip: None,
    }
}
