//! Which volume a backup is about, and the identity that the volume keeps.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A volume as its pod names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeRef {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The volume's name in the pod's spec.
    pub volume: String,
}

/// A text that is not `NAMESPACE/POD/VOLUME`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} does not name a volume: {reason}; write NAMESPACE/POD/VOLUME, each of 1 to 253 characters"
)]
pub struct ParseVolumeError {
    /// What was parsed.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl VolumeRef {
    /// A volume by its three names.
    pub fn new(
        namespace: impl Into<String>,
        pod: impl Into<String>,
        volume: impl Into<String>,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            pod: pod.into(),
            volume: volume.into(),
        }
    }

    /// The lineage of a volume of which nothing but its names is known.
    pub fn default_lineage(&self) -> Lineage {
        Lineage(self.to_string())
    }
}

impl fmt::Display for VolumeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.volume)
    }
}

impl FromStr for VolumeRef {
    type Err = ParseVolumeError;

    fn from_str(text: &str) -> Result<Self, ParseVolumeError> {
        let fail = |reason: String| {
            Err(ParseVolumeError {
                text: text.to_owned(),
                reason,
            })
        };
        let parts: Vec<&str> = text.split('/').collect();
        let &[namespace, pod, volume] = parts.as_slice() else {
            return fail(format!(
                "it has {} parts where three are wanted",
                parts.len()
            ));
        };
        for part in [namespace, pod, volume] {
            if part.is_empty() || part.len() > 253 {
                return fail(format!("a part has {} characters", part.len()));
            }
            if part.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return fail("a part has a space or a control character".to_owned());
            }
        }
        Ok(Self::new(namespace, pod, volume))
    }
}

/// The identity that a volume keeps from snapshot to snapshot, whatever its pod is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lineage(pub String);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_three_names() {
        let volume: VolumeRef = "ns/pod-0/data".parse().unwrap();
        assert_eq!(volume, VolumeRef::new("ns", "pod-0", "data"));
        assert_eq!(volume.to_string(), "ns/pod-0/data");
        for bad in ["", "a/b", "a/b/c/d", "a//c", "a/b/c d"] {
            assert!(
                bad.parse::<VolumeRef>()
                    .unwrap_err()
                    .to_string()
                    .contains("NAMESPACE/POD/VOLUME")
            );
        }
    }
}
