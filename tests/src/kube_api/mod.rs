//! A Kubernetes API server for tests: it keeps objects in memory, speaks HTTP as the real one does, and
//! does wrong what it is told to.
//!
//! ```text
//! let server = KubeApi::new();
//! server.put_yaml(&fs::read_to_string("crds.yaml")?);
//! server.put(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": …}));
//! server.run_pod("default", "a", "node-1");
//! server.on_exec(|call| ExecReply::exit(3).stderr("no"));
//! server.faults().next(2, |request| request.method == "PATCH", KubeFault::Answer(503));
//! let client = a_client_of(&server.kubeconfig(None));
//! // … what is tested runs …
//! assert_eq!(server.get("backups.velero.io", "velero", "b")?["status"]["phase"], "Completed");
//! ```
//!
//! What it does not do: no controllers but those that follow deletions, no scheduler, no kubelet (a
//! deleted pod is gone at once), no defaults beyond the few in `defaults.rs`, no OpenAPI, no tables, no
//! aggregated discovery, no protobuf, no SPDY, no `x-kubernetes-validations`, no conversion but of the
//! version's name. Field managers are told apart only where they apply (see `apply.rs`), and lists are
//! merged by the names of their fields (see `strategic.rs`). `events` of both groups are kept apart.

mod access;
mod apply;
mod control;
mod crd;
mod create;
mod defaults;
mod delete;
mod discovery;
mod exec;
mod failure;
mod faults;
mod forward;
mod garbage;
mod kind;
mod list;
mod listener;
mod meta;
mod patch;
mod pods;
mod request;
mod reviews;
mod schema;
mod selector;
mod serve;
mod store;
mod strategic;
mod update;
mod verbs;
mod view;
mod watch;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use self::{
    access::Access, exec::Pods, failure::Failure, garbage::settle, listener::Listener, store::Store,
};

pub use access::{AUDIENCE, KubeUser};
pub use discovery::KUBERNETES_VERSION;
pub use exec::{ExecCall, ExecReply};
pub use faults::{KubeFault, KubeFaults};
pub use pods::run_on;
pub use request::KubeRequest;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the server is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether it speaks TLS, with a certificate for `127.0.0.1`.
    pub tls: bool,
    /// Whether it asks for a bearer token, and holds the user to the rules.
    pub authentication: bool,
    /// The time from one bookmark of a watch to the next.
    pub bookmarks: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: false,
            authentication: false,
            bookmarks: Duration::from_secs(1),
        }
    }
}

/// What all connections share.
struct Shared {
    options: Options,
    store: Mutex<Store>,
    /// The last revision, for watches that wait for the next.
    revision: tokio::sync::watch::Sender<u64>,
    access: Mutex<Access>,
    pods: Pods,
    faults: KubeFaults,
    requests: Mutex<Vec<KubeRequest>>,
    watches: Mutex<CancellationToken>,
}

impl Shared {
    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Changes the store, lets the controllers look at it, and wakes the watches; of a dry run nothing
    /// stays.
    fn write<T>(
        &self,
        dry_run: bool,
        work: impl FnOnce(&mut Store) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut store = self.store();
        if dry_run {
            return work(&mut store.clone());
        }
        let done = work(&mut store);
        settle(&mut store);
        self.revision.send_replace(store.revision());
        done
    }

    /// What ends the watches that begin now.
    fn watches(&self) -> CancellationToken {
        lock(&self.watches).clone()
    }
}

/// A server in this process; it ends with the value.
pub struct KubeApi {
    shared: Arc<Shared>,
    listener: Listener,
}

impl KubeApi {
    /// A server as most tests want it.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn new() -> Self {
        Self::start(Options::default())
    }

    /// Starts a server on the loopback interface. It has the namespaces of a new cluster.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(options: Options) -> Self {
        let access = Access::new(options.authentication);
        let tls = options.tls;
        let shared = Arc::new(Shared {
            options,
            store: Mutex::new(Store::new()),
            revision: tokio::sync::watch::Sender::new(0),
            access: Mutex::new(access),
            pods: Pods::default(),
            faults: KubeFaults::default(),
            requests: Mutex::default(),
            watches: Mutex::default(),
        });
        let listener = Listener::start(&shared, tls);
        let api = Self { shared, listener };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            api.namespace(name);
        }
        api
    }
}

impl Default for KubeApi {
    fn default() -> Self {
        Self::new()
    }
}
