//! Runs a command in a container to its end, or until its time is over.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{AttachParams, AttachedProcess},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, timeout, timeout_at},
};

use super::{
    kill::{PROBE, Tag},
    report::{ExecExit, ExecReport, Output, exit_of},
};
use crate::client::{CALL_LIMIT, ClientError, Connection};

/// How long the search for a shell may take; it does not count for the command.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take to end a command whose time is over.
const KILL_LIMIT: Duration = Duration::from_secs(15);

/// How long output may still come in after a command's end.
const REST_LIMIT: Duration = Duration::from_secs(5);

/// A command that is to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod, which must run.
    pub pod: String,
    /// The container; with "" the only one.
    pub container: String,
    /// The program and its arguments; no shell splits or expands them.
    pub command: Vec<String>,
    /// How long it may take, its start included.
    pub timeout: Duration,
    /// Whether it is ended when its time is over. Without, it goes on then and only nobody waits for it.
    pub kill: bool,
}

/// Runs a command, and returns when it has ended or its time is over, and half a minute later at most.
///
/// It is never run a second time, whatever goes wrong. When the future is dropped the connection ends, and the
/// command goes on.
pub async fn run(connection: &Connection, request: &ExecRequest) -> ExecReport {
    let mut warnings = Vec::new();
    let mut tag = None;
    if request.kill {
        match shell_problem(connection, request).await {
            None => tag = Some(Tag::new()),
            Some(why) => warnings.push(format!(
                "container {:?} of pod {}/{} shows no /bin/sh that can read /proc, so a command that takes too long \
                 cannot be ended: {why}",
                request.container, request.namespace, request.pod
            )),
        }
    }
    let command = match &tag {
        Some(tag) => tag.tagged(&request.command),
        None => request.command.clone(),
    };
    let mut report = attempt(connection, request, &command, request.timeout).await;
    if let (ExecExit::TimedOut { may_still_run }, Some(tag)) = (&mut report.exit, &tag) {
        let killer = attempt(connection, request, &tag.killer(), KILL_LIMIT).await;
        *may_still_run = killer.exit != ExecExit::Succeeded;
        if *may_still_run {
            let why = killer.error().unwrap_or_default();
            warnings.push(match killer.exit {
                ExecExit::ExitCode(3) => {
                    "the command was not found when it was to be ended".to_owned()
                }
                ExecExit::ExitCode(4) => "the command could not be ended".to_owned(),
                _ => format!("the command may not have been ended: {why}"),
            });
        }
    }
    report.warnings = warnings;
    report
}

/// Why the container's shell cannot be used.
async fn shell_problem(connection: &Connection, request: &ExecRequest) -> Option<String> {
    let probe = PROBE.map(str::to_owned);
    attempt(connection, request, &probe, PROBE_LIMIT)
        .await
        .error()
}

async fn attempt(
    connection: &Connection,
    request: &ExecRequest,
    command: &[String],
    limit: Duration,
) -> ExecReport {
    let end = Instant::now() + limit;
    let mut report = ExecReport {
        stdout: Output::default(),
        stderr: Output::default(),
        exit: ExecExit::TimedOut {
            may_still_run: true,
        },
        timeout: limit,
        warnings: Vec::new(),
    };
    let connect_end = end.min(Instant::now() + CALL_LIMIT);
    match timeout_at(connect_end, start(connection, request, command)).await {
        Ok(Ok(process)) => follow(process, end, &mut report).await,
        Ok(Err(error)) => {
            report.exit = ExecExit::Failed {
                message: error.to_string(),
            };
        }
        Err(_) if connect_end < end => {
            let limit = CALL_LIMIT;
            report.exit = ExecExit::Failed {
                message: ClientError::TimedOut { limit }.to_string(),
            };
        }
        Err(_) => {}
    }
    report
}

async fn start(
    connection: &Connection,
    request: &ExecRequest,
    command: &[String],
) -> Result<AttachedProcess, ClientError> {
    let pods: Api<Pod> = Api::namespaced(connection.client().clone(), &request.namespace);
    let mut parameters = AttachParams::default();
    if !request.container.is_empty() {
        parameters = parameters.container(request.container.as_str());
    }
    Ok(pods.exec(&request.pod, command, &parameters).await?)
}

/// Reads all that the command prints until it ends. The connection ends with `process`.
async fn follow(mut process: AttachedProcess, end: Instant, report: &mut ExecReport) {
    let stdout = process.stdout();
    let stderr = process.stderr();
    let status = process.take_status();
    let read = async {
        tokio::join!(
            read_all(stdout, &mut report.stdout),
            read_all(stderr, &mut report.stderr)
        )
    };
    tokio::pin!(read);
    let status = async {
        match status {
            Some(status) => status.await,
            None => None,
        }
    };
    tokio::pin!(status);
    let mut all_read = false;
    let exit = loop {
        tokio::select! {
            biased;
            status = &mut status => break Some(exit_of(status.as_ref())),
            _ = &mut read, if !all_read => all_read = true,
            () = tokio::time::sleep_until(end) => break None,
        }
    };
    if let Some(exit) = exit {
        if !all_read {
            let _ = timeout(REST_LIMIT, read).await;
        }
        report.exit = exit;
    }
}

async fn read_all(stream: Option<impl AsyncRead + Unpin>, output: &mut Output) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 8 << 10];
    // Its errors are those of the connection, which the status tells.
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        output.add(&buffer[..count]);
    }
}
