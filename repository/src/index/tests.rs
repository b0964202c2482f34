//! The index against a model that knows everything, with tables of a handful of records.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::*;
use crate::{
    pack::TableEntry,
    protocol::Epoch,
    secret::{ChunkId, Key},
};

fn id(n: u32) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn entry(n: u32) -> TableEntry {
    TableEntry {
        id: id(n),
        offset: n,
        len: n + 50,
        plain_len: n,
        kind: FrameKind::Data,
        codec: 0,
    }
}

fn key() -> Key {
    Key::from_bytes([9; 32])
}

/// A repository as the log and its segments tell of it.
#[derive(Clone, Default)]
struct Model {
    /// What is in each pack that there ever was.
    packs: BTreeMap<String, Vec<u32>>,
    /// Packs that each current segment names.
    segments: BTreeMap<String, Vec<String>>,
    log: LogState,
    made: u32,
}

impl Model {
    fn add_segment(&mut self, packs: Vec<String>) {
        self.made += 1;
        let name = format!("i/0/{}", self.made);
        self.segments.insert(name.clone(), packs);
        self.log.segments.push(name);
    }

    fn add_packs(&mut self, packs: &[Vec<u32>]) {
        let mut names = Vec::new();
        for chunks in packs {
            let name = format!("p/{}", self.packs.len());
            self.packs.insert(name.clone(), chunks.clone());
            names.push(name);
        }
        self.add_segment(names);
    }

    /// Deletes packs: the log names them as dead, and a collector writes anew what names them, with another
    /// segment besides.
    fn delete(&mut self, packs: &BTreeSet<String>) {
        self.log.dead = packs.clone();
        self.log.judged += 1;
    }

    fn compact(&mut self, with: usize) {
        let dead = std::mem::take(&mut self.log.dead);
        let others: Vec<String> = self.log.segments.iter().take(with).cloned().collect();
        let old: Vec<String> = self
            .segments
            .iter()
            .filter(|(name, packs)| others.contains(name) || packs.iter().any(|p| dead.contains(p)))
            .map(|(name, _)| name.clone())
            .collect();
        let mut kept = BTreeSet::new();
        for name in &old {
            let packs = self.segments.remove(name).unwrap();
            kept.extend(packs.into_iter().filter(|pack| !dead.contains(pack)));
        }
        self.log.segments.retain(|name| !old.contains(name));
        self.add_segment(kept.into_iter().collect());
        self.log.judged += 1;
    }

    fn there(&self) -> BTreeSet<&String> {
        let named = self.segments.values().flatten();
        named
            .filter(|pack| self.log.standing(pack) != Standing::Dead)
            .collect()
    }

    fn holders(&self, n: u32) -> BTreeSet<(String, Standing)> {
        let there = self.there().into_iter();
        there
            .filter(|pack| self.packs[*pack].contains(&n))
            .map(|pack| (pack.clone(), self.log.standing(pack)))
            .collect()
    }

    fn segment(&self, name: &str) -> Segment {
        let mut builder = SegmentBuilder::default();
        for pack in &self.segments[name] {
            let table: Vec<TableEntry> = self.packs[pack].iter().map(|n| entry(*n)).collect();
            builder.push(pack.clone(), &table);
        }
        builder.into_segment()
    }
}

/// A process with the index of the model.
struct Process(IndexState);

impl Process {
    fn new(path: Option<&Path>, limits: Limits) -> Self {
        let directory = TableDirectory::new(path.map(Into::into), key(), limits);
        Self(IndexState::begin(Arc::new(directory)))
    }

    /// As a repository does it.
    fn load(&mut self, model: &Model) -> Result<()> {
        if self.0.is_broken() {
            self.0 = self.0.without_broken();
        }
        for name in &model.log.segments {
            if !self.0.has(name) {
                self.0.add(name.clone(), model.segment(name))?;
                self.work();
            }
        }
        if self.0.segments() > model.log.segments.len() {
            self.0.retain(|name| model.segments.contains_key(name));
        }
        if !self.0.is_judged(&model.log) {
            self.0.judge(&model.log);
        }
        self.work();
        Ok(())
    }

    fn work(&mut self) {
        let mut rounds = 0;
        while let Some(work) = self.0.work() {
            match work.run() {
                Ok(done) => self.0.install(done),
                Err(_) => self.0.postpone(),
            }
            rounds += 1;
            assert!(rounds < 100, "it never has enough");
        }
    }

    fn compare(&self, model: &Model, chunks: u32) -> Result<()> {
        let index = self.0.index();
        let mut places: BTreeSet<(Prefix, String)> = BTreeSet::new();
        for n in 0..chunks {
            let prefix = id(n).prefix();
            let meant = model.holders(n);
            let found = index.holders(&prefix)?;
            let holders = found
                .iter()
                .map(|(pack, standing)| (pack.to_string(), *standing));
            assert_eq!(holders.collect::<BTreeSet<_>>(), meant, "chunk {n}");
            assert_eq!(
                found.len(),
                meant.len(),
                "chunk {n} comes once for each pack"
            );
            let best = meant.iter().map(|(_, standing)| *standing).min();
            let place = index.find(&prefix)?;
            assert_eq!(place.is_some(), best.is_some());
            if let (Some(place), Some(best)) = (place, best) {
                assert_eq!((place.offset, place.len), (n, n + 50));
                assert!(meant.contains(&(place.pack.clone(), best)), "chunk {n}");
                assert_eq!(place.condemned, best == Standing::Condemned);
                assert!(index.holds(&prefix, &place)?);
                let (pack, _) = index.find_pack(&prefix)?.unwrap();
                let mut named = None;
                index.each_pack(|ordinal, entry, _| {
                    if ordinal == pack {
                        named = Some(entry.name.to_string());
                    }
                })?;
                assert_eq!(named, Some(place.pack));
            }
            places.extend(meant.into_iter().map(|(pack, _)| (prefix, pack)));
        }
        let mut names: BTreeMap<u32, String> = BTreeMap::new();
        let mut plain = 0;
        index.each_pack(|ordinal, pack, standing| {
            assert_eq!(standing, model.log.standing(&pack.name));
            plain += pack.plain_data;
            assert_eq!(names.insert(ordinal, pack.name.to_string()), None);
        })?;
        assert_eq!(plain, index.plain_data_bytes()?);
        let there: BTreeSet<String> = model.there().into_iter().cloned().collect();
        assert_eq!(names.values().cloned().collect::<BTreeSet<_>>(), there);
        assert_eq!(names.len(), there.len(), "no pack comes twice");
        let mut found = BTreeSet::new();
        index.each_place(|place| {
            assert!(found.insert((place.prefix, names[&place.pack].clone())));
            Ok(())
        })?;
        assert_eq!(found, places);
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<Vec<u32>>),
    Condemn(Vec<usize>),
    Delete(Vec<usize>),
    Compact(usize),
    /// The process ends and another one begins.
    Restart,
    /// One that reads what is there, beside the other.
    Beside,
}

const CHUNKS: u32 = 60;

/// Each with whether the process looks at what was done before the next one.
fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let chunks = proptest::collection::btree_set(0..CHUNKS, 1..12);
    let pack = chunks.prop_map(|chunks| chunks.into_iter().collect::<Vec<u32>>());
    let some = || proptest::collection::vec(0..1000_usize, 0..4);
    let step = prop_oneof![
        6 => proptest::collection::vec(pack, 1..5).prop_map(Step::Add),
        1 => some().prop_map(Step::Condemn),
        1 => some().prop_map(Step::Delete),
        1 => (0..4_usize).prop_map(Step::Compact),
        2 => Just(Step::Restart),
        1 => Just(Step::Beside),
    ];
    proptest::collection::vec((step, proptest::bool::weighted(0.8)), 1..40)
}

fn chosen(model: &Model, some: &[usize]) -> BTreeSet<String> {
    let there: Vec<String> = model.there().into_iter().cloned().collect();
    let some = some.iter().filter(|_| !there.is_empty());
    some.map(|n| there[n % there.len()].clone()).collect()
}

fn apply(model: &mut Model, step: &Step) {
    match step {
        Step::Add(packs) => model.add_packs(packs),
        Step::Condemn(some) => {
            let packs = chosen(model, some);
            model.log.judged += 1;
            model.log.epoch = Some(Epoch {
                seq: 1,
                packs,
                waits: BTreeSet::new(),
                spared: BTreeSet::new(),
            });
        }
        Step::Delete(some) => {
            let mut packs = chosen(model, some);
            packs.extend(model.log.dead.iter().cloned());
            model.delete(&packs);
        }
        Step::Compact(with) => model.compact(*with),
        Step::Restart | Step::Beside => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_the_index_says_what_the_log_says(steps in steps(), memory in 1..80_usize) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tables");
        let limits = Limits::tiny(memory);
        let mut model = Model::default();
        let mut process = Process::new(Some(&path), limits);
        for (step, looks) in &steps {
            apply(&mut model, step);
            if matches!(step, Step::Restart) {
                drop(process);
                process = Process::new(Some(&path), limits);
            }
            if !looks {
                continue;
            }
            process.load(&model).unwrap();
            process.compare(&model, CHUNKS).unwrap();
            if matches!(step, Step::Beside) {
                let mut other = Process::new(Some(&path), limits);
                other.load(&model).unwrap();
                other.compare(&model, CHUNKS).unwrap();
            }
        }
        let tables = process.0.index().tables.len();
        drop(process);
        let files = || fs::read_dir(&path).map_or(0, Iterator::count);
        let left = files();
        prop_assert!(left <= tables + 1, "{left} files of {tables} tables");
    }
}

/// A model with several tables, and the process that made them.
fn some_tables(path: &Path) -> (Model, Process) {
    let mut model = Model::default();
    let mut process = Process::new(Some(path), Limits::tiny(40));
    for n in 0..9 {
        let packs: Vec<Vec<u32>> = (0..4)
            .map(|k| (n * 7 + k..CHUNKS.min(n * 7 + k + 6)).collect())
            .collect();
        model.add_packs(&packs);
        process.load(&model).unwrap();
    }
    process.compare(&model, CHUNKS).unwrap();
    assert!(process.0.index().tables.len() > 1);
    (model, process)
}

fn files(path: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut tables: Vec<PathBuf> = all.filter(|file| !file.ends_with("lock")).collect();
    tables.sort();
    tables
}

/// Looks at everything; what is broken is made again, as often as that is so.
fn load_and_compare(process: &mut Process, model: &Model) -> usize {
    for tries in 0..10 {
        let done = process
            .load(model)
            .and_then(|()| process.compare(model, CHUNKS));
        match done {
            Ok(()) => return tries,
            Err(error) => assert!(process.0.is_broken(), "{error}"),
        }
    }
    panic!("it stays broken");
}

#[test]
fn no_damaged_byte_is_ever_believed() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let (model, process) = some_tables(&path);
    drop(process);
    let whole: Vec<(PathBuf, Vec<u8>)> = files(&path)
        .into_iter()
        .map(|file| (file.clone(), fs::read(file).unwrap()))
        .collect();
    let restore = || {
        for file in files(&path) {
            fs::remove_file(file).unwrap();
        }
        for (file, bytes) in &whole {
            fs::write(file, bytes).unwrap();
        }
    };
    let mut noticed = 0;
    for (file, bytes) in &whole {
        for at in (0..bytes.len()).step_by(5) {
            restore();
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(file, &damaged).unwrap();
            let mut process = Process::new(Some(&path), Limits::tiny(40));
            noticed += load_and_compare(&mut process, &model);
            drop(process);
            // The next one has nothing to complain of.
            let mut process = Process::new(Some(&path), Limits::tiny(40));
            assert_eq!(load_and_compare(&mut process, &model), 0);
        }
        for len in (0..bytes.len()).step_by(97) {
            restore();
            fs::write(file, &bytes[..len]).unwrap();
            let mut process = Process::new(Some(&path), Limits::tiny(40));
            load_and_compare(&mut process, &model);
        }
        restore();
        fs::remove_file(file).unwrap();
        let mut process = Process::new(Some(&path), Limits::tiny(40));
        load_and_compare(&mut process, &model);
    }
    assert!(noticed > 10, "blocks are proven when they are read");
}

#[test]
fn a_table_that_breaks_while_it_is_used_is_made_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let (model, mut process) = some_tables(&path);
    for file in files(&path) {
        let bytes = vec![0; fs::metadata(&file).unwrap().len() as usize];
        fs::write(&file, bytes).unwrap();
    }
    // What was read before is known and right.
    load_and_compare(&mut process, &model);
    drop(process);
    let mut process = Process::new(Some(&path), Limits::tiny(40));
    load_and_compare(&mut process, &model);
}

#[test]
fn tables_of_another_key_are_not_believed() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let (model, process) = some_tables(&path);
    drop(process);
    let other = TableDirectory::new(Some(path), Key::from_bytes([1; 32]), Limits::tiny(40));
    let mut process = Process(IndexState::begin(Arc::new(other)));
    assert_eq!(process.0.segments(), 0);
    process.load(&model).unwrap();
    process.compare(&model, CHUNKS).unwrap();
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let (model, process) = some_tables(&path);
    drop(process);
    let before = files(&path);
    // Half a table, one of a chain that nobody goes on with, and one that was merged and not removed.
    fs::write(path.join("tmp-0123"), b"half").unwrap();
    fs::copy(&before[0], path.join("0000000000000001-00000001-00000001")).unwrap();
    let merged = before[0].file_name().unwrap().to_str().unwrap();
    let first = format!("{}-00000001-00000001", &merged[..16]);
    fs::copy(&before[0], path.join(first)).unwrap();
    let mut process = Process::new(Some(&path), Limits::tiny(40));
    assert_eq!(files(&path), before);
    process.load(&model).unwrap();
    process.compare(&model, CHUNKS).unwrap();
}

#[test]
fn processes_share_tables_and_only_one_names_them() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let (mut model, mut keeper) = some_tables(&path);
    let before = files(&path);
    let mut other = Process::new(Some(&path), Limits::tiny(40));
    assert!(other.0.segments() > 0, "what is there is used");
    for n in 0..12 {
        model.add_packs(&[vec![n, n + 20], vec![n + 30]]);
        other.load(&model).unwrap();
        other.compare(&model, CHUNKS).unwrap();
    }
    assert_eq!(files(&path), before, "the other one leaves nothing");
    // The keeper merges and removes what the other one has open.
    keeper.load(&model).unwrap();
    assert_ne!(files(&path), before);
    for process in [&keeper, &other] {
        process.compare(&model, CHUNKS).unwrap();
    }
    for file in files(&path) {
        fs::remove_file(file).unwrap();
    }
    for process in [&mut keeper, &mut other] {
        load_and_compare(process, &model);
    }
}

#[test]
fn without_a_place_for_tables_everything_stays_in_memory() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    fs::write(&path, b"no directory").unwrap();
    let mut model = Model::default();
    let mut process = Process::new(Some(&path.join("tables")), Limits::tiny(10));
    for n in 0..20 {
        model.add_packs(&[vec![n, n + 1], vec![n + 2]]);
        process.load(&model).unwrap();
    }
    assert!(process.0.index().tables.is_empty());
    process.compare(&model, CHUNKS).unwrap();
}

#[test]
fn the_pack_that_was_indexed_last_is_read_and_one_that_stays_before_others() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let mut model = Model::default();
    let mut process = Process::new(Some(&path), Limits::tiny(8));
    for round in 0..30 {
        model.add_packs(&[vec![1, 2, 3], vec![100 + round, 1]]);
        process.load(&model).unwrap();
        let place = process.0.index().find(&id(1).prefix()).unwrap().unwrap();
        assert_eq!(place.pack, format!("p/{}", 2 * round + 1));
        let place = process.0.index().find(&id(2).prefix()).unwrap().unwrap();
        assert_eq!(place.pack, format!("p/{}", 2 * round));
    }
    let newest: BTreeSet<String> = (4..60).map(|n| format!("p/{n}")).collect();
    model.log.epoch = Some(Epoch {
        seq: 1,
        packs: newest,
        waits: BTreeSet::new(),
        spared: BTreeSet::new(),
    });
    model.log.judged += 1;
    process.load(&model).unwrap();
    let place = process.0.index().find(&id(2).prefix()).unwrap().unwrap();
    assert_eq!((&*place.pack, place.condemned), ("p/2", false));
}

#[test]
fn a_deleted_pack_stays_deleted_whoever_has_named_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let limits = Limits::tiny(40);
    let mut model = Model::default();
    let mut process = Process::new(Some(&path), limits);
    model.add_packs(
        &(0..6)
            .map(|n| (n * 5..n * 5 + 5).collect())
            .collect::<Vec<_>>(),
    );
    process.load(&model).unwrap();
    model.add_packs(&(30..34).map(|n| (n..n + 3).collect()).collect::<Vec<_>>());
    process.load(&model).unwrap();
    assert_eq!(process.0.tables().0, 1);
    // Another segment names the packs of the first one, which are in the table.
    model.compact(1);
    process.load(&model).unwrap();
    // Much of the table goes, so it is made again.
    model.delete(&(6..9).map(|n| format!("p/{n}")).collect());
    process.load(&model).unwrap();
    model.compact(0);
    process.load(&model).unwrap();
    assert!(
        process.0.index().gone.is_empty(),
        "the table is another one"
    );
    drop(process);
    // While nobody looks packs are deleted, and the log forgets them.
    model.delete(&(0..2).map(|n| format!("p/{n}")).collect());
    model.compact(0);
    let mut process = Process::new(Some(&path), limits);
    process.load(&model).unwrap();
    process.compare(&model, CHUNKS).unwrap();
}

#[test]
fn a_guess_is_kept_for_nobody() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let (mut model, mut process) = some_tables(&path);
    model.add_packs(&[(0..30).collect(), (30..60).collect()]);
    let lost = model.log.segments.last().unwrap().clone();
    let named = files(&path);
    process.0.guess(&lost, model.segment(&lost)).unwrap();
    process.load(&model).unwrap();
    process.compare(&model, CHUNKS).unwrap();
    assert_eq!(files(&path), named);
    assert_eq!(process.0.guessed.as_deref(), Some(&*lost));
    drop(process);
    let process = Process::new(Some(&path), Limits::tiny(40));
    assert!(!process.0.has(&lost));
}

#[test]
fn a_table_made_of_what_is_not_there_any_more_is_not_used() {
    let add = |process: &mut Process, round: u32| {
        let mut builder = SegmentBuilder::default();
        let table: Vec<TableEntry> = (round * 30..round * 30 + 30).map(entry).collect();
        builder.push(format!("p/{round}"), &table);
        let name = format!("i/{round}");
        process.0.add(name, builder.into_segment()).unwrap();
    };
    let (mut one, mut other) = (
        Process::new(None, Limits::tiny(25)),
        Process::new(None, Limits::tiny(25)),
    );
    let (mut made, mut flushes) = (0, 0);
    for round in 0..20 {
        add(&mut one, round);
        add(&mut other, round);
        while let Some(work) = one.0.work() {
            flushes += u32::from(work.takes_memory());
            made += 1;
            let theirs = other.0.work().unwrap();
            let before = other.0.tables().0;
            other.0.install(work.run().unwrap());
            assert_eq!(other.0.tables().0, before, "it is made of another index");
            other.0.install(theirs.run().unwrap());
            assert_eq!(one.0.tables().0, before);
            let again = one.0.work().unwrap().run().unwrap();
            one.0.install(again);
            assert_eq!(one.0.tables().0, other.0.tables().0);
        }
        for n in 0..round * 30 + 30 {
            let place = other.0.index().find(&id(n).prefix()).unwrap().unwrap();
            assert_eq!((place.pack, place.offset), (format!("p/{}", n / 30), n));
        }
    }
    assert!(flushes > 0 && made > flushes, "{made} {flushes}");
}

#[test]
fn packs_are_weighed_while_tables_are_made() {
    let mut process = Process::new(None, Limits::tiny(25));
    let mut tally = Tally::default();
    for round in 0..20u32 {
        let mut builder = SegmentBuilder::default();
        let table: Vec<TableEntry> = (round * 10..round * 10 + 10).map(entry).collect();
        builder.push(format!("p/{round}"), &table);
        let name = format!("i/{round}");
        process.0.add(name, builder.into_segment()).unwrap();
        // Half of each pack, some before and some after it has come to a table.
        for n in [round * 10, round * 10 + 1, (round / 2) * 10 + 2 + round % 2] {
            let prefix = id(n).prefix();
            process.0.index().count(&prefix, &mut tally).unwrap();
        }
        process.work();
    }
    process
        .0
        .index()
        .count(&id(5000).prefix(), &mut tally)
        .unwrap();
    let weighed = tally.finish().unwrap();
    let len = |n: u32| u64::from(n + 50);
    for round in 0..20u32 {
        let first = round * 10;
        let mut meant = len(first) + len(first + 1);
        if round < 10 {
            meant += len(first + 2) + len(first + 3);
        }
        assert_eq!(weighed[&*format!("p/{round}")], meant, "{round}");
    }
    assert_eq!(weighed.len(), 20);
}

#[test]
fn blocks_as_large_as_usual_hold_many_places() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("tables");
    let limits = Limits {
        memory_records: 4000,
        part_keys: 3000,
        block_bytes: 4096,
        fan: 4,
        slack: 10,
        block_cache: 64 << 10,
        filters: 5000,
    };
    let mut process = Process::new(Some(&path), limits);
    for round in 0..30u32 {
        let mut builder = SegmentBuilder::default();
        let table: Vec<TableEntry> = (round * 900..round * 900 + 1000).map(entry).collect();
        builder.push(format!("p/{round}"), &table);
        process
            .0
            .add(format!("i/{round}"), builder.into_segment())
            .unwrap();
        process.work();
    }
    let index = process.0.index();
    assert!(index.tables.len() > 1 && index.tables[0].map.parts.len() > 2);
    assert_eq!(index.len(), 30_000);
    for n in 0..30 * 900 + 100 {
        let place = index.find(&id(n).prefix()).unwrap().unwrap();
        assert_eq!(place.pack, format!("p/{}", (n / 900).min(29)));
        assert_eq!(place.offset, n);
    }
    for n in 40_000..60_000 {
        assert_eq!(index.find(&id(n).prefix()).unwrap(), None);
    }
    let (_, filters) = process.0.tables();
    assert!(filters > 0 && filters <= 5000, "{filters}");
}

#[test]
fn what_was_added_is_found_and_nothing_else() {
    let mut index = Index::default();
    for round in 0..20u32 {
        let mut builder = SegmentBuilder::default();
        let table: Vec<TableEntry> = (round * 100..round * 100 + 100).map(entry).collect();
        builder.push(format!("p/{round}"), &table);
        let (name, bytes) = builder.finish(0, 3, &key()).unwrap();
        index.add(Segment::decode(&name, &bytes, &key()).unwrap());
    }
    assert_eq!(index.len(), 2000);
    assert!(index.memory.runs.len() < 8);
    for n in 0..2000 {
        let found = index.find(&entry(n).id.prefix()).unwrap().unwrap();
        assert_eq!(
            found,
            Location {
                pack: format!("p/{}", n / 100),
                offset: n,
                len: n + 50,
                condemned: false,
            }
        );
    }
    assert_eq!(index.find(&entry(2000).id.prefix()).unwrap(), None);
}

#[test]
fn a_damaged_segment_is_refused_by_name() {
    let mut builder = SegmentBuilder::default();
    builder.push("p/1".to_owned(), &[entry(1), entry(2)]);
    let (name, bytes) = builder.finish(0, 3, &key()).unwrap();
    for at in (0..8).chain(16..bytes.len()) {
        let mut copy = bytes.clone();
        copy[at] ^= 1;
        let error = Segment::decode(&name, &copy, &key()).err().unwrap();
        assert!(error.to_string().contains(&name));
        assert!(Segment::decode(&name, &copy[..at], &key()).is_err());
    }
}

#[test]
fn maps_of_any_bytes_are_refused_or_read() {
    let links = layout::Links {
        chain: 1,
        first: 2,
        last: 3,
        level: 1,
    };
    let mut map = layout::Map::new(links, 4096);
    map.heads = vec![1, 2];
    map.pack_blocks = vec![7];
    let bytes = map.encode();
    assert_eq!(layout::Map::decode(&bytes), Some(map));
    for at in 0..bytes.len() {
        assert_eq!(layout::Map::decode(&bytes[..at]), None);
        let mut copy = bytes.clone();
        copy[at] ^= 0xff;
        let _ = layout::Map::decode(&copy);
    }
}
