//! The calls to the coordinator: each with a limit, and with the bearer token of a client.

use std::time::Duration;

use orlop_proto::v1::{
    self, ArtifactKind, artifacts_client::ArtifactsClient, backups_client::BackupsClient,
    locations_client::LocationsClient, restores_client::RestoresClient,
};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::error::{Error, Trouble};

/// Answers may list many backups with many tasks.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How long a call may take. A look at a store that does not answer takes the coordinator up to 45 s.
const CALL_LIMIT: Duration = Duration::from_mins(1);
/// How long it may take to choose what a backup takes: all objects are read for that, from a server that may be slow.
const PLAN_LIMIT: Duration = Duration::from_mins(10);
/// How long an artifact may take in all.
const READ_LIMIT: Duration = Duration::from_mins(2);
/// The largest artifact that is read here: metadata of a backup, or the objects of its volumes.
const MAX_ARTIFACT_BYTES: usize = 64 << 20;

/// Adds the bearer token to every call.
#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Service = InterceptedService<Channel, Bearer>;

/// A connection to the coordinator. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    service: Service,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coordinator(…)")
    }
}

impl Coordinator {
    /// The coordinator at `server` (`HOST:PORT`, or a URL), whose certificate is of the authority `ca_pem`; without
    /// one its URL says `http://`. Nothing is sent yet. To be called in a runtime of tokio.
    ///
    /// # Errors
    /// The address, the certificate or the token is none.
    pub fn at(server: &str, token: &str, ca_pem: Option<&str>) -> Result<Self, Error> {
        let wrong = |message: String| Error::Coordinator {
            server: server.to_owned(),
            message,
        };
        let url = if server.contains("://") {
            server.to_owned()
        } else {
            format!("https://{server}")
        };
        let mut endpoint = Endpoint::from_shared(url)
            .map_err(|_| wrong("it is not HOST:PORT".to_owned()))?
            .connect_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_while_idle(true);
        if let Some(ca_pem) = ca_pem {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
            endpoint = endpoint
                .tls_config(tls)
                .map_err(|error| wrong(format!("its certificate cannot be used: {error}")))?;
        }
        Self::over(endpoint.connect_lazy(), token)
    }

    /// The coordinator at the other end of `channel`.
    ///
    /// # Errors
    /// The token is none.
    pub fn over(channel: Channel, token: &str) -> Result<Self, Error> {
        let bearer = format!("Bearer {token}").parse();
        let bearer = bearer.map_err(|_| Error::Coordinator {
            server: "the coordinator".to_owned(),
            message: "the token is not visible ASCII".to_owned(),
        })?;
        Ok(Self {
            service: Service::new(channel, Bearer(bearer)),
        })
    }

    fn backups(&self) -> BackupsClient<Service> {
        BackupsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn restores(&self) -> RestoresClient<Service> {
        RestoresClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn locations(&self) -> LocationsClient<Service> {
        LocationsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn artifacts(&self) -> ArtifactsClient<Service> {
        ArtifactsClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Begins a backup, or finds that the same request was accepted before.
    pub(crate) async fn create_backup(
        &self,
        request: v1::CreateBackupRequest,
    ) -> Result<v1::Backup, Status> {
        let mut request = Request::new(request);
        request.set_timeout(PLAN_LIMIT);
        let answer = self.backups().create(request).await?;
        answer.into_inner().backup.ok_or_else(empty)
    }

    /// A backup, if there is one of that name.
    pub(crate) async fn backup(&self, name: &str) -> Result<Option<v1::Backup>, Trouble> {
        let request = v1::GetBackupRequest {
            name: name.to_owned(),
        };
        let answer = self.backups().get(limited(request)).await;
        found(answer, |answer| answer.backup)
    }

    /// The states of all backups, now and as they change.
    pub(crate) async fn watch_backups(
        &self,
    ) -> Result<Streaming<v1::WatchBackupsResponse>, Trouble> {
        let request = v1::WatchBackupsRequest {
            name: String::new(),
        };
        Ok(self.backups().watch(request).await?.into_inner())
    }

    /// Asks a backup to stop.
    pub(crate) async fn cancel_backup(&self, name: &str) -> Result<(), Trouble> {
        let request = v1::CancelBackupRequest {
            name: name.to_owned(),
        };
        let answer = self.backups().cancel(limited(request)).await;
        found(answer, |_| Some(())).map(drop)
    }

    /// Asks a backup to go.
    pub(crate) async fn delete_backup(&self, name: &str) -> Result<(), Trouble> {
        let request = v1::DeleteBackupRequest {
            name: name.to_owned(),
        };
        let answer = self.backups().delete(limited(request)).await;
        found(answer, |_| Some(())).map(drop)
    }

    /// Begins a restore, or finds that the same request was accepted before.
    pub(crate) async fn create_restore(
        &self,
        request: v1::CreateRestoreRequest,
    ) -> Result<v1::Restore, Status> {
        let answer = self.restores().create(limited(request)).await?;
        answer.into_inner().restore.ok_or_else(empty)
    }

    /// A restore, if there is one of that name.
    pub(crate) async fn restore(&self, name: &str) -> Result<Option<v1::Restore>, Trouble> {
        let request = v1::GetRestoreRequest {
            name: name.to_owned(),
        };
        let answer = self.restores().get(limited(request)).await;
        found(answer, |answer| answer.restore)
    }

    /// The states of all restores, now and as they change.
    pub(crate) async fn watch_restores(
        &self,
    ) -> Result<Streaming<v1::WatchRestoresResponse>, Trouble> {
        let request = v1::WatchRestoresRequest {
            name: String::new(),
        };
        Ok(self.restores().watch(request).await?.into_inner())
    }

    /// Asks a restore to stop.
    pub(crate) async fn cancel_restore(&self, name: &str) -> Result<(), Trouble> {
        let request = v1::CancelRestoreRequest {
            name: name.to_owned(),
        };
        let answer = self.restores().cancel(limited(request)).await;
        found(answer, |_| Some(())).map(drop)
    }

    /// Asks a restore to go.
    pub(crate) async fn delete_restore(&self, name: &str) -> Result<(), Trouble> {
        let request = v1::DeleteRestoreRequest {
            name: name.to_owned(),
        };
        let answer = self.restores().delete(limited(request)).await;
        found(answer, |_| Some(())).map(drop)
    }

    /// All locations.
    pub(crate) async fn all_locations(&self) -> Result<Vec<v1::LocationStatus>, Trouble> {
        let answer = self
            .locations()
            .list(limited(v1::ListLocationsRequest {}))
            .await?;
        Ok(answer.into_inner().locations)
    }

    /// Makes a location what `spec` says, whether it exists or not. Errors are those of the coordinator, for the status.
    pub(crate) async fn apply_location(
        &self,
        name: &str,
        spec: v1::LocationSpec,
        drop_keys: bool,
        exists: bool,
    ) -> Result<(), Status> {
        if !exists {
            let request = v1::CreateLocationRequest {
                name: name.to_owned(),
                spec: Some(spec.clone()),
            };
            match self.locations().create(limited(request)).await {
                Err(status) if status.code() == Code::AlreadyExists => {}
                done => return done.map(drop),
            }
        }
        let request = v1::UpdateLocationRequest {
            name: name.to_owned(),
            spec: Some(spec),
            version: 0,
            drop_keys,
        };
        self.locations().update(limited(request)).await.map(drop)
    }

    /// Looks at a location.
    pub(crate) async fn validate_location(&self, name: &str) -> Result<v1::LocationStatus, Status> {
        let request = v1::ValidateLocationRequest {
            name: name.to_owned(),
        };
        let answer = self.locations().validate(limited(request)).await?;
        answer.into_inner().location.ok_or_else(empty)
    }

    /// Forgets a location.
    pub(crate) async fn delete_location(&self, name: &str) -> Result<(), Trouble> {
        let request = v1::DeleteLocationRequest {
            name: name.to_owned(),
        };
        self.locations().delete(limited(request)).await?;
        Ok(())
    }

    /// The names of the backups in a location's store.
    pub(crate) async fn stored_backups(&self, location: &str) -> Result<Vec<String>, Trouble> {
        let request = v1::ListArtifactsRequest {
            location: location.to_owned(),
        };
        Ok(self
            .artifacts()
            .list(limited(request))
            .await?
            .into_inner()
            .backups)
    }

    /// An artifact of a backup, if it has that.
    pub(crate) async fn read_artifact(
        &self,
        kind: ArtifactKind,
        name: &str,
        location: &str,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let mut request = Request::new(v1::ReadArtifactRequest {
            kind: kind.into(),
            name: name.to_owned(),
            location: location.to_owned(),
        });
        request.set_timeout(READ_LIMIT);
        let read = async {
            let mut parts = self.artifacts().read(request).await?.into_inner();
            let mut whole = Vec::new();
            while let Some(part) = parts.message().await? {
                if whole.len() + part.data.len() > MAX_ARTIFACT_BYTES {
                    return Err(Status::out_of_range(format!(
                        "{} of backup {name} is larger than {MAX_ARTIFACT_BYTES} bytes",
                        kind.as_str_name()
                    )));
                }
                whole.extend_from_slice(&part.data);
            }
            Ok(whole)
        };
        match read.await {
            Ok(whole) => Ok(Some(whole)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// Where a plain GET finds an artifact.
    pub(crate) async fn download_url(
        &self,
        kind: ArtifactKind,
        name: &str,
        location: &str,
    ) -> Result<v1::CreateDownloadUrlResponse, Status> {
        let request = v1::CreateDownloadUrlRequest {
            kind: kind.into(),
            name: name.to_owned(),
            location: location.to_owned(),
        };
        Ok(self
            .artifacts()
            .create_download_url(limited(request))
            .await?
            .into_inner())
    }
}

fn limited<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

fn found<T, R>(
    answer: Result<tonic::Response<T>, Status>,
    inner: impl FnOnce(T) -> Option<R>,
) -> Result<Option<R>, Trouble> {
    match answer {
        Ok(answer) => Ok(inner(answer.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

fn empty() -> Status {
    Status::internal("the coordinator's answer is empty")
}
