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
    Content, Entry, EntryKind, EntryStatus, Error, Extent, HardlinkGroup, Metadata, Secret, Wanted,
    Xattr,
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

    fn entries<'a>(
        &'a self,
        below: &[u8],
    ) -> Box<dyn Iterator<Item = Result<Entry, Error>> + Send + 'a> {
        let below = below.to_vec();
        let inside = move |entry: &&Entry| {
            let rest = entry.path.strip_prefix(below.as_slice());
            below.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        Box::new(self.entries.iter().filter(inside).cloned().map(Ok))
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

    fn fetch(&self, wanted: &[Wanted], workers: usize, sink: Sink<'_>) -> Result<(), Error> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(wanted) = wanted.get(index) else {
                            return;
                        };
                        match self.chunks.get(&wanted.secret) {
                            Some(chunk) => sink(index, Ok(chunk)),
                            None => sink(index, Err(lost())),
                        }
                    }
                });
            }
        });
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
    Entry {
        path: path.to_vec(),
        kind,
        meta: Metadata {
            mode,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mtime: Timestamp::new(1_000_000_000, 5),
            ..Metadata::default()
        },
        size: 0,
        target: Vec::new(),
        hardlink: None,
        content: Content::None,
        digest: [0; 16],
        status: EntryStatus::Ok,
    }
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
        let path = Some(path.as_bytes().to_vec());
        let part = RestoreJob {
            path,
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
        path: Some(b"nope".to_vec()),
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
