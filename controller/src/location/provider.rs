//! What a `BackupStorageLocation` asks for: a bucket or a directory, and where its keys and certificates are.

use std::collections::BTreeMap;

use orlop_kubernetes::{
    api::SecretKeySelector,
    velero::location::{BackupStorageLocationSpec, LocationAccessMode},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::mount::{Mount, Source};

/// Below the URL of a location, where Velero's own repositories are too: a real Velero takes no offence.
pub(crate) const REPOSITORY_PATH: &str = "kopia/orlop";
/// The Secret with keys that locations use which name none.
const DEFAULT_SECRET: &str = "cloud-credentials";
/// The key in it.
const DEFAULT_KEY: &str = "cloud";
/// How large a claim is that says nothing else.
const CLAIM_SIZE: &str = "10Gi";

/// What is as it is in a path of a URL.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'/');
/// What is as it is in a value of a URL's parameter.
const IN_VALUE: &AsciiSet = &IN_PATH.remove(b':');

/// Where a value is in a Secret of our namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InSecret {
    pub(crate) name: String,
    pub(crate) key: String,
    /// Whether it is no mistake if it is not there.
    pub(crate) optional: bool,
}

/// A location as somebody wants it, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) url: String,
    pub(crate) read_only: bool,
    pub(crate) is_default: bool,
    /// Certificates in PEM, unless they are in a Secret.
    pub(crate) ca_pem: Vec<u8>,
    pub(crate) ca_secret: Option<InSecret>,
    /// The file with keys to a bucket, and the profile in it.
    pub(crate) credentials: Option<(InSecret, String)>,
    /// The directory that must be mounted first.
    pub(crate) mount: Option<Mount>,
}

/// What the location `name` asks for; `stores` is the directory below which directories are mounted.
///
/// # Errors
/// One line for a person: the provider is not one of ours, a setting is missing, or one cannot be obeyed.
pub(crate) fn wanted(
    name: &str,
    spec: &BackupStorageLocationSpec,
    stores: &str,
) -> Result<Wanted, String> {
    let provider = spec.provider.as_str();
    let short = provider.strip_prefix("velero.io/").unwrap_or(provider);
    let mut wanted = Wanted {
        url: String::new(),
        read_only: spec.access_mode == LocationAccessMode::ReadOnly,
        is_default: spec.default,
        ca_pem: spec.object_storage.ca_cert.0.clone(),
        ca_secret: spec.object_storage.ca_cert_ref.as_ref().map(in_secret),
        credentials: None,
        mount: None,
    };
    let mounted = |source: Source| Mount {
        location: name.to_owned(),
        path: format!("{stores}/{name}"),
        source,
    };
    match short {
        "aws" => {
            wanted.url = bucket_url(spec)?;
            let profile = setting(&spec.config, "profile").unwrap_or("default");
            let secret = spec
                .credential
                .as_ref()
                .map_or_else(default_secret, in_secret);
            wanted.credentials = Some((secret, profile.to_owned()));
            return Ok(wanted);
        }
        "replicated.com/nfs" => {
            wanted.mount = Some(mounted(Source::Nfs {
                server: required(spec, "server")?,
                path: absolute(spec, "path")?,
            }));
        }
        "replicated.com/hostpath" => {
            wanted.mount = Some(mounted(Source::HostPath {
                path: absolute(spec, "path")?,
            }));
        }
        "replicated.com/pvc" => {
            let size = setting(&spec.config, "storageSize").unwrap_or(CLAIM_SIZE);
            wanted.mount = Some(mounted(Source::Claim {
                size: size.to_owned(),
                class: setting(&spec.config, "storageClassName").map(str::to_owned),
            }));
        }
        "orlop.io/directory" => {}
        _ => {
            return Err(format!(
                "provider {provider:?} is not supported yet: use aws or an S3-compatible store, NFS, a host path or a PVC"
            ));
        }
    }
    wanted.url = format!("{stores}/{name}");
    let prefix = prefix(spec)?;
    if !prefix.is_empty() {
        wanted.url = format!("{}/{prefix}", wanted.url);
    }
    Ok(wanted)
}

fn bucket_url(spec: &BackupStorageLocationSpec) -> Result<String, String> {
    let config = &spec.config;
    let bucket = spec.object_storage.bucket.trim();
    if bucket.is_empty() {
        return Err("objectStorage.bucket is empty: name the bucket".to_owned());
    }
    if flag(config, "insecureSkipTLSVerify")? {
        return Err(
            "insecureSkipTLSVerify is not supported: put the certificate of the store's authority into objectStorage.caCert"
                .to_owned(),
        );
    }
    let refused = [
        (
            "serverSideEncryption",
            "set a default encryption of the bucket",
        ),
        ("kmsKeyId", "set a default encryption of the bucket"),
        (
            "customerKeyEncryptionFile",
            "everything is encrypted before it is sent",
        ),
        (
            "credentialsFile",
            "put the file into a Secret and name that in spec.credential",
        ),
    ];
    for (name, remedy) in refused {
        if setting(config, name).is_some() {
            return Err(format!(
                "config.{name} is not supported: remove it; {remedy}"
            ));
        }
    }
    let mut parameters = Vec::new();
    if let Some(endpoint) = setting(config, "s3Url") {
        let endpoint = endpoint.trim_end_matches('/');
        parameters.push(format!(
            "endpoint={}",
            utf8_percent_encode(endpoint, IN_VALUE)
        ));
        // Whoever writes http:// there means it.
        if endpoint.starts_with("http://") {
            parameters.push("insecure-http=true".to_owned());
        }
    }
    if let Some(region) = setting(config, "region") {
        parameters.push(format!("region={}", utf8_percent_encode(region, IN_VALUE)));
    }
    if flag(config, "s3ForcePathStyle")? {
        parameters.push("path-style=true".to_owned());
    }
    let mut url = format!("s3://{}", utf8_percent_encode(bucket, IN_PATH));
    let prefix = prefix(spec)?;
    if !prefix.is_empty() {
        url = format!("{url}/{}", utf8_percent_encode(&prefix, IN_PATH));
    }
    if !parameters.is_empty() {
        url = format!("{url}?{}", parameters.join("&"));
    }
    Ok(url)
}

fn prefix(spec: &BackupStorageLocationSpec) -> Result<String, String> {
    let prefix = spec.object_storage.prefix.trim_matches('/');
    let climbs = |part: &str| part.is_empty() || part == "." || part == "..";
    if !prefix.is_empty() && prefix.split('/').any(climbs) {
        return Err(format!(
            "objectStorage.prefix {prefix:?} is not a path: write names with single slashes between them"
        ));
    }
    Ok(prefix.to_owned())
}

fn in_secret(selector: &SecretKeySelector) -> InSecret {
    InSecret {
        name: selector.name.clone(),
        key: selector.key.clone(),
        optional: false,
    }
}

fn default_secret() -> InSecret {
    InSecret {
        name: DEFAULT_SECRET.to_owned(),
        key: DEFAULT_KEY.to_owned(),
        optional: true,
    }
}

fn setting<'a>(config: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let value = config.get(name)?.trim();
    (!value.is_empty()).then_some(value)
}

fn required(spec: &BackupStorageLocationSpec, name: &str) -> Result<String, String> {
    let value = setting(&spec.config, name);
    value.map(str::to_owned).ok_or_else(|| {
        format!(
            "config.{name} is missing: provider {:?} needs it",
            spec.provider
        )
    })
}

fn absolute(spec: &BackupStorageLocationSpec, name: &str) -> Result<String, String> {
    let path = required(spec, name)?;
    if path.starts_with('/') && !path.split('/').any(|part| part == "..") {
        return Ok(path);
    }
    Err(format!("config.{name} {path:?} is not an absolute path"))
}

/// As Go reads a boolean.
fn flag(config: &BTreeMap<String, String>, name: &str) -> Result<bool, String> {
    match setting(config, name) {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(other) => Err(format!(
            "config.{name} {other:?} is neither \"true\" nor \"false\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "json!(…) reads better so")]
    fn of(spec: Value) -> Result<Wanted, String> {
        wanted("default", &serde_json::from_value(spec).unwrap(), "/stores")
    }

    fn aws(config: &Value) -> Value {
        json!({"provider": "aws", "config": config, "objectStorage": {"bucket": "b", "prefix": "/p/q/"}})
    }

    #[test]
    fn a_bucket_becomes_a_url() {
        let cases = [
            (json!({}), "s3://b/p/q"),
            (
                json!({"region": "eu-central-1", "s3Url": ""}),
                "s3://b/p/q?region=eu-central-1",
            ),
            (
                json!({"region": "us-east-1", "s3Url": "http://10.96.0.7:9000/", "s3ForcePathStyle": "true", "publicUrl": "x"}),
                "s3://b/p/q?endpoint=http://10.96.0.7:9000&insecure-http=true&region=us-east-1&path-style=true",
            ),
            (
                json!({"s3Url": "https://a b"}),
                "s3://b/p/q?endpoint=https://a%20b",
            ),
            (
                json!({"insecureSkipTLSVerify": "false", "checksumAlgorithm": "", "resticRepoPrefix": "y"}),
                "s3://b/p/q",
            ),
        ];
        for (config, url) in cases {
            assert_eq!(of(aws(&config)).unwrap().url, url);
        }
    }

    #[test]
    fn keys_are_where_velero_looks_for_them() {
        let plain = of(aws(&json!({}))).unwrap();
        assert_eq!(
            plain.credentials,
            Some((default_secret(), "default".to_owned()))
        );
        let mut spec = aws(&json!({"profile": "second"}));
        spec["credential"] = json!({"name": "n", "key": "k"});
        let named = InSecret {
            name: "n".to_owned(),
            key: "k".to_owned(),
            optional: false,
        };
        assert_eq!(
            of(spec).unwrap().credentials,
            Some((named, "second".to_owned()))
        );
    }

    #[test]
    fn mode_default_and_certificates_come_along() {
        let wanted = of(json!({
            "provider": "velero.io/aws", "default": true, "accessMode": "ReadOnly",
            "objectStorage": {"bucket": "b", "caCert": "cGVt"},
        }))
        .unwrap();
        assert!(wanted.is_default && wanted.read_only);
        assert_eq!(wanted.ca_pem, b"pem");
        assert_eq!(wanted.url, "s3://b");
    }

    #[test]
    fn a_directory_is_mounted_under_its_locations_name() {
        let store = json!({"bucket": "velero-lvp-abc123"});
        let nfs = json!({"server": "10.0.0.1", "path": "/exports/a", "resticRepoPrefix": "x"});
        let wanted =
            of(json!({"provider": "replicated.com/nfs", "config": nfs, "objectStorage": store}))
                .unwrap();
        assert_eq!(wanted.url, "/stores/default");
        assert_eq!(
            wanted.mount.unwrap().source,
            Source::Nfs {
                server: "10.0.0.1".to_owned(),
                path: "/exports/a".to_owned()
            }
        );
        let claim = of(json!({
            "provider": "replicated.com/pvc", "config": {"storageSize": "50Gi"}, "objectStorage": {"bucket": "b", "prefix": "p"},
        }))
        .unwrap();
        assert_eq!(claim.url, "/stores/default/p");
        assert_eq!(
            claim.mount.unwrap().source,
            Source::Claim {
                size: "50Gi".to_owned(),
                class: None
            }
        );
        let own =
            of(json!({"provider": "orlop.io/directory", "objectStorage": {"bucket": ""}})).unwrap();
        assert_eq!((own.url.as_str(), own.mount), ("/stores/default", None));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_remedy() {
        let store = json!({"bucket": "b"});
        let cases = [
            (
                json!({"provider": "gcp", "objectStorage": store}),
                "use aws or an S3-compatible store",
            ),
            (
                json!({"provider": "velero.io/azure", "objectStorage": store}),
                "\"velero.io/azure\" is not supported yet",
            ),
            (
                json!({"provider": "aws", "objectStorage": {"bucket": ""}}),
                "name the bucket",
            ),
            (
                aws(&json!({"insecureSkipTLSVerify": "true"})),
                "objectStorage.caCert",
            ),
            (
                aws(&json!({"s3ForcePathStyle": "yes"})),
                "neither \"true\" nor \"false\"",
            ),
            (aws(&json!({"kmsKeyId": "k"})), "kmsKeyId is not supported"),
            (aws(&json!({"credentialsFile": "/c"})), "spec.credential"),
            (
                json!({"provider": "aws", "objectStorage": {"bucket": "b", "prefix": "a/../b"}}),
                "is not a path",
            ),
            (
                json!({"provider": "replicated.com/nfs", "config": {"path": "/a"}, "objectStorage": store}),
                "config.server is missing",
            ),
            (
                json!({"provider": "replicated.com/hostpath", "config": {"path": "a"}, "objectStorage": store}),
                "not an absolute path",
            ),
            (
                json!({"provider": "replicated.com/hostpath", "config": {"path": "/a/../etc"}, "objectStorage": store}),
                "not an absolute path",
            ),
        ];
        for (spec, want) in cases {
            let error = of(spec).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
