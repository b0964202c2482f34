//! Checks of single fields on receipt: what is wrong is said with the field's name.

use std::str::FromStr;

use bytes::Bytes;
use orlop_core::{SnapshotId, TaskId, VolumeRef};

use crate::v1;

/// Longest message for a person, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4096;
/// Longest lineage, in bytes.
pub const MAX_LINEAGE_BYTES: usize = 1024;
/// Longest name of a node, pod, volume, backup or restore.
pub const MAX_NAME_BYTES: usize = 253;
/// Longest path of an entry, in bytes.
pub const MAX_PATH_BYTES: usize = 1 << 20;

/// A message that breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {reason}")]
pub struct ProtocolError {
    /// The field, with the fields that it is in: `volumes[3].target.pod`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ProtocolError {
    /// `field` is wrong because of `reason`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// `field` is missing.
    pub fn missing(field: &str) -> Self {
        Self::new(field, "is required")
    }

    /// The same error in a message that holds the message as `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self {
            field: format!("{outer}.{}", self.field),
            reason: self.reason,
        }
    }
}

/// What a check of a field answers.
pub type Result<T> = std::result::Result<T, ProtocolError>;

/// The message in `value`.
///
/// # Errors
/// It is absent.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| ProtocolError::missing(field))
}

/// `text` if it has 0 to `max` bytes.
///
/// # Errors
/// It is longer.
pub fn text(field: &str, text: String, max: usize) -> Result<String> {
    if text.len() > max {
        let reason = format!("has {} bytes where {max} are allowed", text.len());
        return Err(ProtocolError::new(field, reason));
    }
    Ok(text)
}

/// `text` if it has 1 to `max` bytes.
///
/// # Errors
/// It is empty or longer.
pub fn some_text(field: &str, value: String, max: usize) -> Result<String> {
    if value.is_empty() {
        return Err(ProtocolError::missing(field));
    }
    text(field, value, max)
}

/// `bytes` if they are no more than `max`.
///
/// # Errors
/// They are more.
pub fn blob(field: &str, bytes: Bytes, max: usize) -> Result<Bytes> {
    if bytes.len() > max {
        let reason = format!("has {} bytes where {max} are allowed", bytes.len());
        return Err(ProtocolError::new(field, reason));
    }
    Ok(bytes)
}

/// A key, secret or id of 32 bytes.
///
/// # Errors
/// It has another length.
pub fn array32(field: &str, bytes: &[u8]) -> Result<[u8; 32]> {
    bytes.try_into().map_err(|_| {
        ProtocolError::new(
            field,
            format!("has {} bytes where 32 are wanted", bytes.len()),
        )
    })
}

/// Whether a list is no longer than `max`.
///
/// # Errors
/// It is longer.
pub fn at_most<T>(field: &str, list: &[T], max: usize) -> Result<()> {
    if list.len() > max {
        let reason = format!("has {} items where {max} are allowed", list.len());
        return Err(ProtocolError::new(field, reason));
    }
    Ok(())
}

/// Every text of a list, each of 1 to `max_bytes` bytes.
///
/// # Errors
/// The list has more than `max` items, or one of them is empty or too long.
pub fn texts(field: &str, list: Vec<String>, max: usize, max_bytes: usize) -> Result<Vec<String>> {
    at_most(field, &list, max)?;
    let item = |(i, item)| some_text(&format!("{field}[{i}]"), item, max_bytes);
    list.into_iter().enumerate().map(item).collect()
}

fn parsed<T: FromStr<Err: ToString>>(field: &str, text: &str) -> Result<T> {
    if text.is_empty() {
        return Err(ProtocolError::missing(field));
    }
    text.parse()
        .map_err(|error: T::Err| ProtocolError::new(field, error.to_string()))
}

/// A task's id.
///
/// # Errors
/// It is not one.
pub fn task_id(field: &str, text: &str) -> Result<TaskId> {
    parsed(field, text)
}

/// A snapshot's id.
///
/// # Errors
/// It is not one.
pub fn snapshot_id(field: &str, text: &str) -> Result<SnapshotId> {
    parsed(field, text)
}

/// A volume that must be there.
///
/// # Errors
/// It is absent or its names are not allowed.
pub fn volume(field: &str, volume: Option<v1::VolumeRef>) -> Result<VolumeRef> {
    let volume = required(field, volume)?;
    parsed(
        field,
        &format!("{}/{}/{}", volume.namespace, volume.pod, volume.volume),
    )
}

/// The name of a backup or restore: a DNS subdomain name, as Kubernetes has it.
///
/// # Errors
/// It is empty, too long, or has other characters.
pub fn run_name(field: &str, name: String) -> Result<String> {
    let name = some_text(field, name, MAX_NAME_BYTES)?;
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inside = |c: char| edge(c) || c == '-' || c == '.';
    if !name.chars().all(inside) || !name.starts_with(edge) || !name.ends_with(edge) {
        let reason = format!(
            "{name:?} is not a name: use a-z, 0-9, - and ., with a letter or digit at both ends"
        );
        return Err(ProtocolError::new(field, reason));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field() {
        let error = array32("refs_key", &[0; 31]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "field `refs_key`: has 31 bytes where 32 are wanted"
        );
        let error = volume("volume", None).unwrap_err().within("volumes[3]");
        assert_eq!(error.to_string(), "field `volumes[3].volume`: is required");
        assert!(text("x", "é".to_owned(), 1).is_err());
        assert!(texts("x", vec![String::new()], 1, 1).unwrap_err().field == "x[0]");
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        for good in ["a", "nightly-2026.01", "0"] {
            assert_eq!(run_name("name", good.to_owned()).as_deref(), Ok(good));
        }
        for bad in ["", "A", "-a", "a-", "a/b", "..", "a b", "ü"] {
            assert!(run_name("name", bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_volume_with_a_slash_is_refused() {
        let wire = v1::VolumeRef {
            namespace: "a/b".to_owned(),
            pod: "p".to_owned(),
            volume: "v".to_owned(),
        };
        assert!(
            volume("volume", Some(wire))
                .unwrap_err()
                .reason
                .contains("has 4 parts")
        );
    }
}
