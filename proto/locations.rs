//! What a location is, on the wire and checked on receipt.

use orlop_core::{LocationSpec, RepositorySecret, S3Keys};

use crate::{
    receive::{self, ProtocolError, Result},
    v1::{self, location_spec::Unlock},
};

/// Longest URL, in bytes.
pub const MAX_URL_BYTES: usize = 4096;
/// Longest list of certificates, in bytes.
const MAX_CA_BYTES: usize = 64 << 10;
/// Longest passphrase, in bytes.
const MAX_PASSPHRASE_BYTES: usize = 4096;
/// Shortest and longest key file, in bytes.
const KEY_FILE_BYTES: std::ops::RangeInclusive<usize> = 32..=4096;

impl TryFrom<v1::LocationSpec> for LocationSpec {
    type Error = ProtocolError;

    fn try_from(spec: v1::LocationSpec) -> Result<Self> {
        Ok(Self {
            url: receive::some_text("url", spec.url, MAX_URL_BYTES)?,
            read_only: spec.read_only,
            keys: spec.s3_keys.map(s3_keys).transpose()?,
            unlock: spec.unlock.map(unlock).transpose()?,
            ca_pem: ca_pem(&spec.ca_pem)?,
            is_default: spec.is_default,
            repository_path: repository_path(spec.repository_path)?,
        })
    }
}

fn repository_path(path: String) -> Result<String> {
    let path = receive::text("repository_path", path, 64)?;
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let part = |part: &str| !part.is_empty() && part.chars().all(inside);
    if !path.is_empty() && !path.split('/').all(part) {
        let reason = format!("{path:?} is no path of a-z, 0-9 and - with / between");
        return Err(ProtocolError::new("repository_path", reason));
    }
    Ok(path)
}

/// Certificates in PEM.
///
/// # Errors
/// They are too many or no text; what is in them is looked at when they are used.
pub fn ca_pem(bytes: &bytes::Bytes) -> Result<String> {
    let bytes = receive::blob("ca_pem", bytes.clone(), MAX_CA_BYTES)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtocolError::new("ca_pem", "is not PEM"))
}

/// Keys to a bucket.
///
/// # Errors
/// One is missing or too long.
pub fn s3_keys(keys: v1::S3Keys) -> Result<S3Keys> {
    let checked = || {
        Ok(S3Keys {
            access_key_id: receive::some_text("access_key_id", keys.access_key_id, 256)?,
            secret_access_key: receive::some_text(
                "secret_access_key",
                keys.secret_access_key,
                1024,
            )?,
            session_token: receive::text("session_token", keys.session_token, 16 << 10)?,
        })
    };
    checked().map_err(|error: ProtocolError| error.within("s3_keys"))
}

fn unlock(unlock: Unlock) -> Result<RepositorySecret> {
    Ok(match unlock {
        Unlock::Passphrase(text) => RepositorySecret::Passphrase(receive::some_text(
            "passphrase",
            text,
            MAX_PASSPHRASE_BYTES,
        )?),
        Unlock::KeyFile(bytes) if KEY_FILE_BYTES.contains(&bytes.len()) => {
            RepositorySecret::KeyFile(bytes.to_vec())
        }
        Unlock::KeyFile(bytes) => {
            let reason = format!(
                "has {} bytes where {} to {} are wanted",
                bytes.len(),
                KEY_FILE_BYTES.start(),
                KEY_FILE_BYTES.end()
            );
            return Err(ProtocolError::new("key_file", reason));
        }
    })
}

impl From<&S3Keys> for v1::S3Keys {
    fn from(keys: &S3Keys) -> Self {
        Self {
            access_key_id: keys.access_key_id.clone(),
            secret_access_key: keys.secret_access_key.clone(),
            session_token: keys.session_token.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> v1::LocationSpec {
        v1::LocationSpec {
            url: "s3://bucket/prefix".to_owned(),
            read_only: true,
            s3_keys: Some(v1::S3Keys {
                access_key_id: "id".to_owned(),
                secret_access_key: "secret".to_owned(),
                session_token: "token".to_owned(),
            }),
            unlock: Some(Unlock::KeyFile(vec![7; 32].into())),
            ca_pem: "pem".into(),
            is_default: true,
            repository_path: "kopia/orlop".to_owned(),
        }
    }

    #[test]
    fn a_spec_is_taken_whole() {
        let taken = LocationSpec::try_from(spec()).unwrap();
        assert_eq!(taken.url, "s3://bucket/prefix");
        assert!(taken.read_only && taken.is_default);
        assert_eq!(taken.ca_pem, "pem");
        assert_eq!(taken.unlock, Some(RepositorySecret::KeyFile(vec![7; 32])));
        let keys = v1::S3Keys::from(&taken.keys.unwrap());
        assert_eq!(Some(keys), spec().s3_keys);
    }

    #[test]
    fn mistakes_are_named_with_their_fields() {
        let keys = v1::S3Keys::default();
        let short = Unlock::KeyFile(vec![7; 31].into());
        for (wrong, field) in [
            (v1::LocationSpec::default(), "url"),
            (
                v1::LocationSpec {
                    s3_keys: Some(keys),
                    ..spec()
                },
                "s3_keys.access_key_id",
            ),
            (
                v1::LocationSpec {
                    unlock: Some(short),
                    ..spec()
                },
                "key_file",
            ),
            (
                v1::LocationSpec {
                    repository_path: "a/../b".to_owned(),
                    ..spec()
                },
                "repository_path",
            ),
            (
                v1::LocationSpec {
                    ca_pem: vec![0xff].into(),
                    ..spec()
                },
                "ca_pem",
            ),
        ] {
            assert_eq!(LocationSpec::try_from(wrong).unwrap_err().field, field);
        }
    }
}
