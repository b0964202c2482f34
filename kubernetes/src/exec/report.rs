//! How a command in a container has ended, and what it printed.

use std::{fmt::Write as _, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

use crate::velero::GoDuration;

/// How much of each stream of a command's output is kept, in bytes.
pub const OUTPUT_MAX: usize = 64 << 10;

/// What a command has printed on one of its streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// The beginning, [`OUTPUT_MAX`] bytes at most.
    pub kept: Vec<u8>,
    /// How many bytes came after that.
    pub dropped_bytes: u64,
}

impl Output {
    /// The text, with a last line about what is missing.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.kept).into_owned();
        if self.dropped_bytes > 0 {
            write!(text, "\n[{} more bytes are left out]", self.dropped_bytes)
                .expect("a String takes everything");
        }
        text
    }

    pub(super) fn add(&mut self, part: &[u8]) {
        let room = OUTPUT_MAX.saturating_sub(self.kept.len()).min(part.len());
        self.kept.extend_from_slice(&part[..room]);
        self.dropped_bytes += (part.len() - room) as u64;
    }
}

/// How a command has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecExit {
    /// With 0.
    Succeeded,
    /// With another code.
    ExitCode(i32),
    /// Not in time.
    TimedOut {
        /// Whether it may still run: nobody has killed it, or not all of it could be found.
        may_still_run: bool,
    },
    /// It could not be run, or its end was lost with the connection.
    Failed {
        /// Why.
        message: String,
    },
}

/// What became of a command in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecReport {
    /// What it printed.
    pub stdout: Output,
    /// What it complained about.
    pub stderr: Output,
    /// How it has ended.
    pub exit: ExecExit,
    /// How long it was allowed to take.
    pub timeout: Duration,
    /// What should be said beside, one line each.
    pub warnings: Vec<String>,
}

impl ExecReport {
    /// Why it has failed, in the words of kubectl and Velero; `None` if it succeeded.
    pub fn error(&self) -> Option<String> {
        match &self.exit {
            ExecExit::Succeeded => None,
            ExecExit::ExitCode(code) => Some(format!("command terminated with exit code {code}")),
            ExecExit::TimedOut { .. } => Some(format!(
                "timed out after {}",
                GoDuration::from(self.timeout)
            )),
            ExecExit::Failed { message } => Some(message.clone()),
        }
    }
}

/// What the status says with which the server ends a command; `None` if it lost it.
pub(super) fn exit_of(status: Option<&Status>) -> ExecExit {
    let Some(status) = status else {
        return ExecExit::Failed {
            message: "the connection ended before the command did; it may still run".to_owned(),
        };
    };
    if status.status.as_deref() == Some("Success") {
        return ExecExit::Succeeded;
    }
    let details = status.details.iter();
    let causes = details.flat_map(|details| details.causes.iter().flatten());
    let code = causes
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .find_map(|cause| cause.message.as_deref()?.parse().ok());
    match code {
        Some(code) => ExecExit::ExitCode(code),
        None => ExecExit::Failed {
            message: status.message.clone().unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exit(status: serde_json::Value) -> ExecExit {
        exit_of(Some(&serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn the_status_tells_the_exit_code() {
        assert_eq!(exit(json!({"status": "Success"})), ExecExit::Succeeded);
        let failure = json!({
            "status": "Failure", "reason": "NonZeroExitCode", "message": "m",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
        });
        assert_eq!(exit(failure), ExecExit::ExitCode(3));
        let failure = json!({"status": "Failure", "message": "no such program", "code": 500});
        let message = "no such program".to_owned();
        assert_eq!(exit(failure), ExecExit::Failed { message });
        assert!(matches!(exit_of(None), ExecExit::Failed { .. }));
    }

    #[test]
    fn errors_are_worded_as_velero_and_kubectl_word_them() {
        let mut report = ExecReport {
            stdout: Output::default(),
            stderr: Output::default(),
            exit: ExecExit::ExitCode(1),
            timeout: Duration::from_secs(90),
            warnings: Vec::new(),
        };
        assert_eq!(
            report.error().unwrap(),
            "command terminated with exit code 1"
        );
        report.exit = ExecExit::TimedOut {
            may_still_run: true,
        };
        assert_eq!(report.error().unwrap(), "timed out after 1m30s");
        report.exit = ExecExit::Succeeded;
        assert_eq!(report.error(), None);
    }

    #[test]
    fn of_endless_output_the_beginning_is_kept_and_the_rest_counted() {
        let mut output = Output::default();
        for _ in 0..100 {
            output.add(&[b'x'; 1000]);
        }
        assert_eq!(output.kept.len(), OUTPUT_MAX);
        assert_eq!(output.dropped_bytes, 100_000 - OUTPUT_MAX as u64);
        assert!(output.text().ends_with("\n[34464 more bytes are left out]"));
    }
}
