//! The walk-through of the KOTS guide with a real PostgreSQL: a row, a backup, another row, a second
//! backup, a restore of the first into a new pod, and exactly one row there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use nix::unistd::User;
use orlop_tests::{Machine, free_port, is_root, postgres_bin, require};

/// A PostgreSQL server on a volume's directory; it is stopped with the value.
struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
    port: String,
}

impl Postgres {
    fn new(volume: &Path, sockets: &Path) -> Self {
        Self {
            bin: postgres_bin().unwrap(),
            data: volume.join("pgdata"),
            sockets: sockets.to_owned(),
            port: free_port().to_string(),
        }
    }

    /// One of PostgreSQL's programs, which refuse to run as root.
    fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args([
                    "--reuid",
                    "postgres",
                    "--regid",
                    "postgres",
                    "--init-groups",
                    "--",
                ])
                .arg(path);
            command
        } else {
            Command::new(path)
        };
        command
            .current_dir("/")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }

    fn init(&self) {
        let mut command = self.program("initdb");
        command
            .args(["--auth", "trust", "--username", "postgres", "--pgdata"])
            .arg(&self.data);
        succeeds(command);
    }

    fn start(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses='' -c autovacuum=off",
            self.port,
            self.sockets.display()
        );
        let mut command = self.program("pg_ctl");
        command
            .args(["start", "--wait", "--silent", "--pgdata"])
            .arg(&self.data);
        command
            .arg("--log")
            .arg(self.sockets.join(format!("log-{}", self.port)));
        command
            .args(["--options", &options])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = command.status().unwrap();
        let log = fs::read_to_string(self.sockets.join(format!("log-{}", self.port)));
        assert!(status.success(), "{status}: {log:?}");
    }

    fn sql(&self, text: &str) -> String {
        let mut command = self.program("psql");
        command.args([
            "-U", "postgres", "-p", &self.port, "-X", "-A", "-t", "-q", "-h",
        ]);
        command
            .arg(&self.sockets)
            .args(["-v", "ON_ERROR_STOP=1", "-c", text]);
        String::from_utf8(succeeds(command).stdout)
            .unwrap()
            .trim()
            .to_owned()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut command = self.program("pg_ctl");
        command
            .args(["stop", "--mode", "immediate", "--silent", "--pgdata"])
            .arg(&self.data);
        // It may not have been started.
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn succeeds(mut command: Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// Lets PostgreSQL's user reach the directory and write in it.
fn give(directory: &Path) {
    if let Some(user) = User::from_name("postgres").unwrap().filter(|_| is_root()) {
        chown(directory, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

#[test]
fn a_database_is_restored_as_it_was_at_its_first_backup() {
    if !require("postgres") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // A socket's path must be short.
    let sockets = tempfile::Builder::new()
        .prefix("pg")
        .tempdir_in("/tmp")
        .unwrap();
    give(sockets.path());
    let machine = Machine::new(directory.path());
    let _server = machine.standalone();
    let pod = machine.node().pod("postgresql-0");
    give(&pod.path);
    machine.knows(&pod);

    let live = Postgres::new(&pod.path, sockets.path());
    live.init();
    live.start();
    live.sql("create table tbl_records (record text not null)");
    live.sql("insert into tbl_records values ('hello!')");
    live.sql("checkpoint");
    let first = machine.backup("hello", &pod);
    live.sql("insert into tbl_records values ('bye!')");
    live.sql("checkpoint");
    let second = machine.backup("bye", &pod);
    let (all, uploaded) = (
        &first["logical_bytes"],
        second["uploaded_bytes"].as_u64().unwrap(),
    );
    println!("one row more: {uploaded} bytes of {all} were uploaded");
    assert!(uploaded < 2 << 20, "{uploaded} bytes");
    assert_eq!(live.sql("select record from tbl_records"), "hello!\nbye!");

    let target = machine.node().pod("postgresql-new-0");
    give(&target.path);
    let waiting = machine.restore_wait(&target);
    machine.knows(&target);
    machine.restore("hello", &target).exits(0);
    waiting.wait().exits(0);
    // What the live server held as its own means nothing to another.
    let _ = fs::remove_file(target.path.join("pgdata/postmaster.pid"));
    let restored = Postgres::new(&target.path, sockets.path());
    restored.start();
    assert_eq!(restored.sql("select record from tbl_records"), "hello!");
    restored.sql("insert into tbl_records values ('it writes, too')");
    assert_eq!(restored.sql("select count(*) from tbl_records"), "2");
}
