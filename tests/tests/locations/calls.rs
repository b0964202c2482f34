//! Calls about locations, and what is asked of them.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use orlop_proto::v1::{
    self, locations_client::LocationsClient, maintain_request::Operation, maintain_response::Event,
    restores_client::RestoresClient, schedules_client::SchedulesClient,
    snapshots_client::SnapshotsClient, system_client::SystemClient,
};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::world::{Client, TOKEN, World};

/// A location in a directory of the world.
pub(crate) fn directory(world: &World, name: &str) -> v1::LocationSpec {
    v1::LocationSpec {
        url: world.path(name).display().to_string(),
        ..Default::default()
    }
}

/// All files below a directory.
pub(crate) fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(dir: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, all);
            } else {
                all.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    let mut all = BTreeMap::new();
    walk(dir, &mut all);
    all
}

/// What a refusal says, with the fields it names.
pub(crate) fn message_of(status: &Status) -> String {
    let fields = status.get_error_details();
    let named = fields.bad_request().map(|bad| format!("{bad:?}"));
    format!("{} {}", status.message(), named.unwrap_or_default())
}

impl World {
    async fn locations(&self) -> LocationsClient<Client> {
        LocationsClient::new(self.client(TOKEN).await)
    }

    pub(crate) async fn try_location(
        &self,
        name: &str,
        spec: v1::LocationSpec,
    ) -> Result<v1::CreateLocationResponse, Status> {
        let request = v1::CreateLocationRequest {
            name: name.to_owned(),
            spec: Some(spec),
        };
        Ok(self.locations().await.create(request).await?.into_inner())
    }

    pub(crate) async fn make_location(
        &self,
        name: &str,
        spec: v1::LocationSpec,
    ) -> v1::LocationStatus {
        let made = self.try_location(name, spec).await.unwrap();
        assert!(made.created);
        made.location.unwrap()
    }

    pub(crate) async fn change_location(
        &self,
        name: &str,
        spec: v1::LocationSpec,
    ) -> Result<v1::LocationStatus, Status> {
        let request = v1::UpdateLocationRequest {
            name: name.to_owned(),
            spec: Some(spec),
            version: 0,
            drop_keys: false,
        };
        let answer = self.locations().await.update(request).await?;
        Ok(answer.into_inner().location.unwrap())
    }

    pub(crate) async fn drop_location(&self, name: &str) -> Result<(), Status> {
        let name = name.to_owned();
        let request = v1::DeleteLocationRequest { name };
        self.locations().await.delete(request).await.map(drop)
    }

    pub(crate) async fn location(&self, name: &str) -> v1::LocationStatus {
        let name = name.to_owned();
        let request = v1::GetLocationRequest { name };
        let answer = self.locations().await.get(request).await.unwrap();
        answer.into_inner().location.unwrap()
    }

    pub(crate) async fn validate(&self, name: &str) -> v1::LocationStatus {
        let name = name.to_owned();
        let request = v1::ValidateLocationRequest { name };
        let answer = self.locations().await.validate(request).await.unwrap();
        answer.into_inner().location.unwrap()
    }

    pub(crate) async fn locations_named(&self) -> Vec<String> {
        let request = v1::ListLocationsRequest {};
        let answer = self.locations().await.list(request).await.unwrap();
        let all = answer.into_inner().locations.into_iter();
        all.map(|location| location.location).collect()
    }

    /// Waits until the location is, or is not, available.
    pub(crate) async fn until_available(&self, name: &str, wanted: bool) -> v1::LocationStatus {
        for _ in 0..6000 {
            let location = self.location(name).await;
            if location.checked_ms > 0 && location.available == wanted {
                return location;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it stays: {:?}", self.location(name).await);
    }

    /// Waits until the default location is as wanted.
    pub(crate) async fn until_location(
        &self,
        what: &str,
        wanted: impl Fn(&v1::LocationStatus) -> bool,
    ) {
        for _ in 0..6000 {
            if wanted(&self.location("").await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}: {:?}", self.location("").await);
    }

    pub(crate) async fn try_backup_to(
        &self,
        name: &str,
        location: &str,
    ) -> Result<v1::Backup, Status> {
        let request = v1::CreateBackupRequest {
            name: name.to_owned(),
            location: location.to_owned(),
            ..Default::default()
        };
        let answer = self.backups().await.create(request).await?;
        Ok(answer.into_inner().backup.unwrap())
    }

    /// Makes a backup and waits until it has ended.
    pub(crate) async fn backup_to(&self, name: &str, location: &str) -> v1::Backup {
        self.try_backup_to(name, location).await.unwrap();
        let backup = self.wait(name).await;
        assert_eq!(backup.phase(), v1::RunPhase::Completed, "{backup:?}");
        backup
    }

    pub(crate) async fn restore_backup(
        &self,
        name: &str,
        backup: &str,
        location: &str,
    ) -> Result<v1::Restore, Status> {
        let request = v1::CreateRestoreRequest {
            name: name.to_owned(),
            from_backup: backup.to_owned(),
            location: location.to_owned(),
            mode: v1::RestoreMode::Overwrite.into(),
            ..Default::default()
        };
        let mut restores = RestoresClient::new(self.client(TOKEN).await);
        restores.create(request).await?;
        let name = name.to_owned();
        loop {
            let request = v1::GetRestoreRequest { name: name.clone() };
            let answer = restores.get(request).await?.into_inner();
            let restore = answer.restore.unwrap();
            let open = [
                v1::RunPhase::Queued,
                v1::RunPhase::Running,
                v1::RunPhase::Finalizing,
            ];
            if !open.contains(&restore.phase()) {
                return Ok(restore);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn listed(&self, location: &str) -> Vec<v1::Snapshot> {
        let request = v1::ListSnapshotsRequest {
            location: location.to_owned(),
            ..Default::default()
        };
        let mut snapshots = SnapshotsClient::new(self.client(TOKEN).await);
        snapshots
            .list(request)
            .await
            .unwrap()
            .into_inner()
            .snapshots
    }

    pub(crate) async fn snapshot(&self, text: &str) -> Result<v1::Snapshot, Status> {
        let request = v1::GetSnapshotRequest {
            snapshot: text.to_owned(),
            ..Default::default()
        };
        let mut snapshots = SnapshotsClient::new(self.client(TOKEN).await);
        let answer = snapshots.get(request).await?;
        Ok(answer.into_inner().snapshot.unwrap())
    }

    pub(crate) async fn ask_to_delete(&self, name: &str) {
        let name = name.to_owned();
        let request = v1::DeleteBackupRequest { name };
        self.backups().await.delete(request).await.unwrap();
    }

    /// Waits until a backup that is being deleted says why it is still there.
    pub(crate) async fn until_deleting_waits(&self, name: &str) -> v1::Backup {
        for _ in 0..6000 {
            let backup = self.get(name).await.unwrap();
            if !backup.failure_reason.is_empty() {
                return backup;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not say why: {:?}", self.get(name).await);
    }

    async fn maintain_collect(
        &self,
        location: &str,
        collect: v1::CollectOperation,
    ) -> Result<v1::CollectReport, Status> {
        let request = v1::MaintainRequest {
            location: location.to_owned(),
            operation: Some(Operation::Collect(collect)),
        };
        let mut system = SystemClient::new(self.client(TOKEN).await);
        let mut events = system.maintain(request).await?.into_inner();
        while let Some(event) = events.message().await? {
            if let Some(Event::Collect(report)) = event.event {
                return Ok(report);
            }
        }
        panic!("no report came");
    }

    pub(crate) async fn collect(
        &self,
        location: &str,
        dry_run: bool,
    ) -> Result<v1::CollectReport, Status> {
        let collect = v1::CollectOperation {
            dry_run,
            max_removed_percent: if dry_run { 100 } else { 1 },
            ..Default::default()
        };
        self.maintain_collect(location, collect).await
    }

    /// However much of the repository that is.
    pub(crate) async fn collect_all(&self, location: &str) -> Result<v1::CollectReport, Status> {
        let collect = v1::CollectOperation {
            max_removed_percent: 100,
            ..Default::default()
        };
        self.maintain_collect(location, collect).await
    }

    pub(crate) async fn try_schedule(&self, name: &str) -> Result<(), Status> {
        let request = v1::CreateScheduleRequest {
            name: name.to_owned(),
            spec: Some(v1::ScheduleSpec {
                cron: "@yearly".to_owned(),
                ..Default::default()
            }),
            paused: false,
        };
        let mut schedules = SchedulesClient::new(self.client(TOKEN).await);
        schedules.create(request).await.map(drop)
    }

    pub(crate) async fn schedule_daily(&self, name: &str) {
        self.try_schedule(name).await.unwrap();
    }

    pub(crate) async fn schedules_named(&self) -> Vec<String> {
        let mut schedules = SchedulesClient::new(self.client(TOKEN).await);
        let answer = schedules.list(v1::ListSchedulesRequest {}).await.unwrap();
        let all = answer.into_inner().schedules.into_iter();
        all.map(|schedule| schedule.name).collect()
    }

    /// Waits until there are exactly these schedules.
    pub(crate) async fn until_schedules(&self, wanted: &[&str]) {
        for _ in 0..6000 {
            if self.schedules_named().await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?} instead of {wanted:?}", self.schedules_named().await);
    }
}
