//! `orlop.v1.Schedules`.

use orlop_core::schedule::ScheduleSpec;
use orlop_proto::{
    receive,
    v1::{self, schedules_server::Schedules},
};
use tonic::{Request, Response, Status};

use super::{
    Context,
    backups::message as backup,
    status::{malformed, refused},
};
use crate::schedules::View;

/// Longest name of a schedule: its backups' names are longer by the time.
const MAX_NAME_BYTES: usize = 230;

/// Serves schedules.
pub(crate) struct SchedulesService(pub(crate) Context);

fn name(name: String) -> Result<String, Status> {
    receive::some_text("name", name, receive::MAX_NAME_BYTES).map_err(malformed)
}

fn spec(spec: Option<v1::ScheduleSpec>) -> Result<ScheduleSpec, Status> {
    let spec = receive::required("spec", spec)
        .and_then(|spec| ScheduleSpec::try_from(spec).map_err(|error| error.within("spec")));
    spec.map_err(malformed)
}

/// The schedule as a message.
pub(super) fn message(view: View) -> v1::Schedule {
    let record = view.record;
    let last = view.last.as_ref();
    v1::Schedule {
        spec: Some((&record.spec).into()),
        name: record.name,
        paused: record.paused,
        version: record.version,
        created_ms: record.created_ms,
        updated_ms: record.updated_ms,
        next_ms: view.next_ms.unwrap_or_default(),
        last_backup: last.map(|last| last.name.clone()).unwrap_or_default(),
        last_phase: last
            .map_or(v1::RunPhase::Unspecified, |last| last.phase.into())
            .into(),
        last_ms: last.map(|last| last.created_ms).unwrap_or_default(),
        last_success_ms: view.last_success_ms.unwrap_or_default(),
        skipped_ms: view.skipped.as_ref().map(|(ms, _)| *ms).unwrap_or_default(),
        skipped_reason: view.skipped.map(|(_, reason)| reason).unwrap_or_default(),
        skipped_count: view.skipped_count,
        waiting: view.waiting,
    }
}

#[tonic::async_trait]
impl Schedules for SchedulesService {
    async fn create(
        &self,
        request: Request<v1::CreateScheduleRequest>,
    ) -> Result<Response<v1::CreateScheduleResponse>, Status> {
        let request = request.into_inner();
        let name = receive::run_name("name", request.name).map_err(malformed)?;
        let name = receive::text("name", name, MAX_NAME_BYTES).map_err(malformed)?;
        let spec = spec(request.spec)?;
        let created = self.0.schedules.create(name, spec, request.paused).await;
        let (view, created) = created.map_err(refused)?;
        let schedule = Some(message(view));
        Ok(Response::new(v1::CreateScheduleResponse {
            schedule,
            created,
        }))
    }

    async fn get(
        &self,
        request: Request<v1::GetScheduleRequest>,
    ) -> Result<Response<v1::GetScheduleResponse>, Status> {
        let name = name(request.into_inner().name)?;
        let view = self.0.schedules.get(&name).map_err(refused)?;
        Ok(Response::new(v1::GetScheduleResponse {
            schedule: Some(message(view)),
        }))
    }

    async fn list(
        &self,
        _request: Request<v1::ListSchedulesRequest>,
    ) -> Result<Response<v1::ListSchedulesResponse>, Status> {
        let schedules = self.0.schedules.list().into_iter().map(message).collect();
        Ok(Response::new(v1::ListSchedulesResponse { schedules }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateScheduleRequest>,
    ) -> Result<Response<v1::UpdateScheduleResponse>, Status> {
        let request = request.into_inner();
        let (name, spec) = (name(request.name)?, spec(request.spec)?);
        let updated = self.0.schedules.update(&name, spec, request.version).await;
        let schedule = Some(message(updated.map_err(refused)?));
        Ok(Response::new(v1::UpdateScheduleResponse { schedule }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteScheduleRequest>,
    ) -> Result<Response<v1::DeleteScheduleResponse>, Status> {
        let name = name(request.into_inner().name)?;
        self.0.schedules.delete(&name).await.map_err(refused)?;
        Ok(Response::new(v1::DeleteScheduleResponse {}))
    }

    async fn pause(
        &self,
        request: Request<v1::PauseScheduleRequest>,
    ) -> Result<Response<v1::PauseScheduleResponse>, Status> {
        let request = request.into_inner();
        let name = name(request.name)?;
        let view = self.0.schedules.pause(&name, request.paused).await;
        let schedule = Some(message(view.map_err(refused)?));
        Ok(Response::new(v1::PauseScheduleResponse { schedule }))
    }

    async fn trigger(
        &self,
        request: Request<v1::TriggerScheduleRequest>,
    ) -> Result<Response<v1::TriggerScheduleResponse>, Status> {
        let name = name(request.into_inner().name)?;
        let document = self.0.schedules.trigger(&name).await.map_err(refused)?;
        Ok(Response::new(v1::TriggerScheduleResponse {
            backup: Some(backup(&document)),
        }))
    }
}
