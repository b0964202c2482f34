//! The child process that stands for the new pod's init container.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::PATIENCE;
use crate::exit;

/// The process that stands for the pod's init container; it does not outlive the demo.
pub(super) struct InitContainer(Child);

impl InitContainer {
    /// Starts `orlop restore-wait`.
    pub(super) fn start(marks: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let child = Command::new(program)
            .arg("restore-wait")
            .arg("--dir")
            .arg(marks)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start orlop restore-wait")?;
        Ok(Self(child))
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended; `None` while it runs.
    pub(super) fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.0.try_wait().context("look at orlop restore-wait")
    }

    /// Waits until it has ended with 0.
    pub(super) async fn succeeds(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(exit::failure(
                        exit::FAILED,
                        format!("orlop restore-wait ended with {status}"),
                    ));
                }
                None if began.elapsed() > PATIENCE => {
                    return Err(exit::failure(
                        exit::FAILED,
                        "orlop restore-wait still waits after the restore",
                    ));
                }
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for InitContainer {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
