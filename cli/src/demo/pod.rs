//! Directories as the kubelet makes them for a pod.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A pod of the demo.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pod {
    pub(super) namespace: &'static str,
    pub(super) name: &'static str,
    pub(super) uid: &'static str,
    /// Name of the directory of its persistent volume.
    pub(super) claim: &'static str,
}

/// The kubelet's and the container logs' directories.
#[derive(Debug, Clone)]
pub(super) struct NodeDirs {
    pub(super) kubelet: PathBuf,
    pub(super) logs: PathBuf,
}

impl Pod {
    /// Makes what the kubelet makes: the volume's directory, which is returned, an eligible one; a
    /// secret's, which never is; and a log directory that tells the pod's name.
    pub(super) fn make(&self, node: &NodeDirs) -> io::Result<PathBuf> {
        let volume = self
            .volumes(node)
            .join("kubernetes.io~csi")
            .join(self.claim)
            .join("mount");
        fs::create_dir_all(&volume)?;
        let secret = self.volumes(node).join("kubernetes.io~secret/credentials");
        fs::create_dir_all(&secret)?;
        fs::write(secret.join("password"), "never backed up")?;
        let log = format!("{}_{}_{}", self.namespace, self.name, self.uid);
        fs::create_dir_all(node.logs.join(log).join("database"))?;
        Ok(volume)
    }

    /// Makes the emptyDir through which a restore tells the init container how it went.
    pub(super) fn make_marks(&self, node: &NodeDirs) -> io::Result<PathBuf> {
        let marks = self
            .volumes(node)
            .join("kubernetes.io~empty-dir/orlop-restore");
        fs::create_dir_all(&marks)?;
        Ok(marks)
    }

    fn volumes(&self, node: &NodeDirs) -> PathBuf {
        Path::new(&node.kubelet)
            .join("pods")
            .join(self.uid)
            .join("volumes")
    }
}
