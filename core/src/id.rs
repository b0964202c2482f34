//! Identifiers: one newtype a kind, so that none can stand in for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id: expected 26 characters of 0-9 and a-z without i, l, o, u")]
pub struct ParseIdError {
    /// What was parsed.
    pub text: String,
    /// The kind of id that was wanted.
    pub kind: &'static str,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LEN: usize = 26;

/// 128 bits in 26 characters of Crockford's base 32 (lower case): sorts as text as it sorts as bytes.
fn encode(bytes: [u8; 16]) -> String {
    let mut value = u128::from_be_bytes(bytes);
    let mut out = [0u8; LEN];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    out.iter().map(|b| char::from(*b)).collect()
}

fn decode(text: &str) -> Option<[u8; 16]> {
    if text.len() != LEN {
        return None;
    }
    let mut value: u128 = 0;
    for (i, byte) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|a| *a == byte)? as u128;
        if i == 0 && digit > 7 {
            return None;
        }
        value = (value << 5) | digit;
    }
    Some(value.to_be_bytes())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// 48 bits of milliseconds since 1970, then 80 random bits (the layout of a ULID): ids made
        /// later sort later, up to the clocks of their makers; nothing else may be concluded from it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id of an object made at `unix_ms`, told apart from others by `random`.
            pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
                let mut bytes = [0; 16];
                bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
                bytes[6..].copy_from_slice(&random);
                Self(bytes)
            }

            /// The id with exactly these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                decode(text).map(Self).ok_or_else(|| ParseIdError { text: text.to_owned(), kind: $kind })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A snapshot: the commit record of one volume at one time.
    SnapshotId,
    "snapshot"
);
id!(
    /// A task: one volume's backup or restore on one agent.
    TaskId,
    "task"
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn later_ids_sort_later_as_text() {
        let early = SnapshotId::new(1_000, [255; 10]);
        let late = SnapshotId::new(1_001, [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn malformed_ids_are_refused_by_name() {
        for text in [
            "",
            "0",
            "8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "0000000000000000000000000i",
        ] {
            let error = text.parse::<SnapshotId>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains(&format!("{text:?} is not a snapshot id"))
            );
        }
    }

    proptest! {
        #[test]
        fn ids_survive_text(bytes: [u8; 16]) {
            let id = TaskId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().parse::<TaskId>(), Ok(id));
        }
    }
}
