//! Directories as the kubelet keeps them on a node.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A node's directories: `lib/kubelet` and `log/pods` below one directory.
#[derive(Debug, Clone)]
pub struct Node {
    root: PathBuf,
}

/// A pod with one persistent volume.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `NAMESPACE/POD/VOLUME`.
    pub volume: String,
    /// The volume's directory.
    pub path: PathBuf,
    volumes: PathBuf,
}

impl Node {
    /// A node without pods below `root`.
    ///
    /// # Panics
    /// The directories cannot be made.
    pub fn new(root: &Path) -> Self {
        let node = Self {
            root: root.to_owned(),
        };
        fs::create_dir_all(node.kubelet().join("pods")).unwrap();
        fs::create_dir_all(node.logs()).unwrap();
        node
    }

    /// The kubelet's directory.
    pub fn kubelet(&self) -> PathBuf {
        self.root.join("lib/kubelet")
    }

    fn logs(&self) -> PathBuf {
        self.root.join("log/pods")
    }

    /// Makes the directories of a pod in namespace `default` whose volume `data` is a CSI volume;
    /// beside it a secret, which is never backed up.
    ///
    /// # Panics
    /// The directories cannot be made.
    pub fn pod(&self, name: &str) -> Pod {
        let uid = format!("0aa9d2f4-5a0e-4f0c-9a57-{:0>12}", name.len());
        let uid = format!("{uid}-{name}");
        let volumes = self.kubelet().join("pods").join(&uid).join("volumes");
        let claim = format!("pvc-{name}");
        let path = volumes.join("kubernetes.io~csi").join(&claim).join("mount");
        fs::create_dir_all(&path).unwrap();
        let secret = volumes.join("kubernetes.io~secret/credentials");
        fs::create_dir_all(&secret).unwrap();
        fs::write(secret.join("password"), "never backed up").unwrap();
        fs::create_dir_all(self.logs().join(format!("default_{name}_{uid}/app"))).unwrap();
        Pod {
            volume: format!("default/{name}/{claim}"),
            path,
            volumes,
        }
    }
}

impl Pod {
    /// Makes the emptyDir of marks and gives its path.
    ///
    /// # Panics
    /// The directory cannot be made.
    pub fn marks(&self) -> PathBuf {
        let marks = self.volumes.join("kubernetes.io~empty-dir/orlop-restore");
        fs::create_dir_all(&marks).unwrap();
        marks
    }
}
