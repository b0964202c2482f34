//! What a machine may lack: a test that needs it says so and is skipped, unless the run insists.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The directory of PostgreSQL's programs, the newest version's; `None` if there is none.
pub fn postgres_bin() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.parse().ok()?;
            Some((version, path.join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").exists() && bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin)
}

/// Whether a real cluster is at hand: `KUBE_BIN` names the directory of kubectl, `KUBECONFIG` the cluster.
fn has_cluster() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_set("KUBE_BIN") && is_set("KUBECONFIG")
}

/// A Python that has what the second reader of the format (`tests/reader`) needs; `None` if there is none.
pub fn python() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let has = |python: &Path| {
        let imports = "import argon2, cryptography, zstandard";
        let run = Command::new(python).args(["-c", imports]).output();
        run.is_ok_and(|output| output.status.success())
    };
    // The system's comes first: another one may be there without the system's modules.
    let all = ["/usr/bin/python3", "python3"].map(PathBuf::from);
    let found = FOUND.get_or_init(|| all.into_iter().find(|python| has(python)));
    found.as_deref()
}

/// Whether this machine has `what`: `root`, `postgres`, `python` or `cluster`. If it has not, the line `skipped: needs …`
/// is printed.
///
/// # Panics
/// It has not, and the list in `ORLOP_REQUIRE` names it: the run insists.
pub fn require(what: &str) -> bool {
    let present = match what {
        "root" => is_root(),
        "postgres" => postgres_bin().is_some(),
        "python" => python().is_some(),
        "cluster" => has_cluster(),
        _ => panic!("no machine is asked for {what:?}"),
    };
    if present {
        return true;
    }
    let insisted = std::env::var("ORLOP_REQUIRE").unwrap_or_default();
    assert!(
        !insisted.split(',').any(|one| one.trim() == what),
        "ORLOP_REQUIRE names {what}, and this machine lacks it"
    );
    println!("skipped: needs {what}");
    false
}
