//! Schedules by a clock whose hands the test moves: turns, what was missed, what is kept, what survives.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

#[path = "coordination/cut.rs"]
mod cut;
#[path = "schedules/hands.rs"]
mod hands;
#[path = "schedules/keep.rs"]
mod keep;
#[path = "coordination/world.rs"]
#[allow(dead_code, reason = "the tests of runs use the rest")]
mod world;

use std::{sync::Arc, time::Duration};

use hands::{Hands, ms};
use orlop_proto::v1::{
    self, RunPhase, schedules_client::SchedulesClient, snapshots_client::SnapshotsClient,
};
use tonic::Code;
use world::{Client, TOKEN, World};

/// A world with one small volume whose coordinator reads the time from the hands.
async fn world_at(time: &str) -> (World, Arc<Hands>) {
    let mut world = World::new().await;
    let hands = Arc::new(Hands::at(time));
    world.clock = Arc::clone(&hands) as Arc<dyn orlop_coordinator::Clock>;
    world.pod("shop", "db", "uid-db");
    world.write("uid-db", "data", "x", b"x");
    (world, hands)
}

fn spec(cron: &str) -> v1::ScheduleSpec {
    v1::ScheduleSpec {
        cron: cron.to_owned(),
        ..Default::default()
    }
}

impl World {
    async fn schedules(&self) -> SchedulesClient<Client> {
        SchedulesClient::new(self.client(TOKEN).await)
    }

    async fn schedule(&self, name: &str, spec: v1::ScheduleSpec) -> v1::Schedule {
        let request = v1::CreateScheduleRequest {
            name: name.to_owned(),
            spec: Some(spec),
            paused: false,
        };
        let answer = self.schedules().await.create(request).await.unwrap();
        answer.into_inner().schedule.unwrap()
    }

    async fn shown(&self, name: &str) -> v1::Schedule {
        let name = name.to_owned();
        let request = v1::GetScheduleRequest { name };
        let answer = self.schedules().await.get(request).await.unwrap();
        answer.into_inner().schedule.unwrap()
    }

    /// Waits for the agent, and until a turn that came before it is tried again.
    async fn until_ready(&self, hands: &Hands) {
        self.until_connected().await;
        hands.pass(Duration::from_secs(31));
    }

    async fn names(&self) -> Vec<String> {
        let request = v1::ListBackupsRequest {};
        let answer = self.backups().await.list(request).await.unwrap();
        let list = answer.into_inner().backups.into_iter();
        list.map(|backup| backup.name).collect()
    }

    /// Waits until the newest backup is this one and has ended completely.
    async fn made(&self, name: &str) -> v1::Backup {
        self.until_known(name).await;
        let backup = self.wait(name).await;
        assert_eq!(backup.phase(), RunPhase::Completed, "{backup:?}");
        backup
    }

    /// Waits until the schedule is as wanted.
    async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&v1::Schedule) -> bool,
    ) -> v1::Schedule {
        for _ in 0..6000 {
            let schedule = self.shown(name).await;
            if wanted(&schedule) {
                return schedule;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}: {:?}", self.shown(name).await);
    }

    /// Waits until the coordinator has seen that the clock was set, and the next turn is this one.
    async fn until_next(&self, name: &str, time: &str) -> v1::Schedule {
        self.until(name, time, |s| s.next_ms == ms(time)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_when_turns_come_and_after_a_restart_without_the_database() {
    let (mut world, hands) = world_at("2020-02-28T01:00:00Z").await;
    world.start().await;
    let made = world.schedule("nightly", spec("0 2 * * *")).await;
    assert_eq!(made.next_ms, ms("2020-02-28T02:00:00Z"));
    assert_eq!((made.version, made.last_backup.as_str()), (1, ""));

    hands.go_to("2020-02-28T02:00:05Z");
    let backup = world.made("nightly-20200228020000").await;
    assert_eq!(backup.schedule, "nightly");
    assert_eq!(backup.created_ms, ms("2020-02-28T02:00:05Z"));
    let shown = world
        .until("nightly", "it has ended", |s| s.last_success_ms > 0)
        .await;
    assert_eq!(shown.last_backup, "nightly-20200228020000");
    assert_eq!(shown.last_phase(), RunPhase::Completed);
    assert_eq!(shown.next_ms, ms("2020-02-29T02:00:00Z"));
    assert_eq!(shown.skipped_count, 0);

    // With the state database, then without it: what was made is not made again, and what was missed is made
    // up for once.
    world.stop_coordinator().await;
    world.start_coordinator().await;
    world.until_connected().await;
    hands.go_to("2020-02-29T02:00:00Z");
    world.made("nightly-20200229020000").await;
    world.stop_coordinator().await;
    world.remove_state();
    hands.go_to("2020-03-05T13:00:00Z");
    world.start_coordinator().await;
    world.until_ready(&hands).await;
    world.made("nightly-20200305020000").await;
    world.stop_coordinator().await;
    world.remove_state();
    world.start_coordinator().await;
    world.until_connected().await;
    let shown = world.shown("nightly").await;
    assert_eq!(shown.spec, made.spec);
    assert_eq!(shown.last_backup, "nightly-20200305020000");
    hands.go_to("2020-03-06T02:00:00Z");
    world.made("nightly-20200306020000").await;
    assert_eq!(
        world.names().await,
        [
            "nightly-20200228020000",
            "nightly-20200229020000",
            "nightly-20200305020000",
            "nightly-20200306020000"
        ]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_missed_turns_is_made_up_for_once_within_the_deadline() {
    let (mut world, hands) = world_at("2020-02-28T01:00:00Z").await;
    world.start().await;
    world.schedule("nightly", spec("0 2 * * *")).await;
    let strict = v1::ScheduleSpec {
        starting_deadline_seconds: 3600,
        ..spec("0 3 * * *")
    };
    world.schedule("strict", strict).await;
    world.stop_coordinator().await;
    hands.go_to("2020-03-02T12:00:00Z");
    world.start_coordinator().await;
    world.until_ready(&hands).await;
    world.made("nightly-20200302020000").await;
    let shown = world
        .until("nightly", "it is counted", |s| s.skipped_count == 3)
        .await;
    assert_eq!(shown.skipped_reason, "");
    let shown = world
        .until("strict", "it is skipped", |s| s.skipped_ms > 0)
        .await;
    assert_eq!(shown.skipped_ms, ms("2020-03-02T03:00:00Z"));
    assert_eq!(shown.skipped_count, 4);
    assert!(shown.skipped_reason.contains("deadline"), "{shown:?}");
    hands.go_to("2020-03-03T03:59:59Z");
    world.made("strict-20200303030000").await;
    world.made("nightly-20200303020000").await;
    assert_eq!(world.names().await.len(), 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_makes_no_turn_twice_and_stops_no_schedule() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    world.schedule("hourly", spec("30 * * * *")).await;
    hands.go_to("2020-06-01T01:30:00Z");
    world.made("hourly-20200601013000").await;
    // Back by less than a day: the turns are waited for.
    hands.set("2020-06-01T00:20:00Z");
    hands.go_to("2020-06-01T02:30:00Z");
    world.made("hourly-20200601023000").await;
    // A year forward is one turn, and after the way back the next turn is a turn.
    hands.set("2021-06-01T02:45:00Z");
    world.made("hourly-20210601023000").await;
    hands.set("2020-06-01T02:46:00Z");
    let shown = world.until_next("hourly", "2020-06-01T03:30:00Z").await;
    assert_eq!(shown.waiting, "");
    hands.go_to("2020-06-01T03:30:00Z");
    world.made("hourly-20200601033000").await;
    assert_eq!(world.names().await.len(), 4);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_the_day_come_once_where_clocks_change() {
    let (mut world, hands) = world_at("2020-03-28T12:00:00Z").await;
    world.start().await;
    let vienna = v1::ScheduleSpec {
        time_zone: "Europe/Vienna".to_owned(),
        ..spec("30 2 * * *")
    };
    world.schedule("nightly", vienna).await;
    // There is no half past two on March 29.
    hands.go_to("2020-03-29T01:00:00Z");
    world.made("nightly-20200329010000").await;
    hands.go_to("2020-03-29T12:00:00Z");
    // There are two on October 25.
    hands.set("2020-10-24T12:00:00Z");
    world.made("nightly-20201024003000").await;
    hands.go_to("2020-10-25T00:30:00Z");
    world.made("nightly-20201025003000").await;
    hands.go_to("2020-10-25T01:30:00Z");
    let shown = world.shown("nightly").await;
    assert_eq!(shown.next_ms, ms("2020-10-26T01:30:00Z"));
    hands.go_to("2020-10-26T01:30:00Z");
    world.made("nightly-20201026013000").await;
    assert_eq!(world.names().await.len(), 4);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_schedule_lets_turns_pass_but_can_be_triggered() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    world.schedule("nightly", spec("0 2 * * *")).await;
    let pause = |paused| v1::PauseScheduleRequest {
        name: "nightly".to_owned(),
        paused,
    };
    let mut schedules = world.schedules().await;
    let paused = schedules.pause(pause(true)).await.unwrap().into_inner();
    let paused = paused.schedule.unwrap();
    assert_eq!(
        (paused.paused, paused.next_ms, paused.version),
        (true, 0, 2)
    );
    hands.go_to("2020-06-01T12:00:30Z");
    let trigger = || v1::TriggerScheduleRequest {
        name: "nightly".to_owned(),
    };
    world.hold(true);
    let refused = schedules.trigger(trigger()).await;
    // Nothing passes between coordinator and agent: it looks at an older inventory, and the backup cannot end.
    let begun = refused.unwrap().into_inner().backup.unwrap();
    assert_eq!(begun.name, "nightly-20200601120030");
    let status = schedules.trigger(trigger()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("nightly-20200601120030"),
        "{status}"
    );
    world.hold(false);
    world.made("nightly-20200601120030").await;

    let resumed = schedules.pause(pause(false)).await.unwrap().into_inner();
    assert_eq!(
        resumed.schedule.unwrap().next_ms,
        ms("2020-06-02T02:00:00Z")
    );
    hands.go_to("2020-06-02T02:00:00Z");
    world.made("nightly-20200602020000").await;
    assert_eq!(
        world.names().await.len(),
        2,
        "the turn of the pause is not made up for"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_skipped_while_the_last_backup_runs() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    world.schedule("often", spec("*/10 * * * *")).await;
    world.hold(true);
    hands.go_to("2020-06-01T01:10:00Z");
    world.until_known("often-20200601011000").await;
    hands.go_to("2020-06-01T01:20:00Z");
    let shown = world
        .until("often", "it is skipped", |s| s.skipped_ms > 0)
        .await;
    assert_eq!(shown.skipped_ms, ms("2020-06-01T01:20:00Z"));
    assert_eq!(
        shown.skipped_reason,
        "backup often-20200601011000 still ran"
    );
    world.hold(false);
    world.made("often-20200601011000").await;
    hands.go_to("2020-06-01T01:30:00Z");
    world.made("often-20200601013000").await;
    assert_eq!(world.names().await.len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_waits_for_an_agent_and_says_so() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    world.stop_agent().await;
    world.schedule("nightly", spec("0 2 * * *")).await;
    hands.go_to("2020-06-01T02:00:00Z");
    let shown = world
        .until("nightly", "it waits", |s| !s.waiting.is_empty())
        .await;
    assert!(shown.waiting.contains("no agent is connected"), "{shown:?}");
    // A crash now makes no second backup later, and forgets nothing.
    world.stop_coordinator().await;
    world.start_coordinator().await;
    world.start_agent();
    world.until_connected().await;
    hands.go_to("2020-06-01T02:01:00Z");
    world.made("nightly-20200601020000").await;
    let shown = world
        .until("nightly", "it waits no more", |s| s.waiting.is_empty())
        .await;
    assert_eq!(shown.skipped_count, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_are_made_changed_and_deleted() {
    let (mut world, hands) = world_at("2020-06-01T01:00:00Z").await;
    world.start().await;
    let mut schedules = world.schedules().await;
    let create = |name: &str, spec| v1::CreateScheduleRequest {
        name: name.to_owned(),
        spec: Some(spec),
        paused: false,
    };
    let made = schedules.create(create("nightly", spec("0 2 * * *"))).await;
    assert!(made.unwrap().into_inner().created);
    let again = schedules.create(create("nightly", spec("0 2 * * *"))).await;
    assert!(!again.unwrap().into_inner().created);
    let other = schedules.create(create("nightly", spec("0 3 * * *"))).await;
    assert_eq!(other.unwrap_err().code(), Code::AlreadyExists);
    for (name, bad, said) in [
        ("N", spec("0 2 * * *"), "is not a name"),
        ("n", spec("0 2 * *"), "spec.cron"),
        (
            "n",
            v1::ScheduleSpec {
                keep: "dayly=1".to_owned(),
                ..spec("@daily")
            },
            "spec.keep",
        ),
    ] {
        let status = schedules.create(create(name, bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(said), "{status}");
    }
    let away = v1::ScheduleSpec {
        backup: Some(v1::CreateBackupRequest {
            location: "defualt".to_owned(),
            ..Default::default()
        }),
        ..spec("@daily")
    };
    let status = schedules.create(create("n", away)).await.unwrap_err();
    assert_eq!(
        status.message(),
        "location defualt not found; did you mean default?"
    );

    hands.go_to("2020-06-01T02:00:00Z");
    world.made("nightly-20200601020000").await;
    let update = |version| v1::UpdateScheduleRequest {
        name: "nightly".to_owned(),
        spec: Some(spec("0 1 * * *")),
        version,
    };
    let status = schedules.update(update(7)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let updated = schedules.update(update(1)).await.unwrap().into_inner();
    let updated = updated.schedule.unwrap();
    assert_eq!(
        (updated.version, updated.next_ms),
        (2, ms("2020-06-02T01:00:00Z"))
    );
    let get = |name: &str| v1::GetScheduleRequest {
        name: name.to_owned(),
    };
    let status = schedules.get(get("nigthly")).await.unwrap_err();
    assert_eq!(
        status.message(),
        "schedule nigthly not found; did you mean nightly?"
    );

    let delete = || v1::DeleteScheduleRequest {
        name: "nightly".to_owned(),
    };
    schedules.delete(delete()).await.unwrap();
    schedules.delete(delete()).await.unwrap();
    world.stop_coordinator().await;
    world.remove_state();
    world.start_coordinator().await;
    let mut schedules = world.schedules().await;
    assert_eq!(
        schedules.get(get("nightly")).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(world.names().await, ["nightly-20200601020000"]);
    world.stop().await;
}
