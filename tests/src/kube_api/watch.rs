//! Watches: streams of what becomes of the objects that a client looks at.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    failure::Failure,
    kind::Kind,
    request::{KubeRequest, Target},
    selector::Selector,
    store::{Change, Store},
    view::View,
};

/// How long a watch lasts that says nothing of it.
const LONG: Duration = Duration::from_mins(30);

/// One client's watch.
struct Watch {
    shared: Arc<Shared>,
    kind: Arc<Kind>,
    namespace: Option<String>,
    selector: Selector,
    view: View,
    /// The last revision that was looked at.
    seen: u64,
    pending: VecDeque<Value>,
    changed: watch::Receiver<u64>,
    bookmarks: bool,
    bookmark_at: Instant,
    ends: Instant,
    cut: CancellationToken,
    done: bool,
}

/// The answer's body; it ends at the time-out that the client named.
pub(super) fn watch(
    shared: &Arc<Shared>,
    kind: &Arc<Kind>,
    target: &Target,
    request: &KubeRequest,
) -> Result<impl Stream<Item = io::Result<Frame<Bytes>>> + use<>, Failure> {
    if request.flag("sendInitialEvents") {
        let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        return Err(Failure::unprocessable(message));
    }
    let mut fields = request.parameter("fieldSelector").to_owned();
    if let Some(name) = &target.name {
        fields = format!("metadata.name={name}");
    }
    let timeout = request.number("timeoutSeconds")?;
    let from = request.number("resourceVersion")?.unwrap_or(0);
    let now = Instant::now();
    let mut watch = Watch {
        kind: Arc::clone(kind),
        namespace: target.namespace.clone(),
        selector: Selector::parse(request.parameter("labelSelector"), &fields)?,
        view: View::of(request),
        seen: from,
        pending: VecDeque::new(),
        changed: shared.revision.subscribe(),
        bookmarks: request.flag("allowWatchBookmarks"),
        bookmark_at: now + shared.options.bookmarks,
        ends: now + timeout.map_or(LONG, Duration::from_secs),
        cut: shared.watches(),
        done: false,
        shared: Arc::clone(shared),
    };
    if from == 0 {
        watch.begin();
    }
    Ok(stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((event, watch))
    }))
}

impl Watch {
    /// Shows everything that there is.
    fn begin(&mut self) {
        let shared = Arc::clone(&self.shared);
        let store = shared.store();
        for (_, object) in store.list(&self.kind.place(), self.namespace.as_deref()) {
            if self.selector.takes(&object) {
                self.show("ADDED", &object);
            }
        }
        self.seen = store.revision();
    }

    fn show(&mut self, what: &str, object: &Value) {
        let shown = self.view.show(&self.kind, object);
        self.pending
            .push_back(json!({"type": what, "object": shown}));
    }

    async fn next(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(Ok(Frame::data(Bytes::from(format!("{event}\n")))));
            }
            if self.done {
                return None;
            }
            self.changed.mark_unchanged();
            self.read();
            if !self.pending.is_empty() {
                continue;
            }
            tokio::select! {
                () = self.cut.cancelled() => {
                    self.done = true;
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
                () = tokio::time::sleep_until(self.ends) => {
                    self.done = true;
                    self.bookmark();
                }
                () = tokio::time::sleep_until(self.bookmark_at) => self.bookmark(),
                changed = self.changed.changed() => self.done = changed.is_err(),
            }
        }
    }

    /// Looks at what was written since the last time.
    fn read(&mut self) {
        let shared = Arc::clone(&self.shared);
        let store = shared.store();
        match self.changes(&store) {
            Err(failure) => {
                self.done = true;
                let event = json!({"type": "ERROR", "object": failure.status()});
                self.pending.push_back(event);
            }
            Ok(changes) => {
                for change in changes {
                    self.tell(change);
                }
                self.seen = self.seen.max(store.revision());
            }
        }
    }

    fn changes<'a>(&self, store: &'a Store) -> Result<Vec<&'a Change>, Failure> {
        let place = self.kind.place();
        let all = store.changes_after(self.seen)?;
        let here = all.filter(|change| {
            let namespace = self.namespace.as_ref();
            change.key.place == place && namespace.is_none_or(|one| *one == change.key.namespace)
        });
        Ok(here.collect())
    }

    /// One change as the selector sees it: what it no longer takes is gone.
    fn tell(&mut self, change: &Change) {
        let before = change.before.as_ref();
        let was = before.is_some_and(|object| self.selector.takes(object));
        let is = !change.removed && self.selector.takes(&change.after);
        match (was, is) {
            (false, false) => {}
            (false, true) => self.show("ADDED", &change.after),
            (true, true) => self.show("MODIFIED", &change.after),
            (true, false) => {
                let mut last = match before {
                    Some(before) if !change.removed => Value::clone(before),
                    _ => Value::clone(&change.after),
                };
                last["metadata"]["resourceVersion"] = change.revision.to_string().into();
                self.show("DELETED", &last);
            }
        }
    }

    /// Tells the client how far it has seen, if it wants to know.
    fn bookmark(&mut self) {
        self.bookmark_at = Instant::now() + self.shared.options.bookmarks;
        if self.bookmarks {
            let mut object = json!({
                "kind": self.kind.kind,
                "apiVersion": self.kind.api_version(),
                "metadata": {"resourceVersion": self.seen.to_string(), "creationTimestamp": null},
            });
            if self.view == View::Metadata {
                object["kind"] = "PartialObjectMetadata".into();
                object["apiVersion"] = "meta.k8s.io/v1".into();
            }
            let event = json!({"type": "BOOKMARK", "object": object});
            self.pending.push_back(event);
        }
    }
}
