//! The suite that every object store must pass.

#![allow(clippy::unwrap_used, reason = "a test suite that other crates call")]

use std::sync::Arc;

use bytes::Bytes;

use super::{Durability, ObjectStore, Put};

fn parts(text: &'static str) -> Vec<Bytes> {
    text.as_bytes().chunks(3).map(Bytes::from_static).collect()
}

/// Runs the suite against an empty store.
///
/// # Panics
/// The store breaks a promise of [`ObjectStore`].
pub async fn check(store: Arc<dyn ObjectStore>) {
    check_alone(&*store).await;
    lets_one_of_many_win(store).await;
}

/// What a store promises to one caller at a time: all that one without conditional creates can.
///
/// # Panics
/// As for [`check`].
pub async fn check_alone(store: &dyn ObjectStore) {
    creates_once(store).await;
    reads_ranges(store).await;
    reads_up_to(store).await;
    lists_by_prefix(store).await;
    deletes(store).await;
    refuses_odd_names(store).await;
}

async fn creates_once(store: &dyn ObjectStore) {
    assert!(store.get("a/x").await.unwrap_err().is_not_found());
    assert_eq!(store.stat("a/x").await.unwrap(), None);
    assert_eq!(
        store
            .put("a/x", parts("first text"), Durability::Now)
            .await
            .unwrap(),
        Put::Created
    );
    assert_eq!(
        store
            .put("a/x", parts("second"), Durability::Barrier)
            .await
            .unwrap(),
        Put::Exists
    );
    assert_eq!(store.get("a/x").await.unwrap(), "first text");
    assert_eq!(store.stat("a/x").await.unwrap().unwrap().size, 10);
    assert_eq!(
        store
            .put("a/empty", Vec::new(), Durability::Barrier)
            .await
            .unwrap(),
        Put::Created
    );
    store.barrier().await.unwrap();
    assert_eq!(store.get("a/empty").await.unwrap(), "");
}

async fn reads_ranges(store: &dyn ObjectStore) {
    assert_eq!(store.get_range("a/x", 6, 4).await.unwrap(), "text");
    assert_eq!(store.get_range("a/x", 10, 0).await.unwrap(), "");
    for (offset, len) in [(6, 5), (11, 0), (u64::MAX, 2)] {
        let error = store.get_range("a/x", offset, len).await.unwrap_err();
        assert!(error.to_string().contains("a/x"), "{error}");
    }
    assert!(
        store
            .get_range("a/none", 0, 1)
            .await
            .unwrap_err()
            .is_not_found()
    );
}

async fn reads_up_to(store: &dyn ObjectStore) {
    for (offset, max_len, want) in [
        (0, 5, "first"),
        (6, 4, "text"),
        (6, 100, "text"),
        (0, u64::MAX, "first text"),
        (3, u64::MAX, "st text"),
        (3, 0, ""),
        (10, 1, ""),
        (99, 1, ""),
        (u64::MAX, u64::MAX, ""),
    ] {
        let got = store.get_up_to("a/x", offset, max_len).await.unwrap();
        assert_eq!(got, want, "{max_len} at {offset}");
    }
    assert_eq!(store.get_up_to("a/empty", 0, 7).await.unwrap(), "");
    for len in [0, 1] {
        let error = store.get_up_to("a/none", 0, len).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }
    assert!(store.get_up_to("../a", 0, 1).await.is_err());
}

async fn lists_by_prefix(store: &dyn ObjectStore) {
    for name in ["b/2", "b/1/deep", "bb/3"] {
        store
            .put(name, parts("v"), Durability::Barrier)
            .await
            .unwrap();
    }
    let names =
        |found: Vec<super::ObjectInfo>| found.into_iter().map(|o| o.name).collect::<Vec<_>>();
    assert_eq!(names(store.list("b/").await.unwrap()), ["b/1/deep", "b/2"]);
    assert_eq!(
        names(store.list("").await.unwrap()),
        ["a/empty", "a/x", "b/1/deep", "b/2", "bb/3"]
    );
    assert_eq!(store.list("none/").await.unwrap(), []);
    assert_eq!(store.list("a/").await.unwrap()[1].size, 10);
    assert!(store.list("b").await.is_err());
    let mut paged = Vec::new();
    let mut cursor = None;
    loop {
        let page = store.list_page("", cursor).await.unwrap();
        paged.extend(page.objects);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(paged, store.list("").await.unwrap());
}

async fn deletes(store: &dyn ObjectStore) {
    store.delete("b/2").await.unwrap();
    store.delete("b/2").await.unwrap();
    assert!(store.get("b/2").await.unwrap_err().is_not_found());
    assert_eq!(
        store
            .put("b/2", parts("again"), Durability::Now)
            .await
            .unwrap(),
        Put::Created
    );
}

async fn refuses_odd_names(store: &dyn ObjectStore) {
    for name in [
        "", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "tmp/a", "a\0", "a/\u{e9}",
    ] {
        assert!(
            store.put(name, parts("v"), Durability::Now).await.is_err(),
            "{name:?}"
        );
        assert!(store.get(name).await.is_err(), "{name:?}");
    }
}

async fn lets_one_of_many_win(store: Arc<dyn ObjectStore>) {
    for round in 0..20 {
        let mut racers = tokio::task::JoinSet::new();
        for racer in 0..8u8 {
            let store = Arc::clone(&store);
            racers.spawn(async move {
                let body = vec![Bytes::from(vec![racer; 1000])];
                (
                    racer,
                    store
                        .put(&format!("race/{round}"), body, Durability::Now)
                        .await
                        .unwrap(),
                )
            });
        }
        let results = racers.join_all().await;
        let winners: Vec<u8> = results
            .into_iter()
            .filter(|(_, put)| *put == Put::Created)
            .map(|(racer, _)| racer)
            .collect();
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(
            store.get(&format!("race/{round}")).await.unwrap(),
            vec![winners[0]; 1000]
        );
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn memory_keeps_the_contract() {
        super::check(std::sync::Arc::new(crate::store::MemoryStore::new())).await;
    }
}
