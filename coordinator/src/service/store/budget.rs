//! How much may pass the gateway at once: streams by number, objects by bytes, each with a share that no single
//! node can exceed, so that a node that hangs or lies holds up none but itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::GatewayLimits;

/// All that is bounded.
pub(super) struct Budget {
    streams: Pool,
    puts: Pool,
    gets: Pool,
}

/// A part of a pool, given back when it is dropped.
pub(super) struct Share {
    _of_node: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Budget {
    /// As much as `limits` say.
    pub(super) fn new(limits: &GatewayLimits) -> Self {
        Self {
            streams: Pool::new(limits.streams, limits.streams_per_node),
            puts: Pool::new(limits.put_bytes, limits.put_bytes_per_node),
            gets: Pool::new(limits.get_bytes, limits.get_bytes_per_node),
        }
    }

    /// A place for one more call of `node`, at once or not at all.
    pub(super) fn stream(&self, node: &str) -> Option<Share> {
        let of_node = self.streams.of(node).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.streams.all).try_acquire_owned().ok()?;
        Some(Share {
            _of_node: of_node,
            _of_all: of_all,
        })
    }

    /// Waits for room for `bytes` that `node` wants to send. `None` if there is never so much.
    pub(super) async fn to_put(&self, node: &str, bytes: u64) -> Option<Share> {
        self.puts.acquire(node, bytes).await
    }

    /// Waits for room for `bytes` that `node` wants to have. `None` if there is never so much.
    pub(super) async fn to_get(&self, node: &str, bytes: u64) -> Option<Share> {
        self.gets.acquire(node, bytes).await
    }

    /// The most bytes of one get that are in memory at once.
    pub(super) fn get_window_bytes(&self) -> u64 {
        u64::from(self.gets.per_node.min(self.gets.total) / 2).max(1)
    }
}

struct Pool {
    all: Arc<Semaphore>,
    total: u32,
    per_node: u32,
    /// Nodes that use the pool now.
    nodes: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Pool {
    fn new(total: u32, per_node: u32) -> Self {
        Self {
            all: Arc::new(Semaphore::new(total as usize)),
            total,
            per_node,
            nodes: Mutex::default(),
        }
    }

    /// The node's share; it lives as long as somebody uses it.
    fn of(&self, node: &str) -> Arc<Semaphore> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = nodes.get(node).and_then(Weak::upgrade) {
            return share;
        }
        nodes.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.per_node as usize));
        nodes.insert(node.to_owned(), Arc::downgrade(&share));
        share
    }

    async fn acquire(&self, node: &str, units: u64) -> Option<Share> {
        let units = u32::try_from(units).ok()?;
        if units > self.per_node.min(self.total) {
            return None;
        }
        // First come, first served, among the node's own calls and then among all nodes.
        let of_node = self.of(node).acquire_many_owned(units).await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_many_owned(units).await.ok()?;
        Some(Share {
            _of_node: of_node,
            _of_all: of_all,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn budget() -> Budget {
        Budget::new(&GatewayLimits {
            streams: 3,
            streams_per_node: 2,
            put_bytes: 100,
            put_bytes_per_node: 60,
            ..GatewayLimits::default()
        })
    }

    #[test]
    fn one_node_cannot_take_what_others_need() {
        let budget = budget();
        let first = poll(budget.to_put("a", 60)).unwrap().unwrap();
        assert!(poll(budget.to_put("a", 1)).is_none(), "its share is used");
        let other = poll(budget.to_put("b", 40)).unwrap().unwrap();
        assert!(poll(budget.to_put("c", 1)).is_none(), "all is used");
        drop(other);
        assert!(poll(budget.to_put("c", 40)).unwrap().is_some());
        drop(first);
        assert!(poll(budget.to_put("a", 60)).unwrap().is_some());
    }

    #[test]
    fn what_never_fits_is_refused_at_once() {
        let budget = budget();
        assert!(poll(budget.to_put("a", 61)).unwrap().is_none());
        assert!(poll(budget.to_put("a", u64::MAX)).unwrap().is_none());
    }

    #[test]
    fn streams_are_counted_for_all_and_for_each_node() {
        let budget = budget();
        let kept: Vec<_> = [budget.stream("a"), budget.stream("a")].into();
        assert!(kept.iter().all(Option::is_some));
        assert!(budget.stream("a").is_none());
        let other = budget.stream("b");
        assert!(other.is_some());
        assert!(budget.stream("c").is_none());
        drop(other);
        assert!(budget.stream("c").is_some());
    }

    #[test]
    fn nodes_that_are_gone_are_forgotten() {
        let budget = budget();
        for i in 0..100 {
            drop(budget.stream(&format!("node-{i}")));
        }
        assert!(budget.streams.nodes.lock().unwrap().len() <= 2);
    }
}
