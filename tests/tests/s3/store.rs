//! What the store promises, on a server that does what it should.

use std::sync::Arc;

use bytes::Bytes;
use orlop_repository::store::{Capabilities, ChecksumMode, Durability, ObjectStore, Put, contract};
use orlop_tests::s3::{Options, S3Op, S3Server, S3Tls};

fn body(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}

#[tokio::test]
async fn a_bucket_keeps_the_contract() {
    let server = S3Server::new();
    contract::check(server.raw_store("")).await;
}

#[tokio::test]
async fn a_prefix_keeps_the_contract_and_its_neighbours() {
    let server = S3Server::new();
    server.overwrite("a/pq/x", Bytes::from_static(b"another's"));
    server.overwrite("a/p", Bytes::from_static(b"another's"));
    contract::check(server.store("a/p")).await;
    assert_eq!(server.object("a/pq/x").unwrap(), "another's");
    assert!(server.object("a/p/a/x").is_some());
}

#[tokio::test]
async fn lists_in_pages_keep_the_contract() {
    let server = S3Server::start(Options {
        page: 2,
        ..Options::default()
    });
    contract::check(server.store("p")).await;
    let store = server.store("many");
    for n in 0..25 {
        let name = format!("log/{n:03}");
        store.put(&name, body("x"), Durability::Now).await.unwrap();
    }
    server.take_requests();
    let found = store.list("log/").await.unwrap();
    assert_eq!(found.len(), 25);
    assert!(found.is_sorted());
    let asked = server.take_requests();
    assert_eq!(asked.len(), 13);
    assert!(asked.iter().all(|(op, _)| *op == S3Op::List));
}

#[tokio::test]
async fn a_bucket_behind_tls_keeps_the_contract() {
    let server = S3Server::start(Options {
        tls: Some(S3Tls::Good),
        ..Options::default()
    });
    contract::check(server.store("p")).await;
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_keeps_the_contract() {
    let server = S3Server::start(Options {
        ranges: false,
        ..Options::default()
    });
    contract::check(server.store("p")).await;
}

#[tokio::test]
async fn each_way_to_prove_content_keeps_the_contract() {
    let server = S3Server::new();
    for (n, checksum) in [
        ChecksumMode::Signature,
        ChecksumMode::Crc32c,
        ChecksumMode::Crc64Nvme,
    ]
    .into_iter()
    .enumerate()
    {
        let store = server.store(&format!("p{n}"));
        store.set_capabilities(Capabilities {
            conditional_create: true,
            checksum,
        });
        contract::check(store).await;
    }
}

#[tokio::test]
async fn each_call_is_one_request() {
    let server = S3Server::new();
    let store: Arc<dyn ObjectStore> = server.store("p");
    let put = store.put("a", body("text"), Durability::Now);
    assert_eq!(put.await.unwrap(), Put::Created);
    assert_eq!(store.get_up_to("a", 1, 100).await.unwrap(), "ext");
    assert_eq!(store.get_range("a", 1, 2).await.unwrap(), "ex");
    assert_eq!(store.get("a").await.unwrap(), "text");
    assert!(store.stat("a").await.unwrap().is_some());
    assert_eq!(store.list("").await.unwrap().len(), 1);
    store.delete("a").await.unwrap();
    let ops: Vec<S3Op> = server
        .take_requests()
        .into_iter()
        .map(|(op, _)| op)
        .collect();
    let (get, head) = (S3Op::Get, S3Op::Head);
    assert_eq!(
        ops,
        [S3Op::Put, get, get, get, head, S3Op::List, S3Op::Delete]
    );
}

#[tokio::test]
async fn objects_of_many_parts_and_megabytes_arrive_whole() {
    let server = S3Server::new();
    let store = server.store("p");
    let parts: Vec<Bytes> = (0..40u8)
        .map(|n| Bytes::from(vec![n; 1 << (n % 20)]))
        .collect();
    let whole: Vec<u8> = parts.concat();
    store.put("large", parts, Durability::Now).await.unwrap();
    assert_eq!(store.get("large").await.unwrap(), whole);
    let middle = store.get_range("large", 100_000, 1_900_000).await.unwrap();
    assert_eq!(middle, &whole[100_000..2_000_000]);
    assert_eq!(
        store.get_up_to("large", 5, u64::MAX).await.unwrap(),
        &whole[5..]
    );
}
