//! The restores of a coordinator that does what a test says.

use futures_util::{StreamExt as _, stream};
use orlop_proto::v1::{self, RunPhase, restores_server};
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use crate::coordinator::{Answer, Fake, Streamed};

impl Fake {
    /// Changes a restore.
    pub(crate) fn restore(&self, name: &str, change: impl FnOnce(&mut v1::Restore)) {
        self.with(|state| change(state.restores.get_mut(name).unwrap()));
    }
}

#[tonic::async_trait]
impl restores_server::Restores for Fake {
    async fn create(
        &self,
        request: Request<v1::CreateRestoreRequest>,
    ) -> Answer<v1::CreateRestoreResponse> {
        assert_eq!(
            request.metadata().get("authorization").unwrap(),
            "Bearer token"
        );
        let request = request.into_inner();
        self.call("Restores.Create", || {
            self.with(|state| {
                let exists = state.restores.contains_key(&request.name);
                let same = exists && state.restore_requests.last() == Some(&request);
                if exists && !same {
                    return Err(Status::already_exists("it exists"));
                }
                if request.from_backup == "unreadable" {
                    return Err(Status::failed_precondition(
                        "snapshot s-1 of backup unreadable is not there",
                    ));
                }
                let new = v1::Restore {
                    name: request.name.clone(),
                    phase: RunPhase::New.into(),
                    created_ms: jiff::Timestamp::now().as_millisecond(),
                    from_backup: request.from_backup.clone(),
                    location: "default".to_owned(),
                    ..v1::Restore::default()
                };
                let run = state.restores.entry(request.name.clone()).or_insert(new);
                let run = run.clone();
                if !same {
                    state.restore_requests.push(request);
                }
                Ok(Response::new(v1::CreateRestoreResponse {
                    restore: Some(run),
                    created: !same,
                }))
            })
        })
    }

    async fn get(&self, request: Request<v1::GetRestoreRequest>) -> Answer<v1::GetRestoreResponse> {
        let run = self.lock().restores.get(&request.get_ref().name).cloned();
        let run = run.ok_or_else(|| Status::not_found("there is none"))?;
        Ok(Response::new(v1::GetRestoreResponse { restore: Some(run) }))
    }

    async fn list(&self, _: Request<v1::ListRestoresRequest>) -> Answer<v1::ListRestoresResponse> {
        let restores = self.lock().restores.values().cloned().collect();
        Ok(Response::new(v1::ListRestoresResponse { restores }))
    }

    type WatchStream = Streamed<v1::WatchRestoresResponse>;

    async fn watch(&self, _: Request<v1::WatchRestoresRequest>) -> Answer<Self::WatchStream> {
        let fake = self.clone();
        let changes = WatchStream::new(self.changed.subscribe());
        let told = changes.flat_map(move |_| {
            let runs: Vec<_> = fake.lock().restores.values().cloned().collect();
            stream::iter(runs).map(|run| Ok(v1::WatchRestoresResponse { restore: Some(run) }))
        });
        Ok(Response::new(Box::pin(told)))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRestoreRequest>,
    ) -> Answer<v1::CancelRestoreResponse> {
        let name = request.into_inner().name;
        self.call("Restores.Cancel", || {
            let restore = self.with(|state| {
                let run = state.restores.get_mut(&name)?;
                run.canceled = true;
                run.set_phase(RunPhase::Canceled);
                Some(run.clone())
            });
            Ok(Response::new(v1::CancelRestoreResponse { restore }))
        })
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRestoreRequest>,
    ) -> Answer<v1::DeleteRestoreResponse> {
        let name = request.into_inner().name;
        self.call("Restores.Delete", || {
            self.with(|state| {
                let stuck = state.stuck_restores.clone();
                if let (Some(why), Some(run)) = (stuck, state.restores.get_mut(&name)) {
                    run.set_phase(RunPhase::Deleting);
                    run.failure_reason = why;
                    return;
                }
                state.restores.remove(&name);
            });
            Ok(Response::new(v1::DeleteRestoreResponse {}))
        })
    }

    type ReadLogStream = Streamed<v1::ReadLogResponse>;

    async fn read_log(&self, _: Request<v1::ReadLogRequest>) -> Answer<Self::ReadLogStream> {
        Err(Status::unimplemented("no logs here"))
    }
}
