//! `orlop.v1.Snapshots`: what snapshots there are, and what is in them.

use std::{
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use orlop_core::SnapshotId;
use orlop_proto::{
    receive,
    v1::{self, snapshots_server::Snapshots},
};
use orlop_repository::{Diff, EntryKind, Error, ReadSession, Repository, SnapshotInfo};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    Answers, Context,
    listing::{self, entry, snapshot},
    status::{malformed, refused, repository},
};

/// Entries in one message.
const ENTRIES: usize = 500;
/// Bytes of a file in one message.
const DATA: usize = 256 << 10;
/// Memory for what is read ahead of a stream, in bytes.
const READ_AHEAD_BYTES: u64 = 4 << 20;
/// Messages that wait for a slow reader.
const WAITING: usize = 4;

/// Serves snapshots.
pub(crate) struct SnapshotsService(pub(crate) Context);

/// A snapshot and where it is.
struct Found {
    location: String,
    repository: Arc<Repository>,
    info: SnapshotInfo,
}

type Sender<T> = mpsc::Sender<Result<T, Status>>;

/// What ends the reading of a snapshot early.
enum Stop {
    /// Nobody listens any more.
    Gone,
    /// The repository failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl SnapshotsService {
    async fn resolve(&self, field: &str, text: String, location: &str) -> Result<Found, Status> {
        let text = receive::some_text(field, text, 1024).map_err(malformed)?;
        let locations = self.0.runs.locations();
        let (location, info) = locations.resolve(location, &text).await.map_err(refused)?;
        let repository = locations.repository(&location).map_err(refused)?;
        Ok(Found {
            location,
            repository,
            info,
        })
    }

    /// Reads snapshots on a blocking thread when there is one to spare; what `read` sends is the answer.
    fn stream<T: Send + 'static>(
        &self,
        snapshots: Vec<Found>,
        read: impl FnOnce(&[ReadSession], &Sender<T>) -> Result<(), Stop> + Send + 'static,
    ) -> Answers<T> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let cancel = self.0.shutdown.child_token();
        let handle = Handle::current();
        let (turns, waiting, shutdown) = (
            Arc::clone(&self.0.readers),
            sender.clone(),
            self.0.shutdown.clone(),
        );
        let work = move || {
            let open = |found: Found| {
                let committer = found.repository.browser();
                let store = Arc::clone(found.repository.store());
                let id = found.info.id;
                ReadSession::open(committer, store, id, handle.clone(), cancel.clone())
            };
            let sessions = snapshots
                .into_iter()
                .map(open)
                .collect::<Result<Vec<_>, _>>();
            let done = match sessions {
                Ok(sessions) => {
                    let done = read(&sessions, &sender);
                    sessions.into_iter().for_each(ReadSession::end);
                    done
                }
                Err(error) => Err(Stop::Failed(error)),
            };
            if let Err(Stop::Failed(error)) = done {
                // An error says that nobody listens any more.
                let _ = sender.blocking_send(Err(repository(&error)));
            }
        };
        self.0.tasks.spawn(async move {
            let turn = tokio::select! {
                () = shutdown.cancelled() => {
                    // An error says that nobody listens any more.
                    let _ = waiting.try_send(Err(Status::unavailable("the coordinator is ending")));
                    return;
                }
                () = waiting.closed() => return,
                turn = turns.acquire_owned() => turn,
            };
            // The answer ends with the last sender: that is the worker's.
            drop(waiting);
            let worker = tokio::task::spawn_blocking(work).await;
            drop(turn);
            if worker.is_err() {
                tracing::error!("reading a snapshot has panicked");
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

#[tonic::async_trait]
impl Snapshots for SnapshotsService {
    async fn list(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        let v1::ListSnapshotsRequest {
            backup,
            namespace,
            volume,
            location,
        } = request.into_inner();
        let volume = volume.map(|volume| receive::volume("volume", Some(volume)));
        let volume = volume.transpose().map_err(malformed)?;
        let locations = self.0.runs.locations();
        let places = if location.is_empty() {
            locations.open_ones()
        } else {
            let repository = locations.repository(&location).map_err(refused)?;
            vec![(location.clone(), repository)]
        };
        let wanted = |info: &&SnapshotInfo| {
            (backup.is_empty() || info.backup == backup)
                && (namespace.is_empty() || info.volume.namespace == namespace)
                && volume.as_ref().is_none_or(|volume| info.volume == *volume)
        };
        let mut snapshots = Vec::new();
        for (at, place) in places {
            let all = match place.snapshots().await {
                Ok(all) => all,
                // What one location cannot tell hides nothing of the others.
                Err(error) if location.is_empty() => {
                    tracing::warn!(location = at, error = %error, "cannot list snapshots");
                    continue;
                }
                Err(error) => return Err(repository(&error)),
            };
            let wanted = all.iter().filter(wanted);
            snapshots.extend(wanted.map(|info| snapshot(info, &at)));
        }
        snapshots.sort_by(|a, b| a.snapshot_id.cmp(&b.snapshot_id));
        Ok(Response::new(v1::ListSnapshotsResponse { snapshots }))
    }

    async fn get(
        &self,
        request: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::GetSnapshotResponse>, Status> {
        let v1::GetSnapshotRequest {
            snapshot: text,
            location,
        } = request.into_inner();
        let found = self.resolve("snapshot", text, &location).await?;
        Ok(Response::new(v1::GetSnapshotResponse {
            snapshot: Some(snapshot(&found.info, &found.location)),
        }))
    }

    type ListEntriesStream = Answers<v1::ListEntriesResponse>;

    async fn list_entries(
        &self,
        request: Request<v1::ListEntriesRequest>,
    ) -> Result<Response<Self::ListEntriesStream>, Status> {
        let v1::ListEntriesRequest {
            snapshot,
            path,
            recursive,
            location,
        } = request.into_inner();
        let snapshot = self.resolve("snapshot", snapshot, &location).await?;
        let id = snapshot.info.id;
        let path = receive::blob("path", path, receive::MAX_PATH_BYTES).map_err(malformed)?;
        Ok(Response::new(self.stream(
            vec![snapshot],
            move |sessions, sender| {
                let mut batch = Batch::new(sender, |entries| v1::ListEntriesResponse { entries });
                let mut found = false;
                for item in sessions[0].entries_below(&path) {
                    let item = item?;
                    found = true;
                    if recursive || item.path[..] == path[..] || item.parent() == &path[..] {
                        batch.push(entry(&item))?;
                    } else {
                        // Children come before anything deeper.
                        break;
                    }
                }
                if !found {
                    return Err(no_path(&path, id).into());
                }
                batch.finish()
            },
        )))
    }

    type ReadFileStream = Answers<v1::ReadFileResponse>;

    async fn read_file(
        &self,
        request: Request<v1::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let v1::ReadFileRequest {
            snapshot,
            path,
            location,
        } = request.into_inner();
        let snapshot = self.resolve("snapshot", snapshot, &location).await?;
        let path = receive::blob("path", path, receive::MAX_PATH_BYTES).map_err(malformed)?;
        Ok(Response::new(self.stream(
            vec![snapshot],
            move |sessions, sender| {
                let file = sessions[0].entry(&path)?;
                if file.kind == EntryKind::Directory {
                    return Err(is_directory(&path).into());
                }
                let mut out = FileSender {
                    sender,
                    buffer: Vec::with_capacity(DATA),
                };
                let read = sessions[0].read_file(&file, &mut out, READ_AHEAD_BYTES);
                if sender.is_closed() {
                    return Err(Stop::Gone);
                }
                read?;
                out.flush().map_err(|_| Stop::Gone)
            },
        )))
    }

    type DiffStream = Answers<v1::DiffResponse>;

    async fn diff(
        &self,
        request: Request<v1::DiffRequest>,
    ) -> Result<Response<Self::DiffStream>, Status> {
        let v1::DiffRequest { old, new, location } = request.into_inner();
        let (old, new) = (
            self.resolve("old", old, &location).await?,
            self.resolve("new", new, &location).await?,
        );
        Ok(Response::new(self.stream(
            vec![old, new],
            |sessions, sender| {
                let mut batch = Batch::new(sender, |entries| v1::DiffResponse { entries });
                for changed in Diff::new(&sessions[0], &sessions[1]) {
                    let changed = changed?;
                    batch.push(v1::DiffEntry {
                        change: listing::change(changed.difference).into(),
                        entry: Some(entry(changed.entry())),
                    })?;
                }
                batch.finish()
            },
        )))
    }
}

fn no_path(path: &[u8], snapshot: SnapshotId) -> Error {
    Error::NoPath {
        path: String::from_utf8_lossy(path).into_owned(),
        snapshot: snapshot.to_string(),
        hint: String::new(),
    }
}

fn is_directory(path: &[u8]) -> Error {
    let path = match path {
        b"" => "the volume's root".into(),
        path => String::from_utf8_lossy(path),
    };
    Error::Invalid(format!(
        "{path} is a directory: restore it with `orlop volume restore --path`, or without a server with \
         `orlop repo restore --path`"
    ))
}

/// Collects items into messages.
struct Batch<'a, I, T> {
    sender: &'a Sender<T>,
    items: Vec<I>,
    message: fn(Vec<I>) -> T,
}

impl<'a, I, T> Batch<'a, I, T> {
    fn new(sender: &'a Sender<T>, message: fn(Vec<I>) -> T) -> Self {
        Self {
            sender,
            items: Vec::with_capacity(ENTRIES),
            message,
        }
    }

    fn push(&mut self, item: I) -> Result<(), Stop> {
        self.items.push(item);
        if self.items.len() < ENTRIES {
            Ok(())
        } else {
            self.send()
        }
    }

    fn send(&mut self) -> Result<(), Stop> {
        let message = (self.message)(std::mem::take(&mut self.items));
        self.sender
            .blocking_send(Ok(message))
            .map_err(|_| Stop::Gone)
    }

    fn finish(mut self) -> Result<(), Stop> {
        if self.items.is_empty() {
            Ok(())
        } else {
            self.send()
        }
    }
}

struct FileSender<'a> {
    sender: &'a Sender<v1::ReadFileResponse>,
    buffer: Vec<u8>,
}

impl Write for FileSender<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(DATA - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == DATA {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = Bytes::from(std::mem::replace(
            &mut self.buffer,
            Vec::with_capacity(DATA),
        ));
        let sent = self.sender.blocking_send(Ok(v1::ReadFileResponse { data }));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
