//! Any sequence of changes, backups and restores equals plain copies.

use std::{
    ffi::OsStr,
    fs::{self, File, FileTimes, Permissions},
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use orlop_core::SnapshotId;
use orlop_tests::{Content, Engine, Random, Record, Step, Tree, What, any_step, any_tree};
use proptest::{collection::vec, prelude::*, sample::Index};

#[derive(Debug, Clone)]
enum Change {
    /// A new file or directory.
    Add(Index, Step),
    /// Other content, by replacing the file's bytes.
    Write(Index, u64, usize),
    /// More at the end.
    Append(Index, Vec<u8>),
    /// A byte in the middle, with the time set back to what it was.
    Forge(Index, u64),
    /// Shorter.
    Truncate(Index, u64),
    Remove(Index),
    Rename(Index, Index, Vec<u8>),
    Mode(Index, u32),
    Backup,
    Restore(Index),
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let name = "[a-z]{1,12}".prop_map(String::into_bytes);
    prop_oneof![
        3 => (at(), any_step()).prop_map(|(at, step)| Change::Add(at, step)),
        2 => (at(), any::<u64>(), 0..100_000usize).prop_map(|(at, seed, len)| Change::Write(at, seed, len)),
        1 => (at(), vec(any::<u8>(), 1..5000)).prop_map(|(at, bytes)| Change::Append(at, bytes)),
        2 => (at(), any::<u64>()).prop_map(|(at, offset)| Change::Forge(at, offset)),
        1 => (at(), any::<u64>()).prop_map(|(at, len)| Change::Truncate(at, len)),
        2 => at().prop_map(Change::Remove),
        2 => (at(), at(), name).prop_map(|(from, to, name)| Change::Rename(from, to, name)),
        1 => (at(), 0..0o1000u32).prop_map(|(at, mode)| Change::Mode(at, mode)),
        4 => Just(Change::Backup),
        1 => at().prop_map(Change::Restore),
    ]
}

/// Paths of the volume by kind, in order.
struct Listing {
    directories: Vec<PathBuf>,
    files: Vec<PathBuf>,
    all: Vec<PathBuf>,
}

impl Listing {
    fn of(root: &Path) -> Self {
        let mut listing = Self {
            directories: vec![root.to_owned()],
            files: Vec::new(),
            all: Vec::new(),
        };
        let mut next = 0;
        while let Some(directory) = listing.directories.get(next).cloned() {
            next += 1;
            let mut children: Vec<PathBuf> = fs::read_dir(directory)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            children.sort();
            for child in children {
                let kind = fs::symlink_metadata(&child).unwrap();
                if kind.is_dir() {
                    listing.directories.push(child.clone());
                } else if kind.is_file() {
                    listing.files.push(child.clone());
                }
                listing.all.push(child);
            }
        }
        listing
    }
}

/// The volume, its repository, and what each snapshot must be.
struct World {
    volume: PathBuf,
    engine: Engine,
    copies: Vec<(SnapshotId, Record)>,
}

impl World {
    fn apply(&mut self, change: &Change) {
        let listing = Listing::of(&self.volume);
        let file = |at: &Index| (!listing.files.is_empty()).then(|| at.get(&listing.files));
        let any = |at: &Index| (!listing.all.is_empty()).then(|| at.get(&listing.all));
        match change {
            Change::Add(at, step) => {
                let parent = at.get(&listing.directories);
                let path = parent.join(OsStr::from_bytes(step.name()));
                if path.as_os_str().len() > 3800 || fs::symlink_metadata(&path).is_ok() {
                    return;
                }
                match step.what() {
                    What::File(content) => content.write(&path),
                    What::Hardlink(of) => {
                        if let Some(of) = file(of) {
                            fs::hard_link(of, path).unwrap();
                        }
                    }
                    _ => fs::create_dir(path).unwrap(),
                }
            }
            Change::Write(at, seed, len) => {
                if let Some(path) = file(at) {
                    Content::Noise(*seed, *len).write(path);
                }
            }
            Change::Append(at, bytes) => {
                if let Some(path) = file(at) {
                    File::options()
                        .append(true)
                        .open(path)
                        .unwrap()
                        .write_all(bytes)
                        .unwrap();
                }
            }
            Change::Forge(at, offset) => {
                if let Some(path) = file(at) {
                    forge(path, *offset);
                }
            }
            Change::Truncate(at, len) => {
                if let Some(path) = file(at) {
                    let file = File::options().write(true).open(path).unwrap();
                    let size = file.metadata().unwrap().len();
                    file.set_len(len % (size + 1)).unwrap();
                }
            }
            Change::Remove(at) => match any(at) {
                Some(path) if fs::symlink_metadata(path).unwrap().is_dir() => {
                    fs::remove_dir_all(path).unwrap();
                }
                Some(path) => fs::remove_file(path).unwrap(),
                None => {}
            },
            Change::Rename(from, to, name) => {
                let parent = to.get(&listing.directories);
                let to = parent.join(OsStr::from_bytes(name));
                if let Some(from) = any(from)
                    && !to.starts_with(from)
                    && fs::symlink_metadata(&to).is_err()
                    && to.as_os_str().len() < 3800
                {
                    fs::rename(from, to).unwrap();
                }
            }
            Change::Mode(at, mode) => {
                if let Some(path) = any(at)
                    && !fs::symlink_metadata(path).unwrap().is_symlink()
                {
                    fs::set_permissions(path, Permissions::from_mode(mode | 0o700)).unwrap();
                }
            }
            Change::Backup => {
                let copy = Record::of(&self.volume);
                let report = self.engine.backup(&self.volume);
                self.copies.push((report.snapshot, copy));
            }
            Change::Restore(at) => {
                if !self.copies.is_empty() {
                    let (snapshot, copy) = at.get(&self.copies);
                    self.engine.assert_restores(*snapshot, copy);
                }
            }
        }
    }
}

/// Changes a byte and sets the time back: what `mtime` and size cannot tell.
fn forge(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let stat = file.metadata().unwrap();
    if stat.size() == 0 {
        return;
    }
    let offset = offset % stat.size();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[!byte[0]], offset).unwrap();
    file.set_times(FileTimes::new().set_modified(stat.modified().unwrap()))
        .unwrap();
}

fn play(tree: &Tree, changes: &[Change]) {
    let directory = orlop_tests::quick_dir();
    let volume = directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    tree.make(&volume);
    let mut world = World {
        volume,
        engine: Engine::in_memory(),
        copies: Vec::new(),
    };
    for change in changes {
        world.apply(change);
    }
    world.apply(&Change::Backup);
    for (snapshot, copy) in &world.copies {
        world.engine.assert_restores(*snapshot, copy);
    }
    world.engine.assert_sound();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_equals_plain_copies(tree in any_tree(12), changes in vec(any_change(), 1..30)) {
        play(&tree, &changes);
    }
}

#[test]
fn a_change_within_the_clock_s_tick_is_seen() {
    let volume = orlop_tests::quick_dir();
    let engine = Engine::in_memory();
    let mut random = Random::new(5);
    let mut copies = Vec::new();
    for _ in 0..60 {
        // The same size each time, as fast as can be.
        fs::write(volume.path().join("counter"), random.bytes(700)).unwrap();
        copies.push((
            engine.backup(volume.path()).snapshot,
            Record::of(volume.path()),
        ));
    }
    for (snapshot, copy) in copies.iter().step_by(7) {
        engine.assert_restores(*snapshot, copy);
    }
}
