//! Pages of the manifest tree: entries in leaves, children in nodes.

use orlop_core::Timestamp;
use prost::Message;

use super::entry::{
    Content, Entry, EntryKind, EntryStatus, Extent, ExtentPage, HardlinkGroup, Metadata, Xattr,
};
use super::tree::ChildRef;
use crate::secret::Secret;

const LEAF: u8 = b'L';
const NODE: u8 = b'N';
/// Limits for what a reader accepts.
const MAX_ENTRIES: usize = 8192;
const MAX_PATH: usize = 512 << 10;

#[derive(Clone, PartialEq, Message)]
struct LeafMessage {
    #[prost(message, repeated, tag = "1")]
    dirs: Vec<DirMessage>,
    /// The secrets that extents name by their position, 32 bytes each.
    #[prost(bytes = "vec", tag = "2")]
    secrets: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct DirMessage {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct EntryMessage {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(uint32, tag = "3")]
    mode: u32,
    #[prost(uint32, tag = "4")]
    uid: u32,
    #[prost(uint32, tag = "5")]
    gid: u32,
    #[prost(sint64, tag = "6")]
    mtime_secs: i64,
    #[prost(fixed32, tag = "7")]
    mtime_nanos: u32,
    #[prost(uint64, tag = "8")]
    size: u64,
    #[prost(bytes = "vec", tag = "9")]
    target: Vec<u8>,
    #[prost(uint32, tag = "10")]
    flags: u32,
    #[prost(uint64, tag = "11")]
    rdev: u64,
    #[prost(uint64, tag = "12")]
    link_group: u64,
    #[prost(uint32, tag = "13")]
    link_count: u32,
    #[prost(message, repeated, tag = "14")]
    xattrs: Vec<XattrMessage>,
    /// Extents as a flat list of numbers: 0 position length (data), 1 position offset length
    /// (bundle), 2 length (inline), 3 length (hole), 4 length (zero).
    #[prost(uint64, repeated, tag = "15")]
    extents: Vec<u64>,
    #[prost(bytes = "vec", tag = "16")]
    inline: Vec<u8>,
    /// Extent pages: page secret and refs secret, 64 bytes each.
    #[prost(bytes = "vec", tag = "17")]
    pages: Vec<u8>,
    #[prost(bytes = "vec", tag = "18")]
    digest: Vec<u8>,
    /// 0 ok, 1 changed, 2 unreadable.
    #[prost(uint32, tag = "19")]
    status: u32,
    #[prost(int32, tag = "20")]
    errno: i32,
    // 21: birth time, 22: project id, 23: attribute set in a chunk of its own: reserved
}

#[derive(Clone, PartialEq, Message)]
struct XattrMessage {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeMessage {
    #[prost(message, repeated, tag = "1")]
    children: Vec<ChildMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ChildMessage {
    #[prost(bytes = "vec", tag = "1")]
    secret: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    first_path: Vec<u8>,
    #[prost(uint64, tag = "3")]
    entries: u64,
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
#[derive(Default)]
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

/// Reads a page; `None` if it breaks a rule of the format.
pub(crate) fn decode_manifest(bytes: &[u8]) -> Option<ManifestPage> {
    let (tag, body) = bytes.split_first()?;
    match *tag {
        LEAF => {
            let message = LeafMessage::decode(body).ok()?;
            let mut entries = Vec::new();
            for dir in message.dirs {
                if dir.path.len() > MAX_PATH {
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

fn decode_entry(dir: &[u8], m: EntryMessage, secrets: &[u8]) -> Option<Entry> {
    let is_root = dir.is_empty() && m.name.is_empty();
    let sane_name = !m.name.is_empty()
        && m.name.len() <= 4095
        && m.name != b"."
        && m.name != b".."
        && !m.name.iter().any(|b| matches!(b, b'/' | 0));
    if !is_root && !sane_name {
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
