//! Gzip around whole small files. The same content gives the same bytes: no time and no name is kept.

use std::io::{Read, Write};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde::{Serialize, de::DeserializeOwned};

use super::error::FileError;

/// The bytes, compressed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("a Vec takes everything")
}

/// What `input` holds, decompressed; several gzip members in a row are one content.
///
/// # Errors
/// It is not gzip, is cut off, or holds more than `limit_bytes`.
pub fn gunzip(input: impl Read, limit_bytes: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let mut decoder = MultiGzDecoder::new(input).take(limit_bytes.saturating_add(1));
    decoder.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(FileError::TooLarge {
            what: "a compressed file".to_owned(),
            limit_bytes,
        });
    }
    Ok(bytes)
}

/// The value as compressed JSON.
///
/// # Errors
/// The value has no JSON form.
pub fn json_to_gzip<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, FileError> {
    Ok(gzip(&serde_json::to_vec(value)?))
}

/// The value whose compressed JSON `input` holds; `null` gives the empty value, since Go writes empty lists so.
///
/// # Errors
/// It is not gzip, not such JSON, or holds more than `limit_bytes`.
pub fn json_from_gzip<T: DeserializeOwned + Default>(
    input: impl Read,
    limit_bytes: u64,
) -> Result<T, FileError> {
    let value: Option<T> = serde_json::from_slice(&gunzip(input, limit_bytes)?)?;
    Ok(value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::velero::PodVolumeBackup;

    #[test]
    fn what_is_compressed_comes_back_and_is_always_the_same() {
        let text = b"the same words ".repeat(1000);
        let packed = gzip(&text);
        assert!(packed.len() < 200);
        assert_eq!(packed, gzip(&text));
        assert_eq!(gunzip(packed.as_slice(), 15_000).unwrap(), text);
    }

    #[test]
    fn a_small_file_cannot_grow_beyond_the_limit() {
        let bomb = gzip(&vec![0; 1 << 20]);
        let error = gunzip(bomb.as_slice(), 1000).unwrap_err();
        assert!(matches!(
            error,
            FileError::TooLarge {
                limit_bytes: 1000,
                ..
            }
        ));
        assert!(gunzip(&bomb[..bomb.len() / 2], 1 << 21).is_err());
    }

    #[test]
    fn a_list_of_volumes_may_be_null_or_a_list() {
        let read = |text: &str| -> Vec<PodVolumeBackup> {
            json_from_gzip(gzip(text.as_bytes()).as_slice(), 1000).unwrap()
        };
        assert_eq!(read("null"), []);
        assert_eq!(read("[]"), []);
        let one = PodVolumeBackup::default();
        let packed = json_to_gzip(std::slice::from_ref(&one)).unwrap();
        let back: Vec<PodVolumeBackup> = json_from_gzip(packed.as_slice(), 1000).unwrap();
        assert_eq!(back, [one]);
    }
}
