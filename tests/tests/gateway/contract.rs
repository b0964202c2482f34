//! The gateway as a store like others: the suite that every store must pass, over two kinds of stores.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use orlop_agent::{
    app::{AgentConfig, TokenSource},
    backup::Limits,
    store::GatewayStore,
    volumes::DiscoverOptions,
};
use orlop_coordinator::{GatewayLimits, testing::OpenGateway};
use orlop_core::TaskId;
use orlop_repository::{
    Error, ObjectStore, Result,
    store::{self, Durability, MemoryStore, ObjectInfo, Put},
};
use orlop_runtime::identity::Authority;
use tokio_util::sync::CancellationToken;

use super::world::TOKEN;

/// The gateway, and the store behind it for the one thing that the gateway does not do.
struct Both {
    front: GatewayStore,
    back: Arc<dyn ObjectStore>,
}

#[async_trait]
impl ObjectStore for Both {
    async fn put(&self, name: &str, parts: Vec<Bytes>, durability: Durability) -> Result<Put> {
        self.front.put(name, parts, durability).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.front.get(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        self.front.get_range(name, offset, len).await
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        self.front.get_up_to(name, offset, max_len).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        self.front.list(prefix).await
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.front.stat(name).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let refused = self.front.delete(name).await.unwrap_err();
        assert!(refused.is_permanent(), "{refused}");
        self.back.delete(name).await
    }

    async fn barrier(&self) -> Result<()> {
        self.front.barrier().await
    }

    fn description(&self) -> String {
        self.front.description()
    }
}

/// Runs `test` with a gateway to `back`.
async fn with_gateway<F: Future<Output = ()>>(
    back: Arc<dyn ObjectStore>,
    limits: GatewayLimits,
    test: impl FnOnce(Arc<Both>) -> F,
) {
    let dir = tempfile::tempdir().unwrap();
    let identity = Authority::load_or_create(dir.path(), &[]).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = OpenGateway::bind(listen, Arc::clone(&back), &identity, TOKEN, limits);
    let server = server.await.unwrap();
    let config = AgentConfig {
        server: format!("https://{}", server.local_addr()),
        ca_pem: identity.ca_pem.clone(),
        token: TokenSource::Fixed(TOKEN.to_owned()),
        node: "node-1".to_owned(),
        discover: DiscoverOptions {
            kubelet_dir: dir.path().to_owned(),
            log_pods_dir: None,
            pods_file: None,
            volumes_file: None,
            host_roots: Vec::new(),
        },
        memory_bytes: 256 << 20,
        limits: Limits::default(),
    };
    let cancel = CancellationToken::new();
    let task = TaskId::from_bytes([7; 16]);
    let front = GatewayStore::connect(&config, task, 1, cancel).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(server.run(shutdown.clone()));
    test(Arc::new(Both { front, back })).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_to_memory_keeps_the_contract() {
    let back = Arc::new(MemoryStore::new());
    let check = |store: Arc<Both>| store::contract::check(store);
    with_gateway(back, GatewayLimits::default(), check).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_to_a_directory_keeps_the_contract() {
    let dir = orlop_tests::quick_dir();
    let back = Arc::new(store::DirectoryStore::new(dir.path().join("store")));
    let check = |store: Arc<Both>| store::contract::check(store);
    with_gateway(back, GatewayLimits::default(), check).await;
}

/// Parts of odd sizes that are larger together than every window and message on the way.
fn odd_parts() -> Vec<Bytes> {
    let mut random = orlop_tests::Random::new(5);
    let mut parts = Vec::new();
    let mut total = 0;
    while total < 20 << 20 {
        let len = random.below(3 << 20) as usize;
        total += len;
        parts.push(Bytes::from(random.bytes(len)));
    }
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_pass_whole_and_in_ranges() {
    let back = Arc::new(MemoryStore::new());
    with_gateway(back, GatewayLimits::default(), |store| async move {
        let parts = odd_parts();
        let whole = Bytes::from(parts.concat());
        let put = store.put("a/large", parts.clone(), Durability::Now).await;
        assert_eq!(put.unwrap(), Put::Created);
        let put = store.put("a/large", parts, Durability::Barrier).await;
        assert_eq!(put.unwrap(), Put::Exists);
        assert_eq!(store.back.get("a/large").await.unwrap(), whole);
        assert_eq!(store.get("a/large").await.unwrap(), whole);
        for (offset, len) in [(0, 1), (1, 19 << 20), (3 << 20, 256 << 10), (7, 17 << 20)] {
            let range = store.get_range("a/large", offset, len).await.unwrap();
            let (offset, len) = (offset as usize, len as usize);
            assert_eq!(range, whole[offset..offset + len]);
        }
        for (offset, max_len) in [(0, u64::MAX), (5, 17 << 20), (16 << 20, 64 << 20)] {
            let got = store.get_up_to("a/large", offset, max_len).await.unwrap();
            let end = offset.saturating_add(max_len).min(whole.len() as u64);
            assert_eq!(got, whole[offset as usize..end as usize]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_not_tried_again() {
    let back = Arc::new(MemoryStore::new());
    with_gateway(back, GatewayLimits::default(), |store| async move {
        let parts = vec![Bytes::from(vec![0; 8 << 20]); 9];
        let error = store.put("a/x", parts, Durability::Now).await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
        assert!(error.to_string().contains("size"), "{error}");
        let body = vec![Bytes::from(vec![0; 65 << 20])];
        store.back.put("a/x", body, Durability::Now).await.unwrap();
        let error = store.get("a/x").await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
        let error = store.get_range("a/x", 0, 65 << 20).await.unwrap_err();
        assert!(error.is_permanent(), "{error}");
        let half = store.get_range("a/x", 1 << 20, 64 << 20).await;
        assert_eq!(half.unwrap().len(), 64 << 20);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_a_small_budget() {
    let back = Arc::new(MemoryStore::new());
    let limits = GatewayLimits {
        streams: 8,
        streams_per_node: 4,
        put_bytes: 2 << 20,
        put_bytes_per_node: 2 << 20,
        get_bytes: 1 << 20,
        get_bytes_per_node: 1 << 20,
        ..GatewayLimits::default()
    };
    with_gateway(back, limits, |store| async move {
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..24u8 {
            let store = Arc::clone(&store);
            calls.spawn(async move {
                let name = format!("a/{n}");
                let body = Bytes::from(vec![n; 1 << 20]);
                let put = store.put(&name, vec![body.clone()], Durability::Now).await;
                assert_eq!(put.unwrap(), Put::Created);
                assert_eq!(store.get(&name).await.unwrap(), body);
            });
        }
        calls.join_all().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_does_not_wait_for_a_coordinator_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Authority::load_or_create(dir.path(), &[]).unwrap();
    let config = AgentConfig {
        server: format!("https://127.0.0.1:{}", orlop_tests::free_port()),
        ca_pem: identity.ca_pem,
        token: TokenSource::Fixed(TOKEN.to_owned()),
        node: "node-1".to_owned(),
        discover: DiscoverOptions {
            kubelet_dir: dir.path().to_owned(),
            log_pods_dir: None,
            pods_file: None,
            volumes_file: None,
            host_roots: Vec::new(),
        },
        memory_bytes: 256 << 20,
        limits: Limits::default(),
    };
    let cancel = CancellationToken::new();
    let task = TaskId::from_bytes([7; 16]);
    let store = GatewayStore::connect(&config, task, 1, cancel.clone()).unwrap();
    let call = tokio::spawn(async move { store.stat("a/x").await });
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!call.is_finished(), "it tries again");
    cancel.cancel();
    assert!(matches!(call.await.unwrap(), Err(Error::Cancelled)));
}
