//! The tarball is laid out as Velero does it, and no tarball of anybody else harms who reads it.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::{ItemPath, Layout, Tarball, TarballItem, TarballLimits, TarballWriter};
use crate::files::{FileError, gunzip, gzip};

fn deployment() -> ItemPath {
    ItemPath::namespaced("deployments.apps", "default", "web")
}

fn sample() -> Vec<u8> {
    let mut writer = TarballWriter::create(Vec::new(), 1_767_323_045).unwrap();
    writer.add(&deployment(), "v1", b"{\"a\":1}").unwrap();
    writer
        .add(&ItemPath::cluster("namespaces", "default"), "v1", b"{}")
        .unwrap();
    writer
        .add_other(&deployment(), "v1beta1", b"{\"a\":2}")
        .unwrap();
    writer.finish().unwrap()
}

fn read(bytes: &[u8], limits: TarballLimits) -> Result<(String, Vec<TarballItem>), FileError> {
    let mut items = Vec::new();
    let version = Tarball::open(bytes, limits).read(|item| {
        items.push(item);
        Ok::<(), FileError>(())
    })?;
    Ok((version, items))
}

#[test]
fn every_entry_is_where_velero_looks_for_it() {
    let bytes = gunzip(sample().as_slice(), 1 << 20).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entries: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.entry_type(), EntryType::Regular);
            let path = entry.path().unwrap().display().to_string();
            let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
            format!("{mode:o} {mtime} {} {path}", header.size().unwrap())
        })
        .collect();
    assert_eq!(
        entries,
        [
            "755 1767323045 6 metadata/version",
            "755 1767323045 7 resources/deployments.apps/namespaces/default/web.json",
            "755 1767323045 7 resources/deployments.apps/v1-preferredversion/namespaces/default/web.json",
            "755 1767323045 2 resources/namespaces/cluster/default.json",
            "755 1767323045 2 resources/namespaces/v1-preferredversion/cluster/default.json",
            "755 1767323045 7 resources/deployments.apps/v1beta1/namespaces/default/web.json",
        ]
    );
}

#[test]
fn the_same_objects_give_the_same_bytes() {
    assert_eq!(sample(), sample());
}

#[test]
fn what_was_written_is_read_in_both_layouts() {
    let (version, items) = read(&sample(), TarballLimits::default()).unwrap();
    assert_eq!(version, "1.1.0");
    let layouts: Vec<Layout> = items
        .iter()
        .filter(|item| item.path == deployment())
        .map(|item| item.layout.clone())
        .collect();
    let of = |version: &str, preferred| Layout::Version {
        version: version.to_owned(),
        preferred,
    };
    assert_eq!(
        layouts,
        [Layout::Plain, of("v1", true), of("v1beta1", false)]
    );
    assert_eq!(items[0].json, b"{\"a\":1}");
    assert_eq!(items[2].path, ItemPath::cluster("namespaces", "default"));
}

#[test]
fn names_longer_than_a_tar_header_are_kept_whole() {
    let item = ItemPath::namespaced("widgets.example.com", &"n".repeat(63), &"x".repeat(253));
    let mut writer = TarballWriter::create(Vec::new(), 0).unwrap();
    writer.add(&item, "v1", b"{}").unwrap();
    let (_, items) = read(&writer.finish().unwrap(), TarballLimits::default()).unwrap();
    assert!(items.len() == 2 && items.iter().all(|found| found.path == item));
}

#[test]
fn a_name_that_is_more_than_one_part_is_not_written() {
    let mut writer = TarballWriter::create(Vec::new(), 0).unwrap();
    for name in ["", "..", "a/b", "../../etc/passwd"] {
        let item = ItemPath::cluster("nodes", name);
        assert!(
            matches!(writer.add(&item, "v1", b"{}"), Err(FileError::Name { .. })),
            "{name:?}"
        );
    }
    assert!(
        writer
            .add(&ItemPath::namespaced("pods", "..", "p"), "v1", b"{}")
            .is_err()
    );
}

/// A tarball with one entry whose name nobody has checked.
fn hostile(path: &[u8], kind: EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    builder.append(&header, content).unwrap();
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn entries_that_lead_elsewhere_are_refused() {
    let cases: [(&[u8], EntryType); 6] = [
        (b"../x.json", EntryType::Regular),
        (b"/etc/passwd", EntryType::Regular),
        (b"resources/pods/namespaces/../x.json", EntryType::Regular),
        (b"resources/pods/cluster/x.json", EntryType::Symlink),
        (b"resources/pods/cluster/x.json", EntryType::Link),
        (b"resources/\xff/cluster/x.json", EntryType::Regular),
    ];
    for (path, kind) in cases {
        let error = read(&hostile(path, kind, b""), TarballLimits::default()).unwrap_err();
        assert!(
            matches!(error, FileError::Refused { .. }),
            "{path:?}: {error}"
        );
    }
}

#[test]
fn files_that_are_no_objects_are_passed_over() {
    for path in [
        "metadata/other",
        "resources/pods/x.json",
        "resources/pods/cluster/x.yaml",
        "x",
    ] {
        let bytes = hostile(path.as_bytes(), EntryType::Regular, b"{}");
        assert_eq!(
            read(&bytes, TarballLimits::default()).unwrap(),
            (String::new(), Vec::new())
        );
    }
}

#[test]
fn limits_are_kept() {
    let limits = TarballLimits {
        entries: 5,
        ..TarballLimits::default()
    };
    assert!(matches!(
        read(&sample(), limits),
        Err(FileError::TooManyEntries { limit: 5 })
    ));
    let limits = TarballLimits {
        entry_bytes: 6,
        ..TarballLimits::default()
    };
    assert!(matches!(
        read(&sample(), limits),
        Err(FileError::TooLarge { limit_bytes: 6, .. })
    ));
    assert!(
        read(
            &sample(),
            TarballLimits {
                entries: 6,
                entry_bytes: 7
            }
        )
        .is_ok()
    );
}

#[test]
fn a_name_that_never_ends_is_an_error_and_not_memory() {
    let bytes = hostile(
        b"././@LongLink",
        EntryType::GNULongName,
        &vec![b'a'; 8 << 20],
    );
    let error = read(&bytes, TarballLimits::default()).unwrap_err();
    assert!(matches!(error, FileError::Io(_)), "{error}");
}

#[test]
fn a_tarball_that_is_cut_off_is_an_error() {
    let bytes = sample();
    for cut in [bytes.len() / 2, bytes.len() - 9] {
        assert!(
            read(&bytes[..cut], TarballLimits::default()).is_err(),
            "{cut}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = read(&bytes, TarballLimits::default());
        let _ = read(&gzip(&bytes), TarballLimits::default());
    }

    #[test]
    fn no_damage_makes_the_reader_panic(at in 0_usize..6000, byte: u8, more in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut tar = gunzip(sample().as_slice(), 1 << 20).unwrap();
        let at = at % tar.len();
        tar[at] = byte;
        let end = (at + more.len()).min(tar.len());
        tar[at..end].copy_from_slice(&more[..end - at]);
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&tar).unwrap();
        let limits = TarballLimits { entries: 100, entry_bytes: 1 << 16 };
        if let Ok((_, items)) = read(&packed.finish().unwrap(), limits) {
            for item in items {
                prop_assert!(item.path.file(&item.layout).is_ok());
            }
        }
    }

    #[test]
    fn a_path_reads_back_as_the_object_it_was_made_of(
        resource in "[a-z]{1,9}(\\.[a-z]{1,9})?",
        namespace in prop::option::of("[a-z0-9-]{1,9}"),
        name in "[a-z0-9:.-]{1,20}",
        version in prop::option::of(("v[0-9](beta[0-9])?", any::<bool>())),
    ) {
        prop_assume!(name != "." && name != "..");
        let item = ItemPath { resource, namespace, name };
        let layout = version.map_or(Layout::Plain, |(version, preferred)| Layout::Version { version, preferred });
        let path = item.file(&layout).unwrap();
        prop_assert_eq!(ItemPath::parse(&path), Some((item, layout)));
    }
}
