//! The volumes of the node as they were found last.

use std::{
    path::{Component, Path},
    sync::{Mutex, PoisonError},
};

use orlop_core::{Chunking, VolumeRef, run::KnownVolume};

use crate::{
    marks,
    task::Place,
    volumes::{DiscoverOptions, FoundVolume, HostRoot, discover, discover_all},
};

/// Looks for volumes, and remembers what it found.
pub(crate) struct Inventory {
    options: DiscoverOptions,
    last: Mutex<Vec<KnownVolume>>,
}

impl Inventory {
    /// Looks where `options` say.
    pub(crate) fn new(options: DiscoverOptions) -> Self {
        Self {
            options,
            last: Mutex::default(),
        }
    }

    /// Looks now; blocks. What was found before stays when looking fails.
    pub(crate) fn look(&self, node: &str) -> Vec<KnownVolume> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match discover(&self.options) {
            Ok(found) => {
                *last = found
                    .into_iter()
                    .map(|volume| known(node, volume))
                    .collect();
            }
            Err(error) => tracing::warn!(error = %error, "cannot look for volumes"),
        }
        last.clone()
    }

    /// The volume as it is now, and the volume for marks if its pod has one; blocks. A place says where it is;
    /// without one it is looked for by its names.
    pub(crate) fn find(
        &self,
        volume: &VolumeRef,
        place: Option<&Place>,
    ) -> Result<(FoundVolume, Option<FoundVolume>), String> {
        let found = match place {
            None => discover(&self.options),
            Some(_) => discover_all(&self.options).map(|all| all.volumes),
        };
        let mut found = found.map_err(|error| error.to_string())?;
        let is_it = |other: &FoundVolume| match place {
            None => other.volume == *volume,
            Some(place) => (&other.pod_uid, &other.directory) == (&place.pod_uid, &place.directory),
        };
        let target = match place {
            Some(place) if !place.host_path.is_empty() => self.on_host(volume, place)?,
            _ => {
                let position = found.iter().position(is_it);
                let position =
                    position.ok_or_else(|| format!("volume {volume} is not on this node"))?;
                found.swap_remove(position)
            }
        };
        if let Some(reason) = &target.skip
            && (place.is_none() || target.unfit)
        {
            return Err(format!("volume {volume} is not eligible: {reason}"));
        }
        let target = match place {
            None => target,
            Some(place) => FoundVolume {
                volume: volume.clone(),
                lineage: place.lineage.clone(),
                ..target
            },
        };
        let marks = found.into_iter().find(|other| {
            let same_pod = place.is_some()
                || (&other.volume.pod, &other.volume.namespace) == (&volume.pod, &volume.namespace);
            other.volume.volume == marks::VOLUME
                && same_pod
                && other.pod_uid == target.pod_uid
                && other.plugin.ends_with("empty-dir")
        });
        Ok((target, marks))
    }

    /// A persistent volume that is but a directory of the node.
    fn on_host(&self, volume: &VolumeRef, place: &Place) -> Result<FoundVolume, String> {
        let path = Path::new(&place.host_path);
        let plain = path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let below = |root: &HostRoot| {
            let below = path.strip_prefix(&root.node).ok()?;
            let real = plain && !below.as_os_str().is_empty();
            real.then(|| (root.mounted.clone(), root.mounted.join(below)))
        };
        let (base, path) = self.options.host_roots.iter().find_map(below).ok_or_else(|| {
            format!(
                "volume {volume} is the directory {} of the node, which is below none of the agent's --host-roots",
                place.host_path
            )
        })?;
        Ok(FoundVolume {
            volume: volume.clone(),
            pod_uid: place.pod_uid.clone(),
            directory: String::new(),
            plugin: "kubernetes.io/host-path".to_owned(),
            lineage: place.lineage.clone(),
            path,
            base: Some(base),
            selected: true,
            skip: None,
            unfit: false,
            chunking: Chunking::Auto,
        })
    }
}

fn known(node: &str, found: FoundVolume) -> KnownVolume {
    KnownVolume {
        volume: found.volume,
        node: node.to_owned(),
        pod_uid: found.pod_uid,
        plugin: found.plugin,
        lineage: found.lineage,
        selected: found.selected,
        skip_reason: found.skip,
    }
}
