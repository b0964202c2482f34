//! A coordinator that does what a test says, and remembers what it was asked.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures_util::{Stream, StreamExt as _, stream};
use orlop_proto::v1::{
    self, ArtifactKind, RunPhase, artifacts_server, backups_server, locations_server,
    restores_server,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tonic::{Request, Response, Status};

use crate::everywhere::{Cuts, Moment};

pub(crate) type Answer<T> = Result<Response<T>, Status>;
pub(crate) type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) runs: BTreeMap<String, v1::Backup>,
    /// The requests by which backups were begun.
    pub(crate) requests: Vec<v1::CreateBackupRequest>,
    pub(crate) cancels: Vec<String>,
    pub(crate) restores: BTreeMap<String, v1::Restore>,
    /// The requests by which restores were begun.
    pub(crate) restore_requests: Vec<v1::CreateRestoreRequest>,
    pub(crate) locations: BTreeMap<String, (v1::LocationSpec, v1::LocationStatus)>,
    /// Passphrase of the repositories in stores, by URL.
    pub(crate) stores: BTreeMap<String, String>,
    /// By kind, name and location.
    pub(crate) artifacts: BTreeMap<(i32, String, String), Vec<u8>>,
    /// Why backups cannot be deleted.
    pub(crate) stuck: Option<String>,
    /// The same for restores.
    pub(crate) stuck_restores: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    pub(crate) changed: Arc<watch::Sender<u64>>,
    /// At which calls the controller dies.
    cuts: Arc<Mutex<Option<Arc<Cuts>>>>,
}

pub(crate) struct Coordinator {
    pub(crate) fake: Fake,
    pub(crate) url: String,
    server: JoinHandle<()>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let fake = Fake {
            state: Arc::default(),
            changed: Arc::new(watch::channel(0).0),
            cuts: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = tonic::transport::Server::builder()
            .add_service(backups_server::BackupsServer::new(fake.clone()))
            .add_service(restores_server::RestoresServer::new(fake.clone()))
            .add_service(locations_server::LocationsServer::new(fake.clone()))
            .add_service(artifacts_server::ArtifactsServer::new(fake.clone()));
        let server = tokio::spawn(async move {
            router
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self { fake, url, server }
    }
}

impl Fake {
    /// Looks at the state, or changes it: whoever watches is told.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let done = work(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        done
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets the controller die at calls that change something.
    pub(crate) fn cut(&self, cuts: Arc<Cuts>) {
        *self.cuts.lock().unwrap() = Some(cuts);
    }

    /// A call that changes something.
    pub(crate) fn call<T>(&self, what: &str, work: impl FnOnce() -> Answer<T>) -> Answer<T> {
        let cuts = self.cuts.lock().unwrap().clone();
        let hit = cuts.and_then(|cuts| cuts.hit(what));
        let cut = || Err(Status::unavailable("the test wants it so"));
        if hit == Some(Moment::Before) {
            return cut();
        }
        let done = work();
        if hit == Some(Moment::After) {
            return cut();
        }
        done
    }

    /// Changes a backup.
    pub(crate) fn run(&self, name: &str, change: impl FnOnce(&mut v1::Backup)) {
        self.with(|state| change(state.runs.get_mut(name).unwrap()));
    }
}

#[tonic::async_trait]
impl backups_server::Backups for Fake {
    async fn create(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Answer<v1::CreateBackupResponse> {
        self.call("Backups.Create", || {
            assert_eq!(
                request.metadata().get("authorization").unwrap(),
                "Bearer token"
            );
            let request = request.into_inner();
            self.with(|state| {
                let same = state.requests.contains(&request);
                if state.runs.contains_key(&request.name) && !same {
                    return Err(Status::already_exists("it exists"));
                }
                let run = v1::Backup {
                    name: request.name.clone(),
                    phase: RunPhase::New.into(),
                    created_ms: jiff::Timestamp::now().as_millisecond(),
                    location: request.location.clone(),
                    ..v1::Backup::default()
                };
                let run = state
                    .runs
                    .entry(request.name.clone())
                    .or_insert(run)
                    .clone();
                if !same {
                    state.requests.push(request);
                }
                Ok(Response::new(v1::CreateBackupResponse {
                    backup: Some(run),
                    created: !same,
                }))
            })
        })
    }

    async fn get(&self, request: Request<v1::GetBackupRequest>) -> Answer<v1::GetBackupResponse> {
        let run = self.lock().runs.get(&request.get_ref().name).cloned();
        let run = run.ok_or_else(|| Status::not_found("there is none"))?;
        Ok(Response::new(v1::GetBackupResponse { backup: Some(run) }))
    }

    async fn list(&self, _: Request<v1::ListBackupsRequest>) -> Answer<v1::ListBackupsResponse> {
        let backups = self.lock().runs.values().cloned().collect();
        Ok(Response::new(v1::ListBackupsResponse { backups }))
    }

    type WatchStream = Streamed<v1::WatchBackupsResponse>;

    async fn watch(&self, _: Request<v1::WatchBackupsRequest>) -> Answer<Self::WatchStream> {
        let fake = self.clone();
        let changes = WatchStream::new(self.changed.subscribe());
        let told = changes.flat_map(move |_| {
            let runs: Vec<_> = fake.lock().runs.values().cloned().collect();
            stream::iter(runs).map(|run| Ok(v1::WatchBackupsResponse { backup: Some(run) }))
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelBackupRequest>,
    ) -> Answer<v1::CancelBackupResponse> {
        self.call("Backups.Cancel", || {
            let name = request.into_inner().name;
            let backup = self.with(|state| {
                state.cancels.push(name.clone());
                let run = state.runs.get_mut(&name)?;
                run.canceled = true;
                run.set_phase(RunPhase::Canceled);
                Some(run.clone())
            });
            Ok(Response::new(v1::CancelBackupResponse { backup }))
        })
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteBackupRequest>,
    ) -> Answer<v1::DeleteBackupResponse> {
        self.call("Backups.Delete", || {
            let name = request.into_inner().name;
            self.with(|state| {
                if let (Some(why), Some(run)) = (state.stuck.clone(), state.runs.get_mut(&name)) {
                    run.set_phase(RunPhase::Deleting);
                    run.failure_reason = why;
                    return;
                }
                state.runs.remove(&name);
                state.artifacts.retain(|(_, of, _), _| *of != name);
            });
            Ok(Response::new(v1::DeleteBackupResponse {}))
        })
    }

    type ReadLogStream = Streamed<v1::ReadLogResponse>;

    async fn read_log(&self, _: Request<v1::ReadLogRequest>) -> Answer<Self::ReadLogStream> {
        Err(Status::unimplemented("no logs here"))
    }
}

#[tonic::async_trait]
impl locations_server::Locations for Fake {
    async fn create(
        &self,
        request: Request<v1::CreateLocationRequest>,
    ) -> Answer<v1::CreateLocationResponse> {
        self.call("Locations.Create", || {
            let request = request.into_inner();
            let spec = request.spec.unwrap();
            self.with(|state| {
                if state.locations.contains_key(&request.name) {
                    return Err(Status::already_exists("it exists"));
                }
                let location = status(&request.name, &spec);
                state
                    .locations
                    .insert(request.name, (spec, location.clone()));
                Ok(Response::new(v1::CreateLocationResponse {
                    location: Some(location),
                    created: true,
                }))
            })
        })
    }

    async fn get(&self, _: Request<v1::GetLocationRequest>) -> Answer<v1::GetLocationResponse> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list(
        &self,
        _: Request<v1::ListLocationsRequest>,
    ) -> Answer<v1::ListLocationsResponse> {
        let locations = self
            .lock()
            .locations
            .values()
            .map(|(_, status)| status.clone())
            .collect();
        Ok(Response::new(v1::ListLocationsResponse { locations }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateLocationRequest>,
    ) -> Answer<v1::UpdateLocationResponse> {
        self.call("Locations.Update", || {
            let request = request.into_inner();
            let spec = request.spec.unwrap();
            self.with(|state| {
                let (old, location) = state.locations.get_mut(&request.name).unwrap();
                let unlock = spec.unlock.clone().or(old.unlock.clone());
                *old = v1::LocationSpec { unlock, ..spec };
                let repository_id = location.repository_id.clone();
                *location = v1::LocationStatus {
                    repository_id,
                    ..status(&request.name, old)
                };
            });
            Ok(Response::new(v1::UpdateLocationResponse { location: None }))
        })
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteLocationRequest>,
    ) -> Answer<v1::DeleteLocationResponse> {
        self.call("Locations.Delete", || {
            self.with(|state| state.locations.remove(&request.get_ref().name));
            Ok(Response::new(v1::DeleteLocationResponse {}))
        })
    }

    async fn validate(
        &self,
        request: Request<v1::ValidateLocationRequest>,
    ) -> Answer<v1::ValidateLocationResponse> {
        self.call("Locations.Validate", || {
            let name = request.into_inner().name;
            self.with(|state| {
                let State {
                    locations, stores, ..
                } = state;
                let (spec, location) = locations
                    .get_mut(&name)
                    .ok_or_else(|| Status::not_found("there is none"))?;
                let given = match &spec.unlock {
                    Some(v1::location_spec::Unlock::Passphrase(given)) => given.clone(),
                    _ => String::new(),
                };
                if !spec.read_only {
                    stores
                        .entry(spec.url.clone())
                        .or_insert_with(|| given.clone());
                }
                let opens = stores.get(&spec.url) == Some(&given);
                location.available = opens;
                location.message = if opens {
                    String::new()
                } else {
                    "the password does not open the repository".to_owned()
                };
                if opens {
                    "r-1".clone_into(&mut location.repository_id);
                }
                Ok(Response::new(v1::ValidateLocationResponse {
                    location: Some(location.clone()),
                }))
            })
        })
    }
}

fn status(name: &str, spec: &v1::LocationSpec) -> v1::LocationStatus {
    v1::LocationStatus {
        location: name.to_owned(),
        spec_url: spec.url.clone(),
        read_only: spec.read_only,
        has_unlock: spec.unlock.is_some(),
        ..v1::LocationStatus::default()
    }
}

#[tonic::async_trait]
impl artifacts_server::Artifacts for Fake {
    type ReadStream = Streamed<v1::ReadArtifactResponse>;

    async fn read(&self, request: Request<v1::ReadArtifactRequest>) -> Answer<Self::ReadStream> {
        let request = request.into_inner();
        let key = (request.kind, request.name, request.location);
        let file = self.lock().artifacts.get(&key).cloned();
        let file = file.ok_or_else(|| Status::not_found("there is none"))?;
        let parts: Vec<_> = file
            .chunks(100)
            .map(|part| {
                Ok(v1::ReadArtifactResponse {
                    data: part.to_vec().into(),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }

    async fn list(
        &self,
        request: Request<v1::ListArtifactsRequest>,
    ) -> Answer<v1::ListArtifactsResponse> {
        let location = request.into_inner().location;
        let metadata = i32::from(ArtifactKind::BackupMetadata);
        let state = self.lock();
        let keys = state.artifacts.keys();
        let stored = keys
            .filter(|(kind, _, place)| *kind == metadata && *place == location)
            .map(|(_, name, _)| name.clone());
        // A run that has ended has its files there.
        let ended = state
            .runs
            .values()
            .filter(|run| run.completed_ms > 0 && run.location == location)
            .map(|run| run.name.clone());
        let backups = stored.chain(ended).collect();
        Ok(Response::new(v1::ListArtifactsResponse {
            backups,
            restores: Vec::new(),
        }))
    }

    async fn create_download_url(
        &self,
        request: Request<v1::CreateDownloadUrlRequest>,
    ) -> Answer<v1::CreateDownloadUrlResponse> {
        self.call("Artifacts.CreateDownloadUrl", || {
            let request = request.into_inner();
            Ok(Response::new(v1::CreateDownloadUrlResponse {
                url: format!(
                    "https://x/{}/{}/{}",
                    request.location,
                    request.name,
                    request.kind().as_str_name()
                ),
                expires_ms: jiff::Timestamp::now().as_millisecond() + 600_000,
            }))
        })
    }
}
