//! A tree like those in volumes.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Content, What, make_other};
use crate::Random;

/// Makes a tree as volumes have them: about `bytes` in large and small files, some of it
/// compressible, some of it twice, with a hole, links and a pipe. All of it is an hour old.
///
/// # Panics
/// The file system refuses.
pub fn sample(root: &Path, seed: u64, bytes: usize) {
    let mut random = Random::new(seed);
    let at = |name: &str| root.join(name);
    for dir in ["base", "base/1", "base/16384", "log", "empty", "many"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    let large = random.bytes(bytes / 2);
    fs::write(at("base/16384/table"), &large).unwrap();
    fs::write(at("base/1/copy of a part"), &large[..bytes / 8]).unwrap();
    Content::Lines(seed, bytes / 160).write(&at("log/current.log"));
    for file in 0..200 {
        let size = random.below(2000) as usize;
        let content = random.bytes(size);
        fs::write(at(&format!("many/file-{file:04}")), content).unwrap();
    }
    Content::Sparse(4 << 20, vec![(seed, 1 << 20, 5000)]).write(&at("holes"));
    fs::write(at("nothing"), "").unwrap();
    symlink("base/16384/table", at("link")).unwrap();
    fs::hard_link(at("log/current.log"), at("log/second name")).unwrap();
    make_other(&What::Fifo, &at("pipe"));
    age(root);
}

fn age(path: &Path) {
    let stat = fs::symlink_metadata(path).unwrap();
    if stat.is_dir() {
        for child in fs::read_dir(path).unwrap() {
            age(&child.unwrap().path());
        }
    }
    if stat.is_file() || stat.is_dir() {
        let old: SystemTime = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        File::open(path).unwrap().set_modified(old).unwrap();
    }
}
