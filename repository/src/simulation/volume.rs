//! What is backed up: a few files whose chunks come from a small stock, so that volumes share them, lose
//! them, and come back to them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use orlop_core::{Timestamp, VolumeRef};

use super::chance::Chance;
use crate::{
    error::Result,
    frame::FrameKind,
    manifest::{Content, Entry, EntryKind, Extent, Metadata, PageSink, StatRecord, TreeBuilder},
    secret::{Key, Prefix, Secret},
    snapshot::TreeRoots,
};

/// Different chunks that there are.
const STOCK: u64 = 14;

/// The files of a volume by name: numbers of their chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Files(pub(super) BTreeMap<u64, Vec<u64>>);

impl Files {
    /// Changes some.
    pub(super) fn change(&mut self, chance: &mut Chance) {
        for name in 0..4 {
            if self.0.contains_key(&name) && chance.permille(600) {
                continue;
            }
            let chunks = (0..chance.between(1, 2)).map(|_| chance.below(STOCK));
            self.0.insert(name, chunks.collect());
        }
        if chance.permille(200) {
            let name = chance.below(4);
            self.0.remove(&name);
        }
    }

    /// The first `count` files.
    pub(super) fn first(&self, count: usize) -> Self {
        let files = self.0.iter().take(count);
        Self(
            files
                .map(|(name, chunks)| (*name, chunks.clone()))
                .collect(),
        )
    }
}

/// Bytes of a chunk; some can be compressed.
pub(super) fn chunk(number: u64) -> Vec<u8> {
    let mut chance = Chance::new(number);
    // Some are so large that what is left of their packs is worth moving.
    let len = if number % 4 == 1 {
        chance.between(5_000, 9_000)
    } else {
        chance.between(40, 300)
    } as usize;
    if number.is_multiple_of(3) {
        return vec![number as u8; len];
    }
    (0..len).map(|_| chance.next() as u8).collect()
}

/// A volume of the simulated node.
pub(super) fn volume(number: u64) -> VolumeRef {
    VolumeRef::new("ns", "pod", format!("v{number}"))
}

/// The keys that content secrets of a volume are made with.
#[derive(Clone)]
pub(super) struct VolumeKeys {
    pub(super) domain: Key,
    pub(super) volume: Key,
    pub(super) refs: Key,
}

impl VolumeKeys {
    pub(super) fn of(&self, kind: FrameKind) -> &Key {
        match kind {
            FrameKind::Sidecar => &self.volume,
            FrameKind::Refs => &self.refs,
            FrameKind::Data | FrameKind::Manifest | FrameKind::Extents => &self.domain,
        }
    }
}

/// A snapshot as it has to be: all frames of it with their plaintext.
pub(super) struct Image {
    pub(super) frames: Vec<(FrameKind, Secret, Vec<u8>)>,
    pub(super) roots: TreeRoots,
    pub(super) refs_root: Secret,
    pub(super) keys: VolumeKeys,
}

impl Image {
    /// The ids that it needs.
    pub(super) fn prefixes(&self) -> Vec<Prefix> {
        let ids = self
            .frames
            .iter()
            .map(|(_, secret, _)| secret.id().prefix());
        ids.collect()
    }
}

/// Snapshots that writers meant to make, by manifest root and lineage.
pub(super) type Images = HashMap<(Secret, String), Arc<Image>>;

/// Collects the pages of the trees.
struct Pages<'k> {
    keys: &'k VolumeKeys,
    found: Vec<(FrameKind, Secret, Vec<u8>)>,
}

impl PageSink for Pages<'_> {
    fn store_page(&mut self, kind: FrameKind, plain: &[u8]) -> Result<Secret> {
        let secret = Secret::of(self.keys.of(kind), plain);
        self.found.push((kind, secret, plain.to_vec()));
        Ok(secret)
    }
}

fn entry(name: &str, kind: EntryKind, size: u64, content: Content) -> (Entry, StatRecord) {
    let entry = Entry {
        size,
        content,
        ..Entry::bare(name.as_bytes().to_vec(), kind, Metadata::default())
    };
    let stat = StatRecord {
        kind,
        racy: false,
        ino: 1,
        size,
        mtime: Timestamp::new(0, 0),
        ctime: Timestamp::new(0, 0),
    };
    (entry, stat)
}

/// The snapshot of `files`.
pub(super) fn image(files: &Files, keys: &VolumeKeys) -> Result<Image> {
    let mut frames: Vec<(FrameKind, Secret, Vec<u8>)> = Vec::new();
    let mut tree = TreeBuilder::new(&keys.domain);
    let mut pages = Pages {
        keys,
        found: Vec::new(),
    };
    let (root, stat) = entry("", EntryKind::Directory, 0, Content::None);
    tree.push(&root, &stat, &mut pages)?;
    for (name, chunks) in &files.0 {
        let mut extents = Vec::with_capacity(chunks.len());
        let mut size = 0;
        for number in chunks {
            let plain = chunk(*number);
            let secret = Secret::of(&keys.domain, &plain);
            let len = plain.len() as u32;
            size += u64::from(len);
            extents.push(Extent::Data { secret, len });
            frames.push((FrameKind::Data, secret, plain));
        }
        let name = format!("f{name}");
        let (file, stat) = entry(&name, EntryKind::File, size, Content::Extents(extents));
        tree.push(&file, &stat, &mut pages)?;
    }
    let (roots, refs_root) = tree.finish(&mut pages)?;
    frames.extend(pages.found);
    Ok(Image {
        frames,
        roots,
        refs_root,
        keys: keys.clone(),
    })
}
