//! Backups that build on chains of checkpoints are what they would be without any.

use std::{collections::BTreeMap, sync::Arc};

use orlop_core::{Lineage, SnapshotId, Timestamp, VolumeRef};
use proptest::{collection::vec, prelude::*, sample::Index};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{CommitInfo, Committer as _, ReadSession, WriteOptions, WriteSession};
use crate::{
    InitOptions, Repository, Unlock,
    manifest::{
        Content, Entry, EntryKind, Extent, Metadata, StatRecord, compare_listing, split_path,
    },
    snapshot::{SnapshotState, SnapshotStats, open_capsule},
    store::{MemoryStore, ObjectStore},
};

/// Files by path, each with the version of its content; in listing order when they are walked.
type Volume = BTreeMap<Vec<u8>, u64>;

/// Link targets make entries large, so that few of them fill a leaf.
const TARGET: usize = 12_000;

fn entry(path: &[u8], version: u64) -> (Entry, StatRecord) {
    let kind = match path {
        [] => EntryKind::Directory,
        _ => EntryKind::File,
    };
    let mtime = Timestamp::new(version as i64, 0);
    let content = match kind {
        EntryKind::File => Content::Extents(vec![Extent::Inline(version.to_le_bytes().to_vec())]),
        _ => Content::None,
    };
    let meta = Metadata {
        mode: 0o644,
        mtime,
        ..Metadata::default()
    };
    let entry = Entry {
        size: if kind == EntryKind::File { 8 } else { 0 },
        target: vec![b't'; TARGET],
        content,
        ..Entry::bare(path.to_vec(), kind, meta)
    };
    let record = StatRecord {
        kind,
        racy: false,
        ino: version,
        size: entry.size,
        mtime,
        ctime: mtime,
    };
    (entry, record)
}

/// The paths in listing order, the root first.
fn listing(volume: &Volume) -> Vec<(Vec<u8>, u64)> {
    let mut all: Vec<_> = volume.iter().map(|(p, v)| (p.clone(), *v)).collect();
    all.push((Vec::new(), 1));
    all.sort_by(|(a, _), (b, _)| compare_listing(split_path(a), split_path(b)));
    all
}

struct World {
    runtime: Runtime,
    store: Arc<MemoryStore>,
    repository: Arc<Repository>,
}

/// How a backup goes.
enum End {
    Whole,
    /// Killed at a position, after checkpoints at others.
    Killed {
        at: usize,
        checkpoints: Vec<usize>,
    },
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let store = Arc::new(MemoryStore::new());
        let key = Unlock::KeyFile(vec![7; 32]);
        let options = InitOptions {
            pack_bytes: 64 << 10,
            ..InitOptions::default()
        };
        let repository = runtime
            .block_on(Repository::init(store.clone(), &key, options))
            .unwrap();
        Self {
            runtime,
            store,
            repository,
        }
    }

    /// As another process sees it.
    fn open_again(&mut self) {
        let key = Unlock::KeyFile(vec![7; 32]);
        let opened = Repository::open(self.store.clone(), &key);
        self.repository = self.runtime.block_on(opened).unwrap();
    }

    fn session(&self, lineage: &str, ignore_parent: bool) -> WriteSession {
        WriteSession::open(
            Arc::clone(&self.repository) as _,
            self.store.clone(),
            VolumeRef::new("ns", "pod", lineage),
            Lineage(lineage.to_owned()),
            WriteOptions {
                uploads: 2,
                ignore_parent,
                upload_limit: None,
            },
            self.runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap()
    }

    /// Walks the volume as a backup does. Returns the snapshot, if one was made, and how many entries were
    /// new, changed, and removed.
    fn backup(&self, volume: &Volume, full: bool, end: &End) -> (Option<SnapshotId>, [u64; 3]) {
        let session = self.session("data", full);
        let mut manifest = session.manifest().unwrap();
        let mut cursor = session.parent_cursor();
        let mut counts = [0; 3];
        for (position, (path, version)) in listing(volume).into_iter().enumerate() {
            if let End::Killed { at, checkpoints } = end {
                if position > 0 && checkpoints.contains(&position) {
                    let made = session.checkpoint(&mut manifest, info(SnapshotState::Complete));
                    assert!(made.unwrap().is_some());
                }
                if position == *at {
                    break;
                }
            }
            let (entry, record) = entry(&path, version);
            let (dir, name) = split_path(&path);
            let found = cursor.as_mut().and_then(|c| c.find(dir, name).unwrap());
            match found {
                Some(found) if found.record == record => manifest.keep(&found).unwrap(),
                found => {
                    counts[usize::from(found.is_some())] += 1;
                    manifest.push(&entry, &record).unwrap();
                }
            }
        }
        if let End::Killed { .. } = end {
            // What is on its way arrives or not; here it does, before the next one looks.
            session.packer.join().unwrap();
            return (None, counts);
        }
        counts[2] = cursor.map_or(0, |cursor| cursor.finish().unwrap());
        let info = info(SnapshotState::Complete);
        (Some(session.commit(manifest, info).unwrap().0), counts)
    }

    fn entries(&self, snapshot: SnapshotId) -> Vec<Entry> {
        let session = ReadSession::open(
            Arc::clone(&self.repository) as _,
            self.store.clone(),
            snapshot,
            self.runtime.handle().clone(),
            CancellationToken::new(),
        )
        .unwrap();
        let entries = session.entries().map(Result::unwrap).collect();
        session.end();
        entries
    }

    /// The roots of all three trees of the newest snapshot.
    fn roots(&self) -> crate::snapshot::TreeRoots {
        let request = super::BeginWrite {
            volume: VolumeRef::new("ns", "pod", "data"),
            lineage: Lineage("data".to_owned()),
        };
        self.runtime.block_on(async {
            let grant = self.repository.begin_write(request).await.unwrap();
            self.repository.end(grant.session).await.unwrap();
            let parent = &grant.parents[0];
            assert!(!parent.partial);
            open_capsule(grant.volume_keys.all(), parent.snapshot, &parent.capsule).unwrap()
        })
    }

    /// Every chunk is in one pack only, among all that were ever stored.
    fn assert_stored_once(&self) {
        let mut seen = BTreeMap::new();
        self.runtime.block_on(async {
            for class in ["p/", "m/"] {
                for object in self.store.list(class).await.unwrap() {
                    let table = self.repository.read_pack_table(&object.name, object.size);
                    for frame in table.await.unwrap() {
                        let other = seen.insert(*frame.id.as_bytes(), object.name.clone());
                        assert_eq!(other, None, "stored again in {}", object.name);
                    }
                }
            }
        });
    }
}

fn info(state: SnapshotState) -> CommitInfo {
    CommitInfo {
        time_ms: 1,
        node: String::new(),
        backup: String::new(),
        tags: Vec::new(),
        state,
        stats: SnapshotStats::default(),
    }
}

/// Some directories with many files: four levels of names, so that listings and subtrees mix.
fn path(number: u16) -> Vec<u8> {
    let n = number % 900;
    let name = match n % 4 {
        0 => format!("f{n}"),
        1 => format!("d{}/f{n}", n % 7),
        2 => format!("d{}/e{}/f{n}", n % 7, n % 3),
        _ => format!("d{}.x/f{n}", n % 5),
    };
    name.into_bytes()
}

/// A backup of the chain: what changed before it, and how it ended.
#[derive(Debug, Clone)]
struct Step {
    changes: Vec<(u16, bool)>,
    /// Where it was killed and where it made checkpoints; `None`: it made a snapshot.
    killed: Option<(Index, Vec<Index>)>,
}

fn step() -> impl Strategy<Value = Step> {
    let killed = prop_oneof![
        1 => Just(None),
        4 => (any::<Index>(), vec(any::<Index>(), 0..4)).prop_map(Some),
    ];
    let changes = vec((any::<u16>(), any::<bool>()), 0..40);
    (changes, killed).prop_map(|(changes, killed)| Step { changes, killed })
}

/// What a chain of parents knows: each of the newest first, with the position where it ends.
fn merged(parents: &[Vec<(Vec<u8>, u64)>]) -> Vec<(Vec<u8>, u64)> {
    let mut known: Vec<(Vec<u8>, u64)> = Vec::new();
    for parent in parents {
        let end = known.last().map(|(path, _)| path.clone());
        let further = parent.iter().filter(|(path, _)| {
            let after = |end: &Vec<u8>| compare_listing(split_path(path), split_path(end)).is_gt();
            end.as_ref().is_none_or(after)
        });
        known.extend(further.cloned());
    }
    known
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_of_parents_makes_what_a_fresh_backup_makes(
        first in vec(any::<u16>(), 300..900),
        steps in vec(step(), 1..6),
        last in vec((any::<u16>(), any::<bool>()), 0..40),
    ) {
        let mut world = World::new();
        let mut volume: Volume = first.into_iter().map(|n| (path(n), 1)).collect();
        let mut version = 1;
        let mut parents: Vec<Vec<(Vec<u8>, u64)>> = Vec::new();
        let change = |volume: &mut Volume, changes: &[(u16, bool)], version: u64| {
            for (number, there) in changes {
                if *there {
                    volume.insert(path(*number), version);
                } else {
                    volume.remove(&path(*number));
                }
            }
        };
        for step in &steps {
            version += 1;
            change(&mut volume, &step.changes, version);
            let all = listing(&volume);
            let end = match &step.killed {
                None => End::Whole,
                Some((at, checkpoints)) => {
                    let at = at.index(all.len() + 1);
                    let checkpoints: Vec<usize> =
                        checkpoints.iter().map(|c| c.index(all.len())).filter(|c| (1..=at).contains(c)).collect();
                    End::Killed { at, checkpoints }
                }
            };
            world.open_again();
            world.backup(&volume, false, &end);
            match end {
                End::Whole => parents = vec![all],
                // The last one of the session counts.
                End::Killed { checkpoints, .. } => {
                    if let Some(last) = checkpoints.into_iter().max() {
                        parents.insert(0, all[..last].to_vec());
                        // No more than four are built upon.
                        if parents.len() > 4 {
                            let oldest_whole = parents.pop();
                            parents.truncate(3);
                            parents.extend(oldest_whole);
                        }
                    }
                }
            }
        }
        change(&mut volume, &last, version + 1);
        let all = listing(&volume);
        world.open_again();
        let known = merged(&parents);
        let (snapshot, counts) = world.backup(&volume, false, &End::Whole);
        let roots = world.roots();
        world.assert_stored_once();
        let entries = world.entries(snapshot.unwrap());
        let expected: Vec<Entry> = all.iter().map(|(path, version)| entry(path, *version).0).collect();
        prop_assert_eq!(entries, expected);
        // Nothing that a parent knows is read again, and what none has reached is not missed.
        let find = |path: &[u8]| known.iter().find(|(p, _)| p == path).map(|(_, v)| *v);
        let new = all.iter().filter(|(p, _)| find(p).is_none()).count() as u64;
        let changed = all.iter().filter(|(p, v)| find(p).is_some_and(|f| f != *v)).count() as u64;
        let removed = known.iter().filter(|(p, _)| !all.iter().any(|(q, _)| p == q)).count() as u64;
        prop_assert_eq!(counts, [new, changed, removed]);
        world.backup(&volume, true, &End::Whole);
        prop_assert_eq!(world.roots(), roots);
    }
}

#[test]
fn a_checkpoint_is_the_listing_so_far_and_the_session_goes_on() {
    let world = World::new();
    let volume: Volume = (0..900).map(|n| (path(n), 1)).collect();
    let all = listing(&volume);
    let session = world.session("data", false);
    let mut manifest = session.manifest().unwrap();
    let mut made = Vec::new();
    for (position, (path, version)) in all.iter().enumerate() {
        if [1, 2, 500, 501, 899].contains(&position) {
            let snapshot = session.checkpoint(&mut manifest, info(SnapshotState::Complete));
            let snapshot = snapshot.unwrap().unwrap();
            let entries = world.entries(snapshot);
            let expected: Vec<Entry> = all[..position]
                .iter()
                .map(|(p, v)| entry(p, *v).0)
                .collect();
            assert_eq!(entries, expected);
            made.push(snapshot);
            // It takes the place of the one before.
            let listed = world
                .runtime
                .block_on(world.repository.snapshots())
                .unwrap();
            let listed: Vec<_> = listed.iter().map(|s| (s.id, s.state)).collect();
            assert_eq!(listed, [(snapshot, SnapshotState::Partial)]);
        }
        let (entry, record) = entry(path, *version);
        manifest.push(&entry, &record).unwrap();
    }
    let (whole, _) = session
        .commit(manifest, info(SnapshotState::Complete))
        .unwrap();
    let listed = world
        .runtime
        .block_on(world.repository.snapshots())
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].id, listed[0].state),
        (whole, SnapshotState::Complete)
    );
    assert_eq!((made.len(), listed[0].parent), (5, None));
    world.assert_stored_once();
    // No segment is named twice: each is one more object to read.
    let state = world.runtime.block_on(world.repository.log_state());
    let stored = world.runtime.block_on(world.store.list("i/")).unwrap();
    assert_eq!(state.segments.len(), stored.len());
}
