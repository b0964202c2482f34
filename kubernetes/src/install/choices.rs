//! What an installation may choose.

/// What an installation may choose.
#[derive(Debug, Clone)]
pub struct InstallChoices {
    /// The namespace; clients of Velero look in `velero`.
    pub namespace: String,
    /// The image, with a tag: KOTS reads the version there.
    pub image: String,
    /// The Secret with which the image is pulled.
    pub pull_secret: Option<String>,
    /// The kubelet's directory on the nodes.
    pub kubelet_dir: String,
    /// Whether the coordinator may make and change objects of any kind, which restores need.
    pub restore_rights: bool,
    /// Where backups are kept; `None` if somebody else says, such as the KOTS Admin Console.
    pub store: Option<StoreChoice>,
    /// Whether what is there may only be read, so that no repository is made where none is.
    pub read_only: bool,
}

impl Default for InstallChoices {
    /// What `deploy/base` says.
    fn default() -> Self {
        Self {
            namespace: super::render::NAMESPACE.to_owned(),
            image: super::render::IMAGE.to_owned(),
            pull_secret: None,
            kubelet_dir: super::render::KUBELET_DIR.to_owned(),
            restore_rights: true,
            store: None,
            read_only: false,
        }
    }
}

/// Where backups are kept.
#[derive(Debug, Clone)]
pub enum StoreChoice {
    /// A directory of the node that the coordinator runs on.
    HostPath {
        /// Its absolute path.
        path: String,
    },
    /// A directory of an NFS server.
    Nfs {
        /// The server's name or address.
        server: String,
        /// The directory there.
        path: String,
    },
    /// A claim that is made for it.
    Claim {
        /// Its size, such as `50Gi`.
        size: String,
    },
    /// A bucket of Amazon S3 or of a compatible store.
    S3(S3Choices),
}

/// A bucket.
#[derive(Debug, Clone, Default)]
pub struct S3Choices {
    /// Its name.
    pub bucket: String,
    /// What all keys begin with.
    pub prefix: String,
    /// Its region.
    pub region: String,
    /// The URL of a compatible store; empty for Amazon's.
    pub endpoint: String,
    /// Certificates in PEM of the authorities to trust; empty for the system's.
    pub ca_pem: String,
    /// The file of keys as the AWS command line has it; `None` for those of the node's role.
    pub credentials: Option<String>,
}
