//! What a configuration of another version of the program lets this one do.

use std::sync::Arc;

use bytes::Bytes;
use orlop_core::{Lineage, NoMonitor, VolumeRef};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    CollectOptions, InitOptions, Repository, Unlock,
    session::{BeginWrite, Committer as _},
    store::{Durability, MemoryStore, ObjectStore as _},
};

fn unlock() -> Unlock {
    Unlock::KeyFile(vec![7; 32])
}

/// A repository whose configuration was changed by `change`.
async fn changed(change: impl FnOnce(&mut Config)) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let (key, options) = (unlock(), InitOptions::default());
    let made = Repository::init(store.clone(), &key, options).await;
    let keys = made.unwrap().keys.clone();
    let bytes = store.get(NAME).await.unwrap();
    let mut config = Config::decode_unverified(&bytes, "memory").unwrap();
    change(&mut config);
    store.delete(NAME).await.unwrap();
    let signed = Bytes::from(config.encode_signed(&keys.mac()));
    let put = store.put(NAME, vec![signed], Durability::Now);
    put.await.unwrap();
    store
}

fn begin() -> BeginWrite {
    BeginWrite {
        volume: VolumeRef::new("ns", "pod", "data"),
        lineage: Lineage("l".to_owned()),
    }
}

async fn collect(repository: &Repository) -> Result<crate::CollectReport> {
    let options = CollectOptions::default();
    repository
        .collect(options, Arc::new(NoMonitor), CancellationToken::new())
        .await
}

fn assert_lacks(error: &Error, purpose: &str) {
    let text = error.to_string();
    assert!(
        text.contains(&format!("needs the feature \"shears\" {purpose}")),
        "{text}"
    );
}

#[tokio::test]
async fn an_unknown_read_feature_forbids_everything() {
    let store = changed(|config| config.read_features.push("shears".to_owned())).await;
    let error = Repository::open(store, &unlock()).await.err().unwrap();
    assert_lacks(&error, "to be read");
}

#[tokio::test]
async fn an_unknown_write_feature_forbids_writing_and_lets_read() {
    let store = changed(|config| config.write_features.push("shears".to_owned())).await;
    let repository = Repository::open(store.clone(), &unlock()).await.unwrap();
    assert_eq!(repository.snapshots().await.unwrap(), []);
    let error = repository.begin_write(begin()).await.err().unwrap();
    assert_lacks(&error, "to be written to");
    assert_lacks(&collect(&repository).await.unwrap_err(), "to be written to");
    let check = repository.check(
        crate::CheckOptions::data(),
        Arc::new(NoMonitor),
        CancellationToken::new(),
    );
    assert!(check.await.unwrap().ok, "a check reads");
    assert_eq!(store.list("log/").await.unwrap(), [], "nothing is written");
}

#[tokio::test]
async fn an_unknown_maintain_feature_lets_back_up_and_forbids_collecting() {
    let store = changed(|config| config.maintain_features.push("shears".to_owned())).await;
    let repository = Repository::open(store, &unlock()).await.unwrap();
    let session = repository.begin_write(begin()).await.unwrap().session;
    repository.end(session).await.unwrap();
    assert_lacks(&collect(&repository).await.unwrap_err(), "to be collected");
}

#[tokio::test]
async fn a_repository_of_another_format_is_refused_with_what_to_do() {
    let newer = changed(|config| config.format = FORMAT + 1).await;
    let error = Repository::open(newer, &unlock()).await.err().unwrap();
    assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
    if let Some(older) = OLDEST.checked_sub(1) {
        let older = changed(|config| config.format = older).await;
        let error = Repository::open(older, &unlock()).await.err().unwrap();
        assert!(matches!(error, Error::OlderFormat { .. }), "{error}");
        assert!(error.to_string().contains("orlop repo init"), "{error}");
    }
}
