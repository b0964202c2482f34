//! `orlop.v1.Backups`.

use orlop_core::run::{BackupSpec, Run, RunKind, RunSpec};
use orlop_proto::{
    convert, receive,
    v1::{self, backups_server::Backups},
};
use tonic::{Request, Response, Status};

use super::{
    Answers, Context,
    status::{malformed, refused},
    watch,
};
use crate::{records::Document, runs::RunKey};

/// Serves backups.
pub(crate) struct BackupsService(pub(crate) Context);

fn key(name: String) -> Result<RunKey, Status> {
    let name = receive::some_text("name", name, receive::MAX_NAME_BYTES).map_err(malformed)?;
    Ok(RunKey::new(RunKind::Backup, name))
}

/// The backup as a message.
pub(super) fn message(document: &Document) -> v1::Backup {
    match &document.spec {
        RunSpec::Backup(spec) => convert::backup(&document.run, spec),
        RunSpec::Restore(_) => convert::backup(&document.run, &BackupSpec::default()),
    }
}

fn watched(run: &Run, document: Option<&Document>) -> v1::WatchBackupsResponse {
    let gone = || convert::backup(run, &BackupSpec::default());
    v1::WatchBackupsResponse {
        backup: Some(document.map_or_else(gone, message)),
    }
}

#[tonic::async_trait]
impl Backups for BackupsService {
    async fn create(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<v1::CreateBackupResponse>, Status> {
        let mut request = request.into_inner();
        let name =
            receive::run_name("name", std::mem::take(&mut request.name)).map_err(malformed)?;
        let location = std::mem::take(&mut request.location);
        let spec = BackupSpec::try_from(request).map_err(malformed)?;
        let created = self
            .0
            .runs
            .create(name, &location, RunSpec::Backup(spec))
            .await;
        let (document, created) = created.map_err(refused)?;
        let backup = Some(message(&document));
        Ok(Response::new(v1::CreateBackupResponse { backup, created }))
    }

    async fn get(
        &self,
        request: Request<v1::GetBackupRequest>,
    ) -> Result<Response<v1::GetBackupResponse>, Status> {
        let key = key(request.into_inner().name)?;
        let document = self.0.runs.get(&key).map_err(refused)?;
        Ok(Response::new(v1::GetBackupResponse {
            backup: Some(message(&document)),
        }))
    }

    async fn list(
        &self,
        _request: Request<v1::ListBackupsRequest>,
    ) -> Result<Response<v1::ListBackupsResponse>, Status> {
        let backups = self
            .0
            .runs
            .list(RunKind::Backup)
            .iter()
            .map(message)
            .collect();
        Ok(Response::new(v1::ListBackupsResponse { backups }))
    }

    type WatchStream = Answers<v1::WatchBackupsResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchBackupsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().name;
        let name = (!name.is_empty()).then_some(name);
        Ok(Response::new(watch::runs(
            &self.0,
            RunKind::Backup,
            name,
            watched,
        )?))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelBackupRequest>,
    ) -> Result<Response<v1::CancelBackupResponse>, Status> {
        let key = key(request.into_inner().name)?;
        let document = self.0.runs.cancel(&key).map_err(refused)?;
        Ok(Response::new(v1::CancelBackupResponse {
            backup: Some(message(&document)),
        }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteBackupRequest>,
    ) -> Result<Response<v1::DeleteBackupResponse>, Status> {
        let key = key(request.into_inner().name)?;
        self.0.runs.delete(&key);
        Ok(Response::new(v1::DeleteBackupResponse {}))
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
