//! Where the repository of a bucket is, for who wants to open it without a cluster.

use orlop_core::S3Keys;
use orlop_kubernetes::velero::location::BackupStorageLocationSpec;

use crate::Config;

use super::{
    ini,
    provider::{self, REPOSITORY_PATH},
};

/// Where the repository of a bucket is, and what its store is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAddress {
    /// URL of the location.
    pub url: String,
    /// The repository's path below it.
    pub repository_path: &'static str,
    /// Certificates in PEM of the authorities to trust; empty for the system's.
    pub ca_pem: String,
    /// Keys to the bucket; `None` for those of the environment.
    pub keys: Option<S3Keys>,
}

/// Where the repository of a location is as the controller would tell the coordinator. `credentials` is the file with
/// keys, if there is one. `None` if the location is no bucket.
///
/// # Errors
/// One line for a person: the location or the file cannot be used as it is.
pub fn bucket_address(
    name: &str,
    spec: &BackupStorageLocationSpec,
    credentials: Option<&str>,
) -> Result<Option<BucketAddress>, String> {
    let wanted = provider::wanted(name, spec, &Config::default().stores)?;
    let Some((_, profile)) = &wanted.credentials else {
        return Ok(None);
    };
    let keys = ini::keys(credentials.unwrap_or_default().as_bytes(), profile);
    let keys = keys.map_err(|error| format!("the credentials: {error}"))?;
    let ca_pem = String::from_utf8(wanted.ca_pem);
    Ok(Some(BucketAddress {
        url: wanted.url,
        repository_path: REPOSITORY_PATH,
        ca_pem: ca_pem.map_err(|_| "the certificates are no PEM".to_owned())?,
        keys: keys.map(|keys| S3Keys {
            access_key_id: keys.access_key_id,
            secret_access_key: keys.secret_access_key,
            session_token: keys.session_token,
        }),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bucket_has_an_address_and_a_directory_none() {
        let spec = |provider: &str| {
            let spec = json!({
                "provider": provider, "objectStorage": {"bucket": "b", "prefix": "p"},
                "config": {"s3Url": "https://s:9000", "region": "r", "s3ForcePathStyle": "true", "path": "/d"},
            });
            serde_json::from_value::<BackupStorageLocationSpec>(spec).unwrap()
        };
        let file = "[default]\naws_access_key_id = A\naws_secret_access_key = S\n";
        let address = bucket_address("default", &spec("aws"), Some(file));
        let address = address.unwrap().unwrap();
        assert!(address.url.starts_with("s3://b/p?"), "{}", address.url);
        assert_eq!(address.keys.unwrap().access_key_id, "A");
        let role = bucket_address("default", &spec("aws"), None).unwrap();
        assert_eq!(role.unwrap().keys, None);
        let none = bucket_address("default", &spec("replicated.com/hostpath"), None);
        assert_eq!(none, Ok(None));
        let half = bucket_address(
            "default",
            &spec("aws"),
            Some("[default]\naws_access_key_id = A\n"),
        );
        assert!(half.unwrap_err().contains("default"));
    }
}
