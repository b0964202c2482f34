//! The volumes of the node as they were found last.

use std::sync::{Mutex, PoisonError};

use orlop_core::{VolumeRef, run::KnownVolume};

use crate::{
    marks,
    volumes::{DiscoverOptions, FoundVolume, discover},
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

    /// The volume as it is now, and the volume for marks if its pod has one; blocks.
    pub(crate) fn find(
        &self,
        volume: &VolumeRef,
    ) -> Result<(FoundVolume, Option<FoundVolume>), String> {
        let mut found = discover(&self.options).map_err(|error| error.to_string())?;
        let position = found.iter().position(|other| other.volume == *volume);
        let position = position.ok_or_else(|| format!("volume {volume} is not on this node"))?;
        let target = found.swap_remove(position);
        if let Some(reason) = &target.skip {
            return Err(format!("volume {volume} is not eligible: {reason}"));
        }
        let marks = found.into_iter().find(|other| {
            other.volume.volume == marks::VOLUME
                && other.volume.pod == volume.pod
                && other.volume.namespace == volume.namespace
                && other.pod_uid == target.pod_uid
                && other.plugin.ends_with("empty-dir")
        });
        Ok((target, marks))
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
