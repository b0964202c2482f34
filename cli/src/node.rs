//! What this machine is called, and where its server and clients find each other's files.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use orlop_runtime::token;

/// The machine's host name.
pub(crate) fn name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.to_owned()
    }
}

/// Directories in which a server of this user, or of the system, may have left token and
/// certificate; the first is tried first.
pub(crate) fn run_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if let Some(dir) = env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        dirs.push(Path::new(&dir).join("orlop"));
    }
    dirs.push(PathBuf::from("/run/orlop"));
    if let Some(home) = env::var_os("HOME").filter(|home| !home.is_empty()) {
        dirs.push(Path::new(&home).join(".local/state/orlop"));
    }
    dirs
}

/// Leaves token and certificate where clients of this user look for them; says where.
fn publish(bearer: &str, ca_pem: &str) -> Result<PathBuf> {
    let mut failure = None;
    for dir in run_dirs() {
        match publish_in(&dir, bearer, ca_pem) {
            Ok(()) => return Ok(dir),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| anyhow::anyhow!("there is no directory to leave the token in")))
}

/// As [`publish`]; a failure is only logged, since clients can be given the files.
pub(crate) fn announce(bearer: &str, ca_pem: &str) {
    match publish(bearer, ca_pem) {
        Ok(dir) => {
            tracing::info!(dir = %dir.display(), "clients of this machine find the token");
        }
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "clients must be given the token file"
            );
        }
    }
}

fn publish_in(dir: &Path, bearer: &str, ca_pem: &str) -> Result<()> {
    token::write_to(&dir.join("token"), bearer).context("leave the token for clients")?;
    std::fs::write(dir.join("ca.pem"), ca_pem)
        .with_context(|| format!("cannot write {}", dir.join("ca.pem").display()))
}
