//! `orlop.v1.Restores`.

use orlop_core::run::{RestoreSpec, Run, RunKind, RunSpec};
use orlop_proto::{
    convert, receive,
    v1::{self, restores_server::Restores},
};
use tonic::{Request, Response, Status};

use super::{
    Answers, Context,
    status::{malformed, refused},
    watch,
};
use crate::{records::Document, runs::RunKey};

/// Serves restores.
pub(crate) struct RestoresService(pub(crate) Context);

fn key(name: String) -> Result<RunKey, Status> {
    let name = receive::some_text("name", name, receive::MAX_NAME_BYTES).map_err(malformed)?;
    Ok(RunKey::new(RunKind::Restore, name))
}

fn message(document: &Document) -> v1::Restore {
    match &document.spec {
        RunSpec::Restore(spec) => convert::restore(&document.run, spec),
        RunSpec::Backup(_) => convert::restore(&document.run, &RestoreSpec::default()),
    }
}

fn watched(run: &Run, document: Option<&Document>) -> v1::WatchRestoresResponse {
    let gone = || convert::restore(run, &RestoreSpec::default());
    v1::WatchRestoresResponse {
        restore: Some(document.map_or_else(gone, message)),
    }
}

#[tonic::async_trait]
impl Restores for RestoresService {
    async fn create(
        &self,
        request: Request<v1::CreateRestoreRequest>,
    ) -> Result<Response<v1::CreateRestoreResponse>, Status> {
        let mut request = request.into_inner();
        let name =
            receive::run_name("name", std::mem::take(&mut request.name)).map_err(malformed)?;
        let location = std::mem::take(&mut request.location);
        let spec = RestoreSpec::try_from(request).map_err(malformed)?;
        let created = self
            .0
            .runs
            .create(name, &location, RunSpec::Restore(spec))
            .await;
        let (document, created) = created.map_err(refused)?;
        let restore = Some(message(&document));
        Ok(Response::new(v1::CreateRestoreResponse {
            restore,
            created,
        }))
    }

    async fn get(
        &self,
        request: Request<v1::GetRestoreRequest>,
    ) -> Result<Response<v1::GetRestoreResponse>, Status> {
        let key = key(request.into_inner().name)?;
        let document = self.0.runs.get(&key).map_err(refused)?;
        Ok(Response::new(v1::GetRestoreResponse {
            restore: Some(message(&document)),
        }))
    }

    async fn list(
        &self,
        _request: Request<v1::ListRestoresRequest>,
    ) -> Result<Response<v1::ListRestoresResponse>, Status> {
        let restores = self
            .0
            .runs
            .list(RunKind::Restore)
            .iter()
            .map(message)
            .collect();
        Ok(Response::new(v1::ListRestoresResponse { restores }))
    }

    type WatchStream = Answers<v1::WatchRestoresResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchRestoresRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().name;
        let name = (!name.is_empty()).then_some(name);
        Ok(Response::new(watch::runs(
            &self.0,
            RunKind::Restore,
            name,
            watched,
        )?))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRestoreRequest>,
    ) -> Result<Response<v1::CancelRestoreResponse>, Status> {
        let key = key(request.into_inner().name)?;
        let document = self.0.runs.cancel(&key).map_err(refused)?;
        Ok(Response::new(v1::CancelRestoreResponse {
            restore: Some(message(&document)),
        }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRestoreRequest>,
    ) -> Result<Response<v1::DeleteRestoreResponse>, Status> {
        let key = key(request.into_inner().name)?;
        self.0.runs.delete(&key);
        Ok(Response::new(v1::DeleteRestoreResponse {}))
    }

    type ReadLogStream = Answers<v1::ReadLogResponse>;

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let v1::ReadLogRequest {
            name,
            follow,
            after,
        } = request.into_inner();
        Ok(Response::new(watch::log(
            &self.0,
            key(name)?,
            follow,
            after,
        )?))
    }
}
