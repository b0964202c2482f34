//! What the tests have around the controller.

use std::time::Duration;

use orlop_controller::{Config, Controller, Error};
use orlop_kubernetes::{client::Connection, crds};
use orlop_proto::v1::{self, RunPhase, TaskPhase};
use orlop_runtime::metrics::Metrics;
use orlop_tests::{eventually, kube_api::KubeApi};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, Fake};

pub(crate) const SPACE: &str = "velero";

/// An API server, a coordinator, and a controller between them.
pub(crate) struct World {
    pub(crate) api: KubeApi,
    pub(crate) coordinator: Coordinator,
    pub(crate) cancel: CancellationToken,
    pub(crate) controller: Option<JoinHandle<Result<(), Error>>>,
    /// What monitoring is told.
    pub(crate) metrics: Metrics,
}

impl World {
    /// Without the controller.
    pub(crate) async fn new() -> Self {
        let api = KubeApi::new();
        for definition in crds::all() {
            api.put(json!(definition));
        }
        api.namespace(SPACE);
        Self {
            api,
            coordinator: Coordinator::start().await,
            cancel: CancellationToken::new(),
            controller: None,
            metrics: Metrics::default(),
        }
    }

    /// With the controller and a location that is available.
    pub(crate) async fn started() -> Self {
        let mut world = Self::new().await;
        world.api.put(aws());
        world.start();
        world.phase("backupstoragelocations.velero.io", "default", "Available");
        world
    }

    /// What makes controllers of this world.
    pub(crate) fn maker(&self) -> impl Fn() -> Controller + Send + 'static {
        let (api, coordinator) = (self.api.url(), self.coordinator.url.clone());
        let metrics = self.metrics.clone();
        move || {
            let connection = Connection::to_url(&api, None).unwrap();
            let connection = connection.with_namespace(SPACE);
            let to = orlop_controller::Coordinator::at(&coordinator, "token", None).unwrap();
            Controller::new(Config::default(), connection, to).told_to(&metrics)
        }
    }

    pub(crate) fn start(&mut self) {
        self.cancel = CancellationToken::new();
        let controller = self.maker()();
        self.controller = Some(tokio::spawn(controller.run(self.cancel.clone())));
    }

    pub(crate) async fn stop(&mut self) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.controller.take().unwrap());
        ended.await.expect("it ends soon").unwrap().unwrap();
    }

    pub(crate) fn fake(&self) -> &Fake {
        &self.coordinator.fake
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.api.get(kind, SPACE, name)
    }

    /// Waits for an object with this phase.
    pub(crate) fn phase(&self, kind: &str, name: &str, phase: &str) -> Value {
        eventually(&format!("{kind} {name} is {phase}"), || {
            self.get(kind, name)
                .filter(|object| object["status"]["phase"] == phase)
        })
    }

    /// Waits until there is no such object.
    pub(crate) fn gone(&self, kind: &str, name: &str) {
        eventually(&format!("{kind} {name} is gone"), || {
            self.get(kind, name).is_none().then_some(())
        });
    }
}

pub(crate) fn object(kind: &str, name: &str, rest: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "velero.io/v1", "kind": kind, "metadata": {"name": name, "namespace": SPACE},
    });
    for (key, value) in rest.as_object().unwrap() {
        object[key] = value.clone();
    }
    object
}

pub(crate) fn aws() -> Value {
    let spec = json!({"provider": "aws", "default": true, "objectStorage": {"bucket": "bucket", "prefix": "p"}});
    object("BackupStorageLocation", "default", &json!({"spec": spec}))
}

pub(crate) fn task(phase: TaskPhase) -> v1::Task {
    v1::Task {
        task_id: "01TASK".to_owned(),
        node: "n1".to_owned(),
        volume: Some(v1::VolumeRef {
            namespace: "shop".to_owned(),
            pod: "db-0".to_owned(),
            volume: "data".to_owned(),
        }),
        phase: phase.into(),
        bytes_done: 911,
        bytes_total: 911,
        started_ms: 1_767_323_045_000,
        ..v1::Task::default()
    }
}

/// Runs a backup to its end.
pub(crate) fn complete(world: &World, name: &str) -> Value {
    world.phase("backups.velero.io", name, "InProgress");
    world.fake().run(name, |run| {
        run.set_phase(RunPhase::Completed);
        run.completed_ms = jiff::Timestamp::now().as_millisecond();
        run.tasks = vec![v1::Task {
            snapshot_id: "s-1".to_owned(),
            ..task(TaskPhase::Completed)
        }];
    });
    world.phase("backups.velero.io", name, "Completed")
}
