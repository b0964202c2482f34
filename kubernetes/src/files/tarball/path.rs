//! Where an object is in the tarball.

use crate::files::error::{FileError, one_part};

/// In which of its places an object was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// By its resource alone, in the version that the cluster prefers.
    Plain,
    /// By resource and version.
    Version {
        /// The version, such as `v1beta1`.
        version: String,
        /// Whether the cluster prefers it.
        preferred: bool,
    },
}

/// What an object is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemPath {
    /// Plural and group, such as `deployments.apps`, or `pods` for the core group.
    pub resource: String,
    /// Its namespace; `None` for a cluster resource.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

const PREFERRED: &str = "-preferredversion";

impl ItemPath {
    /// An object in a namespace.
    pub fn namespaced(resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
        }
    }

    /// An object of the cluster.
    pub fn cluster(resource: &str, name: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            namespace: None,
            name: name.to_owned(),
        }
    }

    /// Its path in the tarball.
    ///
    /// # Errors
    /// A part of it cannot be a part of a path.
    pub fn file(&self, layout: &Layout) -> Result<String, FileError> {
        let resource = one_part(&self.resource)?;
        let name = one_part(&self.name)?;
        let mut path = format!("resources/{resource}/");
        if let Layout::Version { version, preferred } = layout {
            path.push_str(one_part(version)?);
            path.push_str(if *preferred { PREFERRED } else { "" });
            path.push('/');
        }
        match &self.namespace {
            Some(namespace) => {
                path.push_str("namespaces/");
                path.push_str(one_part(namespace)?);
            }
            None => path.push_str("cluster"),
        }
        Ok(format!("{path}/{name}.json"))
    }

    /// The object whose path this is; `None` if it is no object's.
    pub fn parse(path: &str) -> Option<(Self, Layout)> {
        let parts: Vec<&str> = path.strip_prefix("resources/")?.split('/').collect();
        let (&[resource, ref middle @ ..], &file) = parts.split_last().map(|(f, p)| (p, f))? else {
            return None;
        };
        let (version, namespace) = match *middle {
            ["cluster"] => (None, None),
            ["namespaces", namespace] => (None, Some(namespace)),
            [version, "cluster"] => (Some(version), None),
            [version, "namespaces", namespace] => (Some(version), Some(namespace)),
            _ => return None,
        };
        let name = file.strip_suffix(".json")?;
        for part in [Some(resource), version, namespace, Some(name)]
            .into_iter()
            .flatten()
        {
            one_part(part).ok()?;
        }
        let layout = version.map_or(Layout::Plain, |version| Layout::Version {
            version: version
                .strip_suffix(PREFERRED)
                .unwrap_or(version)
                .to_owned(),
            preferred: version.ends_with(PREFERRED),
        });
        let item = Self {
            resource: resource.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        };
        Some((item, layout))
    }
}
