//! The `orlop` program as people and services run it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::eventually;

/// Longer than anything that one command of the tests takes.
const PATIENCE: Duration = Duration::from_mins(5);

/// The workspace's root directory.
pub fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is in the workspace")
        .to_owned()
}

/// The path of the program, built from the working tree once, with the features of a build of the whole
/// workspace: what `cargo test --workspace --release` has compiled is not compiled again.
///
/// # Panics
/// It cannot be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "--workspace", "--bin", "orlop"])
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(repository_root())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(built.status.success(), "the program cannot be built");
        let messages = String::from_utf8(built.stdout).unwrap();
        messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .expect("cargo names the program that it built")
    })
}

/// A TCP port of the loopback interface that nobody uses.
///
/// # Panics
/// There is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// How a command ended.
#[derive(Debug)]
pub struct Output {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it printed as its result.
    pub stdout: String,
    /// What it said meanwhile.
    pub stderr: String,
}

impl Output {
    /// Asserts the exit code.
    ///
    /// # Panics
    /// It is another.
    #[track_caller]
    #[allow(
        clippy::return_self_not_must_use,
        reason = "often the exit code is all that matters"
    )]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// The result as JSON.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e} in stdout {:?}, stderr {:?}", self.stdout, self.stderr))
    }

    /// The only line on stderr.
    ///
    /// # Panics
    /// There are none or several.
    #[track_caller]
    pub fn one_line(&self) -> &str {
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "stderr is not one line: {:?}", self.stderr);
        lines[0]
    }
}

/// A command of the program that is being put together. Its environment has nothing of `ORLOP_…`,
/// and directories of its own for a user's files.
pub struct Orlop {
    command: Command,
}

impl Orlop {
    /// `orlop ARGS…`; `home` stands for the user's home directory.
    pub fn new<A: AsRef<OsStr>>(home: &Path, args: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(program());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"ORLOP_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", home)
            .stdin(Stdio::null());
        Self { command }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds a variable to its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes a variable from its environment.
    #[must_use]
    pub fn without(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Lets it see an empty directory where `hidden` is, as on another node. Needs root.
    #[must_use]
    pub fn with_hidden(self, hidden: &Path) -> Self {
        let inner = self.command;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount -t tmpfs hidden \"$0\" && exec \"$@\"")
            .arg(hidden)
            .arg(inner.get_program())
            .args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null());
        Self { command }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// It cannot be started, or takes longer than five minutes.
    pub fn run(self) -> Output {
        self.start().wait()
    }

    /// As [`Orlop::run`], with `directory` as its working directory.
    ///
    /// # Panics
    /// As for [`Orlop::run`].
    pub fn run_in(mut self, directory: &Path) -> Output {
        self.command.current_dir(directory);
        self.run()
    }

    /// Starts it.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(mut self) -> Daemon {
        let (out, err) = (
            tempfile::NamedTempFile::new().unwrap(),
            tempfile::NamedTempFile::new().unwrap(),
        );
        let child = self
            .command
            .stdout(out.reopen().unwrap())
            .stderr(err.reopen().unwrap())
            .spawn()
            .unwrap();
        Daemon { child, out, err }
    }
}

/// A process that runs; it does not outlive the value.
pub struct Daemon {
    child: Child,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
}

impl Daemon {
    /// Waits for its end.
    ///
    /// # Panics
    /// It takes longer than five minutes.
    pub fn wait(mut self) -> Output {
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "it does not end: {}",
                self.said()
            );
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        Output {
            code: status.code(),
            stdout: read(self.out.path()),
            stderr: read(self.err.path()),
        }
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it said on stderr until now.
    pub fn said(&self) -> String {
        read(self.err.path())
    }

    /// Waits until it accepts connections at `address`.
    ///
    /// # Panics
    /// It ends, or a minute passes, before.
    pub fn listens(&mut self, address: &str) {
        eventually(&format!("the program listens at {address}"), || {
            let ended = self.ended();
            assert!(ended.is_none(), "it ended with {ended:?}: {}", self.said());
            TcpStream::connect(address).ok().map(drop)
        });
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // It may have ended a moment ago.
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// Ends it at once, as a crash does, and waits until it is gone.
    pub fn crash(mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- process {} said:\n{}", self.child.id(), self.said());
        }
    }
}

fn read(path: &Path) -> String {
    let mut text = Vec::new();
    File::open(path).unwrap().read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

impl Orlop {
    /// Writes [`crate::KEY`] as a key file.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write_key(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(path, crate::KEY).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
