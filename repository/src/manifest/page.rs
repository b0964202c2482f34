//! Pages of the manifest tree: entries in leaves, children in nodes.

use prost::Message;

use super::entry::{Content, Entry, EntryStatus, Extent, Xattr};
use super::tree::ChildRef;
use crate::secret::Secret;

pub(super) const LEAF: u8 = b'L';
pub(super) const NODE: u8 = b'N';

#[derive(Clone, PartialEq, Message)]
pub(super) struct LeafMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) dirs: Vec<DirMessage>,
    /// The secrets that extents name by their position, 32 bytes each.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) secrets: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DirMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) path: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub(super) entries: Vec<EntryMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EntryMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) name: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
    #[prost(uint32, tag = "3")]
    pub(super) mode: u32,
    #[prost(uint32, tag = "4")]
    pub(super) uid: u32,
    #[prost(uint32, tag = "5")]
    pub(super) gid: u32,
    #[prost(sint64, tag = "6")]
    pub(super) mtime_secs: i64,
    #[prost(fixed32, tag = "7")]
    pub(super) mtime_nanos: u32,
    #[prost(uint64, tag = "8")]
    pub(super) size: u64,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) target: Vec<u8>,
    #[prost(uint32, tag = "10")]
    pub(super) flags: u32,
    #[prost(uint64, tag = "11")]
    pub(super) rdev: u64,
    #[prost(uint64, tag = "12")]
    pub(super) link_group: u64,
    #[prost(uint32, tag = "13")]
    pub(super) link_count: u32,
    #[prost(message, repeated, tag = "14")]
    pub(super) xattrs: Vec<XattrMessage>,
    /// Extents as a flat list of numbers: 0 position length (data), 1 position offset length
    /// (bundle), 2 length (inline), 3 length (hole), 4 length (zero).
    #[prost(uint64, repeated, tag = "15")]
    pub(super) extents: Vec<u64>,
    #[prost(bytes = "vec", tag = "16")]
    pub(super) inline: Vec<u8>,
    /// Extent pages: page secret and refs secret, 64 bytes each.
    #[prost(bytes = "vec", tag = "17")]
    pub(super) pages: Vec<u8>,
    #[prost(bytes = "vec", tag = "18")]
    pub(super) digest: Vec<u8>,
    /// 0 ok, 1 changed, 2 unreadable.
    #[prost(uint32, tag = "19")]
    pub(super) status: u32,
    #[prost(int32, tag = "20")]
    pub(super) errno: i32,
    // 21: birth time, 22: project id, 23: attribute set in a chunk of its own: reserved
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct XattrMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) children: Vec<ChildMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ChildMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) secret: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) first_path: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(super) entries: u64,
}

/// A child of a manifest node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestChild {
    pub(crate) secret: Secret,
    /// Path of the first entry below.
    pub(crate) first_path: Vec<u8>,
}

/// A page as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestPage {
    Leaf(Vec<Entry>),
    Node(Vec<ManifestChild>),
}

/// Collects the entries of a leaf.
#[derive(Clone, Default)]
pub(crate) struct LeafBuilder {
    message: LeafMessage,
    last_secret: Option<(Secret, u64)>,
}

impl LeafBuilder {
    pub(crate) fn push(&mut self, entry: &Entry) {
        let (dir, name) = (entry.parent(), entry.name());
        let mut message = EntryMessage {
            name: name.to_vec(),
            kind: entry.kind as u32,
            mode: entry.meta.mode,
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            mtime_secs: entry.meta.mtime.secs,
            mtime_nanos: entry.meta.mtime.nanos,
            size: entry.size,
            target: entry.target.clone(),
            flags: entry.meta.flags,
            rdev: entry.meta.rdev,
            link_group: entry.hardlink.map_or(0, |group| group.id),
            link_count: entry.hardlink.map_or(0, |group| group.links),
            ..EntryMessage::default()
        };
        if entry.digest != [0; 16] {
            message.digest = entry.digest.to_vec();
        }
        let xattr = |x: &Xattr| XattrMessage {
            name: x.name.clone(),
            value: x.value.clone(),
        };
        message.xattrs = entry.meta.xattrs.iter().map(xattr).collect();
        (message.status, message.errno) = match entry.status {
            EntryStatus::Ok => (0, 0),
            EntryStatus::Changed => (1, 0),
            EntryStatus::Unreadable(errno) => (2, errno),
        };
        match &entry.content {
            Content::None => {}
            Content::Extents(extents) => {
                encode_extents(
                    extents,
                    &mut message.extents,
                    &mut message.inline,
                    |secret| self.position(secret),
                );
            }
            Content::Pages(pages) => {
                for page in pages {
                    message.pages.extend_from_slice(page.secret.as_bytes());
                    message.pages.extend_from_slice(page.refs.as_bytes());
                }
            }
        }
        match self.message.dirs.last_mut() {
            Some(group) if group.path == dir => group.entries.push(message),
            _ => self.message.dirs.push(DirMessage {
                path: dir.to_vec(),
                entries: vec![message],
            }),
        }
    }

    fn position(&mut self, secret: &Secret) -> u64 {
        if let Some((last, at)) = self.last_secret
            && last == *secret
        {
            return at;
        }
        // Entries near one another share bundles: look back a little.
        let table = &mut self.message.secrets;
        let count = table.len() / 32;
        let recent = (count.saturating_sub(64)..count)
            .rev()
            .find(|i| &table[i * 32..i * 32 + 32] == secret.as_bytes());
        let at = recent.unwrap_or_else(|| {
            table.extend_from_slice(secret.as_bytes());
            count
        }) as u64;
        self.last_secret = Some((*secret, at));
        at
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let mut out = vec![LEAF];
        std::mem::take(self)
            .message
            .encode(&mut out)
            .expect("a vector takes any length");
        out
    }
}

/// Appends extents as a flat list of numbers.
pub(super) fn encode_extents(
    extents: &[Extent],
    out: &mut Vec<u64>,
    inline: &mut Vec<u8>,
    mut position: impl FnMut(&Secret) -> u64,
) {
    for extent in extents {
        match extent {
            Extent::Data { secret, len } => out.extend([0, position(secret), u64::from(*len)]),
            Extent::Bundle {
                secret,
                offset,
                len,
            } => {
                out.extend([1, position(secret), u64::from(*offset), u64::from(*len)]);
            }
            Extent::Inline(bytes) => {
                out.extend([2, bytes.len() as u64]);
                inline.extend_from_slice(bytes);
            }
            Extent::Hole(len) => out.extend([3, *len]),
            Extent::Zero(len) => out.extend([4, *len]),
        }
    }
}

/// The bytes of a node over `children`.
pub(crate) fn encode_node(children: &[ChildRef]) -> Vec<u8> {
    let child = |c: &ChildRef| ChildMessage {
        secret: c.manifest.as_bytes().to_vec(),
        first_path: c.first_path.clone(),
        entries: c.entries,
    };
    let mut out = vec![NODE];
    NodeMessage {
        children: children.iter().map(child).collect(),
    }
    .encode(&mut out)
    .expect("a vector takes any length");
    out
}
