//! What differs between snapshots, and what is found in them.

use std::{collections::BTreeMap, fs, path::Path};

use orlop_core::SnapshotId;
use orlop_repository::{
    Changed, Diff, Difference, Entry, EntryKind, Error, Finder, Found, ReadSession, Scope,
    compare_listing, split_path,
};
use orlop_tests::{Engine, Random};

fn diff(engine: &Engine, old: SnapshotId, new: SnapshotId) -> Vec<Changed> {
    let (old, new) = (engine.read(old).unwrap(), engine.read(new).unwrap());
    let changes = Diff::new(&old, &new).collect::<Result<_, Error>>().unwrap();
    old.end();
    new.end();
    changes
}

fn entries(engine: &Engine, snapshot: SnapshotId) -> BTreeMap<Vec<u8>, Entry> {
    let session = engine.read(snapshot).unwrap();
    let entries = session.entries().map(|entry| entry.unwrap());
    let entries = entries.map(|entry| (entry.path.clone(), entry)).collect();
    session.end();
    entries
}

/// Files in directories enough for several levels of pages.
fn many(at: &Path, files: u32) {
    for file in 0..files {
        let directory = at.join(format!("d{:02}", file % 23));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{file:05}")), format!("{file}")).unwrap();
    }
}

#[test]
fn every_change_is_told_once_and_in_order() {
    let volume = orlop_tests::quick_dir();
    let at = |name: &str| volume.path().join(name);
    many(volume.path(), 4000);
    fs::write(at("same"), vec![7; 100_000]).unwrap();
    fs::write(at("grows"), vec![8; 100_000]).unwrap();
    fs::write(at("becomes a directory"), "").unwrap();
    fs::write(at("mode"), "mode").unwrap();
    std::os::unix::fs::symlink("here", at("link")).unwrap();
    let engine = Engine::in_memory();
    let old = engine.backup(volume.path()).snapshot;
    assert_eq!(diff(&engine, old, old), []);
    fs::write(at("grows"), vec![8; 100_001]).unwrap();
    fs::write(at("d05/f00005"), "other").unwrap();
    fs::remove_file(at("d09/f00009")).unwrap();
    fs::remove_file(at("becomes a directory")).unwrap();
    fs::create_dir(at("becomes a directory")).unwrap();
    fs::write(at("becomes a directory/new"), "new").unwrap();
    fs::remove_file(at("link")).unwrap();
    std::os::unix::fs::symlink("there", at("link")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(at("mode"), mode).unwrap();
    let new = engine.backup(volume.path()).snapshot;
    let changes = diff(&engine, old, new);
    let told: BTreeMap<String, Difference> = changes
        .iter()
        .filter(|change| {
            change.entry().kind != EntryKind::Directory
                || change.old.is_none()
                || change.difference == Difference::Type
        })
        .map(|change| {
            let path = String::from_utf8(change.entry().path.clone()).unwrap();
            (path, change.difference)
        })
        .collect();
    let expected = [
        ("becomes a directory", Difference::Type),
        ("becomes a directory/new", Difference::Added),
        ("d05/f00005", Difference::Content),
        ("d09/f00009", Difference::Removed),
        ("grows", Difference::Content),
        ("link", Difference::Content),
        ("mode", Difference::Metadata),
    ];
    let expected: BTreeMap<String, Difference> = expected
        .into_iter()
        .map(|(p, d)| (p.to_owned(), d))
        .collect();
    assert_eq!(told, expected);
    let paths: Vec<&[u8]> = changes.iter().map(|c| c.entry().path.as_slice()).collect();
    assert!(paths.is_sorted_by(|a, b| compare_listing(split_path(a), split_path(b)).is_lt()));
    // The other way round.
    let back = diff(&engine, new, old);
    assert_eq!(back.len(), changes.len());
}

#[test]
fn any_changes_are_what_a_look_at_every_entry_tells() {
    let mut random = Random::new(9);
    let engine = Engine::in_memory();
    let volume = orlop_tests::quick_dir();
    many(volume.path(), 1500);
    let mut snapshots = vec![engine.backup(volume.path()).snapshot];
    for round in 0..4 {
        for _ in 0..=random.below(30) {
            let file = random.below(1500);
            let path = volume.path().join(format!("d{:02}/f{file:05}", file % 23));
            match random.below(3) {
                0 => drop(fs::remove_file(path)),
                1 => fs::write(path, format!("{round} of {file}")).unwrap(),
                _ => fs::write(path.with_extension("new"), format!("{round}")).unwrap(),
            }
        }
        snapshots.push(engine.backup(volume.path()).snapshot);
    }
    for old in &snapshots {
        for new in &snapshots {
            let (before, after) = (entries(&engine, *old), entries(&engine, *new));
            let told: BTreeMap<Vec<u8>, Difference> = diff(&engine, *old, *new)
                .into_iter()
                .map(|change| (change.entry().path.clone(), change.difference))
                .collect();
            for path in before.keys().chain(after.keys()) {
                let expected = match (before.get(path), after.get(path)) {
                    (Some(_), None) => Some(Difference::Removed),
                    (None, Some(_)) => Some(Difference::Added),
                    (Some(a), Some(b)) if a.size != b.size || a.digest != b.digest => {
                        Some(Difference::Content)
                    }
                    (Some(a), Some(b)) if a.meta != b.meta => Some(Difference::Metadata),
                    _ => None,
                };
                let path_text = String::from_utf8_lossy(path);
                assert_eq!(told.get(path).copied(), expected, "{path_text}");
            }
        }
    }
}

fn find(finder: &mut Finder<'_>, session: &ReadSession) -> Vec<Found> {
    let mut found = Vec::new();
    finder
        .search::<Error>(session, &mut |one| {
            found.push(one.clone());
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn what_is_looked_for_is_found_in_every_snapshot_and_a_page_is_read_once() {
    let volume = orlop_tests::quick_dir();
    many(volume.path(), 6000);
    fs::write(volume.path().join("d03/dump.sql"), "1").unwrap();
    let engine = Engine::in_memory();
    let mut snapshots = vec![engine.backup(volume.path()).snapshot];
    for round in 0..3 {
        fs::write(volume.path().join("d11/late.sql"), vec![b'x'; 10 + round]).unwrap();
        snapshots.push(engine.backup(volume.path()).snapshot);
    }
    let wants = |entry: &Entry| entry.path.ends_with(b".sql");
    let mut finder = Finder::new(Scope::all(), wants);
    let mut read = Vec::new();
    for (round, snapshot) in snapshots.iter().enumerate() {
        let session = engine.read(*snapshot).unwrap();
        let found = find(&mut finder, &session);
        let alone = find(&mut Finder::new(Scope::all(), wants), &session);
        assert_eq!(found, alone);
        let paths: Vec<&[u8]> = found.iter().map(|one| one.path.as_slice()).collect();
        if round == 0 {
            assert_eq!(paths, [b"d03/dump.sql"]);
        } else {
            assert_eq!(paths, [b"d03/dump.sql", b"d11/late.sql"]);
            assert_eq!(found[1].size, 9 + round as u64);
        }
        read.push(finder.pages_read());
        session.end();
    }
    assert!(read[0] > 10, "several pages: {read:?}");
    for pair in read.windows(2) {
        assert!(pair[1] - pair[0] <= 5, "{read:?}");
    }
}
