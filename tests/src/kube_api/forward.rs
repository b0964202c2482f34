//! Ports of pods, over WebSockets: bytes go to the address that the pod's status has, where a test may listen.

use std::io;

use futures_util::StreamExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::{
    exec::{Socket, broken, send},
    failure::Failure,
    meta::text,
    request::KubeRequest,
};

/// The protocols that a kubelet speaks here, which are fewer than for commands.
pub(super) const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];

/// Ports that a client forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForwardCall {
    pod: String,
    address: String,
    ports: Vec<u16>,
}

/// What a request wants to forward, where that is possible.
pub(super) fn call(pod: &Value, request: &KubeRequest) -> Result<ForwardCall, Failure> {
    let name = text(pod, "metadata.name");
    let phase = text(pod, "status.phase");
    if phase != "Running" {
        return Err(Failure::internal(format!(
            "unable to forward port because pod is not running. Current status={phase}"
        )));
    }
    let given = request.parameters("ports");
    let ports: Result<Vec<u16>, _> = given
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::parse)
        .collect();
    let ports = ports.map_err(|_| Failure::bad_request(format!("unable to parse {given:?}")))?;
    if ports.is_empty() {
        return Err(Failure::bad_request("you must specify at least 1 port"));
    }
    Ok(ForwardCall {
        pod: name.to_owned(),
        address: text(pod, "status.podIP").to_owned(),
        ports,
    })
}

/// Forwards until both sides have had enough.
pub(super) async fn play(call: ForwardCall, upgraded: Upgraded) {
    let stream = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    // A client that is gone does not want to know.
    let _ = forward(&mut socket, &call).await;
}

/// Bytes from a pod, with their channel; none at their end.
type Part = (u8, Vec<u8>);

async fn forward(socket: &mut Socket, call: &ForwardCall) -> io::Result<()> {
    let (tell, mut told) = mpsc::channel::<Part>(4);
    let mut readers = JoinSet::new();
    let mut writers = Vec::new();
    for (number, port) in call.ports.iter().enumerate() {
        let channel = 2 * number as u8;
        // Each port has a channel for bytes and one for an error; both begin with its number.
        for channel in [channel, channel + 1] {
            send(socket, channel, &port.to_le_bytes()).await?;
        }
        match TcpStream::connect((call.address.as_str(), *port)).await {
            Ok(stream) => {
                let (from, to) = stream.into_split();
                readers.spawn(read(channel, from, tell.clone()));
                writers.push(Some(to));
            }
            Err(error) => {
                let pod = &call.pod;
                let message = format!("error forwarding port {port} to pod {pod}, uid : {error}");
                send(socket, channel + 1, message.as_bytes()).await?;
                writers.push(None);
            }
        }
    }
    drop(tell);
    loop {
        tokio::select! {
            part = told.recv() => match part {
                Some((channel, bytes)) => send(socket, channel, &bytes).await?,
                // All ports have ended.
                None => return socket.close(None).await.map_err(broken),
            },
            message = socket.next() => match message {
                None => return Ok(()),
                Some(message) => match message.map_err(broken)? {
                    Message::Binary(content) => write(&mut writers, &content).await?,
                    Message::Close(_) => return Ok(()),
                    _ => {}
                },
            },
        }
    }
}

async fn read(channel: u8, mut from: OwnedReadHalf, tell: mpsc::Sender<Part>) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if tell
            .send((channel, buffer[..count].to_vec()))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn write(writers: &mut [Option<OwnedWriteHalf>], content: &[u8]) -> io::Result<()> {
    let Some((channel, bytes)) = content.split_first() else {
        return Ok(());
    };
    match writers.get_mut(usize::from(*channel / 2)) {
        Some(Some(to)) if channel % 2 == 0 => to.write_all(bytes).await,
        _ => Ok(()),
    }
}
