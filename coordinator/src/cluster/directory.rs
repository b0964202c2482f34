//! A cluster without a Kubernetes API: only what agents report having found.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use orlop_core::run::KnownVolume;

use super::Cluster;

/// The newest inventory of each node, kept when its agent goes away.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    nodes: Mutex<BTreeMap<String, Vec<KnownVolume>>>,
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<KnownVolume>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster for Directory {
    fn report(&self, node: &str, volumes: Vec<KnownVolume>) {
        self.lock().insert(node.to_owned(), volumes);
    }

    fn volumes(&self) -> Vec<KnownVolume> {
        self.lock().values().flatten().cloned().collect()
    }

    fn volumes_of(&self, node: &str) -> Vec<KnownVolume> {
        self.lock().get(node).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use orlop_core::VolumeRef;

    use super::*;

    #[test]
    fn a_report_replaces_the_one_before() {
        let known = |pod: &str| {
            let volume = VolumeRef::new("ns", pod, "data");
            KnownVolume {
                lineage: volume.default_lineage(),
                volume,
                node: "n".to_owned(),
                pod_uid: String::new(),
                plugin: String::new(),
                selected: true,
                skip_reason: None,
            }
        };
        let directory = Directory::default();
        directory.report("n", vec![known("a"), known("b")]);
        directory.report("n", vec![known("c")]);
        assert_eq!(directory.volumes(), [known("c")]);
        assert_eq!(directory.volumes_of("other"), []);
    }
}
