//! The same suite against any server that `ORLOP_TEST_S3` names, as `s3://bucket/prefix?…`, with
//! credentials from where the program takes them.

use std::{fs, sync::Arc};

use orlop_repository::{
    open_store,
    store::{ObjectStore, contract},
};
use orlop_tests::{Orlop, Record, assert_identical, sample};

/// A place that nobody else uses, below the one in the environment.
fn place(part: &str) -> Option<String> {
    let Ok(url) = std::env::var("ORLOP_TEST_S3") else {
        println!("skipped: ORLOP_TEST_S3 names no S3 store, as in s3://bucket/prefix?endpoint=…");
        return None;
    };
    let (place, query) = url.split_once('?').unwrap_or((&url, ""));
    let place = place.trim_end_matches('/');
    let now = jiff::Timestamp::now().as_millisecond();
    let own = format!("orlop-tests-{now}-{}", std::process::id());
    Some(format!("{place}/{own}/{part}?{query}"))
}

async fn clean(store: &Arc<dyn ObjectStore>) {
    for object in store.list("").await.unwrap() {
        store.delete(&object.name).await.unwrap();
    }
}

#[tokio::test]
async fn another_server_keeps_the_contract() {
    let Some(url) = place("contract") else {
        return;
    };
    let store = open_store(&url).unwrap();
    let found = store.probe().await.unwrap().unwrap();
    println!("{}: {found:?}", store.description());
    store.set_capabilities(found);
    if found.conditional_create {
        contract::check(Arc::clone(&store)).await;
    } else {
        contract::check_alone(&*store).await;
    }
    clean(&store).await;
}

#[tokio::test]
async fn another_server_takes_a_repository() {
    let Some(url) = place("repository") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let volume = home.join("volume");
    fs::create_dir(&volume).unwrap();
    sample(&volume, 7, 1 << 20);
    let repo = |verb: &str| {
        Orlop::new(home, ["repo", verb, "-r", &url])
            .env("ORLOP_PASSWORD", "x")
            .env("ORLOP_EXCLUSIVE", "1")
    };
    let began = Record::of(&volume);
    repo("init").run().exits(0);
    for _ in 0..2 {
        repo("backup")
            .args(["--volume", "ns/pod/vol"])
            .arg(&volume)
            .run()
            .exits(0);
    }
    repo("check").arg("--read-data").run().exits(0);
    let target = home.join("target");
    repo("restore")
        .args(["latest:ns/pod/vol", "--target"])
        .arg(&target)
        .run()
        .exits(0);
    assert_identical(&began, &target);
    clean(&open_store(&url).unwrap()).await;
}
