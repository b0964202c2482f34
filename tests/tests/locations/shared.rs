//! One location, two coordinators.

use std::time::Duration;

use orlop_proto::v1::{self, RunPhase};
use orlop_tests::s3::{self, S3Server};

use super::{
    calls::directory,
    world::{World, noise},
};

/// A location in the server's bucket, with its keys.
pub(crate) fn bucket(server: &S3Server) -> v1::LocationSpec {
    v1::LocationSpec {
        url: server.url("shared"),
        s3_keys: Some(v1::S3Keys {
            access_key_id: s3::ACCESS_KEY.to_owned(),
            secret_access_key: s3::SECRET_KEY.to_owned(),
            session_token: String::new(),
        }),
        ..Default::default()
    }
}

async fn node(pod: &str) -> World {
    let mut world = World::new().await;
    world.limits.validate_every = Duration::from_millis(100);
    world.pod("shop", pod, pod);
    world.write(pod, "data", "same", &noise(2 << 20, 1));
    world.write(pod, "data", "own", &noise(1 << 20, pod.len() as u64 + 1));
    world.start().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_use_one_bucket_at_once_and_see_each_others_backups() {
    let server = S3Server::new();
    let (a, b) = (node("a").await, node("bb").await);
    a.make_location("store", bucket(&server)).await;
    b.make_location("store", bucket(&server)).await;
    for round in 0..4 {
        let (of_a, of_b) = (format!("a-{round}"), format!("b-{round}"));
        a.write("a", "data", "own", &noise(1 << 20, 10 + round));
        b.write("bb", "data", "own", &noise(1 << 20, 20 + round));
        let both = tokio::join!(a.backup_to(&of_a, "store"), b.backup_to(&of_b, "store"));
        assert!(both.0.uploaded_bytes > 0 && both.1.uploaded_bytes > 0);
        b.until_known(&of_a).await;
        a.until_known(&of_b).await;
        // One deletes what the other has made, and both free space at once, of which one may be overtaken.
        if round > 0 {
            let (old_a, old_b) = (format!("a-{}", round - 1), format!("b-{}", round - 1));
            tokio::join!(a.delete(&old_b), b.delete(&old_a));
            let collected = tokio::join!(a.collect_all("store"), b.collect_all("store"));
            assert!(collected.0.is_ok() || collected.1.is_ok(), "{collected:?}");
        }
    }
    let gone = async {
        while a.get("a-2").await.is_ok() || b.get("b-2").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), gone)
        .await
        .unwrap();
    let restored = a.restore_backup("r", "a-3", "").await.unwrap();
    assert_eq!(restored.phase(), RunPhase::Completed, "{restored:?}");
    // The same request again is the same backup, whoever is asked.
    let same = b.try_backup_to("a-3", "store").await.unwrap();
    assert_eq!(same.phase(), RunPhase::Completed, "{same:?}");
    assert_eq!(a.listed("store").await.len(), 2);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_overwrites_is_written_in_an_order_that_the_coordinator_keeps() {
    let server = S3Server::start(s3::Options {
        conditional: false,
        ..Default::default()
    });
    let mut a = node("a").await;
    a.make_location("weak", bucket(&server)).await;
    a.backup_to("one", "weak").await;
    a.stop_coordinator().await;
    a.start_coordinator().await;
    a.until_connected().await;
    a.backup_to("two", "weak").await;
    let heads = std::fs::read_dir(a.path("data/heads")).unwrap().count();
    assert!(heads > 0);

    // Somebody who keeps an order of his own is found out, and nobody writes any more.
    let b = node("bb").await;
    b.make_location("weak", bucket(&server)).await;
    let mut stopped = false;
    for round in 0..20 {
        let (of_a, of_b) = (format!("a-{round}"), format!("b-{round}"));
        let tried = tokio::join!(
            a.try_backup_to(&of_a, "weak"),
            b.try_backup_to(&of_b, "weak")
        );
        for (world, name, tried) in [(&a, of_a, tried.0), (&b, of_b, tried.1)] {
            match tried {
                Ok(_) => stopped |= world.wait(&name).await.phase() != RunPhase::Completed,
                Err(_) => stopped = true,
            }
        }
        if stopped {
            break;
        }
    }
    assert!(stopped, "two writers went on beside each other");
    // The other location is none of it.
    a.make_location("near", directory(&a, "near")).await;
    a.backup_to("near", "near").await;
    a.stop().await;
    b.stop().await;
}
