//! The hostile-tree suite, with `openat2` and without, and what a walk must tell.

use std::{
    ffi::OsStr,
    fs,
    ops::ControlFlow,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{PermissionsExt, symlink},
        },
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use orlop_core::{Issue, IssueKind};
use orlop_repository::EntryKind;
use proptest::prelude::*;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use tokio_util::sync::CancellationToken;

use super::*;

const SECRET: &[u8] = b"what is outside must never be read";

/// Keeps what it is given, and reads every file.
#[derive(Default)]
struct Keep {
    read_files: bool,
    paths: Vec<Vec<u8>>,
    contents: Vec<(Vec<u8>, Vec<u8>)>,
    issues: Vec<Issue>,
    unreadable: Vec<Vec<u8>>,
    errors: Vec<(Vec<u8>, ScanError)>,
}

impl Visitor for Keep {
    fn entry(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()> {
        let path = dir.join(name);
        if self.read_files {
            if stat.kind == EntryKind::File {
                match dir.open_file(name, stat) {
                    Ok((mut file, opened)) => {
                        assert!(opened.same_object(stat));
                        let mut content = Vec::new();
                        std::io::Read::read_to_end(&mut file, &mut content).unwrap();
                        self.contents.push((path.clone(), content));
                    }
                    Err(error) => self.errors.push((path.clone(), error)),
                }
            }
            if let Err(error) = dir.attributes(name, stat) {
                self.errors.push((path.clone(), error));
            }
        }
        self.paths.push(path);
        ControlFlow::Continue(())
    }

    fn issue(&mut self, issue: Issue) {
        self.issues.push(issue);
    }

    fn unreadable_directory(&mut self, path: &[u8], _errno: i32) {
        self.unreadable.push(path.to_vec());
    }
}

fn open(path: &Path) -> OwnedFd {
    fs::File::open(path).unwrap().into()
}

fn options(force_fallback: bool) -> WalkOptions {
    WalkOptions {
        force_fallback,
        ..WalkOptions::default()
    }
}

fn walk_with(path: &Path, options: &WalkOptions, keep: &mut Keep) -> WalkStats {
    let root = Directory::open_root(open(path), options).unwrap();
    walk(&root, options, keep, &CancellationToken::new()).unwrap()
}

fn paths_of(path: &Path, options: &WalkOptions) -> Vec<String> {
    let mut keep = Keep::default();
    let stats = walk_with(path, options, &mut keep);
    assert_eq!(keep.issues, []);
    // Who looks ahead sees the same.
    let ahead = WalkOptions {
        look_ahead: LookAhead::Always,
        ..options.clone()
    };
    let mut other = Keep::default();
    assert_eq!(walk_with(path, &ahead, &mut other), stats);
    assert_eq!(other.issues, []);
    assert_eq!(other.paths, keep.paths);
    keep.paths
        .iter()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect()
}

/// Whether a test that needs root may run.
fn is_root() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let required = std::env::var("ORLOP_REQUIRE").is_ok_and(|list| list.contains("root"));
    assert!(!required, "this test needs root");
    eprintln!("skipped: needs root");
    false
}

fn make(dir: &Path, files: &[&str]) {
    for file in files {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if file.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::write(path, file).unwrap();
        }
    }
}

#[test]
fn what_gitignore_knows_and_we_do_not_is_refused() {
    for (text, why) in [
        ("!keep.log", "a second pattern"),
        ("*.[ol]", "sets of characters"),
    ] {
        let error = text.parse::<Pattern>().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    for (text, name) in [(r"\!keep", "!keep"), (r"a\[1]", "a[1]")] {
        let pattern: Pattern = text.parse().unwrap();
        assert!(pattern.matches(name.as_bytes(), false), "{text}");
    }
}

#[test]
fn entries_come_in_listing_order() {
    let dir = tempfile::tempdir().unwrap();
    make(
        dir.path(),
        &[
            "b/z",
            "b/a/x",
            "a.txt",
            "b.txt",
            "a/q",
            "a/b/",
            "c",
            "longer-name-2",
            "longer-name-1",
        ],
    );
    let expected = [
        "a",
        "a.txt",
        "b",
        "b.txt",
        "c",
        "longer-name-1",
        "longer-name-2",
        "a/b",
        "a/q",
        "b/a",
        "b/z",
        "b/a/x",
    ];
    for force_fallback in [false, true] {
        assert_eq!(paths_of(dir.path(), &options(force_fallback)), expected);
    }
}

#[test]
fn a_spilled_listing_is_the_same_listing() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3000 {
        fs::create_dir(dir.path().join(format!("directory-{}", (n * 7919) % 3000))).unwrap();
    }
    let spilling = WalkOptions {
        arena_bytes: 4000,
        ..WalkOptions::default()
    };
    let spilled = paths_of(dir.path(), &spilling);
    assert_eq!(spilled.len(), 3000);
    assert!(spilled.is_sorted());
    assert_eq!(spilled, paths_of(dir.path(), &WalkOptions::default()));
}

#[test]
fn excluded_entries_are_left_out_with_all_below() {
    let dir = tempfile::tempdir().unwrap();
    make(
        dir.path(),
        &["a/tmp/x", "a/keep", "tmp/y", "x.log", "a/y.log", "top"],
    );
    let exclude = ["/tmp", "*.log", "a/tmp/"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    let options = WalkOptions {
        exclude,
        ..WalkOptions::default()
    };
    assert_eq!(paths_of(dir.path(), &options), ["a", "top", "a/keep"]);
}

#[test]
fn trees_deeper_than_path_max_are_walked_and_the_depth_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut fd = open(dir.path());
    let name = "d".repeat(100);
    for _ in 0..1200 {
        mkdirat(&fd, &name, Mode::RWXU).unwrap();
        fd = openat(&fd, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&fd, "leaf", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    make(dir.path(), &["z/after"]);
    for force_fallback in [false, true] {
        let mut keep = Keep {
            read_files: true,
            ..Keep::default()
        };
        let stats = walk_with(dir.path(), &options(force_fallback), &mut keep);
        assert_eq!(keep.issues, []);
        assert_eq!(stats.directories, 1202);
        assert_eq!(keep.contents.len(), 2);
        assert_eq!(keep.contents[0].0.len(), 1200 * 101 + 4);
        assert_eq!(keep.contents[1].0, b"z/after");
    }
    for _ in 0..3000 {
        mkdirat(&fd, "d", Mode::RWXU).unwrap();
        fd = openat(&fd, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let mut keep = Keep::default();
    walk_with(dir.path(), &options(false), &mut keep);
    assert_eq!(keep.issues.len(), 1);
    assert_eq!(keep.issues[0].kind, IssueKind::Unreadable);
}

#[test]
fn links_pipes_and_sockets_are_seen_but_not_followed_or_opened() {
    let outside = tempfile::tempdir().unwrap();
    make(outside.path(), &["secret/file"]);
    fs::write(outside.path().join("secret/file"), SECRET).unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink("/etc", dir.path().join("etc")).unwrap();
    symlink(outside.path().join("secret"), dir.path().join("link")).unwrap();
    symlink(
        outside.path().join("secret/file"),
        dir.path().join("link-to-file"),
    )
    .unwrap();
    rustix::fs::mkfifoat(CWD, dir.path().join("pipe"), Mode::RWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    for force_fallback in [false, true] {
        let begun = Instant::now();
        let mut keep = Keep {
            read_files: true,
            ..Keep::default()
        };
        walk_with(dir.path(), &options(force_fallback), &mut keep);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(keep.paths.len(), 5);
        assert_eq!(keep.contents, []);
        assert!(keep.errors.is_empty(), "{:?}", keep.errors);
        let root = Directory::open_root(open(dir.path()), &options(force_fallback)).unwrap();
        assert_eq!(root.read_link(b"etc").unwrap(), b"/etc");
        assert!(matches!(root.read_link(b"pipe"), Err(ScanError::Changed)));
        for name in [b"../x".as_slice(), b"..", b"", b"a\0b"] {
            assert!(matches!(root.read_link(name), Err(ScanError::Vanished)));
        }
    }
}

#[test]
fn a_file_that_was_exchanged_is_not_read() {
    type Exchange = fn(&Path, &Path);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), SECRET).unwrap();
    for force_fallback in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "mine").unwrap();
        let root = Directory::open_root(open(dir.path()), &options(force_fallback)).unwrap();
        let opener = root.opener();
        let stat = opener.stat(&*root, c"file").unwrap().file;
        assert!(root.open_file(b"file", &stat).is_ok());
        fs::remove_file(&file).unwrap();
        assert!(matches!(
            root.open_file(b"file", &stat),
            Err(ScanError::Vanished)
        ));
        let exchanges: [Exchange; 4] = [
            |file, outside| symlink(outside.join("secret"), file).unwrap(),
            |file, _| rustix::fs::mkfifoat(CWD, file, Mode::RWXU).unwrap(),
            |file, outside| {
                // Another name of a file outside: not the object that was listed.
                let other = outside.join("secret");
                if fs::hard_link(&other, file).is_err() {
                    fs::write(file, "other").unwrap();
                }
            },
            |file, _| fs::create_dir(file).unwrap(),
        ];
        for exchange in exchanges {
            exchange(&file, outside.path());
            let begun = Instant::now();
            let error = root.open_file(b"file", &stat).unwrap_err();
            assert!(matches!(error, ScanError::Changed), "{error:?}");
            assert!(root.attributes(b"file", &stat).is_err());
            assert!(begun.elapsed() < Duration::from_secs(5));
            if fs::remove_file(&file).is_err() {
                fs::remove_dir(&file).unwrap();
            }
        }
    }
}

/// Replaces a directory when it is met, and keeps what else it is given.
struct Replace<'t> {
    top: &'t Path,
    with: Option<fn(&Path)>,
    keep: Keep,
}

impl Visitor for Replace<'_> {
    fn entry(&mut self, dir: &Arc<Directory>, name: &[u8], stat: &FileStat) -> ControlFlow<()> {
        if name == b"victim"
            && let Some(with) = self.with.take()
        {
            let victim = self.top.join("victim");
            fs::rename(&victim, self.top.join("old")).unwrap();
            with(&victim);
        }
        self.keep.entry(dir, name, stat)
    }

    fn issue(&mut self, issue: Issue) {
        self.keep.issue(issue);
    }

    fn unreadable_directory(&mut self, path: &[u8], errno: i32) {
        self.keep.unreadable_directory(path, errno);
    }
}

#[test]
fn of_a_directory_that_was_replaced_the_one_that_is_there_is_walked() {
    let new: fn(&Path) = |victim| {
        fs::create_dir(victim).unwrap();
        fs::write(victim.join("new"), "").unwrap();
    };
    let link: fn(&Path) = |victim| symlink("old", victim).unwrap();
    for force_fallback in [false, true] {
        for look_ahead in [LookAhead::Never, LookAhead::Always] {
            for (with, found) in [(new, true), (link, false)] {
                let top = tempfile::tempdir().unwrap();
                make(top.path(), &["victim/one", "zz/two"]);
                let options = WalkOptions {
                    force_fallback,
                    look_ahead,
                    ..WalkOptions::default()
                };
                let root = Directory::open_root(open(top.path()), &options).unwrap();
                let mut replace = Replace {
                    top: top.path(),
                    with: Some(with),
                    keep: Keep::default(),
                };
                walk(&root, &options, &mut replace, &CancellationToken::new()).unwrap();
                let Keep { paths, issues, .. } = replace.keep;
                let has = |path: &str| paths.contains(&path.as_bytes().to_vec());
                assert!(has("zz/two") && !has("victim/one"), "{paths:?}");
                assert_eq!(has("victim/new"), found);
                // What is not walked though it has the name is an error.
                let kinds: Vec<_> = issues.iter().map(|issue| issue.kind).collect();
                let unread = [IssueKind::Unreadable];
                assert_eq!(kinds, if found { &[][..] } else { &unread[..] });
            }
        }
    }
}

#[test]
fn a_directory_swapped_for_a_link_during_the_walk_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    make(outside.path(), &["d/secret"]);
    fs::write(outside.path().join("d/secret"), SECRET).unwrap();
    for force_fallback in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..50 {
            make(dir.path(), &[&format!("d{n}/secret")]);
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let link = dir.path().join("link");
                let aside = dir.path().join("aside");
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    let victim = dir.path().join(format!("d{}", n % 50));
                    n += 1;
                    symlink(outside.path().join("d"), &link).unwrap();
                    fs::rename(&victim, &aside).unwrap();
                    fs::rename(&link, &victim).unwrap();
                    std::thread::yield_now();
                    fs::remove_file(&victim).unwrap();
                    fs::rename(&aside, &victim).unwrap();
                }
            });
            for _ in 0..200 {
                let mut keep = Keep {
                    read_files: true,
                    ..Keep::default()
                };
                walk_with(dir.path(), &options(force_fallback), &mut keep);
                assert!(keep.contents.iter().all(|(_, content)| content != SECRET));
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn a_file_swapped_for_a_pipe_during_the_walk_never_blocks() {
    for force_fallback in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let stop = AtomicBool::new(false);
        let victim = dir.path().join("victim");
        fs::write(&victim, "x").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
                while !stop.load(Ordering::Relaxed) {
                    rustix::fs::mkfifoat(CWD, &pipe, Mode::RWXU).unwrap();
                    fs::rename(&pipe, &victim).unwrap();
                    fs::write(&file, "x").unwrap();
                    fs::rename(&file, &victim).unwrap();
                }
            });
            let begun = Instant::now();
            for _ in 0..500 {
                let mut keep = Keep {
                    read_files: true,
                    ..Keep::default()
                };
                walk_with(dir.path(), &options(force_fallback), &mut keep);
            }
            stop.store(true, Ordering::Relaxed);
            assert!(begun.elapsed() < Duration::from_secs(30));
        });
    }
}

#[test]
fn mounts_inside_are_not_entered_as_root() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &["mounted/", "plain/x", "file"]);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), SECRET).unwrap();
    let bind = |from: &Path, to: &Path| rustix::mount::mount_bind(from, to);
    // The bind mount is of the same device: only the mount's id tells.
    if bind(outside.path(), &dir.path().join("mounted")).is_err() {
        eprintln!("skipped: cannot mount");
        return;
    }
    bind(&outside.path().join("secret"), &dir.path().join("file")).unwrap();
    let results = [false, true].map(|force_fallback| {
        let mut keep = Keep {
            read_files: true,
            ..Keep::default()
        };
        walk_with(dir.path(), &options(force_fallback), &mut keep);
        keep
    });
    for name in ["mounted", "file"] {
        rustix::mount::unmount(dir.path().join(name), rustix::mount::UnmountFlags::empty())
            .unwrap();
    }
    for keep in results {
        assert_eq!(
            keep.paths,
            [b"file".as_slice(), b"mounted", b"plain", b"plain/x"]
        );
        assert_eq!(keep.contents.len(), 1);
        let kinds: Vec<_> = keep
            .issues
            .iter()
            .map(|issue| (&*issue.path, issue.kind))
            .collect();
        let skipped = IssueKind::Skipped;
        assert_eq!(
            kinds,
            [(b"file".as_slice(), skipped), (b"mounted", skipped)]
        );
    }
}

#[test]
fn devices_are_seen_but_not_opened_as_root() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let zero = rustix::fs::makedev(1, 5);
    let kind = rustix::fs::FileType::CharacterDevice;
    if rustix::fs::mknodat(CWD, dir.path().join("zero"), kind, Mode::RWXU, zero).is_err() {
        eprintln!("skipped: cannot make devices");
        return;
    }
    for force_fallback in [false, true] {
        let mut keep = Keep {
            read_files: true,
            ..Keep::default()
        };
        walk_with(dir.path(), &options(force_fallback), &mut keep);
        assert_eq!(keep.contents, []);
        assert!(keep.errors.is_empty());
        let root = Directory::open_root(open(dir.path()), &options(force_fallback)).unwrap();
        let stat = root.opener().stat(&*root, c"zero").unwrap().file;
        assert_eq!(
            (stat.kind, stat.rdev),
            (EntryKind::CharDevice, (1 << 32) | 5)
        );
        assert!(root.open_file(b"zero", &stat).is_err());
        let as_file = FileStat {
            kind: EntryKind::File,
            ..stat
        };
        assert!(matches!(
            root.open_file(b"zero", &as_file),
            Err(ScanError::Changed)
        ));
    }
}

#[test]
fn attributes_of_links_and_files_are_read_without_following() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &["file", "sub/"]);
    symlink("file", dir.path().join("link")).unwrap();
    let big = vec![b'v'; 2000];
    for (name, value) in [
        ("user.big", big.as_slice()),
        ("user.a", b"1"),
        ("user.empty", b""),
    ] {
        for target in ["file", "sub"] {
            let path = dir.path().join(target);
            let flags = rustix::fs::XattrFlags::empty();
            if rustix::fs::setxattr(&path, name, value, flags).is_err() {
                eprintln!("skipped: no user attributes here");
                return;
            }
        }
    }
    for force_fallback in [false, true] {
        let root = Directory::open_root(open(dir.path()), &options(force_fallback)).unwrap();
        for name in [c"file", c"sub"] {
            let stat = root.opener().stat(&*root, name).unwrap().file;
            let (xattrs, _) = root.attributes(name.to_bytes(), &stat).unwrap();
            let found: Vec<_> = xattrs.iter().map(|x| (&*x.name, x.value.len())).collect();
            assert_eq!(
                found,
                [
                    (b"user.a".as_slice(), 1),
                    (b"user.big", 2000),
                    (b"user.empty", 0)
                ]
            );
        }
        let stat = root.opener().stat(&*root, c"link").unwrap().file;
        assert_eq!(root.attributes(b"link", &stat).unwrap().0, []);
        assert!(root.attributes(b"", &root.stat_self()).is_ok());
    }
}

#[test]
fn an_unreadable_directory_is_reported_and_the_rest_walked() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &["closed/x", "open/y"]);
    fs::set_permissions(dir.path().join("closed"), PermissionsExt::from_mode(0o0)).unwrap();
    let mut keep = Keep::default();
    walk_with(dir.path(), &options(false), &mut keep);
    fs::set_permissions(dir.path().join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(keep.unreadable, [b"closed"]);
    assert_eq!(keep.paths, [b"closed".as_slice(), b"open", b"open/y"]);
}

#[test]
fn names_are_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<Vec<u8>> = vec![b"\xff\xfe".to_vec(), b"\n".to_vec(), b"x".repeat(255)];
    for name in &names {
        fs::write(dir.path().join(OsStr::from_bytes(name)), "").unwrap();
    }
    let mut keep = Keep::default();
    walk_with(dir.path(), &options(false), &mut keep);
    let mut expected = names;
    expected.sort();
    assert_eq!(keep.paths, expected);
}

#[test]
fn a_cancelled_walk_ends() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), &["a"]);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let root = Directory::open_root(open(dir.path()), &options(false)).unwrap();
    let result = walk(&root, &options(false), &mut Keep::default(), &cancel);
    assert!(matches!(result, Err(ScanError::Cancelled)));
}

#[test]
fn patterns_match_as_documented() {
    let matches = |pattern: &str, path: &str, is_directory| {
        pattern
            .parse::<Pattern>()
            .unwrap()
            .matches(path.as_bytes(), is_directory)
    };
    for (pattern, path, expected) in [
        ("*.log", "a/b/x.log", true),
        ("*.log", "x.log/y", false),
        ("/*.log", "a/x.log", false),
        ("/a/*/c", "a/b/c", true),
        ("/a/*/c", "a/b/b/c", false),
        ("/a/**/c", "a/b/b/c", true),
        ("/a/**/c", "a/c", true),
        ("a/b", "x/a/b", true),
        ("a/b", "xa/b", false),
        ("**/cache", "x/y/cache", true),
        ("**/cache", "cache", true),
        ("**/cache", "mycache", false),
        ("**/cache", "x/mycache", false),
        ("/a/**/c", "a/xc", false),
        ("/**/**/c", "a/b/c", true),
        ("/**/b*/**/c", "a/b/xc", false),
        ("/**/b*/**/c", "a/b/bx/y/c", true),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("a\\*c", "a*c", true),
        ("a\\*c", "abc", false),
        ("/a/**", "a/b/c", true),
        ("*a*b*c*", "xxaxxbxxcxx", true),
        ("*a*b*c*", "xxaxxcxxbxx", false),
        ("**x*y", "a/x/xay", true),
    ] {
        assert_eq!(matches(pattern, path, false), expected, "{pattern} {path}");
    }
    assert!(matches("tmp/", "a/tmp", true) && !matches("tmp/", "a/tmp", false));
    for bad in ["", "/", "a//b", "//", "x\\"] {
        assert!(bad.parse::<Pattern>().is_err(), "{bad}");
    }
}

/// The plain definition, to compare with; `begins` at the beginning of a component of the pattern.
fn matches_slowly(pattern: &[u8], begins: bool, text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', b'/', rest @ ..] if begins => std::iter::once(0)
            .chain((1..=text.len()).filter(|at| text[at - 1] == b'/'))
            .any(|at| matches_slowly(rest, true, &text[at..])),
        [b'*', b'*', rest @ ..] => {
            (0..=text.len()).any(|at| matches_slowly(rest, false, &text[at..]))
        }
        [b'*', rest @ ..] => (0..=text.len())
            .take_while(|at| !text[..*at].contains(&b'/'))
            .any(|at| matches_slowly(rest, false, &text[at..])),
        [b'?', rest @ ..] => {
            text.first().is_some_and(|b| *b != b'/') && matches_slowly(rest, false, &text[1..])
        }
        [byte, rest @ ..] => {
            text.first() == Some(byte) && matches_slowly(rest, *byte == b'/', &text[1..])
        }
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_its_definition(
        pattern in "([ab*?]{1,4}/|\\*\\*/){0,2}[ab*?]{1,7}(/[ab*?]{1,4})?",
        text in "[ab/]{0,10}",
    ) {
        // Three stars are two.
        prop_assume!(!pattern.contains("***"));
        let anchored = format!("/{pattern}").parse::<Pattern>().unwrap();
        let expected = matches_slowly(pattern.as_bytes(), true, text.as_bytes());
        prop_assert_eq!(anchored.matches(text.as_bytes(), false), expected, "{}", pattern);
    }
}

/// `cargo test --release -p orlop-agent -- --ignored walk_speed --nocapture`
#[test]
#[ignore = "a measurement"]
fn walk_speed() {
    struct Count(u64);
    impl Visitor for Count {
        fn entry(&mut self, _: &Arc<Directory>, _: &[u8], stat: &FileStat) -> ControlFlow<()> {
            self.0 += stat.size;
            ControlFlow::Continue(())
        }
        fn issue(&mut self, _: Issue) {}
        fn unreadable_directory(&mut self, _: &[u8], _: i32) {}
    }
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    for d in 0..200 {
        let sub = dir.path().join(format!("directory-{d}"));
        fs::create_dir(&sub).unwrap();
        for f in 0..1000 {
            fs::write(sub.join(format!("file-{f:05}")), "").unwrap();
        }
    }
    for round in 0..3 {
        let begun = Instant::now();
        let root = Directory::open_root(open(dir.path()), &options(false)).unwrap();
        let cancel = CancellationToken::new();
        let stats = walk(&root, &options(false), &mut Count(0), &cancel).unwrap();
        let per_second = stats.entries as f64 / begun.elapsed().as_secs_f64();
        eprintln!(
            "round {round}: {} entries, {per_second:.0} entries/s",
            stats.entries
        );
    }
}

#[test]
fn looking_ahead_changes_nothing_in_trees_wide_and_deep() {
    let top = tempfile::tempdir().unwrap();
    for n in 0..60 {
        let dir = top.path().join(format!("d{n:02}/x/y/z"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..n {
            fs::write(dir.join(format!("f{file}")), "").unwrap();
        }
    }
    // More names than are looked at as a whole, directories among them.
    let wide = top.path().join("d30/wide");
    fs::create_dir(&wide).unwrap();
    for n in 0..3000 {
        if n % 100 == 0 {
            fs::create_dir_all(wide.join(format!("n{n:04}/inner"))).unwrap();
        } else {
            fs::write(wide.join(format!("n{n:04}")), "").unwrap();
        }
    }
    let mut deep = top.path().join("deep");
    for _ in 0..150 {
        deep.push("s");
    }
    fs::create_dir_all(&deep).unwrap();
    let options = WalkOptions {
        exclude: vec!["n2*".parse().unwrap(), "d05".parse().unwrap()],
        ..WalkOptions::default()
    };
    let paths = paths_of(top.path(), &options);
    assert!(paths.len() > 4000, "{}", paths.len());
    assert!(paths.contains(&"d30/wide/n1900/inner".to_owned()));
    assert!(!paths.iter().any(|path| path.starts_with("d05")));
}

#[test]
fn a_walk_that_looks_ahead_ends_when_its_visitor_has_enough() {
    struct First(u32);
    impl Visitor for First {
        fn entry(&mut self, _: &Arc<Directory>, _: &[u8], _: &FileStat) -> ControlFlow<()> {
            self.0 += 1;
            if self.0 < 40 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        }
        fn issue(&mut self, _: Issue) {}
        fn unreadable_directory(&mut self, _: &[u8], _: i32) {}
    }
    let top = tempfile::tempdir().unwrap();
    for n in 0..200 {
        fs::create_dir_all(top.path().join(format!("{}/{n}", n % 20))).unwrap();
    }
    let options = WalkOptions {
        look_ahead: LookAhead::Always,
        ..WalkOptions::default()
    };
    let root = Directory::open_root(open(top.path()), &options).unwrap();
    let mut first = First(0);
    let result = walk(&root, &options, &mut first, &CancellationToken::new());
    assert!(matches!(result, Err(ScanError::Cancelled)));
    assert_eq!(first.0, 40);
}
