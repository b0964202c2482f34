//! Moments of the world that a row can hold until it has looked at them. In a real cluster nothing is held: what takes long
//! there takes long by itself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use orlop_tests::{
    Gate,
    s3::{S3Fault, S3Op, S3Server},
};

/// A pack of data of a volume that is large; those of names and of small volumes are smaller.
const LARGE_PACK: usize = 8 << 20;

/// What the node waits for.
#[derive(Default)]
pub(crate) struct NodeGates {
    /// Before pods of the installation are started.
    starts: Mutex<Option<Gate>>,
    /// In hooks that are [`super::world::HELD`], by namespace and pod.
    hooks: Mutex<BTreeMap<String, Gate>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NodeGates {
    /// Whether the node may start pods of the installation now. It is held once all of those before have ended.
    pub(crate) fn may_start(&self, all_ended: bool) -> bool {
        let starts = lock(&self.starts);
        let may = if all_ended {
            Gate::try_pass
        } else {
            Gate::is_open
        };
        starts.as_ref().is_none_or(may)
    }

    /// Where hooks of a pod wait.
    pub(crate) fn hook(&self, namespace: &str, pod: &str) -> Gate {
        let mut hooks = lock(&self.hooks);
        let gate = hooks.entry(format!("{namespace}/{pod}"));
        gate.or_insert_with(Gate::closed).clone()
    }
}

/// Something that is held until this is dropped.
#[derive(Default)]
pub(crate) struct Hold<'a> {
    gates: Vec<Gate>,
    store: Option<&'a S3Server>,
}

impl<'a> Hold<'a> {
    /// Holds the start of new pods of the installation; those of before end.
    pub(crate) fn starts(node: &'a NodeGates) -> Self {
        let gate = Gate::closed();
        *lock(&node.starts) = Some(gate.clone());
        Self {
            gates: vec![gate],
            store: None,
        }
    }

    /// Holds what is written to packs.
    pub(crate) fn uploads(store: &'a S3Server) -> Self {
        let gate = Gate::closed();
        let fault = S3Fault::Hold(gate.clone());
        store.faults().add(S3Op::Put, "/p/", u64::MAX, fault);
        Self {
            gates: vec![gate],
            store: Some(store),
        }
    }

    /// Holds what is read of the large packs that were written since the requests of the store were last taken: of each by
    /// itself, in the order in which they were written.
    pub(crate) fn downloads(store: &'a S3Server) -> Self {
        let mut gates = Vec::new();
        for (op, key) in store.take_requests() {
            let is_large = || {
                store
                    .object(&key)
                    .is_some_and(|pack| pack.len() >= LARGE_PACK)
            };
            if op == S3Op::Put && key.contains("/p/") && is_large() {
                let gate = Gate::closed();
                let fault = S3Fault::Hold(gate.clone());
                store.faults().add(S3Op::Get, &key, u64::MAX, fault);
                gates.push(gate);
            }
        }
        Self {
            gates,
            store: Some(store),
        }
    }

    /// Waits until somebody is held.
    pub(crate) async fn met(&self) {
        if let Some(gate) = self.gates.first() {
            gate.met().await;
        }
    }

    /// Lets go of the first of several that are held, never of the last.
    pub(crate) fn ease(&mut self) {
        if self.gates.len() > 1 {
            self.gates.remove(0).open();
        }
    }

    /// Lets go.
    pub(crate) fn release(self) {
        drop(self);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.gates.iter().for_each(Gate::open);
        if let Some(store) = self.store {
            store.faults().clear();
        }
    }
}
