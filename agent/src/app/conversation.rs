//! One stream with the coordinator: tells what has happened, does what is asked, until it breaks.

use std::{sync::Arc, time::Duration};

use orlop_core::run::KnownVolume;
use orlop_proto::v1::{
    AgentCommand, AgentEvent, Heartbeat, Hello, Inventory as InventoryEvent,
    agent_command::Command, agent_event::Event, agents_client::AgentsClient,
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Client, inventory::Inventory};
use crate::task::TaskTable;

/// Progress is told this often.
const REPORT: Duration = Duration::from_secs(1);
/// Volumes are looked for this often.
const LOOK: Duration = Duration::from_secs(10);
/// Until the coordinator says how often it wants to hear that the agent lives.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Events that wait for the network.
const WAITING: usize = 64;
/// A network that takes no event for this long is broken.
const SEND_PATIENCE: Duration = Duration::from_secs(30);

/// What a conversation is about.
pub(super) struct Conversation<'a> {
    node: &'a str,
    inventory: &'a Arc<Inventory>,
    tasks: &'a Arc<TaskTable>,
}

impl<'a> Conversation<'a> {
    /// A conversation about the volumes and tasks of `node`.
    pub(super) fn new(
        node: &'a str,
        inventory: &'a Arc<Inventory>,
        tasks: &'a Arc<TaskTable>,
    ) -> Self {
        Self {
            node,
            inventory,
            tasks,
        }
    }

    /// Registers and talks until the stream ends.
    pub(super) async fn hold(&self, mut agents: AgentsClient<Client>) -> Result<(), Status> {
        let mut told = self.look().await;
        let (events, waiting) = mpsc::channel(WAITING);
        let hello = Hello {
            node: self.node.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            volumes: told.iter().map(Into::into).collect(),
            running: self.tasks.known(),
        };
        // Ends that were told to an earlier stream may not have arrived.
        self.tasks.tell_again();
        send(&events, Event::Hello(hello)).await?;
        let commands = agents.session(ReceiverStream::new(waiting)).await?;
        let mut commands = commands.into_inner();
        tracing::info!("registered with the coordinator");
        let mut report = ticks(REPORT);
        let mut look = ticks(LOOK);
        let mut heartbeat = ticks(HEARTBEAT);
        look.reset();
        loop {
            tokio::select! {
                command = commands.message() => {
                    let Some(AgentCommand { command }) = command? else { return Ok(()) };
                    match command {
                        Some(Command::Welcome(welcome)) => {
                            let seconds = welcome.heartbeat_seconds.clamp(1, 3600);
                            heartbeat = ticks(Duration::from_secs(seconds.into()));
                        }
                        Some(Command::Start(start)) => self.tasks.start(start),
                        Some(Command::Cancel(cancel)) => self.tasks.cancel(&cancel.task_id),
                        Some(Command::Acknowledge(end)) => self.tasks.forget(&end.task_id),
                        Some(Command::Refresh(refresh)) => {
                            told = self.look().await;
                            self.tell_inventory(&events, &told, refresh.number).await?;
                        }
                        None => {}
                    }
                }
                _ = report.tick() => self.tell_tasks(&events).await?,
                () = self.tasks.ended() => self.tell_tasks(&events).await?,
                _ = heartbeat.tick() => send(&events, Event::Heartbeat(Heartbeat {})).await?,
                _ = look.tick() => {
                    let found = self.look().await;
                    if found != told {
                        told = found;
                        self.tell_inventory(&events, &told, 0).await?;
                    }
                }
            }
        }
    }

    async fn look(&self) -> Vec<KnownVolume> {
        let (inventory, node) = (Arc::clone(self.inventory), self.node.to_owned());
        let look = tokio::task::spawn_blocking(move || inventory.look(&node));
        look.await.unwrap_or_default()
    }

    async fn tell_inventory(
        &self,
        events: &mpsc::Sender<AgentEvent>,
        volumes: &[KnownVolume],
        number: u64,
    ) -> Result<(), Status> {
        let volumes = volumes.iter().map(Into::into).collect();
        send(events, Event::Inventory(InventoryEvent { volumes, number })).await
    }

    async fn tell_tasks(&self, events: &mpsc::Sender<AgentEvent>) -> Result<(), Status> {
        for event in self.tasks.news() {
            send(events, event).await?;
        }
        Ok(())
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn send(events: &mpsc::Sender<AgentEvent>, event: Event) -> Result<(), Status> {
    let sending = events.send_timeout(AgentEvent { event: Some(event) }, SEND_PATIENCE);
    sending
        .await
        .map_err(|_| Status::unavailable("the coordinator takes no events"))
}
