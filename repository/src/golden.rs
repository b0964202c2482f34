//! Stored structures as files: what was written once must be read for ever.
//!
//! `ORLOP_WRITE_GOLDEN=1 cargo test -p orlop-repository golden` writes them anew after a change of the
//! format, which `docs/format.md` must then tell.

use std::path::PathBuf;

use orlop_core::Timestamp;

use crate::{
    frame::{Decoder, Encoder, FrameKind, Level},
    index::{Index, Segment, SegmentBuilder},
    manifest::{
        ChildRef, Content, Entry, EntryKind, EntryStatus, Extent, HardlinkGroup, ManifestPage,
        Metadata, PageSink, SidecarPage, StatRecord, TreeBuilder, Xattr, decode_manifest,
        decode_sidecar,
    },
    pack::{OpenPack, PackClass, read_table, scrub},
    secret::{Key, Secret, hex},
};

pub(crate) fn golden(name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    if std::env::var_os("ORLOP_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, make()).unwrap();
    }
    stored(name)
}

pub(crate) fn stored(name: &str) -> Vec<u8> {
    std::fs::read(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("golden")
            .join(name),
    )
    .unwrap()
}

fn domain() -> Key {
    Key::from_bytes([1; 32])
}

fn texts() -> [Vec<u8>; 3] {
    [
        b"a short chunk".to_vec(),
        b"compressible ".repeat(2000),
        (0..=255).collect(),
    ]
}

#[test]
fn frames_are_read() {
    for (i, text) in texts().iter().enumerate() {
        let secret = Secret::of(&domain(), text);
        let make = || {
            Encoder::new()
                .unwrap()
                .encode(FrameKind::Data, &secret, text, Level::default())
                .unwrap()
                .bytes
        };
        let frame = golden(&format!("frame-{i}.bin"), make);
        let decode = |bytes: &[u8]| {
            Decoder::new().unwrap().decode(
                &|| "golden".to_owned(),
                FrameKind::Data,
                &secret,
                &[domain()],
                bytes,
            )
        };
        assert_eq!(&decode(&frame).unwrap(), text);
        for at in 0..frame.len() {
            let mut copy = frame.clone();
            copy[at] ^= 0x40;
            assert!(decode(&copy).is_err(), "byte {at}");
            assert!(decode(&frame[..at]).is_err(), "cut at {at}");
        }
    }
}

#[test]
fn a_pack_and_its_segment_are_read() {
    let session = Key::from_bytes([2; 32]);
    let make = || {
        let mut pack = OpenPack::new(PackClass::Data, 7);
        let mut encoder = Encoder::new().unwrap();
        for text in texts() {
            pack.push(
                encoder
                    .encode(
                        FrameKind::Data,
                        &Secret::of(&domain(), &text),
                        &text,
                        Level::default(),
                    )
                    .unwrap(),
            );
        }
        let pack = pack.finish(&session).unwrap();
        [pack.name.as_bytes(), b"\n", &pack.parts.concat()].concat()
    };
    let file = golden("pack.bin", make);
    let at = file.iter().position(|b| *b == b'\n').unwrap();
    let (name, bytes) = (std::str::from_utf8(&file[..at]).unwrap(), &file[at + 1..]);
    scrub(name, bytes).unwrap();
    let table = read_table(name, bytes, &session).unwrap();
    let make = || {
        let mut builder = SegmentBuilder::default();
        builder.push(name.to_owned(), &table);
        builder.finish(0, 7, &session).unwrap().1
    };
    let segment = golden("segment.bin", make);
    let mut index = Index::default();
    let name = format!("i/0/{}.7", hex(blake3::hash(&segment).as_bytes()));
    index.add(Segment::decode(&name, &segment, &session).unwrap());
    for text in texts() {
        let secret = Secret::of(&domain(), &text);
        let place = index.find(&secret.id().prefix()).unwrap().unwrap();
        let frame = &bytes[place.offset as usize..(place.offset + place.len) as usize];
        let what = || place.pack.clone();
        let plain = Decoder::new()
            .unwrap()
            .decode(&what, FrameKind::Data, &secret, &[], frame)
            .unwrap();
        assert_eq!(plain, text);
    }
}

/// Every feature of an entry at least once.
fn entries() -> Vec<(Entry, StatRecord)> {
    let secret = |n: u8| Secret::from_bytes([n; 32]);
    let base = |path: &str, kind: EntryKind| {
        let meta = Metadata {
            mode: 0o755,
            uid: 1000,
            gid: u32::MAX - 1,
            mtime: Timestamp::new(-5, 999_999_999),
            ..Metadata::default()
        };
        Entry::bare(path.as_bytes().to_vec(), kind, meta)
    };
    let file = |path: &str, extents: Vec<Extent>| Entry {
        size: extents.iter().map(Extent::len).sum(),
        content: Content::Extents(extents),
        ..base(path, EntryKind::File)
    };
    let xattrs = vec![Xattr {
        name: b"user.a".to_vec(),
        value: vec![0, 255],
    }];
    let mut sample = vec![
        base("", EntryKind::Directory),
        Entry {
            digest: [3; 16],
            ..file(
                "bundled",
                vec![Extent::Bundle {
                    secret: secret(1),
                    offset: 9,
                    len: 400,
                }],
            )
        },
        Entry {
            meta: Metadata {
                rdev: (8 << 32) | 1,
                ..Metadata::default()
            },
            ..base("device", EntryKind::BlockDevice)
        },
        base("dir", EntryKind::Directory),
        Entry {
            content: Content::Extents(Vec::new()),
            ..file("empty", Vec::new())
        },
        Entry {
            target: b"../\xff".to_vec(),
            ..base("link", EntryKind::Symlink)
        },
        Entry {
            status: EntryStatus::Unreadable(13),
            content: Content::None,
            ..file("locked", Vec::new())
        },
        file(
            "sparse",
            vec![
                Extent::Hole(1 << 40),
                Extent::Data {
                    secret: secret(2),
                    len: 300_000,
                },
                Extent::Zero(65_536),
            ],
        ),
        Entry {
            meta: Metadata {
                xattrs,
                flags: 0x10,
                ..Metadata::default()
            },
            hardlink: Some(HardlinkGroup { id: 42, links: 3 }),
            status: EntryStatus::Changed,
            ..file("dir/inline", vec![Extent::Inline(b"hello".to_vec())])
        },
    ];
    sample.sort_by(|a, b| crate::compare_listing((a.parent(), a.name()), (b.parent(), b.name())));
    let record = |(i, entry): (usize, Entry)| {
        let record = StatRecord {
            kind: entry.kind,
            racy: i % 3 == 1,
            ino: u64::MAX - i as u64,
            size: entry.size,
            mtime: entry.meta.mtime,
            ctime: Timestamp::new(1 << 40, i as u32),
        };
        (entry, record)
    };
    sample.into_iter().enumerate().map(record).collect()
}

/// Keeps pages with the kinds they were stored as.
#[derive(Default)]
struct Pages(Vec<(FrameKind, Vec<u8>)>);

impl PageSink for Pages {
    fn store_page(&mut self, kind: FrameKind, plain: &[u8]) -> crate::Result<Secret> {
        self.0.push((kind, plain.to_vec()));
        Ok(Secret::of(&domain(), plain))
    }
}

#[test]
fn pages_are_written_and_read_to_the_byte() {
    let mut pages = Pages::default();
    let mut tree = TreeBuilder::new(&domain());
    for (entry, record) in entries() {
        tree.push(&entry, &record, &mut pages).unwrap();
    }
    tree.finish(&mut pages).unwrap();
    for (kind, name) in [
        (FrameKind::Manifest, "manifest-leaf.bin"),
        (FrameKind::Sidecar, "sidecar-leaf.bin"),
        (FrameKind::Refs, "refs-leaf.bin"),
    ] {
        let (_, written) = pages.0.iter().find(|(k, _)| *k == kind).unwrap();
        assert_eq!(golden(name, || written.clone()), *written, "{name}");
    }
    let leaf = stored("manifest-leaf.bin");
    let expected: Vec<Entry> = entries().into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(decode_manifest(&leaf), Some(ManifestPage::Leaf(expected)));
    let Some(SidecarPage::Leaf(records)) = decode_sidecar(&stored("sidecar-leaf.bin")) else {
        panic!("the sidecar's leaf is not read");
    };
    for (i, (entry, record)) in entries().iter().enumerate() {
        assert_eq!(records.get(i), Some((entry.parent(), entry.name(), record)));
    }
}

#[test]
fn nodes_are_written_and_read_to_the_byte() {
    let child = |n: u8| ChildRef {
        manifest: Secret::from_bytes([n; 32]),
        sidecar: Secret::from_bytes([n + 1; 32]),
        refs: Secret::from_bytes([n + 2; 32]),
        first_path: vec![b'p', n],
        entries: u64::from(n),
    };
    let mut pages = Pages::default();
    let mut tree = TreeBuilder::new(&domain());
    for n in [10, 20] {
        tree.push_leaf(child(n), vec![b'p', n + 1], &mut pages)
            .unwrap();
    }
    tree.finish(&mut pages).unwrap();
    for (kind, name) in [
        (FrameKind::Manifest, "manifest-node.bin"),
        (FrameKind::Sidecar, "sidecar-node.bin"),
        (FrameKind::Refs, "refs-node.bin"),
    ] {
        let (_, written) = pages.0.iter().find(|(k, _)| *k == kind).unwrap();
        assert_eq!(golden(name, || written.clone()), *written, "{name}");
    }
    let Some(SidecarPage::Node(children)) = decode_sidecar(&stored("sidecar-node.bin")) else {
        panic!("the sidecar's node is not read");
    };
    assert_eq!(children, [child(10), child(20)]);
}

#[test]
fn malformed_pages_are_refused_without_a_panic() {
    for name in [
        "manifest-leaf.bin",
        "manifest-node.bin",
        "sidecar-leaf.bin",
        "sidecar-node.bin",
        "refs-leaf.bin",
    ] {
        let page = stored(name);
        for at in 0..page.len() {
            for flip in [1, 0x80, 0xff] {
                let mut copy = page.clone();
                copy[at] ^= flip;
                for bytes in [&copy[..], &page[..at]] {
                    let _ = decode_manifest(bytes);
                    let _ = decode_sidecar(bytes);
                    let _ = crate::manifest::RefsPage::decode(bytes);
                    let _ = crate::manifest::decode_extent_page(bytes);
                }
            }
        }
    }
}
