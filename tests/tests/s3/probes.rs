//! What `init` finds out about a store and records.

use std::sync::Arc;

use orlop_repository::{
    InitOptions, Repository, Unlock,
    store::{Capabilities, ChecksumMode, Durability, ObjectStore, Put},
};
use orlop_tests::s3::{Options, S3Fault, S3Op, S3Server};

async fn probed(options: Options) -> Capabilities {
    let server = S3Server::start(options);
    let found = server.store("p").probe().await.unwrap().unwrap();
    assert_eq!(server.keys(), [], "the probe's objects are deleted");
    found
}

#[tokio::test]
async fn a_store_that_creates_atomically_and_verifies_is_recognised() {
    let found = probed(Options::default()).await;
    let right = Capabilities {
        conditional_create: true,
        checksum: ChecksumMode::Crc64Nvme,
    };
    assert_eq!(found, right);
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_is_recognised() {
    let found = probed(Options {
        conditional: false,
        ..Options::default()
    });
    assert!(!found.await.conditional_create);
}

#[tokio::test]
async fn a_store_that_refuses_the_condition_is_recognised() {
    let found = probed(Options {
        refuses_conditional: true,
        ..Options::default()
    });
    assert!(!found.await.conditional_create);
}

#[tokio::test]
async fn a_store_that_ignores_checksums_is_recognised() {
    let found = probed(Options {
        checksums: false,
        ..Options::default()
    });
    assert_eq!(found.await.checksum, ChecksumMode::Signature);
}

#[tokio::test]
async fn a_probe_is_not_misled_by_passing_failures() {
    let server = S3Server::new();
    server
        .faults()
        .add(S3Op::Put, "probe/", 1, S3Fault::LoseAnswer);
    server
        .faults()
        .add(S3Op::Put, "probe/", 1, S3Fault::internal());
    server
        .faults()
        .add(S3Op::Get, "probe/", 1, S3Fault::HalfBody);
    let found = server.store("p").probe().await.unwrap().unwrap();
    assert!(found.conditional_create);
}

fn unlock() -> Unlock {
    Unlock::KeyFile(orlop_tests::KEY.to_vec())
}

#[tokio::test]
async fn init_records_what_it_found_and_open_reads_it() {
    for conditional in [true, false] {
        let server = S3Server::start(Options {
            conditional,
            ..Options::default()
        });
        let store = server.store("p");
        let made = Repository::init(store, &unlock(), InitOptions::default()).await;
        let made = made.unwrap();
        assert_eq!(made.conditional_create(), conditional);
        let opened = Repository::open(server.store("p"), &unlock())
            .await
            .unwrap();
        assert_eq!(opened.capabilities(), made.capabilities());
        assert_eq!(opened.conditional_create(), conditional);
        assert!(server.keys().iter().all(|(key, _)| !key.contains("probe")));
    }
}

#[tokio::test]
async fn without_conditional_creates_nothing_is_overwritten_by_one_writer() {
    let server = S3Server::start(Options {
        conditional: false,
        ..Options::default()
    });
    let store: Arc<dyn ObjectStore> = server.store("p");
    store.set_capabilities(Capabilities {
        conditional_create: false,
        checksum: ChecksumMode::Signature,
    });
    for (text, right) in [("first", Put::Created), ("second", Put::Exists)] {
        let put = store.put("a", vec![text.into()], Durability::Now);
        assert_eq!(put.await.unwrap(), right);
    }
    assert_eq!(store.get("a").await.unwrap(), "first");
}
