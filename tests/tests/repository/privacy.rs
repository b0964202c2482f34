//! Whoever holds the store alone learns nothing that is in files, and no name.

use std::{collections::HashSet, fs, path::Path};

use orlop_core::VolumeRef;
use orlop_tests::{Engine, Random};
use rustix::fs::{XattrFlags, lsetxattr};

const WINDOW: usize = 16;

/// Every run of 16 bytes that must not appear. Runs of one repeated byte say nothing and are left out.
fn runs(of: &[u8], into: &mut HashSet<[u8; WINDOW]>) {
    for run in of.windows(WINDOW) {
        if run.iter().any(|b| *b != run[0]) {
            into.insert(run.try_into().unwrap());
        }
    }
}

/// A volume with files of every way in which they are stored: inline, bundled, chunked, compressed
/// and not. Gives its names.
fn make(root: &Path, files: &mut HashSet<[u8; WINDOW]>) -> Vec<Vec<u8>> {
    let mut random = Random::new(11);
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut directory = root.to_owned();
    for (number, size) in [20, 100, 900, 3000, 20_000, 70_000, 300_000, 1_500_000]
        .into_iter()
        .enumerate()
    {
        let name = format!("directory-{number}-{:x}", random.number());
        directory = directory.join(&name);
        fs::create_dir(&directory).unwrap();
        names.push(name.into_bytes());
        let noise = random.bytes(size);
        let mut text = Vec::new();
        while text.len() < size {
            text.extend(format!("customer {:x} owes nothing\n", random.number()).bytes());
        }
        for (kind, content) in [("noise", noise), ("text", text)] {
            let name = format!("{kind}-{size}-{:x}.dat", random.number());
            let path = directory.join(&name);
            fs::write(&path, &content).unwrap();
            names.push(name.into_bytes());
            runs(&content, files);
        }
    }
    let target = format!("/link/target/{:x}", random.number());
    std::os::unix::fs::symlink(&target, root.join("link-with-a-long-name")).unwrap();
    let (name, value) = (
        b"user.attribute-name".as_slice(),
        b"the attribute's value".as_slice(),
    );
    if lsetxattr(&directory, name, value, XattrFlags::empty()).is_ok() {
        names.extend([name.to_vec(), value.to_vec()]);
    }
    names.extend([target.into_bytes(), b"link-with-a-long-name".to_vec()]);
    names
}

#[test]
fn no_run_of_any_file_and_no_name_is_in_any_object() {
    let volume = orlop_tests::quick_dir();
    let mut files = HashSet::new();
    let mut names = make(volume.path(), &mut files);
    for name in [
        "namespace-name",
        "pod-name-0",
        "volume-name",
        "node-of-the-tests",
        "backup-of-the-tests",
        "tag-of-the-tests",
        "lineage of namespace-name",
    ] {
        names.push(name.as_bytes().to_vec());
    }
    names.push(orlop_tests::KEY.to_vec());
    let engine = Engine::in_memory();
    let reference = VolumeRef::new("namespace-name", "pod-name-0", "volume-name");
    engine.try_backup_as(volume.path(), &reference).unwrap();
    fs::write(
        volume.path().join("one more file"),
        "one more file's content",
    )
    .unwrap();
    runs(b"one more file's content", &mut files);
    names.push(b"one more file".to_vec());
    engine.try_backup_as(volume.path(), &reference).unwrap();

    let objects = engine.wait(engine.store().list("")).unwrap();
    assert!(objects.len() > 10, "{objects:?}");
    let mut bytes_total = 0;
    for object in objects {
        let bytes = engine.wait(engine.store().get(&object.name)).unwrap();
        bytes_total += bytes.len();
        for run in bytes.windows(WINDOW) {
            let leaks = files.contains(run);
            assert!(
                !leaks,
                "{} holds {:?}",
                object.name,
                run.escape_ascii().to_string()
            );
        }
        for name in &names {
            let leaks = bytes.windows(name.len()).any(|run| run == name.as_slice());
            let named = object
                .name
                .as_bytes()
                .windows(name.len())
                .any(|run| run == name.as_slice());
            assert!(
                !leaks && !named,
                "{} holds {}",
                object.name,
                name.escape_ascii()
            );
        }
    }
    assert!(bytes_total > 1 << 20);
}
