//! The controller dies at each of its writes, and begins anew.
//!
//! What it knows between two waits it has from objects and the coordinator, which only writes change: to stop it at any
//! other point is to stop it after the write before. So each write is cut twice, once before it is done and once when it
//! is done but nobody has been told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use orlop_controller::Error;
use orlop_tests::kube_api::{KubeFault, KubeRequest};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    restoring,
    world::{World, aws},
};

/// When the controller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the write is done.
    Before,
    /// After that, but before it hears so.
    After,
}

/// At which writes the controller dies: at each the first time.
pub(crate) struct Cuts {
    moment: Moment,
    seen: Mutex<BTreeSet<String>>,
    /// Stops the controller that works now.
    alive: Mutex<CancellationToken>,
    ended: CancellationToken,
}

impl Cuts {
    /// When the controller dies at this write, if it does.
    pub(crate) fn hit(&self, what: &str) -> Option<Moment> {
        if self.ended.is_cancelled() || !self.seen.lock().unwrap().insert(what.to_owned()) {
            return None;
        }
        self.alive.lock().unwrap().cancel();
        Some(self.moment)
    }
}

/// What a request writes, in words that are the same each time.
fn write(request: &KubeRequest) -> Option<String> {
    if request.method == "GET" {
        return None;
    }
    let body = request.json();
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    let phase = body["status"]["phase"].as_str().unwrap_or_default();
    Some(format!(
        "{} {} {name} {phase}",
        request.method, request.path
    ))
}

/// A controller that is begun again each time it dies.
struct Undying {
    cuts: Arc<Cuts>,
    keeper: JoinHandle<Result<(), Error>>,
}

impl Undying {
    fn start(world: &World, moment: Moment) -> Self {
        let cuts = Arc::new(Cuts {
            moment,
            seen: Mutex::default(),
            alive: Mutex::new(CancellationToken::new()),
            ended: CancellationToken::new(),
        });
        world.fake().cut(Arc::clone(&cuts));
        let fault = match moment {
            Moment::Before => KubeFault::Drop,
            Moment::After => KubeFault::DropAfter,
        };
        let hits = Arc::clone(&cuts);
        let matches = move |request: &KubeRequest| {
            write(request).is_some_and(|what| hits.hit(&what).is_some())
        };
        world.api.faults().next(usize::MAX, matches, fault);
        let make = world.maker();
        let lives = Arc::clone(&cuts);
        let keeper = tokio::spawn(async move {
            while !lives.ended.is_cancelled() {
                let alive = lives.ended.child_token();
                *lives.alive.lock().unwrap() = alive.clone();
                make().run(alive).await?;
            }
            Ok(())
        });
        Self { cuts, keeper }
    }

    /// Stops it for good. At which writes it died.
    async fn end(self) -> BTreeSet<String> {
        self.cuts.ended.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.keeper);
        ended.await.expect("it ends soon").unwrap().unwrap();
        std::mem::take(&mut self.cuts.seen.lock().unwrap())
    }
}

/// Goes through a scenario with a controller that dies at each write. `writes` are some at which it must have, each a part
/// of what is written.
pub(crate) async fn restarting_everywhere(scenario: fn(&World), writes: &[&str]) {
    restarting_everywhere_after(|_| {}, scenario, writes).await;
}

/// As [`restarting_everywhere`], with what is there before the controller begins.
pub(crate) async fn restarting_everywhere_after(
    before: fn(&World),
    scenario: fn(&World),
    writes: &[&str],
) {
    for moment in [Moment::Before, Moment::After] {
        let world = World::new().await;
        world.api.put(aws());
        before(&world);
        let undying = Undying::start(&world, moment);
        world.phase("backupstoragelocations.velero.io", "default", "Available");
        scenario(&world);
        let seen = undying.end().await;
        for wanted in writes {
            let hit = seen.iter().any(|one| one.contains(wanted));
            assert!(hit, "{moment:?}: it never died at {wanted}: {seen:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_goes_through_whenever_the_controller_dies() {
    restarting_everywhere(
        crate::a_backup_with_a_volume,
        &[
            "Backups.Create",
            "PATCH /apis/velero.io/v1/namespaces/velero/backups/b  InProgress",
            "POST /apis/velero.io/v1/namespaces/velero/podvolumebackups",
            "PATCH /apis/velero.io/v1/namespaces/velero/backups/b  Completed",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_deleted_whenever_the_controller_dies() {
    restarting_everywhere(
        crate::a_backup_that_is_deleted,
        &[
            "deletebackuprequests/b  InProgress",
            "backups/b  Deleting",
            "Backups.Delete",
            "DELETE /apis/velero.io/v1/namespaces/velero/podvolumebackups/",
            "DELETE /apis/velero.io/v1/namespaces/velero/backups/b",
            "DELETE /apis/velero.io/v1/namespaces/velero/deletebackuprequests/b",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_schedule_makes_one_backup_whenever_the_controller_dies() {
    restarting_everywhere(
        crate::a_schedule_with_a_rule,
        &[
            "POST /apis/velero.io/v1/namespaces/velero/backups",
            "schedules/s  Enabled",
            "POST /apis/velero.io/v1/namespaces/velero/deletebackuprequests",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn questions_are_answered_whenever_the_controller_dies() {
    restarting_everywhere(
        crate::two_questions,
        &[
            "serverstatusrequests/q  Processed",
            "Artifacts.CreateDownloadUrl",
            "downloadrequests/d  Processed",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stored_backups_come_and_lost_ones_go_whenever_the_controller_dies() {
    restarting_everywhere_after(
        crate::a_stored_backup_and_a_lost_one,
        crate::stored_ones_come_and_lost_ones_go,
        &[
            "POST /apis/velero.io/v1/namespaces/velero/backups found",
            "POST /apis/velero.io/v1/namespaces/velero/podvolumebackups",
            "DELETE /apis/velero.io/v1/namespaces/velero/backups/lost",
            "POST /apis/velero.io/v1/namespaces/velero/backuprepositories",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_goes_through_whenever_the_controller_dies() {
    restarting_everywhere(
        restoring::a_restore_with_a_volume,
        &[
            "restores/r  New",
            "Restores.Create",
            "restores/r  InProgress",
            "POST /apis/velero.io/v1/namespaces/velero/podvolumerestores",
            "restores/r  Completed",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_is_stopped_and_deleted_whenever_the_controller_dies() {
    restarting_everywhere(
        restoring::a_restore_that_is_stopped_and_deleted,
        &["Restores.Cancel", "restores/r  Failed", "Restores.Delete"],
    )
    .await;
}
