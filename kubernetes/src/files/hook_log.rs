//! The lines of a hook in a backup's log, by which KOTS draws its page of scripts.

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;
use orlop_core::hook::Hook;

use super::log::{Level, Record};
use crate::velero::GoDuration;

/// Writes the records of one hook of one pod. Each carries the pod's name and namespace: a line without them
/// is counted to another pod's hook.
#[derive(Debug, Clone)]
pub struct HookLog {
    base: Record,
}

impl HookLog {
    /// The log of `hook` as it runs for the backup `NAMESPACE/NAME` in a container of a pod.
    pub fn new(backup: &str, namespace: &str, pod: &str, hook: &Hook) -> Self {
        let base = Record::new(Timestamp::UNIX_EPOCH, Level::Info, "")
            .with("backup", backup)
            .with("hookCommand", command(&hook.command))
            .with("hookContainer", hook.container.as_str())
            .with("hookName", hook.name.as_str())
            .with("hookOnError", hook.on_error.map_or("", |on| on.as_str()))
            .with("hookPhase", hook.phase.as_str())
            .with("hookSource", hook.source.as_str())
            .with("hookTimeout", timeout(hook.timeout))
            .with("hookType", "exec")
            .with("name", pod)
            .with("namespace", namespace)
            .with("resource", "pods");
        Self { base }
    }

    fn record(&self, time: Timestamp, level: Level, message: String) -> Record {
        Record {
            time,
            level,
            message,
            ..self.base.clone()
        }
    }

    /// The hook begins.
    pub fn started(&self, time: Timestamp) -> Record {
        self.record(time, Level::Info, "running exec hook".to_owned())
    }

    /// What the hook printed. To be written whenever it has ended, empty or not: its end is read from this.
    pub fn stdout(&self, time: Timestamp, text: &str) -> Record {
        self.record(time, Level::Info, format!("stdout: {text}"))
    }

    /// What the hook printed as errors.
    pub fn stderr(&self, time: Timestamp, text: &str) -> Record {
        self.record(time, Level::Info, format!("stderr: {text}"))
    }

    /// The hook has failed.
    pub fn failed(&self, time: Timestamp, error: &str) -> Record {
        self.record(time, Level::Error, "Error executing hook".to_owned())
            .with("error", error)
    }
}

/// The command as Go prints a list of strings.
fn command(words: &[String]) -> String {
    let mut text = String::new();
    write!(text, "[{}]", words.join(" ")).expect("a String takes everything");
    text
}

/// The timeout as Go prints the object that holds it.
fn timeout(duration: Duration) -> String {
    format!("{{{}}}", GoDuration::from(duration))
}

#[cfg(test)]
mod tests {
    use orlop_core::hook::{HookPhase, HookSource, OnError};

    use super::*;

    fn log() -> HookLog {
        let hook = Hook {
            name: "<from-annotation>".to_owned(),
            container: "postgresql".to_owned(),
            command: vec!["/bin/bash".into(), "-c".into(), "pg_dump \"$DB\"".into()],
            on_error: Some(OnError::Fail),
            timeout: Duration::from_mins(3),
            kill: false,
            source: HookSource::Annotation,
            phase: HookPhase::Pre,
        };
        HookLog::new("velero/b", "default", "postgresql-0", &hook)
    }

    #[test]
    fn a_hook_is_logged_as_kots_reads_it() {
        let time: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let hook = r#"hookCommand="[/bin/bash -c pg_dump \"$DB\"]" hookContainer=postgresql hookName="<from-annotation>" hookOnError=Fail hookPhase=pre hookSource=annotation hookTimeout="{3m0s}" hookType=exec name=postgresql-0 namespace=default resource=pods"#;
        let head = r#"time="2026-01-02T03:04:05Z""#;
        let log = log();
        let lines = [
            log.started(time).line(),
            log.stdout(time, "done\n").line(),
            log.stderr(time, "").line(),
            log.failed(time, "command terminated with exit code 1")
                .line(),
        ];
        assert_eq!(
            lines,
            [
                format!(r#"{head} level=info msg="running exec hook" backup=velero/b {hook}"#),
                format!(r#"{head} level=info msg="stdout: done\n" backup=velero/b {hook}"#),
                format!(r#"{head} level=info msg="stderr: " backup=velero/b {hook}"#),
                format!(
                    r#"{head} level=error msg="Error executing hook" backup=velero/b error="command terminated with exit code 1" {hook}"#
                ),
            ]
        );
    }

    #[test]
    fn long_output_is_cut_with_a_note() {
        let line = log()
            .stdout(Timestamp::UNIX_EPOCH, &"x".repeat(100_000))
            .line();
        assert!(line.len() < 70_000);
        assert!(
            line.contains(r"\n[cut: 34472 of 100008 bytes are left out]"),
            "{}",
            &line[65_000..]
        );
    }
}
