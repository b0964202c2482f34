//! The store on a server that fails in every way that passes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use orlop_repository::store::{Durability, ObjectStore, Put, RetryPolicy, RetryStore, contract};
use orlop_tests::s3::{Options, S3Fault, S3Op, S3Server};

async fn put(store: &dyn ObjectStore, name: &str, body: &'static str) -> Put {
    let parts = vec![Bytes::from_static(body.as_bytes())];
    store.put(name, parts, Durability::Now).await.unwrap()
}

fn passing() -> [S3Fault; 9] {
    [
        S3Fault::internal(),
        S3Fault::slow_down(),
        S3Fault::refuse(429, "TooManyRequests"),
        S3Fault::refuse(409, "ConditionalRequestConflict"),
        S3Fault::refuse(400, "RequestTimeout"),
        S3Fault::Reset,
        S3Fault::LoseAnswer,
        S3Fault::FailAfter,
        S3Fault::HalfBody,
    ]
}

#[tokio::test]
async fn every_request_survives_every_fault_that_passes() {
    for fault in passing() {
        let server = S3Server::new();
        let store = server.store("p");
        let ops = [S3Op::Put, S3Op::Get, S3Op::Head, S3Op::List, S3Op::Delete];
        for op in ops {
            server.faults().add(op, "", 2, fault.clone());
        }
        assert_eq!(
            put(&*store, "a", "some text").await,
            Put::Created,
            "{fault:?}"
        );
        assert_eq!(store.get("a").await.unwrap(), "some text");
        assert_eq!(store.stat("a").await.unwrap().unwrap().size, 9);
        assert_eq!(store.list("").await.unwrap().len(), 1);
        for op in [S3Op::Get, S3Op::Delete] {
            server.faults().add(op, "", 1, fault.clone());
        }
        assert_eq!(store.get_range("a", 5, 4).await.unwrap(), "text");
        server.faults().add(S3Op::Get, "", 1, fault.clone());
        assert_eq!(store.get_up_to("a", 5, 99).await.unwrap(), "text");
        store.delete("a").await.unwrap();
        assert_eq!(store.stat("a").await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_contract_is_kept_in_a_storm_of_faults() {
    for seed in 0..6 {
        println!("seed {seed}");
        let server = S3Server::start(Options {
            page: 2,
            ..Options::default()
        });
        server.faults().storm(seed, 200);
        // Of racing puts with lost answers the loser can be the one that created: it finds its own
        // content. The race of the suite is of different contents, so exactly one wins still.
        contract::check(server.store("p")).await;
    }
}

#[tokio::test]
async fn a_412_after_a_lost_answer_is_a_success() {
    let server = S3Server::new();
    let store = server.store("p");
    for fault in [S3Fault::LoseAnswer, S3Fault::FailAfter] {
        server.faults().add(S3Op::Put, "p/log/", 1, fault.clone());
        let name = format!("log/{}", server.keys().len());
        assert_eq!(put(&*store, &name, "mine").await, Put::Created, "{fault:?}");
        assert_eq!(put(&*store, &name, "mine").await, Put::Exists);
    }
}

#[tokio::test]
async fn a_412_after_a_failure_is_none_if_the_object_is_anothers() {
    let server = S3Server::new();
    let store = server.store("p");
    for other in ["its", "yours", "mine!", "nine"] {
        server.overwrite("p/log/1", Bytes::from_static(other.as_bytes()));
        server
            .faults()
            .add(S3Op::Put, "p/log/", 1, S3Fault::internal());
        assert_eq!(put(&*store, "log/1", "mine").await, Put::Exists);
        assert_eq!(server.object("p/log/1").unwrap(), other);
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_and_is_sent_again() {
    let server = S3Server::new();
    let store = server.store("p");
    server
        .faults()
        .add(S3Op::Put, "", 3, S3Fault::ResetInUpload);
    let large = Bytes::from(vec![5; 9 << 20]);
    let put = store.put("a", vec![large.clone(), large.clone()], Durability::Now);
    assert_eq!(put.await.unwrap(), Put::Created);
    assert_eq!(server.object("p/a").unwrap().len(), 18 << 20);
}

#[tokio::test]
async fn half_a_body_is_an_error_and_not_a_shorter_object() {
    let server = S3Server::new();
    let store = server.raw_store("p");
    let body = vec![Bytes::from(vec![7; 1 << 20])];
    store.put("a", body, Durability::Now).await.unwrap();
    server.faults().add(S3Op::Get, "", 3, S3Fault::HalfBody);
    let errors = [
        store.get("a").await.unwrap_err(),
        store.get_range("a", 10, 1000).await.unwrap_err(),
        store.get_up_to("a", 10, 1 << 20).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn a_delete_of_what_is_gone_is_none() {
    let server = S3Server::new();
    let store = server.raw_store("p");
    put(&*store, "a", "x").await;
    server
        .faults()
        .add(S3Op::Delete, "", 1, S3Fault::NotFoundAfter);
    store.delete("a").await.unwrap();
    assert_eq!(server.keys(), []);
}

#[tokio::test]
async fn a_request_without_answer_is_given_up_and_asked_again() {
    let server = S3Server::new();
    let policy = RetryPolicy {
        first_pause: Duration::from_millis(1),
        answer_within: Duration::from_millis(300),
        ..RetryPolicy::default()
    };
    let store = RetryStore::with_policy(server.raw_store("p"), policy);
    server.faults().add(None, "", 2, S3Fault::Hang);
    assert_eq!(put(&store, "a", "x").await, Put::Created);
}

#[tokio::test]
async fn a_call_that_is_dropped_ends() {
    let server = S3Server::new();
    let store = server.store("p");
    server.faults().add(None, "", u64::MAX, S3Fault::internal());
    let call = tokio::time::timeout(Duration::from_millis(20), store.get("a"));
    assert!(call.await.is_err());
    server.take_requests();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.take_requests(), []);
}

#[tokio::test]
async fn of_many_writers_one_wins_though_answers_are_lost() {
    for seed in 0..4 {
        let server = S3Server::new();
        server.faults().storm(seed, 300);
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..6u8 {
            let store: Arc<dyn ObjectStore> = server.store("p");
            racers.spawn(async move {
                let mut won = Vec::new();
                for n in 0..30 {
                    let body = vec![Bytes::from(vec![racer; 10])];
                    let put = store.put(&format!("log/{n}"), body, Durability::Now).await;
                    if put.unwrap() == Put::Created {
                        won.push((n, racer));
                    }
                }
                won
            });
        }
        let mut won: Vec<(i32, u8)> = racers.join_all().await.concat();
        won.sort_unstable();
        let winners: Vec<(i32, u8)> = (0..30)
            .map(|n| (n, server.object(&format!("p/log/{n}")).unwrap()[0]))
            .collect();
        assert_eq!(won, winners, "seed {seed}");
    }
}
