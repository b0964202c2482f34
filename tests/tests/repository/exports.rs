//! A tar archive holds what a restore would make; the program `tar` is asked.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use orlop_agent::restore::{RestoreReport, Selection, export};
use orlop_core::{NoMonitor, SnapshotId};
use orlop_tests::{Engine, Record, assert_identical, is_root, sample};
use rustix::fs::{CWD, Mode, XattrFlags};
use tokio_util::sync::CancellationToken;

fn export_to(
    engine: &Engine,
    snapshot: SnapshotId,
    select: &Selection,
    out: &mut dyn io::Write,
) -> Result<RestoreReport, orlop_agent::restore::RestoreError> {
    let session = engine.read(snapshot).unwrap();
    let cancel = CancellationToken::new();
    let result = export(select, &session, out, Arc::new(NoMonitor), &cancel);
    session.end();
    result
}

fn tar(at: &Path, args: &[&str], archive: &Path) -> String {
    let output = Command::new("tar")
        .args(args)
        .arg("-f")
        .arg(archive)
        .env("LC_ALL", "C")
        .current_dir(at)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "tar: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// Everything that a volume may have and tar can hold.
fn odd(root: &Path) {
    let at = |name: &[u8]| root.join(OsStr::from_bytes(name));
    fs::write(at(b"not \xff utf-8"), "x").unwrap();
    fs::write(at(b"with\nline feed = and %"), "y").unwrap();
    fs::write(at(b"-option"), "z").unwrap();
    let long = at(&[b'l'; 200]);
    fs::create_dir(&long).unwrap();
    fs::write(long.join("n".repeat(250)), "deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(300), at(b"long link")).unwrap();
    fs::hard_link(
        long.join("n".repeat(250)),
        at(b"second name of the deep one"),
    )
    .unwrap();
    fs::write(at(b"attributes"), "a").unwrap();
    set_xattr(&at(b"attributes"), "user.plain", b"value");
    set_xattr(&at(b"attributes"), "user.with=sign%", b"\0\xff\nvalue\n");
    set_xattr(&at(b"attributes"), "user.empty", b"");
    let old = File::create(at(b"old")).unwrap();
    old.set_modified(UNIX_EPOCH - Duration::from_millis(1500))
        .unwrap();
    // Holes at the beginning, in the middle and at the end.
    let sparse = File::create(at(b"holes everywhere")).unwrap();
    for place in 1..40_u64 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[7; 4096], place << 20).unwrap();
    }
    sparse.set_len(100 << 20).unwrap();
    File::create(at(b"only a hole"))
        .unwrap()
        .set_len(5 << 20)
        .unwrap();
    rustix::fs::mknodat(
        CWD,
        at(b"pipe 2"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1751);
    fs::set_permissions(&long, mode).unwrap();
    if !is_root() {
        return;
    }
    std::os::unix::fs::lchown(at(b"old"), Some(3_000_000_000), Some(2_097_152)).unwrap();
    let device = rustix::fs::makedev(259, 77_000);
    rustix::fs::mknodat(
        CWD,
        at(b"device"),
        rustix::fs::FileType::BlockDevice,
        Mode::from_raw_mode(0o600),
        device,
    )
    .unwrap();
    set_xattr(&at(b"attributes"), "trusted.of root", b"t");
    // An access control list: version 2, owner rwx, user 7 r, group r, mask r, others nothing.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 4, 7),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&rights.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    set_xattr(&at(b"-option"), "system.posix_acl_access", &acl);
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&at(b"-option"), "security.capability", &capability);
}

#[test]
fn what_tar_takes_out_is_what_was_backed_up() {
    let directory = tempfile::tempdir().unwrap();
    let (volume, target) = (
        directory.path().join("volume"),
        directory.path().join("target"),
    );
    fs::create_dir(&volume).unwrap();
    fs::create_dir(&target).unwrap();
    sample(&volume, 81, 6 << 20);
    odd(&volume);
    let before = Record::of(&volume);
    let engine = Engine::in_memory();
    let snapshot = engine.backup(&volume).snapshot;
    let archive = directory.path().join("archive.tar");
    let mut file = File::create(&archive).unwrap();
    let report = export_to(&engine, snapshot, &Selection::default(), &mut file).unwrap();
    assert_eq!(report.issues, Vec::new());
    assert_eq!(
        (report.files + report.dirs + report.others) as usize,
        before.count()
    );
    // Holes cost nothing in the archive.
    assert!(file.metadata().unwrap().len() < 12 << 20);
    assert_eq!(
        tar(&target, &["-t"], &archive).lines().count(),
        before.count()
    );
    let extract = [
        "-x",
        "-p",
        "--numeric-owner",
        "--delay-directory-restore",
        "--xattrs",
        "--xattrs-include=*",
        "--sparse",
        // It finds times before 1970 implausible.
        "--warning=no-timestamp",
    ];
    tar(&target, &extract, &archive);
    assert_identical(&before, &target);
    engine.assert_restores_in(&directory, snapshot, &before);
}

#[test]
fn a_part_comes_with_the_directories_above_it() {
    let directory = tempfile::tempdir().unwrap();
    let volume = directory.path().join("volume");
    fs::create_dir(&volume).unwrap();
    sample(&volume, 82, 1 << 20);
    let engine = Engine::in_memory();
    let snapshot = engine.backup(&volume).snapshot;
    let archive = directory.path().join("archive.tar");
    let select = Selection::path(b"base/1".to_vec());
    let mut file = File::create(&archive).unwrap();
    export_to(&engine, snapshot, &select, &mut file).unwrap();
    let list = tar(directory.path(), &["-t"], &archive);
    let list: Vec<&str> = list.lines().collect();
    assert_eq!(
        list,
        ["./", "./base/", "./base/1/", "./base/1/copy of a part"]
    );
    let select = Selection::path(b"base/2".to_vec());
    let error = export_to(&engine, snapshot, &select, &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("base/2"), "{error}");
}

/// Counts and forgets bytes; fails at some point.
struct Narrow {
    left: u64,
    taken: Arc<AtomicU64>,
}

impl io::Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = self.left.min(bytes.len() as u64);
        self.left -= count;
        self.taken.fetch_add(count, Ordering::Relaxed);
        Ok(count as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_export() {
    let volume = orlop_tests::quick_dir();
    sample(volume.path(), 83, 2 << 20);
    let engine = Engine::in_memory();
    let snapshot = engine.backup(volume.path()).snapshot;
    for left in [0, 100, 5000, 200_000, 1 << 20] {
        let taken = Arc::new(AtomicU64::new(0));
        let mut out = Narrow {
            left,
            taken: Arc::clone(&taken),
        };
        let result = export_to(&engine, snapshot, &Selection::default(), &mut out);
        let error = result.unwrap_err();
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        let mut broken = false;
        while let Some(error) = cause {
            let error_of_system = error.downcast_ref::<io::Error>();
            broken |= error_of_system.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
            cause = error.source();
        }
        assert!(broken, "{error:?}");
        assert_eq!(taken.load(Ordering::Relaxed), left);
    }
}
