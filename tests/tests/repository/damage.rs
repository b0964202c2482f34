//! Damage of any stored object is found and the object is named; garbage never panics.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use bytes::Bytes;
use orlop_repository::{CheckReport, Error, ObjectStore as _, Result, Unlock, store::MemoryStore};
use orlop_tests::{Engine, Random, Record, copy_store, sample};

/// A small repository with three snapshots, and what the first holds.
fn repository(volume: &Path) -> (Arc<MemoryStore>, Record) {
    let store = Arc::new(MemoryStore::new());
    let engine = Engine::init(store.clone()).unwrap();
    sample(volume, 6, 300 << 10);
    let before = Record::of(volume);
    engine.backup(volume);
    for change in ["one", "two"] {
        fs::write(volume.join("many").join(change), change.repeat(900)).unwrap();
        engine.backup(volume);
    }
    engine.assert_sound();
    (store, before)
}

fn names(store: &MemoryStore) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let objects = runtime.block_on(store.list("")).unwrap();
    let names = objects.into_iter().map(|object| object.name);
    // Each check joins the records of those before it; what becomes of damaged ones is tried with the repairs.
    names.filter(|name| !name.starts_with("v/")).collect()
}

fn get(store: &MemoryStore, name: &str) -> Bytes {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(store.get(name)).unwrap()
}

/// Opens and checks the repository with all data read.
fn check(store: &Arc<MemoryStore>) -> Result<CheckReport> {
    Engine::open(store.clone())?.try_check()
}

/// Asserts that opening or checking the repository names the object.
fn assert_named(store: &Arc<MemoryStore>, name: &str, what: &str) {
    match check(store) {
        Ok(report) => {
            assert!(!report.ok, "{what} in {name} is not seen");
            let found: Vec<&str> = report
                .damage
                .iter()
                .map(|one| one.object.as_str())
                .collect();
            assert!(
                found.contains(&name),
                "{what} in {name}: it names {found:?}"
            );
        }
        // What a newer format means cannot be known, not even who signed it.
        Err(Error::NewerFormat { .. } | Error::UnknownFeature { .. }) if name == "repo.cfg" => {}
        Err(error) => {
            assert!(
                error.to_string().contains(name),
                "{what} in {name}: it says {error}"
            );
        }
    }
}

#[test]
fn a_flipped_byte_is_refused_by_the_object_s_name() {
    let volume = orlop_tests::quick_dir();
    let (store, _) = repository(volume.path());
    let mut random = Random::new(7);
    let names = names(&store);
    let kinds: BTreeSet<&str> = names
        .iter()
        .map(|name| name.split('/').next().unwrap())
        .collect();
    assert!(kinds.len() >= 6, "objects of every kind: {kinds:?}");
    for name in &names {
        let whole = get(&store, name);
        let last = whole.len() - 1;
        let mut places = BTreeSet::from([
            0,
            1,
            7,
            8,
            9,
            12,
            40,
            whole.len() / 2,
            last.saturating_sub(20),
            last,
        ]);
        places.extend((0..20).map(|_| random.below(whole.len() as u64) as usize));
        for place in places.into_iter().filter(|place| *place <= last) {
            let mut damaged = whole.to_vec();
            damaged[place] ^= 1 << random.below(8);
            store.overwrite(name, damaged.into());
            assert_named(
                &store,
                name,
                &format!("a flip at {place} of {}", whole.len()),
            );
        }
        store.overwrite(name, whole);
    }
    Engine::open(store).unwrap().assert_sound();
}

/// Ways in which an object can be nothing like itself.
fn garbage(whole: &[u8], random: &mut Random) -> Vec<(String, Vec<u8>)> {
    let mut ways = vec![
        ("nothing".to_owned(), Vec::new()),
        ("zeros".to_owned(), vec![0; whole.len()]),
        ("ones".to_owned(), vec![0xff; whole.len()]),
        ("noise".to_owned(), random.bytes(whole.len())),
        ("a byte more".to_owned(), [whole, b"\0"].concat()),
        ("itself twice".to_owned(), [whole, whole].concat()),
        ("a missing first byte".to_owned(), whole[1..].to_vec()),
    ];
    for _ in 0..6 {
        let keep = random.below(whole.len() as u64) as usize;
        ways.push((format!("the first {keep} bytes"), whole[..keep].to_vec()));
        let rest = whole.len() - keep;
        ways.push((
            format!("{keep} bytes and noise"),
            [&whole[..keep], &random.bytes(rest)].concat(),
        ));
        // Lengths and counts at the wrong place: a decoder must not believe them.
        let mut spread = whole.to_vec();
        let end = (keep + 8).min(whole.len());
        spread[keep..end].fill(0xff);
        if spread != whole {
            ways.push((format!("large numbers at {keep}"), spread));
        }
    }
    ways
}

#[test]
fn garbage_in_place_of_any_object_is_an_error_that_names_it() {
    let volume = orlop_tests::quick_dir();
    let (store, _) = repository(volume.path());
    let mut random = Random::new(8);
    for name in names(&store) {
        let whole = get(&store, &name);
        for (what, bytes) in garbage(&whole, &mut random) {
            store.overwrite(&name, bytes.into());
            assert_named(&store, &name, &what);
        }
        store.overwrite(&name, whole);
    }
}

#[test]
fn an_object_in_another_s_place_is_an_error_that_names_the_place() {
    let volume = orlop_tests::quick_dir();
    let (store, _) = repository(volume.path());
    let names = names(&store);
    for (one, other) in names.iter().zip(&names[1..]) {
        let (whole, wrong) = (get(&store, one), get(&store, other));
        store.overwrite(one, wrong);
        assert_named(&store, one, &format!("the content of {other}"));
        store.overwrite(one, whole);
    }
}

#[test]
fn a_missing_object_is_named() {
    let volume = orlop_tests::quick_dir();
    let (store, _) = repository(volume.path());
    let names = names(&store);
    // A key that is gone opens nothing, and the newest entry of a log is missed by nobody.
    let last = names.iter().filter(|name| name.starts_with("log/")).max();
    for name in names
        .iter()
        .filter(|name| !name.starts_with("keys/") && Some(*name) != last)
    {
        let copy = copy_store(&*store);
        let engine = Engine::open(store.clone()).unwrap();
        engine.wait(copy.delete(name)).unwrap();
        if name == "repo.cfg" {
            assert!(matches!(check(&copy), Err(Error::NoRepository { .. })));
        } else if name.starts_with("log/") {
            // The log ends where an entry is missing; what it then does not know is no snapshot.
            let Ok(engine) = Engine::open(copy) else {
                continue;
            };
            let left = engine.wait(engine.repository().snapshots()).unwrap();
            assert!(left.len() <= 3);
        } else {
            assert_named(&copy, name, "its absence");
        }
    }
}

#[test]
fn damaged_data_is_never_restored_as_if_it_were_whole() {
    let volume = orlop_tests::quick_dir();
    let (store, before) = repository(volume.path());
    let first = {
        let engine = Engine::open(store.clone()).unwrap();
        engine.wait(engine.repository().snapshots()).unwrap()[0].id
    };
    let mut random = Random::new(9);
    let mut harmed = 0;
    for name in names(&store)
        .into_iter()
        .filter(|name| name.starts_with("p/"))
    {
        let whole = get(&store, &name);
        for _ in 0..12 {
            let mut damaged = whole.to_vec();
            damaged[random.below(whole.len() as u64) as usize] ^= 0x10;
            store.overwrite(&name, damaged.into());
            let target = orlop_tests::quick_dir();
            let Ok(engine) = Engine::open(store.clone()) else {
                continue;
            };
            match engine.try_restore(first, target.path()) {
                Ok(report) if report.issues.is_empty() => {
                    orlop_tests::assert_identical(&before, target.path());
                }
                Ok(report) => {
                    harmed += 1;
                    let named = report
                        .issues
                        .iter()
                        .any(|issue| issue.message.contains(&name));
                    assert!(named, "{:?}", report.issues);
                }
                Err(_) => harmed += 1,
            }
        }
        store.overwrite(&name, whole);
    }
    assert!(harmed > 0, "no flip hit a chunk");
}

#[test]
fn the_wrong_key_opens_nothing_and_says_so() {
    let volume = orlop_tests::quick_dir();
    let (store, _) = repository(volume.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let open = |unlock: Unlock| {
        let result = runtime.block_on(orlop_repository::Repository::open(store.clone(), &unlock));
        result.map(|_| ()).unwrap_err()
    };
    let error = open(Unlock::KeyFile(vec![7; 32]));
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
    assert!(
        error.is_permanent() && error.to_string().starts_with("wrong key file for"),
        "{error}"
    );
    let error = open(Unlock::Passphrase("guess".to_owned()));
    assert!(
        error.to_string().starts_with("wrong password for"),
        "{error}"
    );
}

#[test]
fn a_place_without_a_repository_says_so() {
    let error = Engine::open(Arc::new(MemoryStore::new()))
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, Error::NoRepository { .. }), "{error}");
    let volume = orlop_tests::quick_dir();
    let (store, _) = repository(volume.path());
    let error = Engine::init(store).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::RepositoryExists { .. }), "{error}");
}
