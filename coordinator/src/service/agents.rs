//! `orlop.v1.Agents`: the conversation with an agent, one stream for each.

use std::{sync::Arc, time::Duration};

use orlop_core::{Progress, run::Outcome};
use orlop_proto::{
    ProtocolError, convert, receive,
    v1::{
        AgentCommand, AgentEvent, Hello, TaskFinished, TaskIssue, TaskProgress, agent_event::Event,
        agents_server::Agents,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Context, gate::ProvenNode, status::malformed};
use crate::runs::{Connection, Registration, Runs};

/// How long an agent may take to register.
const HELLO_PATIENCE: Duration = Duration::from_secs(30);
/// Commands that wait for the network; more wait in the agent's queue.
const WAITING: usize = 16;
/// Most tasks that an agent may report.
const MAX_RUNNING: usize = 10_000;
/// Largest context that is given back.
const MAX_CONTEXT_BYTES: usize = 512 << 10;

/// Serves agents.
pub(crate) struct AgentsService(pub(crate) Context);

#[tonic::async_trait]
impl Agents for AgentsService {
    type SessionStream = Answers<AgentCommand>;

    async fn session(
        &self,
        request: Request<Streaming<AgentEvent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let proven = request.extensions().get::<ProvenNode>().cloned();
        let mut events = request.into_inner();
        let first = tokio::time::timeout(HELLO_PATIENCE, events.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no `hello` came"))??;
        let Some(Event::Hello(hello)) = first.and_then(|event| event.event) else {
            return Err(malformed(ProtocolError::new(
                "event",
                "must be `hello` at first",
            )));
        };
        let registration = registration(hello).map_err(malformed)?;
        let node = registration.node.clone();
        if let Some(ProvenNode(proven)) = proven
            && proven != node
        {
            let message = format!("the token is of an agent on node {proven}, not on {node}");
            return Err(Status::permission_denied(message));
        }
        let Connection {
            generation,
            mut commands,
            cut,
        } = self.0.runs.connect(registration);
        let (sender, receiver) = mpsc::channel(WAITING);
        let runs = Arc::clone(&self.0.runs);
        let shutdown = self.0.shutdown.clone();
        self.0.tasks.spawn(async move {
            let (reader_runs, reader_node) = (Arc::clone(&runs), node.clone());
            let reader = read(&reader_runs, &reader_node, generation, &mut events, &cut);
            let writer = async {
                while let Some(command) = commands.recv().await {
                    if sender.send(Ok(command)).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(())
            };
            let ended = tokio::select! {
                () = shutdown.cancelled() => Ok(()),
                ended = reader => ended,
                ended = writer => ended,
            };
            if let Err(status) = ended {
                tracing::warn!(node, status = %status, "agent broke the contract or its stream broke");
                // An error says that the stream is closed already.
                let _ = sender.try_send(Err(status));
            }
            runs.disconnect(&node, generation);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn read(
    runs: &Runs,
    node: &str,
    generation: u64,
    events: &mut Streaming<AgentEvent>,
    cut: &CancellationToken,
) -> Result<(), Status> {
    loop {
        let event = tokio::select! {
            () = cut.cancelled() => return Ok(()),
            event = events.message() => event?,
        };
        let Some(event) = event else { return Ok(()) };
        if !runs.heard(node, generation) {
            return Ok(());
        }
        let event = event
            .event
            .ok_or_else(|| malformed(ProtocolError::missing("event")))?;
        take(runs, node, event).map_err(malformed)?;
    }
}

fn take(runs: &Runs, node: &str, event: Event) -> Result<(), ProtocolError> {
    match event {
        Event::Hello(_) => return Err(ProtocolError::new("hello", "came twice")),
        Event::Heartbeat(_) => {}
        Event::Inventory(inventory) => {
            let volumes = convert::inventory(node, inventory.volumes)?;
            runs.inventory(node, volumes, inventory.number);
        }
        Event::Progress(TaskProgress { task_id, progress }) => {
            let task = receive::task_id("progress.task_id", &task_id)?;
            let progress: Progress = receive::required("progress.progress", progress)?.into();
            runs.progressed(node, task, progress);
        }
        Event::Issue(TaskIssue { task_id, issue }) => {
            let task = receive::task_id("issue.task_id", &task_id)?;
            let issue = receive::required("issue.issue", issue)?.try_into();
            runs.troubled(
                node,
                task,
                &issue.map_err(|e: ProtocolError| e.within("issue"))?,
            );
        }
        Event::Finished(TaskFinished { task_id, outcome }) => {
            let task = receive::task_id("finished.task_id", &task_id)?;
            let outcome: Outcome = receive::required("finished.outcome", outcome)?.try_into()?;
            runs.finished(node, task, outcome);
        }
    }
    Ok(())
}

fn registration(hello: Hello) -> Result<Registration, ProtocolError> {
    let names = receive::MAX_NAME_BYTES;
    let node = receive::some_text("hello.node", hello.node, names)?;
    receive::at_most("hello.running", &hello.running, MAX_RUNNING)?;
    let running = hello.running.into_iter().map(|running| {
        let task = receive::task_id("hello.running.task_id", &running.task_id)?;
        let context = receive::blob("hello.running.context", running.context, MAX_CONTEXT_BYTES)?;
        Ok((task, context.to_vec()))
    });
    Ok(Registration {
        running: running.collect::<Result<_, ProtocolError>>()?,
        volumes: convert::inventory(&node, hello.volumes)?,
        version: receive::text("hello.version", hello.version, names)?,
        cores: hello.cores,
        node,
    })
}
