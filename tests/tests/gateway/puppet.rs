//! An agent that does what a test tells it, honest or not.

use bytes::Bytes;
use orlop_core::VolumeRef;
use orlop_proto::{
    store::DATA_BYTES,
    v1::{
        self, AgentEvent, agent_command::Command, agent_event::Event, agents_client::AgentsClient,
        put_request::Piece, put_response::Answer, sessions_client::SessionsClient,
        store_client::StoreClient,
    },
};
use orlop_tests::Random;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::world::{Client, World};

/// A registered agent of a node with one volume. It takes tasks and does nothing.
pub(crate) struct Puppet {
    pub(crate) client: Client,
    volume: VolumeRef,
    orders: mpsc::Receiver<v1::StartTask>,
    talk: JoinHandle<()>,
}

impl Puppet {
    /// Registers the agent of `node`, which has volume `data` of pod `shop/POD`.
    pub(crate) async fn join(world: &World, node: &str, pod: &str) -> Self {
        let client = world.client(Some(node)).await;
        let volume = VolumeRef::new("shop", pod, "data");
        let found = vec![v1::FoundVolume {
            volume: Some((&volume).into()),
            lineage: format!("lineage of {pod}"),
            plugin: "kubernetes.io~empty-dir".to_owned(),
            selected: true,
            ..Default::default()
        }];
        let (events, waiting) = mpsc::channel(8);
        let event = |event| AgentEvent { event: Some(event) };
        let hello = v1::Hello {
            node: node.to_owned(),
            cores: 8,
            volumes: found.clone(),
            ..Default::default()
        };
        events.send(event(Event::Hello(hello))).await.unwrap();
        let mut agents = AgentsClient::new(client.clone());
        let commands = agents.session(ReceiverStream::new(waiting)).await;
        let mut commands = commands.unwrap().into_inner();
        let (order, orders) = mpsc::channel(8);
        let talk = tokio::spawn(async move {
            while let Ok(Some(command)) = commands.message().await {
                match command.command {
                    Some(Command::Start(start)) => order.send(start).await.unwrap(),
                    Some(Command::Refresh(refresh)) => {
                        let inventory = v1::Inventory {
                            volumes: found.clone(),
                            number: refresh.number,
                        };
                        let event = event(Event::Inventory(inventory));
                        events.send(event).await.unwrap();
                    }
                    _ => {}
                }
            }
        });
        Self {
            client,
            volume,
            orders,
            talk,
        }
    }

    /// The next task.
    pub(crate) async fn order(&mut self) -> v1::StartTask {
        self.orders.recv().await.unwrap()
    }

    pub(crate) fn sessions(&self) -> SessionsClient<Client> {
        SessionsClient::new(self.client.clone())
    }

    /// Takes the next task, a backup, and begins its session.
    pub(crate) async fn begin_backup(&mut self) -> Session {
        let order = self.order().await;
        self.begin_write(&order.task_id).await
    }

    /// Begins a session of a backup.
    pub(crate) async fn begin_write(&self, task_id: &str) -> Session {
        let request = v1::BeginWriteRequest {
            task_id: task_id.to_owned(),
            volume: Some((&self.volume).into()),
            lineage: format!("lineage of {}", self.volume.pod),
        };
        let grant = self.sessions().begin_write(request).await.unwrap();
        Session {
            store: StoreClient::new(self.client.clone()),
            task_id: task_id.to_owned(),
            number: grant.into_inner().session,
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.talk.abort();
    }
}

/// A session of a puppet's task.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) store: StoreClient<Client>,
    pub(crate) task_id: String,
    pub(crate) number: u64,
}

/// Bytes, and the name that a session of that number gives them.
pub(crate) fn object(class: &str, bytes: &[u8], session: u64) -> String {
    let hash = blake3::hash(bytes).to_hex();
    let level = if class == "i" { "0" } else { &hash[..2] };
    format!("{class}/{level}/{hash}.{session}")
}

/// Bytes of a pack, as far as the gateway can tell.
pub(crate) fn pack(seed: u64, len: usize) -> Bytes {
    Random::new(seed).bytes(len).into()
}

impl Session {
    pub(crate) fn header(&self, name: &str, size: u64) -> v1::PutHeader {
        v1::PutHeader {
            task_id: self.task_id.clone(),
            session: self.number,
            name: name.to_owned(),
            size,
        }
    }

    /// Begins a put.
    pub(crate) async fn begin(&self, header: v1::PutHeader) -> Putting {
        Putting::open(&self.store, Some(Piece::Header(header))).await
    }

    /// Puts an object as an honest agent does; whether it is new.
    pub(crate) async fn put(&self, name: &str, bytes: &Bytes) -> Result<bool, Status> {
        let mut putting = self.begin(self.header(name, bytes.len() as u64)).await;
        putting.ready().await?;
        for data in bytes.chunks(DATA_BYTES) {
            putting.send(bytes.slice_ref(data)).await;
        }
        putting.end().await
    }

    pub(crate) async fn get(&self, name: &str) -> Result<Vec<u8>, Status> {
        let request = v1::GetRequest {
            task_id: self.task_id.clone(),
            session: self.number,
            name: name.to_owned(),
            range: None,
        };
        let mut answers = self.store.clone().get(request).await?.into_inner();
        let mut bytes = Vec::new();
        while let Some(answer) = answers.message().await? {
            bytes.extend_from_slice(&answer.data);
        }
        Ok(bytes)
    }

    pub(crate) async fn stat(&self, name: &str) -> Result<Option<u64>, Status> {
        let request = v1::StatRequest {
            task_id: self.task_id.clone(),
            session: self.number,
            name: name.to_owned(),
        };
        let answer = self.store.clone().stat(request).await?.into_inner();
        Ok(answer.object.map(|object| object.size))
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<String>, Status> {
        let request = v1::ListRequest {
            task_id: self.task_id.clone(),
            session: self.number,
            prefix: prefix.to_owned(),
        };
        let mut answers = self.store.clone().list(request).await?.into_inner();
        let mut names = Vec::new();
        while let Some(answer) = answers.message().await? {
            names.extend(answer.objects.into_iter().map(|object| object.name));
        }
        Ok(names)
    }
}

/// A put that is going on.
pub(crate) struct Putting {
    requests: Option<mpsc::Sender<v1::PutRequest>>,
    answers: Result<Streaming<v1::PutResponse>, Status>,
}

impl Putting {
    /// Opens the stream, with this as its first message.
    pub(crate) async fn open(store: &StoreClient<Client>, first: Option<Piece>) -> Self {
        let (requests, waiting) = mpsc::channel(1024);
        if let Some(piece) = first {
            let piece = Some(piece);
            requests.send(v1::PutRequest { piece }).await.unwrap();
        }
        let answers = store.clone().put(ReceiverStream::new(waiting)).await;
        Self {
            requests: Some(requests),
            answers: answers.map(tonic::Response::into_inner),
        }
    }

    async fn answer(&mut self) -> Result<Option<Answer>, Status> {
        let answers = self.answers.as_mut().map_err(|status| status.clone())?;
        Ok(answers.message().await?.and_then(|message| message.answer))
    }

    /// Waits until the coordinator asks for the bytes.
    pub(crate) async fn ready(&mut self) -> Result<(), Status> {
        let answer = self.answer().await?;
        assert!(matches!(answer, Some(Answer::Ready(_))), "{answer:?}");
        Ok(())
    }

    /// Sends a piece; whether it is taken shows at the end.
    pub(crate) async fn send(&self, data: Bytes) {
        self.send_piece(Some(Piece::Data(data))).await;
    }

    /// Sends any message.
    pub(crate) async fn send_piece(&self, piece: Option<Piece>) {
        let requests = self.requests.as_ref().unwrap();
        let _ = requests.send(v1::PutRequest { piece }).await;
    }

    /// Says that nothing follows, and waits for the end; whether the object is new.
    pub(crate) async fn end(mut self) -> Result<bool, Status> {
        drop(self.requests.take());
        match self.answer().await? {
            Some(Answer::Done(done)) => Ok(done.created),
            other => panic!("neither done nor refused: {other:?}"),
        }
    }

    /// Waits for the refusal without saying that nothing follows.
    pub(crate) async fn refusal(&mut self) -> Status {
        self.answer().await.unwrap_err()
    }
}

/// The code of a refusal.
#[track_caller]
pub(crate) fn refused<T>(answer: Result<T, Status>) -> Code {
    match answer {
        Ok(_) => panic!("it was not refused"),
        Err(status) => status.code(),
    }
}
