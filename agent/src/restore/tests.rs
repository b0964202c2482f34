//! Restores of hostile and unusual trees, from a source made up in memory.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    ops::ControlFlow,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt, PermissionsExt, symlink},
        },
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use orlop_core::{IssueKind, NoMonitor, Progress, Timestamp};
use orlop_repository::{
    Content, Entry, EntryKind, EntryStatus, Error, Extent, FetchLimits, HardlinkGroup, Metadata,
    Scope, Secret, Xattr,
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags};

use super::*;
use crate::scan::{Directory, FileStat, Visitor, WalkOptions, walk};

/// A snapshot in memory.
#[derive(Default)]
struct Double {
    entries: Vec<Entry>,
    chunks: HashMap<Secret, Vec<u8>>,
    errors: u64,
    partial: bool,
}

impl Double {
    fn chunk(&mut self, bytes: Vec<u8>) -> Secret {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(self.chunks.len() as u64).to_le_bytes());
        let secret = Secret::from_bytes(id);
        self.chunks.insert(secret, bytes);
        secret
    }

    fn file(&mut self, path: &str, content: &[u8]) {
        let secret = self.chunk(content.to_vec());
        let extents = vec![Extent::Data {
            secret,
            len: content.len() as u32,
        }];
        let entry = Entry {
            size: content.len() as u64,
            content: Content::Extents(extents),
            ..entry(path.as_bytes(), EntryKind::File)
        };
        self.entries.push(entry);
    }
}

impl Source for Double {
    fn totals(&self) -> (u64, u64) {
        (self.entries.len() as u64, 0)
    }

    fn errors(&self) -> u64 {
        self.errors
    }

    fn is_partial(&self) -> bool {
        self.partial
    }

    fn entries<'a>(
        &'a self,
        scope: Scope,
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + Send + 'a> {
        let wanted = move |entry: &&Entry| scope.wants(&entry.path);
        Box::new(self.entries.iter().filter(wanted).cloned().map(Ok))
    }

    fn near(&self, path: &[u8]) -> Result<String, Error> {
        Ok(format!("; near {}", String::from_utf8_lossy(path)))
    }

    fn is_chunk(&self, secret: &Secret, plain: &[u8]) -> bool {
        self.chunks.get(secret).is_some_and(|chunk| chunk == plain)
    }

    fn has_digest(&self, content: &[u8], wanted: &[u8; 16]) -> bool {
        let mut digest = [1_u8; 16];
        for (at, byte) in content.iter().enumerate() {
            digest[at % 16] = digest[at % 16].wrapping_mul(31).wrapping_add(*byte);
        }
        digest == *wanted
    }

    fn extents<'a>(
        &'a self,
        entry: &'a Entry,
    ) -> Box<dyn Iterator<Item = Result<Extent, Error>> + Send + 'a> {
        match &entry.content {
            Content::Extents(extents) => Box::new(extents.iter().cloned().map(Ok)),
            _ => Box::new(std::iter::empty()),
        }
    }

    fn fetch(
        &self,
        batches: Batches<'_, '_>,
        limits: FetchLimits,
        finished: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        for batch in batches {
            let next = AtomicUsize::new(0);
            let chunks = batch.wanted();
            std::thread::scope(|scope| {
                for _ in 0..limits.workers {
                    scope.spawn(|| {
                        while !batch.is_given_up() {
                            let index = next.fetch_add(1, Ordering::Relaxed);
                            if let Some(wanted) = chunks.get(index) {
                                let chunk = self.chunks.get(&wanted.secret);
                                batch.chunk(index, chunk.map(Vec::as_slice).ok_or_else(lost));
                            } else if index < chunks.len() + batch.parts() {
                                batch.part(index - chunks.len());
                            } else {
                                return;
                            }
                        }
                    });
                }
            });
            if !finished() {
                break;
            }
        }
        Ok(())
    }
}

fn lost() -> Error {
    Error::NotFound {
        name: "data/x".to_owned(),
        store: "memory".to_owned(),
    }
}

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory {
        0o755
    } else {
        0o644
    };
    let meta = Metadata {
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Timestamp::new(1_000_000_000, 5),
        ..Metadata::default()
    };
    Entry::bare(path.to_vec(), kind, meta)
}

/// Takes a snapshot with the walk of this crate.
#[derive(Default)]
struct Taker {
    double: Double,
    /// Small files wait here for a bundle: index of the entry, offset.
    bundle: Vec<u8>,
    bundled: Vec<(usize, u32)>,
    problems: Vec<String>,
}

impl Taker {
    fn close_bundle(&mut self) {
        let secret = self.double.chunk(std::mem::take(&mut self.bundle));
        for (index, offset) in self.bundled.drain(..) {
            let entry = &mut self.double.entries[index];
            let len = entry.size as u32;
            entry.content = Content::Extents(vec![Extent::Bundle {
                secret,
                offset,
                len,
            }]);
        }
    }

    fn content(&mut self, index: usize, mut file: File, stat: &FileStat) {
        let mut extents = Vec::new();
        if stat.size > 0 && stat.size < 16 {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            extents.push(Extent::Inline(bytes));
        } else if stat.size > 0 && stat.size < 4096 {
            self.bundled.push((index, self.bundle.len() as u32));
            file.read_to_end(&mut self.bundle).unwrap();
            if self.bundle.len() > 256 << 10 {
                self.close_bundle();
            }
            return;
        } else {
            let mut at = 0;
            while at < stat.size {
                let data =
                    rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)).unwrap_or(stat.size);
                if data > at {
                    extents.push(Extent::Hole(data - at));
                    at = data;
                    continue;
                }
                let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(at)).unwrap();
                let len = (hole - at).min(1 << 20) as usize;
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, at).unwrap();
                let secret = self.double.chunk(bytes);
                extents.push(Extent::Data {
                    secret,
                    len: len as u32,
                });
                at += len as u64;
            }
        }
        self.double.entries[index].content = Content::Extents(extents);
    }
}

impl Visitor for Taker {
    fn entry(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()> {
        let (xattrs, flags) = dir.attributes(name, stat).unwrap();
        let index = self.double.entries.len();
        let is_file = stat.kind == EntryKind::File;
        self.double.entries.push(Entry {
            meta: metadata(stat, xattrs, flags),
            size: if is_file { stat.size } else { 0 },
            target: if stat.kind == EntryKind::Symlink {
                dir.read_link(name).unwrap()
            } else {
                Vec::new()
            },
            hardlink: (is_file && stat.nlink > 1).then_some(HardlinkGroup {
                id: stat.ino,
                links: stat.nlink,
            }),
            ..entry(&dir.join(name), stat.kind)
        });
        if is_file {
            let (file, _) = dir.open_file(name, stat).unwrap();
            self.content(index, file, stat);
        }
        ControlFlow::Continue(())
    }

    fn issue(&mut self, issue: Issue) {
        self.problems.push(issue.message);
    }

    fn unreadable_directory(&mut self, path: &[u8], _errno: i32) {
        self.problems.push(format!("{path:?}"));
    }
}

fn metadata(stat: &FileStat, xattrs: Vec<Xattr>, flags: u32) -> Metadata {
    Metadata {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        flags,
        rdev: stat.rdev,
        xattrs,
    }
}

fn take(path: &Path) -> Double {
    let options = WalkOptions::default();
    let fd: OwnedFd = File::open(path).unwrap().into();
    let root = Directory::open_root(fd, &options).unwrap();
    let mut taker = Taker::default();
    let (xattrs, flags) = root.attributes(b"", &root.stat_self()).unwrap();
    taker.double.entries.push(Entry {
        meta: metadata(&root.stat_self(), xattrs, flags),
        ..entry(b"", EntryKind::Directory)
    });
    walk(&root, &options, &mut taker, &CancellationToken::new()).unwrap();
    taker.close_bundle();
    assert_eq!(taker.problems, Vec::<String>::new());
    taker.double
}

/// Entries with the bytes in place of chunks, and groups numbered by first appearance.
fn plain(double: &Double) -> Vec<(Entry, Vec<Extent>)> {
    let mut groups = HashMap::new();
    let one = |entry: &Entry| {
        let mut entry = entry.clone();
        let extents = match std::mem::replace(&mut entry.content, Content::None) {
            Content::Extents(extents) => extents,
            _ => Vec::new(),
        };
        if let Some(group) = &mut entry.hardlink {
            let next = groups.len() as u64;
            group.id = *groups.entry(group.id).or_insert(next);
        }
        let bytes = |extent: Extent| match extent {
            Extent::Data { secret, .. } => Extent::Inline(double.chunks[&secret].clone()),
            Extent::Bundle {
                secret,
                offset,
                len,
            } => {
                let range = offset as usize..(offset + len) as usize;
                Extent::Inline(double.chunks[&secret][range].to_vec())
            }
            other => other,
        };
        (entry, extents.into_iter().map(bytes).collect())
    };
    double.entries.iter().map(one).collect()
}

fn job(target: &Path, mode: RestoreMode) -> RestoreJob {
    RestoreJob {
        mode,
        workers: 3,
        ..RestoreJob::new(RestoreTarget::Path(target.to_owned()))
    }
}

fn restore_as(job: RestoreJob, source: &Double) -> Result<RestoreReport, RestoreError> {
    run_from(job, source, Arc::new(NoMonitor), CancellationToken::new())
}

fn restore(target: &Path, source: &Double, mode: RestoreMode) -> RestoreReport {
    restore_as(job(target, mode), source).unwrap()
}

fn assert_same(expected: &Double, found: &Double) {
    let (expected, found) = (plain(expected), plain(found));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.0, found.0);
        assert!(
            expected.1 == found.1,
            "content of {:?}",
            String::from_utf8_lossy(&found.0.path)
        );
    }
    assert_eq!(expected.len(), found.len());
}

fn set_times(path: &Path, secs: i64) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: secs,
            tv_nsec: 123_456_789,
        },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn is_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let required = std::env::var("ORLOP_REQUIRE").is_ok_and(|list| list.contains("root"));
    assert!(!required, "this test needs root");
    eprintln!("skipped: needs root");
    false
}

/// A tree with everything that an ordinary user can make.
fn make_tree(root: &Path) {
    for dir in ["a/b", "closed", "sticky", "empty", "links", "many"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for n in 0..500 {
        fs::write(root.join(format!("many/{n}")), vec![b'x'; n * 9]).unwrap();
    }
    fs::write(root.join("a/inline"), "tiny").unwrap();
    fs::write(root.join("a/nothing"), "").unwrap();
    let big: Vec<u8> = (0..5_000_001_u32)
        .flat_map(u32::to_le_bytes)
        .take(9_000_001)
        .collect();
    fs::write(root.join("a/b/big"), &big).unwrap();
    let mut sparse = File::create(root.join("a/b/sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.seek(SeekFrom::Start(20 << 20)).unwrap();
    sparse.write_all(&vec![7; 70_000]).unwrap();
    drop(sparse);
    File::create(root.join("a/b/hole"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    fs::write(
        root.join(OsStr::from_bytes(b"not \xff\xfe utf-8\n")),
        "bytes",
    )
    .unwrap();
    fs::write(root.join("n".repeat(255)), "long").unwrap();
    symlink("/etc/passwd", root.join("a/link")).unwrap();
    symlink("nowhere/\u{1F6F3}", root.join("a/dangling")).unwrap();
    rustix::fs::mkfifoat(CWD, root.join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    fs::write(root.join("links/z"), vec![b'l'; 5000]).unwrap();
    fs::hard_link(root.join("links/z"), root.join("a/first")).unwrap();
    fs::hard_link(root.join("links/z"), root.join("links/y")).unwrap();
    let flags = XattrFlags::empty();
    for path in ["a/inline", "a/b", "a/b/big"] {
        // Not every file system has them.
        let _ = rustix::fs::setxattr(root.join(path), "user.note", b"one \0 two", flags);
    }
    let mut fd = rustix::fs::openat(CWD, root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..60 {
        let name = "d".repeat(100);
        rustix::fs::mkdirat(&fd, &name, Mode::RWXU).unwrap();
        fd = rustix::fs::openat(&fd, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    rustix::fs::openat(&fd, "leaf", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    for (path, mode) in [
        ("a/inline", 0o444),
        ("a/nothing", 0o600),
        ("a/b/big", 0o4755),
        ("a/b", 0o2750),
        ("pipe", 0o622),
        ("sticky", 0o1777),
        ("closed", 0o555),
        ("", 0o2751),
    ] {
        fs::set_permissions(root.join(path), PermissionsExt::from_mode(mode)).unwrap();
    }
    for (path, secs) in [
        ("a/inline", -2_000_000_000),
        ("a/link", 5_000_000_000),
        ("pipe", 1),
        ("closed", 12_000_000_000),
        ("a", -1),
        ("", 77),
    ] {
        set_times(&root.join(path), secs);
    }
}

#[test]
fn everything_comes_back_as_it_was() {
    for force_fallback in [false, true] {
        let source = tempfile::tempdir().unwrap();
        make_tree(source.path());
        let taken = take(source.path());
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        let job = RestoreJob {
            force_fallback,
            ..job(&target, RestoreMode::NewDir)
        };
        let report = restore_as(job, &taken).unwrap();
        assert_eq!(report.issues, []);
        assert_eq!(report.files, 510 + 1);
        assert_eq!(report.dirs, 68);
        assert_eq!(report.others, 4);
        assert_same(&taken, &take(&target));
        let sparse = fs::metadata(target.join("a/b/sparse")).unwrap();
        assert!(sparse.blocks() * 512 < 2 << 20);
        // And over itself, however closed it is now.
        let report = restore(&target, &taken, RestoreMode::Overwrite);
        assert_eq!(report.issues, []);
        assert_same(&taken, &take(&target));
        assert_eq!(restore(&target, &taken, RestoreMode::Exact).issues, []);
        assert_same(&taken, &take(&target));
    }
}

#[test]
fn owners_devices_and_system_attributes_come_back_as_root() {
    if !is_root() {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    for name in ["owned", "capable", "acl", "suid", "frozen"] {
        fs::write(at(name), name.repeat(300)).unwrap();
    }
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/x"), "x").unwrap();
    std::os::unix::fs::chown(at("owned"), Some(u32::MAX - 1), Some(u32::MAX - 1)).unwrap();
    std::os::unix::fs::chown(at("suid"), Some(1000), Some(1001)).unwrap();
    std::os::unix::fs::chown(at("dir"), Some(1000), Some(1001)).unwrap();
    fs::set_permissions(at("suid"), PermissionsExt::from_mode(0o6755)).unwrap();
    let flags = XattrFlags::empty();
    // cap_net_bind_service+ep, revision 2.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(at("capable"), "security.capability", &capability, flags).unwrap();
    std::os::unix::fs::chown(at("capable"), Some(7), None).unwrap();
    rustix::fs::setxattr(at("capable"), "security.capability", &capability, flags).unwrap();
    // user::rw- user:1000:r-- group::r-- mask::r-- other::---
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1000),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&permissions.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    let acls = rustix::fs::setxattr(at("acl"), "system.posix_acl_access", &acl, flags).is_ok()
        && rustix::fs::setxattr(at("dir"), "system.posix_acl_default", &acl, flags).is_ok();
    rustix::fs::setxattr(at("dir"), "trusted.note", b"t", flags).unwrap();
    let device = rustix::fs::makedev(1, 3);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(CWD, at("null"), kind, Mode::from_raw_mode(0o666), device).unwrap();
    let frozen = File::open(at("frozen")).unwrap();
    let flagged = rustix::fs::ioctl_getflags(&frozen)
        .and_then(|now| rustix::fs::ioctl_setflags(&frozen, now | rustix::fs::IFlags::APPEND))
        .is_ok();
    let taken = take(source.path());
    let target = tempfile::tempdir().unwrap();
    if acls {
        // What is restored must not inherit from the target's root.
        let path = target.path();
        rustix::fs::setxattr(path, "system.posix_acl_default", &acl, flags).unwrap();
    }
    let report = restore(target.path(), &taken, RestoreMode::Empty);
    let found = take(target.path());
    for path in [source.path(), target.path()]
        .into_iter()
        .filter(|_| flagged)
    {
        let frozen = File::open(path.join("frozen")).unwrap();
        let now = rustix::fs::ioctl_getflags(&frozen).unwrap();
        assert!(now.contains(rustix::fs::IFlags::APPEND));
        rustix::fs::ioctl_setflags(&frozen, now - rustix::fs::IFlags::APPEND).unwrap();
    }
    assert_eq!(report.issues, []);
    assert_same(&taken, &found);
}

#[test]
fn the_mode_decides_about_what_is_there() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    for name in [b"d".as_slice(), b"e", b"lost+found"] {
        source.entries.push(entry(name, EntryKind::Directory));
    }
    source.file("x", b"new");
    source.file("d/y", b"new");
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir(at("lost+found")).unwrap();
    restore(place.path(), &source, RestoreMode::Empty);
    let refused = restore_as(job(place.path(), RestoreMode::Empty), &source).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("is not empty (it holds \"d\")"),
        "{refused}"
    );
    let refused = restore_as(job(place.path(), RestoreMode::NewDir), &source).unwrap_err();
    assert!(refused.to_string().contains("exists already"), "{refused}");

    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("y"), "outside").unwrap();
    fs::write(outside.path().join("x"), "outside").unwrap();
    let disturb = || {
        let _ = fs::remove_file(at("x"));
        fs::create_dir_all(at("x/full")).unwrap();
        fs::write(at("x/full/file"), "").unwrap();
        fs::remove_dir_all(at("d")).unwrap();
        symlink(outside.path(), at("d")).unwrap();
        fs::write(at("other"), "").unwrap();
        fs::create_dir_all(at("e/other/below")).unwrap();
        fs::write(at("lost+found/inode"), "").unwrap();
        fs::set_permissions(at("e"), PermissionsExt::from_mode(0o555)).unwrap();
    };
    disturb();
    let report = restore(place.path(), &source, RestoreMode::Overwrite);
    assert_eq!(report.issues, []);
    assert_eq!(fs::read_to_string(at("x")).unwrap(), "new");
    assert_eq!(fs::read_to_string(at("d/y")).unwrap(), "new");
    assert!(at("other").exists() && at("e/other/below").exists());
    assert_eq!(
        fs::read_to_string(outside.path().join("y")).unwrap(),
        "outside"
    );

    disturb();
    let report = restore(place.path(), &source, RestoreMode::Exact);
    assert_eq!(report.issues, []);
    assert!(!at("other").exists() && !at("e/other").exists() && at("lost+found").exists());
    assert!(report.removed >= 4, "{report:?}");
    assert_eq!(fs::read_to_string(at("d/y")).unwrap(), "new");
    assert_eq!(
        fs::read_to_string(outside.path().join("x")).unwrap(),
        "outside"
    );
    let paths: Vec<_> = take(place.path())
        .entries
        .into_iter()
        .map(|e| e.path)
        .collect();
    assert_eq!(
        paths,
        [b"".as_slice(), b"d", b"e", b"lost+found", b"x", b"d/y"]
    );
}

#[test]
fn a_hostile_manifest_leads_nowhere_outside() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "as it was").unwrap();
    for force_fallback in [false, true] {
        let mut source = Double::default();
        source.entries.push(entry(b"", EntryKind::Directory));
        let target = outside.path().as_os_str().as_bytes().to_vec();
        source.entries.push(Entry {
            target,
            ..entry(b"link", EntryKind::Symlink)
        });
        source.file("link/victim", b"evil");
        source.file("../victim", b"evil");
        source.file("..", b"evil");
        source.file("a//b", b"evil");
        source.file("nul\0", b"evil");
        source.file("/etc/evil", b"evil");
        source.file("twice", b"first");
        source.file("twice", b"second");
        source.file("untouched", b"good");
        let place = tempfile::tempdir().unwrap();
        let inner = place.path().join("inner");
        let job = RestoreJob {
            force_fallback,
            ..job(&inner, RestoreMode::Empty)
        };
        let report = restore_as(job, &source).unwrap();
        assert_eq!(report.issues_total, 7, "{:?}", report.issues);
        assert_eq!(
            fs::read_to_string(outside.path().join("victim")).unwrap(),
            "as it was"
        );
        assert_eq!(fs::read_to_string(inner.join("twice")).unwrap(), "first");
        assert_eq!(fs::read_to_string(inner.join("untouched")).unwrap(), "good");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 3);
    }
}

#[test]
fn a_lost_chunk_costs_only_the_files_that_need_it() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    source.file("bad", b"will be lost");
    source.file("good", b"is there");
    let unread = EntryStatus::Unreadable(5);
    source.entries.push(Entry {
        status: unread,
        ..entry(b"unread", EntryKind::File)
    });
    let Content::Extents(extents) = &source.entries[1].content else {
        unreachable!()
    };
    let Extent::Data { secret, .. } = extents[0] else {
        unreachable!()
    };
    source.chunks.remove(&secret);
    let target = tempfile::tempdir().unwrap();
    let report = restore(target.path(), &source, RestoreMode::Empty);
    assert_eq!(report.files, 1);
    assert!(!target.path().join("bad").exists() && !target.path().join("unread").exists());
    let kinds: Vec<_> = report
        .issues
        .iter()
        .map(|issue| (&*issue.path, issue.kind))
        .collect();
    let expected: [(&[u8], IssueKind); 2] = [
        (b"unread", IssueKind::Skipped),
        (b"bad", IssueKind::Unreadable),
    ];
    assert!(
        expected.iter().all(|one| kinds.contains(one)) && kinds.len() == 2,
        "{kinds:?}"
    );
}

#[test]
fn what_cannot_be_restored_does_not_cost_what_is_there() {
    for mode in [RestoreMode::Overwrite, RestoreMode::Exact] {
        let mut source = Double::default();
        source.entries.push(entry(b"", EntryKind::Directory));
        source.file("bad", b"will be lost");
        source.file("good", b"new");
        source.file("in-the-way", b"new");
        source.file("twice", b"will be lost too");
        let group = Some(HardlinkGroup { id: 7, links: 3 });
        let index = source.entries.len() - 1;
        source.entries[index].hardlink = group;
        for name in ["twice-again", "twice-more"] {
            let path = name.as_bytes().to_vec();
            source.entries.push(Entry {
                path,
                ..source.entries[index].clone()
            });
        }
        // Its first piece is there, its second is not.
        let (first, second) = (source.chunk(vec![1; 9]), source.chunk(vec![2; 9]));
        let data = |secret| Extent::Data { secret, len: 9 };
        source.entries.push(Entry {
            size: 18,
            content: Content::Extents(vec![data(first), data(second)]),
            ..entry(b"two-pieces", EntryKind::File)
        });
        source.chunks.remove(&second);
        source.chunks.retain(|_, bytes| !bytes.starts_with(b"will"));
        let target = tempfile::tempdir().unwrap();
        let at = |name: &str| target.path().join(name);
        for name in ["bad", "good", "twice", "twice-again", "two-pieces"] {
            fs::write(at(name), "old").unwrap();
        }
        fs::create_dir_all(at("in-the-way/full")).unwrap();
        fs::write(at(".orlop-leftover"), "").unwrap();
        let report = restore(target.path(), &source, mode);
        assert_eq!(report.files, 2, "{report:?}");
        for name in ["bad", "twice", "twice-again", "two-pieces"] {
            assert_eq!(fs::read_to_string(at(name)).unwrap(), "old", "{name}");
        }
        for name in ["good", "in-the-way"] {
            assert_eq!(fs::read_to_string(at(name)).unwrap(), "new", "{name}");
        }
        assert!(!at("twice-more").exists());
        let left = |entry: &fs::DirEntry| entry.file_name().as_bytes().starts_with(b".orlop-");
        let left = fs::read_dir(target.path()).unwrap().flatten().filter(left);
        let expected = usize::from(mode == RestoreMode::Overwrite);
        assert_eq!(left.count(), expected);
        let lost = |issue: &&Issue| issue.kind == IssueKind::Unreadable;
        assert_eq!(report.issues.iter().filter(lost).count(), 5, "{report:?}");
    }
}

#[test]
fn names_of_one_number_with_different_content_are_not_linked() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    for (name, content) in [("a", "one"), ("b", "other"), ("c", "other")] {
        source.file(name, content.as_bytes());
        let group = HardlinkGroup { id: 7, links: 2 };
        source.entries.last_mut().unwrap().hardlink = Some(group);
    }
    let target = tempfile::tempdir().unwrap();
    assert_eq!(
        restore(target.path(), &source, RestoreMode::Empty).issues,
        []
    );
    let read = |name: &str| fs::read_to_string(target.path().join(name)).unwrap();
    let ino = |name: &str| fs::metadata(target.path().join(name)).unwrap().ino();
    assert_eq!([read("a"), read("b"), read("c")], ["one", "other", "other"]);
    assert_ne!(ino("a"), ino("b"));
    assert_eq!(ino("b"), ino("c"));
}

#[test]
fn what_a_snapshot_could_not_read_is_not_removed() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    source.entries.push(Entry {
        status: EntryStatus::Unreadable(13),
        ..entry(b"unread", EntryKind::Directory)
    });
    let target = tempfile::tempdir().unwrap();
    let at = |name: &str| target.path().join(name);
    let fill = || {
        fs::create_dir_all(at("unread/below")).unwrap();
        fs::write(at("other"), "").unwrap();
    };
    fill();
    let report = restore(target.path(), &source, RestoreMode::Exact);
    assert!(at("unread/below").exists() && !at("other").exists());
    assert_eq!(report.issues.len(), 1);
    assert_eq!(report.issues[0].path, b"unread");
    source.errors = 1;
    fill();
    let report = restore(target.path(), &source, RestoreMode::Exact);
    assert!(at("unread/below").exists() && at("other").exists());
    assert_eq!(report.removed, 0);
    let about_all = |issue: &&Issue| issue.path.is_empty() && issue.kind == IssueKind::Skipped;
    assert_eq!(report.issues.iter().filter(about_all).count(), 1);
    (source.errors, source.partial) = (0, true);
    let report = restore(target.path(), &source, RestoreMode::Exact);
    assert!(at("unread/below").exists() && at("other").exists());
    let about_all = report.issues.iter().find(about_all).unwrap();
    assert!(about_all.message.contains("checkpoint"), "{about_all:?}");
}

#[test]
fn names_are_linked_when_their_file_is_there_however_little_a_window_holds() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    for n in 0..200 {
        source.file(&format!("f{n:03}"), format!("new {n}").as_bytes());
    }
    for name in ["f200", "f201", "f202"] {
        source.file(name, b"new and linked");
        let group = HardlinkGroup { id: 7, links: 3 };
        source.entries.last_mut().unwrap().hardlink = Some(group);
    }
    for mode in [RestoreMode::Overwrite, RestoreMode::Exact] {
        for memory_bytes in (0..40).map(|step| (16 << 10) * (1 + step)) {
            let target = tempfile::tempdir().unwrap();
            let at = |name: &str| target.path().join(name);
            for n in 0..200 {
                fs::write(at(&format!("f{n:03}")), "old").unwrap();
            }
            fs::write(at("f200"), "old and linked").unwrap();
            fs::hard_link(at("f200"), at("f201")).unwrap();
            fs::hard_link(at("f200"), at("f202")).unwrap();
            let job = RestoreJob {
                memory_bytes,
                ..job(target.path(), mode)
            };
            assert_eq!(restore_as(job, &source).unwrap().issues, []);
            let inode = |name: &str| fs::metadata(at(name)).unwrap().ino();
            for name in ["f200", "f201", "f202"] {
                let content = fs::read_to_string(at(name)).unwrap();
                assert_eq!(content, "new and linked", "{name}, {memory_bytes}");
                assert_eq!(inode(name), inode("f200"), "{name}, {memory_bytes}");
            }
        }
    }
}

#[test]
fn a_part_is_restored_at_its_own_path() {
    let source = tempfile::tempdir().unwrap();
    for file in ["a/b/c/x", "a/b/y", "a/bb", "z"] {
        fs::create_dir_all(source.path().join(file).parent().unwrap()).unwrap();
        fs::write(source.path().join(file), file).unwrap();
    }
    let taken = take(source.path());
    for (path, expected) in [
        ("a/b", vec!["a", "a/b", "a/b/c", "a/b/y", "a/b/c/x"]),
        ("z", vec!["z"]),
    ] {
        let target = tempfile::tempdir().unwrap();
        let select = Selection::path(path.as_bytes().to_vec());
        let part = RestoreJob {
            select,
            ..job(target.path(), RestoreMode::Empty)
        };
        assert_eq!(restore_as(part, &taken).unwrap().issues, []);
        let found = take(target.path());
        let paths: Vec<_> = found.entries[1..].iter().map(|e| e.path.clone()).collect();
        assert_eq!(
            paths,
            expected
                .iter()
                .map(|p| p.as_bytes().to_vec())
                .collect::<Vec<_>>()
        );
    }
    let target = tempfile::tempdir().unwrap();
    let none = RestoreJob {
        select: Selection::path(b"nope".to_vec()),
        ..job(target.path(), RestoreMode::Empty)
    };
    let error = restore_as(none, &taken).unwrap_err();
    assert!(error.to_string().contains("holds no \"nope\""));
}

#[test]
fn a_cancelled_restore_stops() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    source.file("x", b"new");
    let target = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let job = job(target.path(), RestoreMode::Empty);
    let error = run_from(job, &source, Arc::new(NoMonitor), cancel).unwrap_err();
    assert!(error.is_cancelled());
}

#[test]
fn a_full_target_ends_the_restore_with_its_name_as_root() {
    if !is_root() {
        return;
    }
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    for n in 10..40 {
        source.file(&format!("file-{n}"), &vec![n; 1 << 20]);
    }
    let target = tempfile::tempdir().unwrap();
    let options = c"size=8m";
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", target.path(), "tmpfs", flags, options).is_err() {
        eprintln!("skipped: cannot mount");
        return;
    }
    let result = restore_as(job(target.path(), RestoreMode::Empty), &source);
    let kept = fs::read_dir(target.path()).unwrap().count();
    rustix::mount::unmount(target.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    let error = result.unwrap_err();
    assert!(matches!(&error, RestoreError::Full { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains(&target.path().display().to_string())
    );
    assert!(kept >= 4, "{kept}");
}

#[test]
fn the_monitor_hears_of_progress_and_each_issue() {
    #[derive(Default)]
    struct Ears {
        issues: AtomicU64,
        entries: AtomicU64,
    }
    impl Monitor for Ears {
        fn progress(&self, progress: Progress) {
            self.entries.store(progress.entries_done, Ordering::Relaxed);
        }
        fn issue(&self, _issue: &Issue) {
            self.issues.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    source.file("good", b"1");
    source.file("in/nowhere", b"2");
    let target = tempfile::tempdir().unwrap();
    let ears = Arc::new(Ears::default());
    let job = job(target.path(), RestoreMode::Empty);
    run_from(job, &source, ears.clone(), CancellationToken::new()).unwrap();
    assert_eq!(ears.issues.load(Ordering::Relaxed), 1);
    assert_eq!(ears.entries.load(Ordering::Relaxed), 2);
}

/// `cargo test --release -p orlop-agent -- --ignored restore_speed --nocapture`
#[test]
#[ignore = "a measurement"]
fn restore_speed() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    let (dirs, files) = (200, 1000);
    for d in 0..dirs {
        source
            .entries
            .push(entry(format!("d{d:04}").as_bytes(), EntryKind::Directory));
    }
    for d in 0..dirs {
        let secret = source.chunk(vec![b'x'; files * 1000]);
        for f in 0..files {
            let extent = Extent::Bundle {
                secret,
                offset: f as u32 * 1000,
                len: 1000,
            };
            source.entries.push(Entry {
                size: 1000,
                content: Content::Extents(vec![extent]),
                ..entry(format!("d{d:04}/file{f:05}").as_bytes(), EntryKind::File)
            });
        }
    }
    for place in ["/dev/shm", "/tmp"] {
        let target = tempfile::tempdir_in(place).unwrap();
        let begun = Instant::now();
        let job = RestoreJob {
            workers: 2,
            ..job(target.path(), RestoreMode::Empty)
        };
        let report = restore_as(job, &source).unwrap();
        let ours = begun.elapsed();
        assert_eq!(report.files, (dirs * files) as u64);
        let plain = tempfile::tempdir_in(place).unwrap();
        let begun = Instant::now();
        for d in 0..dirs {
            let dir = plain.path().join(d.to_string());
            fs::create_dir(&dir).unwrap();
            for f in 0..files {
                fs::write(dir.join(f.to_string()), [b'x'; 1000]).unwrap();
            }
        }
        let by_path = begun.elapsed();
        eprintln!(
            "{place}: {} files in {ours:.2?} with sync; fs::write alone, one thread: {by_path:.2?}",
            report.files
        );
    }
}

const MIB: usize = 1 << 20;

/// A file of pieces of 1 MiB; `None` for a hole.
fn large(source: &mut Double, path: &str, pieces: &[Option<u8>]) {
    let mut extents = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let piece = piece.map(|byte| {
            let mut bytes = vec![byte; MIB];
            bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
            bytes
        });
        extents.push(match piece {
            Some(bytes) => Extent::Data {
                secret: source.chunk(bytes),
                len: MIB as u32,
            },
            None => Extent::Hole(MIB as u64),
        });
    }
    source.entries.push(Entry {
        size: (pieces.len() * MIB) as u64,
        content: Content::Extents(extents),
        ..entry(path.as_bytes(), EntryKind::File)
    });
}

fn content(source: &Double, path: &str) -> Vec<u8> {
    let entry = source
        .entries
        .iter()
        .find(|entry| entry.path == path.as_bytes())
        .unwrap();
    let Content::Extents(extents) = &entry.content else {
        unreachable!()
    };
    let bytes = |extent: &Extent| match extent {
        Extent::Data { secret, .. } => source.chunks[secret].clone(),
        Extent::Inline(bytes) => bytes.clone(),
        Extent::Bundle {
            secret,
            offset,
            len,
        } => source.chunks[secret][*offset as usize..(*offset + *len) as usize].to_vec(),
        Extent::Hole(len) | Extent::Zero(len) => vec![0; *len as usize],
    };
    extents.iter().flat_map(bytes).collect()
}

#[test]
fn of_a_large_file_only_what_differs_is_written_in_its_place() {
    for mode in [RestoreMode::Overwrite, RestoreMode::Exact] {
        let mut source = Double::default();
        source.entries.push(entry(b"", EntryKind::Directory));
        let mut pieces: Vec<Option<u8>> = (1..=20).map(Some).collect();
        pieces[7] = None;
        pieces[8] = None;
        large(&mut source, "db", &pieces);
        // Many of one, with zeros that are allocated.
        let mut tail = source.entries.pop().unwrap();
        let Content::Extents(extents) = &mut tail.content else {
            unreachable!()
        };
        extents.push(Extent::Zero(3 * MIB as u64));
        extents.push(Extent::Inline(b"the end".to_vec()));
        tail.size += 3 * MIB as u64 + 7;
        source.entries.push(tail);
        let wanted = content(&source, "db");
        let target = tempfile::tempdir().unwrap();
        let at = target.path().join("db");
        assert_eq!(restore(target.path(), &source, mode).files, 1);
        let ino = fs::metadata(&at).unwrap().ino();

        // Nothing is written twice.
        let changed = fs::metadata(&at).unwrap();
        let report = restore(target.path(), &source, mode);
        assert_eq!(
            (report.unchanged, report.updated, report.written_bytes),
            (1, 0, 0)
        );
        let after = fs::metadata(&at).unwrap();
        assert_eq!(
            (after.ctime(), after.ctime_nsec()),
            (changed.ctime(), changed.ctime_nsec())
        );

        // A piece is changed, a hole and zeros filled, a tail appended.
        let file = File::options().write(true).open(&at).unwrap();
        file.write_all_at(b"x", 3 * MIB as u64 + 17).unwrap();
        file.write_all_at(&vec![9; MIB], 7 * MIB as u64 + 5)
            .unwrap();
        file.write_all_at(b"no zero", 21 * MIB as u64).unwrap();
        file.write_all_at(b"tail", wanted.len() as u64 + 1000)
            .unwrap();
        drop(file);
        fs::set_permissions(&at, PermissionsExt::from_mode(0o666)).unwrap();
        let report = restore(target.path(), &source, mode);
        assert_eq!(report.issues, []);
        assert!(fs::read(&at).unwrap() == wanted);
        let now = fs::metadata(&at).unwrap();
        assert_eq!((now.ino(), now.mode() & 0o7777), (ino, 0o644));
        assert_eq!(now.mtime(), 1_000_000_000);
        assert_eq!((report.unchanged, report.updated), (0, 1));
        // Piece 3, and a block of zeros where they cannot be had otherwise.
        assert!(
            report.written_bytes <= 2 * MIB as u64,
            "{}",
            report.written_bytes
        );
        assert!(
            now.blocks() * 512 <= 22 * MIB as u64,
            "holes are holes again"
        );

        // Cut off: it grows again in its place.
        let file = File::options().write(true).open(&at).unwrap();
        file.set_len(15 * MIB as u64 + 3).unwrap();
        drop(file);
        let report = restore(target.path(), &source, mode);
        assert!(fs::read(&at).unwrap() == wanted);
        assert_eq!((report.updated, fs::metadata(&at).unwrap().ino()), (1, ino));
        // Too long only.
        File::options()
            .write(true)
            .open(&at)
            .unwrap()
            .set_len(90 * MIB as u64)
            .unwrap();
        let report = restore(target.path(), &source, mode);
        assert!(fs::read(&at).unwrap() == wanted);
        assert_eq!((report.updated, report.written_bytes), (1, 0));
    }
}

#[test]
fn what_is_small_or_quite_different_is_replaced_as_a_whole() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    large(
        &mut source,
        "large",
        &(1..=10).map(Some).collect::<Vec<_>>(),
    );
    source.file("small", &vec![b's'; 100_000]);
    let target = tempfile::tempdir().unwrap();
    let at = |name: &str| target.path().join(name);
    let inos = || ["large", "small"].map(|name| fs::metadata(at(name)).unwrap().ino());
    restore(target.path(), &source, RestoreMode::Overwrite);
    let disturb = |pieces: u64| {
        let file = File::options().write(true).open(at("large")).unwrap();
        for piece in 0..pieces {
            file.write_all_at(b"x", piece * MIB as u64).unwrap();
        }
        fs::write(at("small"), "other").unwrap();
    };
    let run = |in_place: InPlace| {
        let job = RestoreJob {
            in_place,
            ..job(target.path(), RestoreMode::Overwrite)
        };
        let report = restore_as(job, &source).unwrap();
        assert_eq!(report.issues, []);
        for name in ["large", "small"] {
            assert!(
                fs::read(at(name)).unwrap() == content(&source, name),
                "{name}"
            );
        }
        report
    };
    let first = inos();
    disturb(2);
    assert_eq!(run(InPlace::Auto).updated, 1);
    let second = inos();
    assert_eq!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
    disturb(6);
    assert_eq!(run(InPlace::Auto).updated, 0);
    let third = inos();
    assert_ne!(second[0], third[0]);
    disturb(1);
    assert_eq!(run(InPlace::Never).updated, 0);
    let fourth = inos();
    assert_ne!(third[0], fourth[0]);
    disturb(9);
    assert_eq!(run(InPlace::Always).updated, 2);
    assert_eq!(fourth, inos());
}

#[test]
fn names_of_one_file_stay_one_and_others_do_not_become_one() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    for name in ["a", "b"] {
        large(&mut source, name, &(1..=9).map(Some).collect::<Vec<_>>());
        let group = HardlinkGroup { id: 1, links: 2 };
        source.entries.last_mut().unwrap().hardlink = Some(group);
    }
    large(&mut source, "c", &(1..=9).map(Some).collect::<Vec<_>>());
    let target = tempfile::tempdir().unwrap();
    let at = |name: &str| target.path().join(name);
    let ino = |name: &str| fs::metadata(at(name)).unwrap().ino();
    let check = || {
        let report = restore(target.path(), &source, RestoreMode::Overwrite);
        assert_eq!(report.issues, []);
        for name in ["a", "b", "c"] {
            assert!(
                fs::read(at(name)).unwrap() == content(&source, name),
                "{name}"
            );
        }
        assert_eq!(ino("a"), ino("b"));
        assert_ne!(ino("a"), ino("c"));
        report
    };
    check();
    let group = ino("a");
    assert_eq!(check().unchanged, 3);
    assert_eq!(ino("a"), group);
    // The wrong names are one file, and it is not what any of them should be.
    fs::remove_file(at("b")).unwrap();
    fs::remove_file(at("c")).unwrap();
    fs::hard_link(at("a"), at("c")).unwrap();
    File::options()
        .write(true)
        .open(at("a"))
        .unwrap()
        .write_all_at(b"x", 5)
        .unwrap();
    check();
    // All three are one file, which is what each of them should be.
    fs::remove_file(at("c")).unwrap();
    fs::hard_link(at("a"), at("c")).unwrap();
    check();
}

#[test]
fn a_lost_chunk_of_a_file_that_is_changed_in_place_is_told() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    large(&mut source, "db", &(1..=9).map(Some).collect::<Vec<_>>());
    let target = tempfile::tempdir().unwrap();
    let at = target.path().join("db");
    restore(target.path(), &source, RestoreMode::Overwrite);
    let file = File::options().write(true).open(&at).unwrap();
    for piece in [2, 3] {
        file.write_all_at(b"x", piece * MIB as u64).unwrap();
    }
    let Content::Extents(extents) = &source.entries[1].content else {
        unreachable!()
    };
    let Extent::Data { secret, .. } = extents[3] else {
        unreachable!()
    };
    let chunk = source.chunks.remove(&secret).unwrap();
    let report = restore(target.path(), &source, RestoreMode::Overwrite);
    assert_eq!((report.files, report.issues.len()), (0, 1));
    assert!(fs::metadata(&at).unwrap().mtime() != 1_000_000_000);
    // A restore that comes again finishes it.
    source.chunks.insert(secret, chunk);
    let report = restore(target.path(), &source, RestoreMode::Overwrite);
    assert_eq!(
        (report.files, report.updated, report.issues.len()),
        (1, 1, 0)
    );
    assert!(fs::read(&at).unwrap() == content(&source, "db"));
}

#[test]
fn a_file_that_cannot_be_written_to_is_replaced() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    // A program that runs refuses to be opened for writing.
    let program = fs::read("/bin/sleep").unwrap();
    let mut extents = Vec::new();
    for part in program.chunks(4096) {
        let secret = source.chunk(part.to_vec());
        extents.push(Extent::Data {
            secret,
            len: part.len() as u32,
        });
    }
    source.entries.push(Entry {
        size: program.len() as u64,
        content: Content::Extents(extents),
        meta: Metadata {
            mode: 0o755,
            ..entry(b"", EntryKind::File).meta
        },
        ..entry(b"sleep", EntryKind::File)
    });
    let target = tempfile::tempdir().unwrap();
    let at = target.path().join("sleep");
    let run = || {
        let job = RestoreJob {
            in_place: InPlace::Always,
            ..job(target.path(), RestoreMode::Overwrite)
        };
        restore_as(job, &source).unwrap()
    };
    run();
    let old = fs::metadata(&at).unwrap().ino();
    File::options()
        .append(true)
        .open(&at)
        .unwrap()
        .write_all(b"more")
        .unwrap();
    let running = std::process::Command::new(&at).arg("100").spawn();
    let Ok(mut running) = running else {
        eprintln!("skipped: nothing can be executed here");
        return;
    };
    let report = run();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(report.issues, []);
    assert!(fs::read(&at).unwrap() == program);
    assert_ne!(fs::metadata(&at).unwrap().ino(), old);
}

#[test]
fn an_immutable_file_is_restored_as_root() {
    if !is_root() {
        return;
    }
    let flag = rustix::fs::IFlags::IMMUTABLE;
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    source.file("frozen", &vec![b'f'; 9000]);
    source.entries.last_mut().unwrap().meta.flags = flag.bits();
    let target = tempfile::tempdir().unwrap();
    let at = target.path().join("frozen");
    let frozen = |path: &Path| {
        let file = File::open(path).unwrap();
        rustix::fs::ioctl_getflags(&file).is_ok_and(|flags| flags.contains(flag))
    };
    restore(target.path(), &source, RestoreMode::Overwrite);
    if !frozen(&at) {
        eprintln!("skipped: the file system has no immutable files");
        return;
    }
    let again = restore(target.path(), &source, RestoreMode::Overwrite);
    source.entries[1].meta.mode = 0o600;
    let metadata = restore(target.path(), &source, RestoreMode::Overwrite);
    source.entries.pop();
    source.file("frozen", b"other");
    let content = restore(target.path(), &source, RestoreMode::Overwrite);
    let end = frozen(&at);
    let text = fs::read(&at).unwrap();
    if end {
        let file = File::open(&at).unwrap();
        rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::empty()).unwrap();
    }
    assert_eq!((again.issues.len(), again.unchanged), (0, 1));
    assert_eq!((metadata.issues.len(), metadata.updated), (0, 1));
    assert_eq!(
        (content.issues.len(), text.as_slice(), end),
        (0, b"other".as_slice(), false)
    );
}

/// The tree of a volume, restored in part.
fn selected(
    paths: &[&str],
    include: &[&str],
) -> (Vec<String>, Result<RestoreReport, RestoreError>) {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    for dir in ["etc", "etc/app", "log", "log/old", "srv", "srv/app"] {
        let mut dir = entry(dir.as_bytes(), EntryKind::Directory);
        dir.meta.mode = 0o750;
        source.entries.push(dir);
    }
    for file in [
        "README",
        "etc/app/a.conf",
        "etc/app/b.CONF",
        "etc/x.conf",
        "log/1.log",
        "log/old/0.log",
        "srv/app/x.conf",
        "srv/app/data",
    ] {
        source.file(file, file.as_bytes());
    }
    source.entries.sort_by(|a, b| {
        orlop_repository::compare_listing((a.parent(), a.name()), (b.parent(), b.name()))
    });
    let target = tempfile::tempdir().unwrap();
    let select = Selection {
        paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
        include: include.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let job = RestoreJob {
        select,
        ..job(target.path(), RestoreMode::Overwrite)
    };
    let report = restore_as(job, &source);
    let mut found: Vec<String> = Vec::new();
    for entry in take(target.path()).entries {
        if entry.kind == EntryKind::Directory && !entry.path.is_empty() {
            assert_eq!(entry.meta.mode, 0o750);
            assert_eq!(entry.meta.mtime.secs, 1_000_000_000);
        }
        if entry.kind == EntryKind::File {
            found.push(String::from_utf8(entry.path).unwrap());
        }
    }
    found.sort();
    (found, report)
}

#[test]
fn paths_and_patterns_select_with_all_below() {
    let files = |paths: &[&str], include: &[&str]| {
        let (found, report) = selected(paths, include);
        assert_eq!(report.unwrap().issues, []);
        found.join(" ")
    };
    assert_eq!(
        files(&["etc/app", "README"], &[]),
        "README etc/app/a.conf etc/app/b.CONF"
    );
    assert_eq!(
        files(&[], &["*.conf"]),
        "etc/app/a.conf etc/x.conf srv/app/x.conf"
    );
    assert_eq!(files(&[], &["/etc/**/*.conf"]), "etc/app/a.conf etc/x.conf");
    assert_eq!(files(&[], &["/*/old"]), "log/old/0.log");
    assert_eq!(
        files(&[], &["app/"]),
        "etc/app/a.conf etc/app/b.CONF srv/app/data srv/app/x.conf"
    );
    assert_eq!(
        files(&["log"], &["/README", "data"]),
        "README log/1.log log/old/0.log srv/app/data"
    );
    assert_eq!(files(&[], &["/etc/x.conf"]), "etc/x.conf");
    assert_eq!(files(&[""], &["nothing-at-all"]).split(' ').count(), 8);
}

#[test]
fn a_selection_of_nothing_names_what_is_near() {
    let (_, report) = selected(&["etc/app/a.cnf"], &[]);
    assert_eq!(
        report.unwrap_err().to_string(),
        "the snapshot holds no \"etc/app/a.cnf\"; near etc/app/a.cnf"
    );
    let (found, report) = selected(&[], &["/etc/app/*.Conf"]);
    assert_eq!(found, Vec::<String>::new());
    let text = report.unwrap_err().to_string();
    assert!(
        text.contains("there is etc/app/a.conf, etc/app/b.CONF"),
        "{text}"
    );
    let (_, report) = selected(&[], &["/etc/nope/*"]);
    let text = report.unwrap_err().to_string();
    assert!(text.contains("near etc/nope"), "{text}");
    // Something was selected: what was not is an issue.
    let (found, report) = selected(&["log"], &["*.jpg"]);
    assert_eq!(found.len(), 2);
    let issues = report.unwrap().issues;
    assert!(
        issues.len() == 1 && issues[0].message.contains("*.jpg"),
        "{issues:?}"
    );
}

#[test]
fn directories_above_a_selection_that_are_there_are_left_alone() {
    let mut source = Double::default();
    source.entries.push(entry(b"", EntryKind::Directory));
    source.entries.push(entry(b"etc", EntryKind::Directory));
    source.file("etc/conf", b"new");
    let target = tempfile::tempdir().unwrap();
    let at = |name: &str| target.path().join(name);
    fs::create_dir(at("etc")).unwrap();
    fs::write(at("etc/other"), "stays").unwrap();
    fs::set_permissions(at("etc"), PermissionsExt::from_mode(0o711)).unwrap();
    for mode in [RestoreMode::Overwrite, RestoreMode::Exact] {
        let select = Selection::path(b"etc/conf".to_vec());
        let job = RestoreJob {
            select,
            ..job(target.path(), mode)
        };
        assert_eq!(restore_as(job, &source).unwrap().issues, []);
        assert_eq!(fs::metadata(at("etc")).unwrap().mode() & 0o7777, 0o711);
        assert!(at("etc/other").exists());
        assert_eq!(fs::read_to_string(at("etc/conf")).unwrap(), "new");
    }
    // A link in the way leads nowhere.
    let outside = tempfile::tempdir().unwrap();
    fs::remove_dir_all(at("etc")).unwrap();
    symlink(outside.path(), at("etc")).unwrap();
    let select = Selection::path(b"etc/conf".to_vec());
    let job = RestoreJob {
        select,
        ..job(target.path(), RestoreMode::Overwrite)
    };
    assert_eq!(restore_as(job, &source).unwrap().issues, []);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(at("etc/conf")).unwrap(), "new");
}
