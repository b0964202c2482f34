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
        let mut volumes = Volumes::default();
        for one in listed {
            let name = format!("{}/{}/{}", one.namespace, one.pod, one.volume);
            volumes.add(&name, one.path).map_err(fail)?;
        }
        return Ok(volumes.found);
    }
    let mut volumes = Volumes::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |reason: String| fail(format!("line {}: {reason}", number + 1));
        let Some((name, path)) = line.split_once(char::is_whitespace) else {
            return Err(fail("it has no path".to_owned()));
        };
        let path = PathBuf::from(path.trim_start());
        volumes.add(name, path).map_err(fail)?;
    }
    Ok(volumes.found)
}

/// Volumes, each of a name of its own.
#[derive(Default)]
struct Volumes {
    found: Vec<FoundVolume>,
    names: HashSet<VolumeRef>,
}

impl Volumes {
    /// Adds one, or says what is wrong with it.
    fn add(&mut self, name: &str, path: PathBuf) -> Result<(), String> {
        let volume: VolumeRef = name.parse().map_err(|error| format!("{error}"))?;
        if !self.names.insert(volume.clone()) {
            return Err(format!(
                "{volume} is listed twice: each volume needs a name of its own"
            ));
        }
        self.found.push(found(volume, path));
        Ok(())
    }
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
