//! Commands in pods, over WebSockets: the test says what each prints and how it ends.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::{failure::Failure, lock, request::KubeRequest};
use crate::Gate;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const CLOSE: u8 = 255;
/// The most that one message carries.
const PART: usize = 32 << 10;

/// A command that a client runs in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecCall {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its container, the only one if the client named none.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether the client sends input.
    pub stdin: bool,
}

#[derive(Debug, Clone)]
enum End {
    Exit(i32),
    Error(String),
    Hang,
    Cut,
}

/// What a command prints, and how it ends.
#[derive(Debug, Clone)]
pub struct ExecReply {
    output: Vec<(u8, Bytes)>,
    echo: bool,
    gate: Option<Gate>,
    end: End,
}

impl ExecReply {
    fn new(end: End) -> Self {
        Self {
            output: Vec::new(),
            echo: false,
            gate: None,
            end,
        }
    }

    /// It ends with this code.
    pub fn exit(code: i32) -> Self {
        Self::new(End::Exit(code))
    }

    /// It cannot be run, as when the program is missing.
    pub fn error(message: &str) -> Self {
        Self::new(End::Error(message.to_owned()))
    }

    /// It never ends.
    pub fn hang() -> Self {
        Self::new(End::Hang)
    }

    /// The connection ends without a status.
    pub fn cut() -> Self {
        Self::new(End::Cut)
    }

    /// The same, and it prints this.
    #[must_use]
    pub fn stdout(mut self, text: impl Into<Bytes>) -> Self {
        self.output.push((STDOUT, text.into()));
        self
    }

    /// The same, and it complains so.
    #[must_use]
    pub fn stderr(mut self, text: impl Into<Bytes>) -> Self {
        self.output.push((STDERR, text.into()));
        self
    }

    /// The same, but it prints its input until that ends.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// The same, but the end comes once the gate is open.
    #[must_use]
    pub fn held(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }
}

type Script = Arc<dyn Fn(&ExecCall) -> ExecReply + Send + Sync>;

/// What the test says of pods, and what they were asked.
#[derive(Default)]
pub(super) struct Pods {
    script: Mutex<Option<Script>>,
    calls: Mutex<Vec<ExecCall>>,
    running: AtomicUsize,
    /// By namespace, pod and container.
    pub(super) logs: Mutex<BTreeMap<[String; 3], String>>,
}

impl Pods {
    pub(super) fn set_script(&self, script: Script) {
        *lock(&self.script) = Some(script);
    }

    pub(super) fn take_calls(&self) -> Vec<ExecCall> {
        std::mem::take(&mut lock(&self.calls))
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    fn reply(&self, call: &ExecCall) -> ExecReply {
        lock(&self.calls).push(call.clone());
        let script = lock(&self.script).clone();
        script.map_or_else(
            || ExecReply::error("the test has no script for commands"),
            |script| script(call),
        )
    }
}

/// The protocols that are spoken with commands.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Which of the protocols is spoken, of those that a client offers.
pub(super) fn protocol(
    known: &'static [&'static str],
    offered: &str,
) -> Result<&'static str, Failure> {
    let mut offered = offered.split(',').map(str::trim);
    offered
        .find_map(|one| known.iter().copied().find(|known| *known == one))
        .ok_or_else(|| {
            Failure::bad_request("unable to upgrade: unable to negotiate protocol: no match")
        })
}

/// What a request wants to run, where that is possible.
pub(super) fn call(pod: &Value, request: &KubeRequest) -> Result<ExecCall, Failure> {
    let meta = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    let name = meta("name");
    let names: Vec<&str> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect();
    let container = match (request.parameter("container"), names.as_slice()) {
        ("", [only]) => *only,
        ("", all) => {
            let all = all.join(" ");
            let message = format!(
                "a container name must be specified for pod {name}, choose one of: [{all}]"
            );
            return Err(Failure::bad_request(message));
        }
        (given, all) if all.contains(&given) => given,
        (given, _) => {
            let message = format!("container {given} is not valid for pod {name}");
            return Err(Failure::bad_request(message));
        }
    };
    if pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
        let message = format!("pod {name} does not have a host assigned");
        return Err(Failure::bad_request(message));
    }
    if pod["status"]["phase"] != "Running" {
        let message = format!("unable to upgrade connection: container not found ({container:?})");
        return Err(Failure::internal(message));
    }
    let command: Vec<String> = request
        .parameters("command")
        .into_iter()
        .map(str::to_owned)
        .collect();
    if command.is_empty() {
        return Err(Failure::bad_request(
            "you must specify at least 1 command for the container",
        ));
    }
    Ok(ExecCall {
        namespace: meta("namespace"),
        pod: name,
        container: container.to_owned(),
        command,
        stdin: request.flag("stdin"),
    })
}

/// Plays a command to its end, or until the client goes.
pub(super) async fn play(pods: &Pods, call: ExecCall, upgraded: Upgraded) {
    pods.running.fetch_add(1, Ordering::SeqCst);
    let running = scopeguard(&pods.running);
    let reply = pods.reply(&call);
    let stream = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    // A client that is gone does not want to know.
    let _ = tell(&mut socket, &call, reply).await;
    drop(running);
}

/// Counts down when it ends, also when the task is dropped.
fn scopeguard(count: &AtomicUsize) -> impl Drop {
    struct Guard<'a>(&'a AtomicUsize);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    Guard(count)
}

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(super) fn broken(error: tokio_tungstenite::tungstenite::Error) -> io::Error {
    io::Error::other(error)
}

pub(super) async fn send(socket: &mut Socket, channel: u8, content: &[u8]) -> io::Result<()> {
    let message = [&[channel], content].concat();
    socket.send(Message::binary(message)).await.map_err(broken)
}

async fn tell(socket: &mut Socket, call: &ExecCall, reply: ExecReply) -> io::Result<()> {
    // A kubelet says so that it is there.
    send(socket, STDOUT, &[]).await?;
    for (channel, content) in &reply.output {
        for part in content.chunks(PART) {
            send(socket, *channel, part).await?;
        }
    }
    if reply.echo {
        echo(socket).await?;
    }
    let hangs = matches!(reply.end, End::Hang);
    let ended = async {
        if let Some(gate) = &reply.gate {
            gate.pass().await;
        }
    };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended, if !hangs => break,
            message = socket.next() => match message {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                Some(Ok(_)) => {}
            },
        }
    }
    let status = match reply.end {
        End::Hang | End::Cut => return Ok(()),
        End::Exit(code) => exit_status(&call.command, code),
        End::Error(why) => {
            let message = format!("error executing command in container: {why}");
            let mut status =
                Failure::internal(format!("Internal error occurred: {message}")).status();
            status["details"] = json!({"causes": [{"message": message}]});
            status
        }
    };
    send(socket, STATUS, status.to_string().as_bytes()).await?;
    socket.close(None).await.map_err(broken)
}

/// Sends back the input until the client closes it.
async fn echo(socket: &mut Socket) -> io::Result<()> {
    while let Some(message) = socket.next().await {
        match message.map_err(broken)? {
            Message::Binary(content) => match &*content {
                [STDIN, input @ ..] => send(socket, STDOUT, input).await?,
                [CLOSE, STDIN] => return Ok(()),
                _ => {}
            },
            Message::Close(_) => break,
            _ => {}
        }
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}

fn exit_status(command: &[String], code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    let command = command.join(" ");
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!(
            "command terminated with non-zero exit code: error executing command [{command}], exit code {code}"
        ),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}
