//! Locations through gRPC: several repositories, what is not available, what is read-only, two coordinators on one.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "locations/calls.rs"]
mod calls;
#[path = "coordination/cut.rs"]
#[allow(dead_code, reason = "the tests of runs use the rest")]
mod cut;
#[path = "locations/shared.rs"]
mod shared;
#[path = "coordination/world.rs"]
#[allow(dead_code, reason = "the tests of runs use the rest")]
mod world;

use std::{fs, time::Duration};

use calls::{contents, directory, message_of};
use orlop_coordinator::StoreAccess;
use orlop_proto::v1::{self, RunPhase, location_spec::Unlock};
use orlop_tests::s3::{self, S3Server};
use tonic::Code;
use world::World;

async fn world() -> World {
    let mut world = World::new().await;
    world.limits.validate_every = Duration::from_millis(50);
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "x", b"first");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_to_the_location_that_is_named_and_comes_back_from_there() {
    let mut world = world().await;
    world.start().await;
    let made = world.make_location("far", directory(&world, "far")).await;
    assert!(made.available, "{made:?}");
    assert!(!made.is_default && !made.fixed && made.snapshots == 0);
    let again = world.try_location("far", directory(&world, "far")).await;
    assert!(!again.unwrap().created);
    let other = world.try_location("far", directory(&world, "other")).await;
    assert_eq!(other.unwrap_err().code(), Code::AlreadyExists);

    let far = world.backup_to("b-far", "far").await;
    let near = world.backup_to("b-near", "").await;
    assert_eq!(
        (far.location.as_str(), near.location.as_str()),
        ("far", "default")
    );
    let listed = world.listed("").await;
    let mut places: Vec<&str> = listed.iter().map(|s| s.location.as_str()).collect();
    places.sort_unstable();
    assert_eq!(places, ["default", "far"]);
    assert_eq!(world.listed("far").await.len(), 1);

    world.write("uid-db", "data", "x", b"second");
    let restored = world.restore_backup("r", "b-far", "").await.unwrap();
    assert_eq!(restored.phase(), RunPhase::Completed, "{restored:?}");
    assert_eq!(restored.location, "far");
    assert_eq!(world.read_tree("uid-db", "data")["x"], b"first");
    let wrong = world.restore_backup("r2", "b-far", "default").await;
    assert_eq!(wrong.unwrap_err().code(), Code::InvalidArgument);
    let unknown = world
        .restore_backup("r3", "b-far", "farr")
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("did you mean far?"), "{unknown}");

    // Everything but the data directory is lost, then that too.
    world.stop_coordinator().await;
    world.remove_state();
    world.start_coordinator().await;
    world.until_connected().await;
    assert_eq!(world.get("b-far").await.unwrap().location, "far");
    world.stop_coordinator().await;
    world.remove_state();
    fs::remove_dir_all(world.path("data")).unwrap();
    world.start_coordinator().await;
    world.until_connected().await;
    assert_eq!(world.get("b-far").await.unwrap_err().code(), Code::NotFound);
    let found = world.make_location("far2", directory(&world, "far")).await;
    assert_eq!(found.snapshots, 1);
    assert_eq!(world.get("b-far").await.unwrap().location, "far2");

    world.drop_location("far2").await.unwrap();
    assert_eq!(world.get("b-far").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.listed("").await.len(), 1);
    assert!(world.path("far/repo.cfg").exists(), "the store stays");
    let fixed = world.drop_location("default").await.unwrap_err();
    assert_eq!(fixed.code(), Code::FailedPrecondition);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_where_nothing_may_be_written() {
    let mut world = world().await;
    world.start().await;
    world.make_location("old", directory(&world, "old")).await;
    world.backup_to("b", "old").await;
    let read_only = v1::LocationSpec {
        read_only: true,
        ..directory(&world, "old")
    };
    let changed = world.change_location("old", read_only).await.unwrap();
    assert!(changed.read_only && changed.available && changed.version == 2);
    let before = contents(&world.path("old"));

    let refused = world.try_backup_to("b2", "old").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("read-only"), "{refused}");
    world.write("uid-db", "data", "x", b"second");
    let restored = world.restore_backup("r", "b", "").await.unwrap();
    assert_eq!(restored.phase(), RunPhase::Completed, "{restored:?}");
    assert_eq!(world.read_tree("uid-db", "data")["x"], b"first");
    let refused = world.collect("old", false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    world.collect("old", true).await.unwrap();
    world.validate("old").await;
    world.ask_to_delete("b").await;
    let kept = world.until_deleting_waits("b").await;
    assert!(kept.failure_reason.contains("read-only"), "{kept:?}");
    assert_eq!(contents(&world.path("old")), before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_makes_its_location_unavailable_and_no_other() {
    let mut world = world().await;
    world.start().await;
    let port = {
        let gone = S3Server::new();
        gone.port()
    };
    let url = format!("s3://bench/p?endpoint=http://127.0.0.1:{port}&region=us-east-1");
    let spec = v1::LocationSpec {
        url,
        s3_keys: Some(v1::S3Keys {
            access_key_id: s3::ACCESS_KEY.to_owned(),
            secret_access_key: s3::SECRET_KEY.to_owned(),
            session_token: String::new(),
        }),
        ..Default::default()
    };
    let made = world.make_location("bucket", spec).await;
    assert!(!made.available && made.has_keys);
    assert!(made.message.contains("connection refused"), "{made:?}");
    let refused = world.try_backup_to("b", "bucket").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused.message().contains("connection refused"),
        "{refused}"
    );
    world.backup_to("near", "").await;
    let missing = world
        .snapshot("01ARZ3NDEKTSV4RRFFQ69G5FAV")
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::Unavailable);
    assert!(missing.message().contains("bucket"), "{missing}");

    let server = S3Server::start(s3::Options {
        port: Some(port),
        ..Default::default()
    });
    world.until_available("bucket", true).await;
    // The environment of the agent has no keys: it gets them with its task.
    let backup = world.backup_to("b", "bucket").await;
    assert_eq!(backup.phase(), RunPhase::Completed, "{backup:?}");
    assert_eq!(world.validate("bucket").await.snapshots, 1);
    drop(server);
    let away = world.until_available("bucket", false).await;
    assert_eq!(away.snapshots, 1, "what was seen last is still told");
    assert!(away.since_ms > made.since_ms);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_work_is_refused_and_not_kept() {
    let mut world = world().await;
    world.start().await;
    let own = |unlock: &str| v1::LocationSpec {
        unlock: Some(Unlock::Passphrase(unlock.to_owned())),
        ..directory(&world, "sealed")
    };
    let made = world.make_location("sealed", own("right")).await;
    assert!(made.has_unlock);
    world.drop_location("sealed").await.unwrap();
    let wrong = world
        .try_location("sealed", own("wrong"))
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition);
    assert!(wrong.message().contains("wrong password"), "{wrong}");
    for (url, what) in [
        ("s3:/bucket", "a bucket's URL is s3://"),
        ("relative/path", "absolute path"),
        ("ftp://somewhere/x", "not known"),
        ("s3://bucket/p?endpint=http://x", "endpint"),
    ] {
        let spec = v1::LocationSpec {
            url: url.to_owned(),
            ..Default::default()
        };
        let refused = world.try_location("odd", spec).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{url}: {refused}");
        assert!(message_of(&refused).contains(what), "{url}: {refused}");
    }
    let default = v1::LocationSpec {
        is_default: true,
        ..directory(&world, "x")
    };
    let refused = world.try_location("x", default).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let names: Vec<String> = world.locations_named().await;
    assert_eq!(names, ["default"]);
    world.make_location("sealed", own("right")).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_location_stays_as_long_as_something_is_going_on_there() {
    let mut world = World::large().await;
    world.limits.validate_every = Duration::from_millis(50);
    world.start().await;
    world.make_location("far", directory(&world, "far")).await;
    world.try_backup_to("b", "far").await.unwrap();
    world.until_running("b").await;
    let moved = world
        .change_location("far", directory(&world, "else"))
        .await;
    assert_eq!(moved.unwrap_err().code(), Code::FailedPrecondition);
    let dropped = world.drop_location("far").await.unwrap_err();
    assert!(dropped.message().contains("backup b"), "{dropped}");
    // Other secrets for the same place disturb nothing.
    let keys = v1::LocationSpec {
        s3_keys: Some(v1::S3Keys {
            access_key_id: "of".to_owned(),
            secret_access_key: "no use for a directory".to_owned(),
            session_token: String::new(),
        }),
        ..directory(&world, "far")
    };
    assert!(world.change_location("far", keys).await.unwrap().available);
    let backup = world.wait("b").await;
    assert_eq!(backup.phase(), RunPhase::Completed, "{backup:?}");
    world.drop_location("far").await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_begins_while_its_own_store_is_away_and_makes_no_new_one() {
    let mut world = world().await;
    world.home = Some(world.path("repo").display().to_string());
    world.start().await;
    world.schedule_daily("nightly").await;
    world.backup_to("b", "").await;
    world.stop_coordinator().await;
    world.remove_state();
    let (repo, elsewhere) = (world.path("repo"), world.path("elsewhere"));
    fs::rename(&repo, &elsewhere).unwrap();
    // As a directory is on which nothing is mounted.
    fs::create_dir(&repo).unwrap();
    world.start_coordinator().await;
    let away = world.until_available("default", false).await;
    assert!(away.message.contains("mounted"), "{away:?}");
    assert_eq!(fs::read_dir(&repo).unwrap().count(), 0);
    let refused = world.try_schedule("weekly").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(world.schedules_named().await.is_empty());
    assert_eq!(world.get("b").await.unwrap_err().code(), Code::NotFound);

    fs::remove_dir(&repo).unwrap();
    fs::rename(&elsewhere, &repo).unwrap();
    world.until_available("default", true).await;
    world.until_schedules(&["nightly"]).await;
    assert_eq!(world.get("b").await.unwrap().phase(), RunPhase::Completed);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_freed_when_asked_for_and_by_itself() {
    let mut world = world().await;
    world.start().await;
    world.write("uid-db", "data", "large", &world::noise(3 << 20, 1));
    world.backup_to("b", "").await;
    world.delete("b").await;
    let dry = world.collect("", true).await.unwrap();
    assert!(dry.dry_run && dry.removable_bytes > 3 << 20, "{dry:?}");
    let refused = world.collect("", false).await.unwrap_err();
    assert!(
        refused.message().contains("percent") || refused.message().contains('%'),
        "{refused}"
    );
    let shown = world.location("").await;
    assert!(shown.collect_failed && shown.collected_ms > 0, "{shown:?}");
    let done = world.collect_all("").await.unwrap();
    assert_eq!(done.state(), v1::CollectState::Collected);
    assert!(done.removed_bytes > 3 << 20, "{done:?}");
    assert!(!world.location("").await.collect_failed);
    world.stop_coordinator().await;
    world.start_coordinator().await;
    let shown = world.location("").await;
    assert!(shown.collected.contains("removed"), "{shown:?}");
    world.stop_coordinator().await;

    world.limits.collect_every = Duration::from_millis(100);
    world.start_coordinator().await;
    world.until_connected().await;
    let after = shown.collected_ms;
    world
        .until_location("it is collected", |l| l.collected_ms > after)
        .await;
    assert!(world.check().await.ok);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bytes_are_read_again_in_rounds_and_damage_is_shown() {
    let mut world = world().await;
    world.limits.scrub_every = Duration::from_millis(200);
    world.limits.scrub_days = 3;
    world.limits.scrub_bytes_per_second = 0;
    world.start().await;
    world.write("uid-db", "data", "large", &world::noise(40 << 20, 1));
    world.backup_to("b", "").await;
    world
        .until_location("all is covered", |location| {
            let covered = location.covered.unwrap_or_default();
            covered.since_ms > 0 && covered.total_bytes > 40 << 20
        })
        .await;
    let sound = world.location("").await;
    assert_eq!((sound.damaged_objects, sound.scrub_failed), (0, false));
    world.stop_coordinator().await;

    // What is known of the bytes outlives the coordinator, and so does what was read of a round.
    world.limits.scrub_every = Duration::from_secs(5);
    world.start_coordinator().await;
    world.until_connected().await;
    world
        .until_location("what was read before is known", |location| {
            location.covered.is_some_and(|covered| covered.since_ms > 0)
        })
        .await;
    let packs = contents(&world.path("repo"));
    let pack = packs.keys().find(|name| name.contains("/p/")).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    world
        .until_location("the damage is found", |location| {
            location.damaged_objects == 1
        })
        .await;
    let shown = world.location("").await;
    let name = pack.rsplit('/').next().unwrap();
    assert!(shown.scrubbed.contains(name), "{shown:?}");
    assert_eq!(shown.covered.unwrap().damaged_packs, 1);
    assert!(!world.check().await.ok);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_agent_may_open_a_bucket_with_the_keys_of_its_task() {
    let mut world = world().await;
    world.access = StoreAccess::Direct;
    world.start().await;
    let server = S3Server::new();
    world.make_location("bucket", shared::bucket(&server)).await;
    server.take_requests();
    let backup = world.backup_to("b", "bucket").await;
    assert_eq!(backup.phase(), RunPhase::Completed, "{backup:?}");
    let shown = world.location("bucket").await;
    assert!(shown.has_keys && !shown.spec_url.contains(s3::SECRET_KEY));
    let files = contents(&world.path("data/locations"));
    assert!(files.keys().any(|name| name.ends_with("bucket.json")));
    world.stop().await;
}
