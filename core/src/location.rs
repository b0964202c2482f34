//! Locations: where repositories are, and what opens them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A location as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LocationSpec {
    /// URL of the store.
    pub url: String,
    /// Nothing is written there.
    pub read_only: bool,
    /// Keys to a bucket; `None` for those of the coordinator's environment.
    pub keys: Option<S3Keys>,
    /// What opens the repository; `None` for what the coordinator was started with.
    pub unlock: Option<RepositorySecret>,
    /// Certificates in PEM of the authorities to trust; empty for those of the system.
    pub ca_pem: String,
    /// Whether backups without a location go there.
    pub is_default: bool,
    /// Path of the repository below the URL; empty: at the URL itself, and no artifacts are kept.
    pub repository_path: String,
}

/// Keys to a bucket of S3.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Keys {
    /// Names the key.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// The token of temporary keys; empty for lasting ones.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session_token: String,
}

/// What opens a repository.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepositorySecret {
    /// A passphrase.
    Passphrase(String),
    /// The bytes of a key file.
    KeyFile(Vec<u8>),
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Keys({}, …)", self.access_key_id)
    }
}

impl fmt::Debug for RepositorySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RepositorySecret(…)")
    }
}

impl LocationSpec {
    /// The same with the secrets of `old` where it has none of its own.
    #[must_use]
    pub fn keeping_secrets_of(mut self, old: &Self, drop_keys: bool) -> Self {
        if self.keys.is_none() && !drop_keys {
            self.keys.clone_from(&old.keys);
        }
        if self.unlock.is_none() {
            self.unlock.clone_from(&old.unlock);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LocationSpec {
        LocationSpec {
            url: "s3://b/p".to_owned(),
            keys: Some(S3Keys {
                access_key_id: "name".to_owned(),
                secret_access_key: "hush".to_owned(),
                session_token: String::new(),
            }),
            unlock: Some(RepositorySecret::Passphrase("hush".to_owned())),
            ..LocationSpec::default()
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", spec());
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn secrets_that_are_not_given_stay() {
        let bare = LocationSpec {
            url: "s3://c/p".to_owned(),
            ..LocationSpec::default()
        };
        let kept = bare.clone().keeping_secrets_of(&spec(), false);
        assert_eq!(kept.url, "s3://c/p");
        assert_eq!((kept.keys, kept.unlock), (spec().keys, spec().unlock));
        let dropped = bare.keeping_secrets_of(&spec(), true);
        assert_eq!((dropped.keys, dropped.unlock), (None, spec().unlock));
    }

    #[test]
    fn a_spec_survives_its_file() {
        let json = serde_json::to_string(&spec()).unwrap();
        assert_eq!(serde_json::from_str::<LocationSpec>(&json).unwrap(), spec());
    }
}
