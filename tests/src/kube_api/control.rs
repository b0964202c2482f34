//! What a test does to the server without asking it over the wire.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    ExecCall, ExecReply, KubeApi, KubeFaults, KubeRequest, KubeUser,
    access::Token,
    create::{complete, insert},
    delete::remove_now,
    kind::Kind,
    lock,
    meta::{has_finalizers, text},
    store::{Key, Store},
    update::put,
};

/// Names of kinds are those of `kubectl`: `pods`, `backups.velero.io`. Objects of the cluster have the
/// namespace `""`.
impl KubeApi {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Its URL: scheme, host, port.
    pub fn url(&self) -> String {
        let scheme = match self.listener.ca() {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    /// The certificate of its authority as a file, if it speaks TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.listener.ca()
    }

    /// The text of a kubeconfig for it; without a token the client has no name.
    pub fn kubeconfig(&self, token: Option<&str>) -> String {
        let mut cluster = json!({"server": self.url()});
        if let Some(ca) = self.ca_file() {
            cluster["certificate-authority"] = ca.to_string_lossy().into();
        }
        let user = token.map_or_else(|| json!({}), |token| json!({"token": token}));
        let context = json!({"cluster": "tests", "user": "tests", "namespace": "default"});
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": user}],
            "contexts": [{"name": "tests", "context": context}],
            "current-context": "tests",
        })
        .to_string()
    }

    fn change<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let done = self.shared.write(false, |store| Ok(work(store)));
        done.unwrap_or_else(|failure| panic!("{}", failure.message))
    }

    fn kind(&self, name: &str) -> Arc<Kind> {
        let store = self.shared.store();
        let found = store.kinds.named(name).cloned();
        found.unwrap_or_else(|| panic!("no kind {name:?} is served"))
    }

    fn key(&self, kind: &str, namespace: &str, name: &str) -> Key {
        Key::new(&self.kind(kind), namespace, name)
    }

    /// An object as it is stored.
    ///
    /// # Panics
    /// No such kind is served.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = self.key(kind, namespace, name);
        let store = self.shared.store();
        store.get(&key).map(|found| Value::clone(found))
    }

    /// All objects of a kind in a namespace, or in all with `""`.
    ///
    /// # Panics
    /// No such kind is served.
    pub fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let place = self.kind(kind).place();
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        let found = self.shared.store().list(&place, namespace);
        found
            .iter()
            .map(|(_, object)| Value::clone(object))
            .collect()
    }

    /// Stores an object with its status as it is, whether or not there is one of that name. Nothing is
    /// checked; uid and time are kept, given or made. The answer is the object as stored.
    ///
    /// # Panics
    /// No such kind is served, or the object has no name.
    pub fn put(&self, mut object: Value) -> Value {
        let (api_version, kind) = (text(&object, "apiVersion"), text(&object, "kind"));
        let kind = {
            let store = self.shared.store();
            store.kinds.of_object(api_version, kind).cloned()
        }
        .unwrap_or_else(|| panic!("no kind {kind:?} of {api_version:?} is served"));
        let name = text(&object, "metadata.name").to_owned();
        assert!(!name.is_empty(), "no name in {object}");
        let namespace = match text(&object, "metadata.namespace") {
            "" => "default".to_owned(),
            given => given.to_owned(),
        };
        let key = Key::new(&kind, &namespace, &name);
        self.change(|store| {
            let old = store.get(&key).cloned();
            for kept in ["uid", "creationTimestamp"] {
                let old = old.as_ref().map(|old| &old["metadata"][kept]);
                if let Some(old) = old
                    && object["metadata"][kept].is_null()
                {
                    object["metadata"][kept] = old.clone();
                }
            }
            complete(&kind, &namespace, &mut object);
            Value::clone(&insert(store, &kind, key, object))
        })
    }

    /// Stores all objects of a YAML text, in its order.
    ///
    /// # Panics
    /// It is malformed, or one of its kinds is not served.
    pub fn put_yaml(&self, text: &str) {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        for object in documents.into_iter().filter(Value::is_object) {
            self.put(object);
        }
    }

    /// Changes an object as nobody else could; controllers and watches see it. A pod that is shutting
    /// down is one with a `deletionTimestamp`; what is being deleted goes with its last finalizer.
    ///
    /// # Panics
    /// There is no such object.
    pub fn edit(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Value {
        let edited = self.edit_if_there(kind, namespace, name, change);
        edited.unwrap_or_else(|| panic!("no {kind} {namespace}/{name}"))
    }

    /// As [`Self::edit`] for an object that somebody may have removed meanwhile: `None` then.
    ///
    /// # Panics
    /// No such kind is served.
    pub fn edit_if_there(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Option<Value> {
        let key = self.key(kind, namespace, name);
        self.change(|store| {
            let old = store.get(&key).cloned()?;
            let mut object = Value::clone(&old);
            change(&mut object);
            let freed = has_finalizers(&old) && !has_finalizers(&object);
            if freed && let Some(kind) = store.kind_at(&key.place).cloned() {
                return Some(Value::clone(&put(store, &kind, &key, &old, object)));
            }
            Some(Value::clone(&store.set(key, object)))
        })
    }

    /// Removes an object whatever its finalizers say; whether there was one.
    ///
    /// # Panics
    /// No such kind is served.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let key = self.key(kind, namespace, name);
        self.change(|store| remove_now(store, &key)).is_some()
    }

    /// Makes sure that there is a namespace.
    pub fn namespace(&self, name: &str) {
        if self.get("namespaces", "", name).is_none() {
            self.put(json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }));
        }
    }

    /// The number of the last write, as in `resourceVersion`.
    pub fn revision(&self) -> u64 {
        self.shared.store().revision()
    }

    /// Forgets older versions: pages and watches that want them hear that they are gone, and so do
    /// watches that have not yet been told of the last changes.
    pub fn compact(&self) {
        self.shared.store().compact();
    }

    /// Cuts the connections of all watches; new ones can be had at once.
    pub fn cut_watches(&self) {
        let mut watches = lock(&self.shared.watches);
        std::mem::replace(&mut *watches, CancellationToken::new()).cancel();
    }

    /// Ends all connections and refuses new ones until [`end_outage`](Self::end_outage). Objects stay.
    pub fn begin_outage(&self) {
        self.listener.refuse();
    }

    /// Serves again, on the same port.
    pub fn end_outage(&self) {
        self.listener.accept();
    }

    /// What it does wrong.
    pub fn faults(&self) -> &KubeFaults {
        &self.shared.faults
    }

    /// The requests since the last call, in their order.
    pub fn take_requests(&self) -> Vec<KubeRequest> {
        std::mem::take(&mut lock(&self.shared.requests))
    }

    /// Says what commands in pods print and how they end.
    pub fn on_exec(&self, script: impl Fn(&ExecCall) -> ExecReply + Send + Sync + 'static) {
        self.shared.pods.set_script(Arc::new(script));
    }

    /// The commands since the last call, in their order.
    pub fn take_execs(&self) -> Vec<ExecCall> {
        self.shared.pods.take_calls()
    }

    /// Commands that have not ended and whose clients are still there.
    pub fn running_execs(&self) -> usize {
        self.shared.pods.running()
    }

    /// Sets what a container has logged.
    pub fn set_log(&self, namespace: &str, pod: &str, container: &str, text: &str) {
        let key = [namespace, pod, container].map(str::to_owned);
        lock(&self.shared.pods.logs).insert(key, text.to_owned());
    }

    /// Makes a token known, for these audiences or for the server itself.
    pub fn add_token(&self, token: &str, user: KubeUser, audiences: &[&str]) {
        let token_of = Token {
            user,
            audiences: audiences.iter().map(|one| (*one).to_owned()).collect(),
            bound: Vec::new(),
            expires: None,
        };
        lock(&self.shared.access).add_token(token, token_of);
    }

    /// Decides how long tokens last that are asked for, whatever the request says.
    pub fn set_token_lifetime(&self, time: Duration) {
        lock(&self.shared.access).lifetime = Some(time);
    }

    /// Makes a token unknown.
    pub fn revoke_token(&self, token: &str) {
        lock(&self.shared.access).remove_token(token);
    }

    /// Allows a user or a group these verbs on these resources, such as `pods`, `pods/exec`,
    /// `backups.velero.io` or `*`, in one namespace or everywhere. Stored RBAC objects count besides.
    pub fn allow(&self, who: &str, verbs: &[&str], resources: &[&str], namespace: Option<&str>) {
        lock(&self.shared.access).allow(who, verbs, resources, namespace);
    }
}
