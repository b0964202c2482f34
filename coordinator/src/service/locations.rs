//! `orlop.v1.Locations`.

use orlop_core::LocationSpec;
use orlop_proto::{
    ProtocolError, receive,
    v1::{self, locations_server::Locations},
};
use tonic::{Request, Response, Status};

use super::{
    Context,
    maintain::covered_message,
    status::{malformed, refused},
};
use crate::{locations::View, runs::Refusal};

/// Serves locations.
pub(crate) struct LocationsService(pub(crate) Context);

fn spec(spec: Option<v1::LocationSpec>) -> Result<LocationSpec, Status> {
    let spec = receive::required("spec", spec).map_err(malformed)?;
    LocationSpec::try_from(spec).map_err(|error| malformed(error.within("spec")))
}

fn name(name: String) -> Result<String, Status> {
    receive::text("name", name, receive::MAX_NAME_BYTES).map_err(malformed)
}

/// A location as a message.
pub(super) fn message(context: &Context, view: View) -> v1::LocationStatus {
    let collected = context.maintenance.collected(&view.name);
    let (collected_ms, collected, collect_failed) = collected
        .map(|done| (done.at_ms, done.said, done.failed))
        .unwrap_or_default();
    let scrubbed = context.maintenance.scrubbed(&view.name).unwrap_or_default();
    v1::LocationStatus {
        scrubbed_ms: scrubbed.at_ms,
        scrubbed: scrubbed.said,
        scrub_failed: scrubbed.failed,
        damaged_objects: scrubbed.damaged,
        covered: scrubbed.covered.map(covered_message),
        location: view.name,
        url: view.place,
        repository_id: view.repository_id,
        available: view.health.available,
        message: view.health.message,
        opening: view.health.opening,
        snapshots: view.health.snapshots,
        spec_url: view.spec.url,
        ca_pem: view.spec.ca_pem.into(),
        repository_path: view.spec.repository_path,
        read_only: view.spec.read_only,
        is_default: view.is_default,
        checked_ms: view.health.checked_ms,
        since_ms: view.health.since_ms,
        has_keys: view.spec.keys.is_some(),
        has_unlock: view.spec.unlock.is_some(),
        fixed: view.fixed,
        version: view.version,
        collected_ms,
        collected,
        collect_failed,
    }
}

impl LocationsService {
    /// Looks at a location now, and says how it is. One that answers is available only when it is known what is
    /// recorded there: who asks next wants to know of a backup.
    async fn look(&self, name: &str) -> Result<v1::LocationStatus, Status> {
        let maintenance = &self.0.maintenance;
        let looked = maintenance.look(name, true, false).await;
        let view = self.0.runs.locations().get(name).map_err(refused)?;
        if let Err(reason) = looked {
            tracing::warn!(location = name, %reason, "cannot read what is recorded in a location");
            if view.health.available {
                let why = format!("what is recorded in location {name} cannot be read: {reason}");
                return Err(refused(Refusal::Unavailable(why)));
            }
        }
        Ok(message(&self.0, view))
    }
}

#[tonic::async_trait]
impl Locations for LocationsService {
    async fn create(
        &self,
        request: Request<v1::CreateLocationRequest>,
    ) -> Result<Response<v1::CreateLocationResponse>, Status> {
        let request = request.into_inner();
        let name = receive::run_name("name", request.name).map_err(malformed)?;
        let spec = spec(request.spec)?;
        let locations = self.0.runs.locations();
        let (_, created) = locations
            .create(name.clone(), spec)
            .await
            .map_err(refused)?;
        let location = self.look(&name).await?;
        if created && !location.available {
            let health = locations.get(&name).map_err(refused)?.health;
            if health.permanent && location.repository_id.is_empty() {
                // It would never be of use; nothing has been begun there.
                locations.delete(&name, || None).await.map_err(refused)?;
                return Err(refused(Refusal::Precondition(health.message)));
            }
        }
        Ok(Response::new(v1::CreateLocationResponse {
            location: Some(location),
            created,
        }))
    }

    async fn get(
        &self,
        request: Request<v1::GetLocationRequest>,
    ) -> Result<Response<v1::GetLocationResponse>, Status> {
        let name = name(request.into_inner().name)?;
        let view = self.0.runs.locations().get(&name).map_err(refused)?;
        Ok(Response::new(v1::GetLocationResponse {
            location: Some(message(&self.0, view)),
        }))
    }

    async fn list(
        &self,
        _request: Request<v1::ListLocationsRequest>,
    ) -> Result<Response<v1::ListLocationsResponse>, Status> {
        let all = self.0.runs.locations().list().into_iter();
        let locations = all.map(|view| message(&self.0, view)).collect();
        Ok(Response::new(v1::ListLocationsResponse { locations }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateLocationRequest>,
    ) -> Result<Response<v1::UpdateLocationResponse>, Status> {
        let request = request.into_inner();
        let name = name(request.name)?;
        let spec = spec(request.spec)?;
        if request.drop_keys && spec.keys.is_some() {
            let reason = "excludes `spec.s3_keys`";
            return Err(malformed(ProtocolError::new("drop_keys", reason)));
        }
        let runs = &self.0.runs;
        let old = runs.locations().get(&name).map_err(refused)?;
        let updated = runs
            .locations()
            .update(&name, spec, request.version, request.drop_keys, || {
                runs.busy_at(&name)
            })
            .await
            .map_err(refused)?;
        let place = |spec: &LocationSpec| (spec.url.clone(), spec.repository_path.clone());
        if place(&updated.spec) != place(&old.spec) {
            runs.leave(&name);
        }
        Ok(Response::new(v1::UpdateLocationResponse {
            location: Some(self.look(&name).await?),
        }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteLocationRequest>,
    ) -> Result<Response<v1::DeleteLocationResponse>, Status> {
        let name = receive::some_text("name", request.into_inner().name, receive::MAX_NAME_BYTES);
        let name = name.map_err(malformed)?;
        let runs = &self.0.runs;
        let deleted = runs.locations().delete(&name, || runs.busy_at(&name)).await;
        if deleted.map_err(refused)? {
            runs.leave(&name);
        }
        Ok(Response::new(v1::DeleteLocationResponse {}))
    }

    async fn validate(
        &self,
        request: Request<v1::ValidateLocationRequest>,
    ) -> Result<Response<v1::ValidateLocationResponse>, Status> {
        let name = name(request.into_inner().name)?;
        let name = self.0.runs.locations().name_of(&name).map_err(refused)?;
        Ok(Response::new(v1::ValidateLocationResponse {
            location: Some(self.look(&name).await?),
        }))
    }
}
