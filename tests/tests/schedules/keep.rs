//! Which backups stay: rules of schedules, and times to live.

use orlop_repository::store::Plan;

use super::*;

impl World {
    /// As [`Self::until_names`], while time goes by: a coordinator believes a clock only when it has seen it go for a
    /// while.
    async fn until_names_in_time(&self, hands: &Hands, wanted: &[&str]) {
        for _ in 0..6000 {
            if self.names().await == wanted {
                return;
            }
            hands.pass(Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.names().await, wanted);
    }

    async fn until_names(&self, wanted: &[&str]) {
        for _ in 0..6000 {
            if self.names().await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.names().await, wanted);
    }

    /// The backups that hold snapshots.
    async fn holders(&self) -> Vec<String> {
        let mut snapshots = SnapshotsClient::new(self.client(TOKEN).await);
        let request = v1::ListSnapshotsRequest::default();
        let answer = snapshots.list(request).await.unwrap().into_inner();
        answer.snapshots.into_iter().map(|s| s.backup).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_delete_the_backups_of_their_schedule_with_their_snapshots() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    world.backup("by-hand").await;
    let keep = v1::ScheduleSpec {
        keep: "daily=2".to_owned(),
        ..spec("0 2,14 * * *")
    };
    world.schedule("nightly", keep).await;
    for turn in [
        "2020-06-01T02:00:00Z",
        "2020-06-01T14:00:00Z",
        "2020-06-02T02:00:00Z",
        "2020-06-02T14:00:00Z",
        "2020-06-03T02:00:00Z",
    ] {
        hands.go_to(turn);
        let stamp: String = turn.chars().filter(char::is_ascii_digit).collect();
        world.made(&format!("nightly-{stamp}")).await;
    }
    let left = [
        "by-hand",
        "nightly-20200602140000",
        "nightly-20200603020000",
    ];
    world.until_names_in_time(&hands, &left).await;
    assert_eq!(world.holders().await, left);

    // Without rules all of them stay.
    let update = v1::UpdateScheduleRequest {
        name: "nightly".to_owned(),
        spec: Some(spec("0 2,14 * * *")),
        version: 0,
    };
    world.schedules().await.update(update).await.unwrap();
    hands.go_to("2020-06-03T14:00:00Z");
    world.made("nightly-20200603140000").await;
    hands.go_to("2020-06-04T02:00:00Z");
    world.made("nightly-20200604020000").await;
    assert_eq!(world.names().await.len(), 5);
    assert!(world.check().await.ok);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_with_its_snapshots_when_its_time_is_over() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    world.backup("for-ever").await;
    let request = v1::CreateBackupRequest {
        name: "for-a-day".to_owned(),
        ttl_seconds: 24 * 3600,
        ..Default::default()
    };
    world.backups().await.create(request).await.unwrap();
    let backup = world.wait("for-a-day").await;
    assert_eq!(backup.expires_ms, ms("2020-06-02T01:00:00Z"));
    assert_eq!(world.holders().await.len(), 2);
    hands.go_to("2020-06-02T00:59:59Z");
    world.backup("another").await;
    assert_eq!(world.names().await, ["for-a-day", "for-ever", "another"]);
    hands.go_to("2020-06-02T01:00:00Z");
    world
        .until_names_in_time(&hands, &["for-ever", "another"])
        .await;
    assert_eq!(world.holders().await, ["for-ever", "another"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_forward_deletes_nothing_at_once() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    let request = v1::CreateBackupRequest {
        name: "for-a-day".to_owned(),
        ttl_seconds: 24 * 3600,
        ..Default::default()
    };
    world.backups().await.create(request).await.unwrap();
    world.wait("for-a-day").await;
    hands.set("2021-06-01T01:00:00Z");
    world.schedule("often", spec("*/10 * * * *")).await;
    hands.go_to("2021-06-01T01:50:00Z");
    world.made("often-20210601015000").await;
    assert!(world.names().await.contains(&"for-a-day".to_owned()));
    // The clock is put right again within the hour.
    hands.set("2020-06-01T02:00:00Z");
    world.until_next("often", "2020-06-01T02:10:00Z").await;
    hands.go_to("2020-06-01T03:30:00Z");
    world.made("often-20200601033000").await;
    assert!(world.names().await.contains(&"for-a-day".to_owned()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_the_store_and_is_done_by_the_next_coordinator() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    world.backup("for-ever").await;
    let request = v1::CreateBackupRequest {
        name: "for-a-day".to_owned(),
        ttl_seconds: 24 * 3600,
        ..Default::default()
    };
    world.backups().await.create(request).await.unwrap();
    world.wait("for-a-day").await;
    world.stop_coordinator().await;
    world.faults = Plan::ChangesFrom(0);
    world.start_coordinator().await;
    hands.go_to("2020-06-02T01:00:00Z");
    let mut waits = world.get("for-a-day").await.unwrap();
    for _ in 0..6000 {
        if !waits.failure_reason.is_empty() {
            break;
        }
        // A coordinator believes a clock only when it has seen it go for a while.
        hands.pass(Duration::from_mins(1));
        tokio::time::sleep(Duration::from_millis(20)).await;
        waits = world.get("for-a-day").await.unwrap();
    }
    assert_eq!(waits.phase(), RunPhase::Deleting, "{waits:?}");
    let reason = &waits.failure_reason;
    assert!(
        reason.contains("cannot be deleted yet") && reason.contains("injected failure"),
        "{reason}"
    );
    assert_eq!(world.holders().await, ["for-ever", "for-a-day"]);

    world.stop_coordinator().await;
    world.faults = Plan::Never;
    world.start_coordinator().await;
    world.until_names(&["for-ever"]).await;
    assert_eq!(world.holders().await, ["for-ever"]);
    assert!(world.check().await.ok);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_whose_answers_are_lost_is_finished() {
    for change in 0..4 {
        let (mut world, _hands) = world_at("2020-06-01T01:00:00Z").await;
        world.start().await;
        for name in ["stays", "goes"] {
            world.backup(name).await;
        }
        world.stop_coordinator().await;
        world.faults = Plan::LoseAnswerOfChange(change);
        world.start_coordinator().await;
        let name = "goes".to_owned();
        let request = v1::DeleteBackupRequest { name };
        world.backups().await.delete(request).await.unwrap();
        // Either it is gone, or it says why it is not.
        for _ in 0..6000 {
            match world.get("goes").await {
                Ok(backup) if backup.failure_reason.is_empty() => {}
                _ => break,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.stop_coordinator().await;
        world.faults = Plan::Never;
        world.start_coordinator().await;
        world.until_names(&["stays"]).await;
        assert_eq!(world.holders().await, ["stays"], "change {change}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_back_deletes_nothing_and_starts_no_age_anew() {
    let (mut world, hands) = world_at("2021-06-01T01:00:00Z").await;
    world.start().await;
    let request = v1::CreateBackupRequest {
        name: "for-a-day".to_owned(),
        ttl_seconds: 24 * 3600,
        ..Default::default()
    };
    world.backups().await.create(request).await.unwrap();
    world.wait("for-a-day").await;
    let keep = v1::ScheduleSpec {
        keep: "last=2".to_owned(),
        ..spec("0 2 * * *")
    };
    world.schedule("nightly", keep).await;
    hands.set("2020-06-01T01:00:00Z");
    world.until_next("nightly", "2020-06-01T02:00:00Z").await;
    // The turns of the new time come, and the rules count in the order of these times.
    hands.go_to("2020-06-01T02:00:00Z");
    world.made("nightly-20200601020000").await;
    hands.go_to("2020-06-02T02:00:00Z");
    world.made("nightly-20200602020000").await;
    assert_eq!(
        world.names().await,
        [
            "nightly-20200601020000",
            "nightly-20200602020000",
            "for-a-day"
        ]
    );
    // Right again: its day is over an hour after the clock is believed.
    hands.set("2021-06-02T02:00:00Z");
    world.made("nightly-20210602020000").await;
    assert_eq!(world.names().await.len(), 4);
    let left = ["nightly-20200602020000", "nightly-20210602020000"];
    for minutes in (5..1200).step_by(5) {
        if world.names().await == left {
            break;
        }
        hands.pass(Duration::from_mins(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(minutes >= 60 || world.names().await.len() == 4, "too early");
    }
    world.until_names(&left).await;
    world.stop().await;
}
