//! Reads pages of the manifest tree; whatever breaks a rule of the format is refused.

use orlop_core::Timestamp;
use prost::Message as _;

use super::{
    entry::{
        Content, Entry, EntryKind, EntryStatus, Extent, ExtentPage, HardlinkGroup, Metadata, Xattr,
    },
    page::{
        ChildMessage, EntryMessage, LEAF, LeafMessage, ManifestChild, ManifestPage, NODE,
        NodeMessage,
    },
};
use crate::secret::Secret;

/// Limits for what a reader accepts.
const MAX_ENTRIES: usize = 8192;
const MAX_PATH: usize = 512 << 10;

/// The extents in a flat list of numbers.
pub(super) fn decode_extents(
    numbers: &[u64],
    inline: &[u8],
    secrets: &[u8],
) -> Option<Vec<Extent>> {
    let secret_at = |position: u64| {
        let at = usize::try_from(position).ok()?.checked_mul(32)?;
        Secret::from_slice(secrets.get(at..at.checked_add(32)?)?)
    };
    let (mut numbers, mut inline) = (numbers.iter().copied(), inline);
    let mut extents = Vec::new();
    while let Some(kind) = numbers.next() {
        let extent = match kind {
            0 => Extent::Data {
                secret: secret_at(numbers.next()?)?,
                len: u32::try_from(numbers.next()?).ok()?,
            },
            1 => Extent::Bundle {
                secret: secret_at(numbers.next()?)?,
                offset: u32::try_from(numbers.next()?).ok()?,
                len: u32::try_from(numbers.next()?).ok()?,
            },
            2 => {
                let (bytes, rest) =
                    inline.split_at_checked(usize::try_from(numbers.next()?).ok()?)?;
                inline = rest;
                Extent::Inline(bytes.to_vec())
            }
            3 => Extent::Hole(numbers.next()?),
            4 => Extent::Zero(numbers.next()?),
            _ => return None,
        };
        extents.push(extent);
    }
    Some(extents)
}

/// Reads a page; `None` if it breaks a rule of the format.
pub(crate) fn decode_manifest(bytes: &[u8]) -> Option<ManifestPage> {
    let (tag, body) = bytes.split_first()?;
    match *tag {
        LEAF => {
            let message = LeafMessage::decode(body).ok()?;
            let mut entries = Vec::new();
            for dir in message.dirs {
                if !is_sane_directory(&dir.path) {
                    return None;
                }
                for entry in dir.entries {
                    entries.push(decode_entry(&dir.path, entry, &message.secrets)?);
                }
            }
            (entries.len() <= MAX_ENTRIES).then_some(ManifestPage::Leaf(entries))
        }
        NODE => {
            let message = NodeMessage::decode(body).ok()?;
            let child = |c: ChildMessage| {
                Some(ManifestChild {
                    secret: Secret::from_slice(&c.secret)?,
                    first_path: c.first_path,
                })
            };
            let children: Vec<ManifestChild> = message
                .children
                .into_iter()
                .map(child)
                .collect::<Option<_>>()?;
            (!children.is_empty() && children.len() <= MAX_ENTRIES)
                .then_some(ManifestPage::Node(children))
        }
        _ => None,
    }
}

/// Whether a path stays below the root whatever is done with it.
fn is_sane_directory(path: &[u8]) -> bool {
    path.is_empty() || (path.len() <= MAX_PATH && path.split(|b| *b == b'/').all(is_sane_name))
}

fn is_sane_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= 4095
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| matches!(b, b'/' | 0))
}

fn decode_entry(dir: &[u8], m: EntryMessage, secrets: &[u8]) -> Option<Entry> {
    let is_root = dir.is_empty() && m.name.is_empty();
    if !is_root && !is_sane_name(&m.name) {
        return None;
    }
    let path = match dir {
        b"" => m.name,
        _ => [dir, &m.name].join(&b'/'),
    };
    let kind = kind_from(m.kind)?;
    if m.mode > 0o7777 || m.mtime_nanos >= 1_000_000_000 {
        return None;
    }
    let content = if !m.pages.is_empty() {
        let page = |b: &[u8]| {
            Some(ExtentPage {
                secret: Secret::from_slice(&b[..32])?,
                refs: Secret::from_slice(&b[32..])?,
            })
        };
        if !m.pages.len().is_multiple_of(64) {
            return None;
        }
        Content::Pages(m.pages.chunks_exact(64).map(page).collect::<Option<_>>()?)
    } else if kind == EntryKind::File && m.status != 2 {
        Content::Extents(decode_extents(&m.extents, &m.inline, secrets)?)
    } else {
        Content::None
    };
    let digest = match m.digest.as_slice() {
        [] => [0; 16],
        bytes => bytes.try_into().ok()?,
    };
    Some(Entry {
        path,
        kind,
        meta: Metadata {
            mode: m.mode,
            uid: m.uid,
            gid: m.gid,
            mtime: Timestamp::new(m.mtime_secs, m.mtime_nanos),
            flags: m.flags,
            rdev: m.rdev,
            xattrs: m
                .xattrs
                .into_iter()
                .map(|x| Xattr {
                    name: x.name,
                    value: x.value,
                })
                .collect(),
        },
        size: m.size,
        target: m.target,
        hardlink: (m.link_group != 0).then_some(HardlinkGroup {
            id: m.link_group,
            links: m.link_count,
        }),
        content,
        digest,
        status: match m.status {
            0 => EntryStatus::Ok,
            1 => EntryStatus::Changed,
            2 => EntryStatus::Unreadable(m.errno),
            _ => return None,
        },
    })
}

/// The kind with this number.
pub(super) fn kind_from(number: u32) -> Option<EntryKind> {
    use EntryKind::{BlockDevice, CharDevice, Directory, Fifo, File, Socket, Symlink};
    [
        File,
        Directory,
        Symlink,
        Fifo,
        Socket,
        CharDevice,
        BlockDevice,
    ]
    .into_iter()
    .find(|kind| *kind as u32 == number)
}

#[cfg(test)]
mod tests {
    use super::{super::page::DirMessage, *};

    #[test]
    fn paths_that_lead_out_of_the_volume_are_refused() {
        for (dir, name, sane) in [
            ("a/b", "c", true),
            ("", "c", true),
            ("..", "c", false),
            ("a/../..", "c", false),
            ("/etc", "c", false),
            ("a//b", "c", false),
            ("a/./b", "c", false),
            ("a\0b", "c", false),
            ("a", "..", false),
            ("a", "b/c", false),
            ("a", "", false),
        ] {
            let entry = EntryMessage {
                name: name.into(),
                kind: 2,
                ..EntryMessage::default()
            };
            let group = DirMessage {
                path: dir.into(),
                entries: vec![entry],
            };
            let mut page = vec![LEAF];
            LeafMessage {
                dirs: vec![group],
                secrets: Vec::new(),
            }
            .encode(&mut page)
            .unwrap();
            assert_eq!(decode_manifest(&page).is_some(), sane, "{dir:?} {name:?}");
        }
    }
}
