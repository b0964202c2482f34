//! The stat sidecar: what the next incremental compares, column by column.

use orlop_core::Timestamp;
use prost::Message;

use super::{decode::kind_from, entry::EntryKind, tree::ChildRef};
use crate::secret::Secret;

const LEAF: u8 = b'L';
const NODE: u8 = b'N';
const RACY: u8 = 0x80;
const MAX_ENTRIES: usize = 8192;

/// What change detection keeps of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatRecord {
    /// Type.
    pub kind: EntryKind,
    /// The entry may have changed after it was read without its times telling: read it again.
    pub racy: bool,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes as `stat` shows it.
    pub size: u64,
    /// Last modification of the content.
    pub mtime: Timestamp,
    /// Last change of content or metadata.
    pub ctime: Timestamp,
}

#[derive(Clone, PartialEq, Message)]
struct LeafMessage {
    #[prost(message, repeated, tag = "1")]
    dirs: Vec<DirMessage>,
    #[prost(bytes = "vec", tag = "2")]
    names: Vec<u8>,
    #[prost(uint32, repeated, tag = "3")]
    name_lens: Vec<u32>,
    /// Kind, with 0x80 for a racy entry.
    #[prost(bytes = "vec", tag = "4")]
    kinds: Vec<u8>,
    /// Differences from the entry before; so are the seconds.
    #[prost(sint64, repeated, tag = "5")]
    inos: Vec<i64>,
    #[prost(uint64, repeated, tag = "6")]
    sizes: Vec<u64>,
    #[prost(sint64, repeated, tag = "7")]
    mtime_secs: Vec<i64>,
    #[prost(fixed32, repeated, tag = "8")]
    mtime_nanos: Vec<u32>,
    #[prost(sint64, repeated, tag = "9")]
    ctime_secs: Vec<i64>,
    #[prost(fixed32, repeated, tag = "10")]
    ctime_nanos: Vec<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct DirMessage {
    #[prost(bytes = "vec", tag = "1")]
    path: Vec<u8>,
    #[prost(uint32, tag = "2")]
    count: u32,
}

#[derive(Clone, PartialEq, Message)]
struct NodeMessage {
    #[prost(message, repeated, tag = "1")]
    children: Vec<ChildMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ChildMessage {
    #[prost(bytes = "vec", tag = "1")]
    manifest: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    sidecar: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    refs: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    first_path: Vec<u8>,
    #[prost(uint64, tag = "5")]
    entries: u64,
}

/// Collects the records of a leaf.
#[derive(Clone, Default)]
pub(crate) struct SidecarBuilder {
    message: LeafMessage,
    last: (i64, i64, i64),
}

impl SidecarBuilder {
    pub(crate) fn push(&mut self, dir: &[u8], name: &[u8], record: &StatRecord) {
        let m = &mut self.message;
        match m.dirs.last_mut() {
            Some(group) if group.path == dir => group.count += 1,
            _ => m.dirs.push(DirMessage {
                path: dir.to_vec(),
                count: 1,
            }),
        }
        m.names.extend_from_slice(name);
        m.name_lens.push(name.len() as u32);
        m.kinds
            .push(record.kind as u8 | if record.racy { RACY } else { 0 });
        m.inos.push((record.ino as i64).wrapping_sub(self.last.0));
        m.sizes.push(record.size);
        m.mtime_secs
            .push(record.mtime.secs.wrapping_sub(self.last.1));
        m.mtime_nanos.push(record.mtime.nanos);
        m.ctime_secs
            .push(record.ctime.secs.wrapping_sub(self.last.2));
        m.ctime_nanos.push(record.ctime.nanos);
        self.last = (record.ino as i64, record.mtime.secs, record.ctime.secs);
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

/// A leaf as read.
#[derive(Debug, Clone, Default)]
pub(crate) struct SidecarLeaf {
    dirs: Vec<Vec<u8>>,
    names: Vec<u8>,
    /// Directory, name range, record of each entry.
    entries: Vec<(u32, std::ops::Range<u32>, StatRecord)>,
}

impl SidecarLeaf {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Directory, name and record of entry `i`.
    pub(crate) fn get(&self, i: usize) -> Option<(&[u8], &[u8], &StatRecord)> {
        let (dir, name, record) = self.entries.get(i)?;
        Some((
            &self.dirs[*dir as usize],
            &self.names[name.start as usize..name.end as usize],
            record,
        ))
    }

    /// How many entries come before the first of which `before` is false, given its directory and name.
    pub(crate) fn partition_point(&self, before: impl Fn(&[u8], &[u8]) -> bool) -> usize {
        self.entries.partition_point(|(dir, name, _)| {
            let name = &self.names[name.start as usize..name.end as usize];
            before(&self.dirs[*dir as usize], name)
        })
    }
}

/// A page as read.
#[derive(Debug, Clone)]
pub(crate) enum SidecarPage {
    Leaf(SidecarLeaf),
    Node(Vec<ChildRef>),
}

/// The bytes of a node over `children`.
pub(crate) fn encode_node(children: &[ChildRef]) -> Vec<u8> {
    let child = |c: &ChildRef| ChildMessage {
        manifest: c.manifest.as_bytes().to_vec(),
        sidecar: c.sidecar.as_bytes().to_vec(),
        refs: c.refs.as_bytes().to_vec(),
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
pub(crate) fn decode_sidecar(bytes: &[u8]) -> Option<SidecarPage> {
    let (tag, body) = bytes.split_first()?;
    match *tag {
        LEAF => decode_leaf(LeafMessage::decode(body).ok()?).map(SidecarPage::Leaf),
        NODE => {
            let child = |c: ChildMessage| {
                Some(ChildRef {
                    manifest: Secret::from_slice(&c.manifest)?,
                    sidecar: Secret::from_slice(&c.sidecar)?,
                    refs: Secret::from_slice(&c.refs)?,
                    first_path: c.first_path,
                    entries: c.entries,
                })
            };
            let message = NodeMessage::decode(body).ok()?;
            let children: Vec<ChildRef> = message
                .children
                .into_iter()
                .map(child)
                .collect::<Option<_>>()?;
            (!children.is_empty() && children.len() <= MAX_ENTRIES)
                .then_some(SidecarPage::Node(children))
        }
        _ => None,
    }
}

fn decode_leaf(m: LeafMessage) -> Option<SidecarLeaf> {
    let count = m.kinds.len();
    let columns = [
        m.name_lens.len(),
        m.inos.len(),
        m.sizes.len(),
        m.mtime_secs.len(),
        m.mtime_nanos.len(),
        m.ctime_secs.len(),
        m.ctime_nanos.len(),
    ];
    if count > MAX_ENTRIES || columns.iter().any(|n| *n != count) {
        return None;
    }
    let mut leaf = SidecarLeaf {
        names: m.names,
        entries: Vec::with_capacity(count),
        ..SidecarLeaf::default()
    };
    let (mut i, mut at, mut last) = (0usize, 0u32, (0i64, 0i64, 0i64));
    for (ordinal, dir) in m.dirs.into_iter().enumerate() {
        leaf.dirs.push(dir.path);
        for _ in 0..dir.count {
            let kind = *m.kinds.get(i)?;
            last = (
                last.0.wrapping_add(m.inos[i]),
                last.1.wrapping_add(m.mtime_secs[i]),
                last.2.wrapping_add(m.ctime_secs[i]),
            );
            let end = at.checked_add(m.name_lens[i])?;
            let record = StatRecord {
                kind: kind_from(u32::from(kind & !RACY))?,
                racy: kind & RACY != 0,
                ino: last.0 as u64,
                size: m.sizes[i],
                mtime: Timestamp::new(last.1, m.mtime_nanos[i]),
                ctime: Timestamp::new(last.2, m.ctime_nanos[i]),
            };
            leaf.entries.push((ordinal as u32, at..end, record));
            at = end;
            i += 1;
        }
    }
    (i == count && at as usize == leaf.names.len()).then_some(leaf)
}
