//! An owner for spawned futures: it joins them all.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

/// Futures that run beside a call, such as the senders of streams.
#[derive(Default)]
pub(crate) struct Tasks {
    set: Mutex<JoinSet<()>>,
}

impl Tasks {
    /// Spawns `future`; what has ended before is forgotten.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        while set.try_join_next().is_some() {}
        set.spawn(future);
    }

    /// Waits until all have ended.
    pub(crate) async fn join(&self) {
        let mut set = std::mem::take(&mut *self.set.lock().unwrap_or_else(PoisonError::into_inner));
        while set.join_next().await.is_some() {}
    }
}
