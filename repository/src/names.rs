//! Names of the objects that a session stores itself: who may store them, and which bytes they promise.

use crate::{pack, secret::hex, session::SessionId, store};

/// What an object with a session in its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnedKind {
    /// A pack, `p/xx/HASH.SESSION` or `m/xx/HASH.SESSION`.
    Pack,
    /// An index segment, `i/0/HASH.SESSION`.
    Segment,
    /// Something of a session's journal, `w/SESSION/…`.
    Journal,
}

/// The name of an object that a session stores itself, exactly as `docs/format.md` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedName {
    /// What it is.
    pub kind: OwnedKind,
    /// The session.
    pub session: SessionId,
    hash: Option<String>,
}

impl OwnedName {
    /// Reads a name; `None` if it is not one of such an object.
    pub fn parse(name: &str) -> Option<Self> {
        store::check_name(name).ok()?;
        let (class, rest) = name.split_once('/')?;
        if class == "w" {
            let (number, _) = rest.split_once('/')?;
            let session: SessionId = number.parse().ok()?;
            return (session.to_string() == number).then_some(Self {
                kind: OwnedKind::Journal,
                session,
                hash: None,
            });
        }
        let (hash, session) = pack::parse_name(name).ok()?;
        let (kind, level) = match class {
            "p" | "m" => (OwnedKind::Pack, hash.get(..2)?),
            "i" => (OwnedKind::Segment, "0"),
            _ => return None,
        };
        // One object has one name: no capitals, no leading zeros or signs.
        let exact = !hash.bytes().any(|b| b.is_ascii_uppercase())
            && name == format!("{class}/{level}/{hash}.{session}");
        exact.then_some(Self {
            kind,
            session,
            hash: Some(hash),
        })
    }

    /// A check of the bytes that the object gets, piece by piece.
    pub fn check(&self) -> ContentCheck {
        ContentCheck {
            hasher: blake3::Hasher::new(),
            hash: self.hash.clone(),
        }
    }
}

/// Compares an object's bytes with what its name promises.
pub struct ContentCheck {
    hasher: blake3::Hasher,
    /// `None`: the name promises nothing.
    hash: Option<String>,
}

impl ContentCheck {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if self.hash.is_some() {
            self.hasher.update(bytes);
        }
    }

    /// Whether all bytes together are those that the name promises.
    pub fn holds(&self) -> bool {
        let expected = self.hash.as_ref();
        expected.is_none_or(|hash| hex(self.hasher.finalize().as_bytes()) == *hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash_of(bytes: &[u8]) -> String {
        hex(blake3::hash(bytes).as_bytes())
    }

    #[test]
    fn names_of_the_format_are_read() {
        let hash = hash_of(b"x");
        let two = &hash[..2];
        for (name, kind) in [
            (format!("p/{two}/{hash}.7"), OwnedKind::Pack),
            (format!("m/{two}/{hash}.7"), OwnedKind::Pack),
            (format!("i/0/{hash}.7"), OwnedKind::Segment),
            ("w/7/checkpoint.1".to_owned(), OwnedKind::Journal),
        ] {
            let read = OwnedName::parse(&name).unwrap();
            assert_eq!((read.kind, read.session), (kind, 7), "{name}");
        }
    }

    #[test]
    fn all_other_names_are_not() {
        let hash = hash_of(b"x");
        let two = &hash[..2];
        let upper = hash.to_uppercase();
        for name in [
            "repo.cfg".to_owned(),
            "keys/00".to_owned(),
            "log/0000000000000001".to_owned(),
            format!("log/{hash}.7"),
            format!("s/{two}/{hash}.7"),
            format!("i/1/{hash}.7"),
            format!("p/00/{hash}.7"),
            format!("p/{hash}.7"),
            format!("p/{two}/x/{hash}.7"),
            format!("p/{two}/{hash}.07"),
            format!("p/{two}/{hash}.+7"),
            format!("p/{two}/{hash}.7.7"),
            format!("p/{two}/{hash}"),
            format!("p/{}/{upper}.7", &upper[..2]),
            "w/7".to_owned(),
            "w/07/x".to_owned(),
            "w/7/../8/x".to_owned(),
            "w/x/y".to_owned(),
            format!("../p/{two}/{hash}.7"),
            String::new(),
        ] {
            assert_eq!(OwnedName::parse(&name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_the_only_name_of_its_object(name in "[pmiw]/([0-9a-f]{1,2}/)?[0-9a-fA-F]{0,66}[./]?[+0-9]{0,21}") {
            if let Some(read) = OwnedName::parse(&name) {
                let session = read.session.to_string();
                let (suffix, prefix) = (format!(".{session}"), format!("w/{session}/"));
                prop_assert!(name.ends_with(&suffix) || name.starts_with(&prefix));
            }
        }

        #[test]
        fn any_bytes_never_panic(name in ".{0,300}") {
            let _ = OwnedName::parse(&name);
        }

        #[test]
        fn content_is_checked_in_any_pieces(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let hash = hash_of(&bytes);
            let name = OwnedName::parse(&format!("i/0/{hash}.1")).unwrap();
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut check = name.check();
            check.update(head);
            prop_assert_eq!(check.holds(), tail.is_empty());
            check.update(tail);
            prop_assert!(check.holds());
        }
    }
}
