//! `orlop.v1.Artifacts`.

use bytes::Bytes;
use orlop_core::run::RunKind;
use orlop_proto::{
    ProtocolError, receive,
    v1::{self, ArtifactKind, artifacts_server::Artifacts},
};
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status};

use super::{
    Answers, Context,
    status::{malformed, refused, repository},
};
use crate::{
    artifacts,
    runs::{Refusal, RunKey},
};

/// Bytes in one message.
const DATA: usize = 256 << 10;

/// Serves artifacts.
pub(crate) struct ArtifactsService(pub(crate) Context);

/// What is asked for.
struct Wanted {
    kind: ArtifactKind,
    name: String,
    location: String,
}

fn wanted(kind: i32, name: String, location: String) -> Result<Wanted, Status> {
    let kind = ArtifactKind::try_from(kind)
        .ok()
        .filter(|kind| *kind != ArtifactKind::Unspecified)
        .ok_or_else(|| malformed(ProtocolError::missing("kind")))?;
    Ok(Wanted {
        kind,
        name: receive::some_text("name", name, receive::MAX_NAME_BYTES).map_err(malformed)?,
        location: receive::text("location", location, receive::MAX_NAME_BYTES)
            .map_err(malformed)?,
    })
}

fn run_kind(kind: ArtifactKind) -> RunKind {
    use ArtifactKind as Kind;
    match kind {
        Kind::RestoreLog
        | Kind::RestoreResults
        | Kind::RestoreResourceList
        | Kind::RestoreItemOperations
        | Kind::RestoreVolumeInfo => RunKind::Restore,
        _ => RunKind::Backup,
    }
}

impl Wanted {
    /// The location that was named, or that of the run, or the default one.
    fn location(&self, context: &Context) -> Result<String, Refusal> {
        if self.location.is_empty() {
            let key = RunKey::new(run_kind(self.kind), self.name.clone());
            if let Ok(document) = context.runs.get(&key) {
                return Ok(document.run.location);
            }
        }
        context.runs.locations().name_of(&self.location)
    }

    async fn read(&self, context: &Context) -> Result<Bytes, Status> {
        let location = self.location(context).map_err(refused)?;
        let locations = context.runs.locations();
        let open = locations.repository(&location).map_err(refused)?;
        let none = || {
            let message = format!("{} has no such artifact", self.name);
            refused(Refusal::NotFound {
                kind: "artifact",
                name: self.name.clone(),
                message,
            })
        };
        let store = locations.artifacts(&location).ok_or_else(none)?;
        let key = artifacts::key_of(self.kind, &self.name).ok_or_else(none)?;
        match artifacts::read(&*store, &open, &key).await {
            Err(error) if error.is_not_found() => Err(none()),
            other => other.map_err(|error| repository(&error)),
        }
    }
}

#[tonic::async_trait]
impl Artifacts for ArtifactsService {
    type ReadStream = Answers<v1::ReadArtifactResponse>;

    async fn read(
        &self,
        request: Request<v1::ReadArtifactRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.kind, request.name, request.location)?;
        let mut bytes = wanted.read(&self.0).await?;
        let mut parts = Vec::with_capacity(bytes.len() / DATA + 1);
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(DATA));
            parts.push(v1::ReadArtifactResponse { data });
        }
        let answers = tokio_stream::iter(parts).map(Ok);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list(
        &self,
        request: Request<v1::ListArtifactsRequest>,
    ) -> Result<Response<v1::ListArtifactsResponse>, Status> {
        let locations = self.0.runs.locations();
        let location = request.into_inner().location;
        let location = locations.name_of(&location).map_err(refused)?;
        locations.repository(&location).map_err(refused)?;
        let Some(store) = locations.artifacts(&location) else {
            return Ok(Response::new(v1::ListArtifactsResponse::default()));
        };
        let listed = artifacts::list(&*store).await;
        let (backups, restores) = listed.map_err(|error| repository(&error))?;
        Ok(Response::new(v1::ListArtifactsResponse {
            backups,
            restores,
        }))
    }

    async fn create_download_url(
        &self,
        request: Request<v1::CreateDownloadUrlRequest>,
    ) -> Result<Response<v1::CreateDownloadUrlResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.kind, request.name, request.location)?;
        // Who serves the URL says what is not there: whoever asks for the log of a backup that was refused, perhaps for
        // its location, must not wait for a URL.
        let location = match wanted.location(&self.0) {
            Err(Refusal::NotFound { .. }) => wanted.location.clone(),
            known => known.map_err(refused)?,
        };
        let made = self.0.downloads.url(wanted.kind, &wanted.name, &location);
        let (url, expires_ms) = made.map_err(refused)?;
        Ok(Response::new(v1::CreateDownloadUrlResponse {
            url,
            expires_ms,
        }))
    }
}

/// Serves what a URL was made for.
pub(crate) async fn download(
    context: &Context,
    kind: ArtifactKind,
    name: String,
    location: String,
) -> Result<Bytes, Status> {
    let wanted = Wanted {
        kind,
        name,
        location,
    };
    wanted.read(context).await
}
