//! What happens to the objects of a kind, as it happens, across outages.

use std::{collections::VecDeque, time::Duration};

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use kube::{
    api::{WatchEvent, WatchParams},
    core::Request,
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    connection::{CALL_LIMIT, with_jitter},
    error::ClientError,
    objects::{ObjectKind, Objects, UnreadableObject, parse},
};

/// For how long the server is asked to go on, in seconds; then the watch is begun anew, which costs little.
const WATCH_SECONDS: u32 = 290;

/// How long a watch may be silent. Servers send a bookmark every minute, so one that is silent for longer is
/// probably dead; to begin anew costs little if it is not.
const SILENCE_MAX: Duration = Duration::from_secs(100);

/// A watch that has lasted so long was a good one: waits begin small again.
const GOOD: Duration = Duration::from_secs(10);

const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What has happened to the objects of a kind.
#[derive(Debug, Clone)]
pub enum Change<K> {
    /// These are all that there are; what was known before and is not among them is gone. Comes first, and again
    /// whenever the thread was lost.
    Listed(Vec<K>),
    /// One is new or has changed. The same state may come twice.
    Applied(K),
    /// One is gone, or matches the selector no longer; this was its last state.
    Deleted(K),
    /// One exists but cannot be read as its type.
    Unreadable(UnreadableObject),
    /// The server does not answer or refuses. It is tried again, after a wait that grows to half a minute.
    Failed(ClientError),
}

enum State {
    List,
    Begin,
    Follow {
        events: BoxStream<'static, kube::Result<WatchEvent<Value>>>,
        since: Instant,
    },
}

struct Watch<K> {
    objects: Objects<K>,
    selector: String,
    state: State,
    /// From where to go on.
    version: String,
    /// To be told before anything else.
    told_next: VecDeque<Change<K>>,
    /// The wait after the last failure; zero if all is well.
    wait: Duration,
    /// Whether to wait before the next call.
    waits: bool,
}

impl<K: ObjectKind> Objects<K> {
    /// What happens to the objects whose labels match `selector` (all with `""`), beginning with a list of them.
    ///
    /// The stream never ends by itself; it does nothing while nobody polls it, and ends the watch when it is
    /// dropped. It is an unbounded wait by nature: select it with a cancellation.
    pub fn watch(&self, selector: &str) -> impl Stream<Item = Change<K>> + Send + use<K> {
        let watch = Watch {
            objects: self.clone(),
            selector: selector.to_owned(),
            state: State::List,
            version: String::new(),
            told_next: VecDeque::new(),
            wait: Duration::ZERO,
            waits: false,
        };
        stream::unfold(watch, |mut watch| async {
            let change = watch.next().await;
            Some((change, watch))
        })
    }
}

impl<K: ObjectKind> Watch<K> {
    async fn next(&mut self) -> Change<K> {
        loop {
            if let Some(change) = self.told_next.pop_front() {
                return change;
            }
            if self.waits {
                sleep(with_jitter(self.wait)).await;
                self.waits = false;
            }
            let change = match &mut self.state {
                State::List => Some(self.list().await),
                State::Begin => self.begin().await,
                State::Follow { .. } => self.follow().await,
            };
            if let Some(change) = change {
                return change;
            }
        }
    }

    async fn list(&mut self) -> Change<K> {
        match self.objects.list_all(&self.selector).await {
            Ok(listing) => {
                let unreadable = listing.unreadable.into_iter().map(Change::Unreadable);
                self.told_next.extend(unreadable);
                self.version = listing.resource_version;
                self.state = State::Begin;
                Change::Listed(listing.objects)
            }
            Err(error) => self.failed(error),
        }
    }

    async fn begin(&mut self) -> Option<Change<K>> {
        let mut parameters = WatchParams::default().timeout(WATCH_SECONDS);
        if !self.selector.is_empty() {
            parameters = parameters.labels(&self.selector);
        }
        let request = &self.objects.request;
        let client = self.objects.connection.client();
        let events = begin(client, request, &parameters, &self.version);
        match timeout(CALL_LIMIT, events).await {
            Ok(Ok(events)) => {
                let since = Instant::now();
                self.state = State::Follow { events, since };
                None
            }
            Ok(Err(error)) => self.interrupted(error),
            Err(_) => self.interrupted(ClientError::TimedOut { limit: CALL_LIMIT }),
        }
    }

    async fn follow(&mut self) -> Option<Change<K>> {
        let State::Follow { events, since } = &mut self.state else {
            return None;
        };
        let since = *since;
        let Ok(event) = timeout(SILENCE_MAX, events.next()).await else {
            self.state = State::Begin;
            return None;
        };
        if since.elapsed() >= GOOD {
            self.wait = Duration::ZERO;
        }
        match event {
            Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                Some(self.told(object, Change::Applied))
            }
            Some(Ok(WatchEvent::Deleted(object))) => Some(self.told(object, Change::Deleted)),
            Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                self.version = bookmark.metadata.resource_version;
                None
            }
            Some(Ok(WatchEvent::Error(status))) => {
                self.interrupted(ClientError::of_status(&status))
            }
            Some(Err(error)) => self.interrupted(error.into()),
            None => {
                // A server that ends every watch at once is not to be asked without a pause.
                if since.elapsed() < GOOD {
                    self.wait_longer();
                }
                self.state = State::Begin;
                None
            }
        }
    }

    fn told(&mut self, object: Value, change: impl Fn(K) -> Change<K>) -> Change<K> {
        if let Some(version) = object["metadata"]["resourceVersion"].as_str() {
            version.clone_into(&mut self.version);
        }
        parse(object).map_or_else(Change::Unreadable, change)
    }

    /// The watch goes on from where it was, or if that is forgotten, from a new list.
    fn interrupted(&mut self, error: ClientError) -> Option<Change<K>> {
        if matches!(error, ClientError::Expired { .. }) {
            self.state = State::List;
            // It may be forgotten again before we are there.
            self.wait_longer();
            return None;
        }
        self.state = State::Begin;
        Some(self.failed(error))
    }

    fn failed(&mut self, error: ClientError) -> Change<K> {
        self.wait_longer();
        if let ClientError::Unavailable {
            retry_after: Some(asked),
            ..
        } = error
        {
            self.wait = self.wait.max(asked).min(WAIT_MAX);
        }
        Change::Failed(error)
    }

    fn wait_longer(&mut self) {
        self.wait = (self.wait * 2).clamp(WAIT_MIN, WAIT_MAX);
        self.waits = true;
    }
}

async fn begin(
    client: &kube::Client,
    request: &Request,
    parameters: &WatchParams,
    version: &str,
) -> Result<BoxStream<'static, kube::Result<WatchEvent<Value>>>, ClientError> {
    let request = request.watch(parameters, version);
    let request = request.map_err(kube::Error::BuildRequest)?;
    let events = client.request_events::<Value>(request).await?;
    Ok(events.boxed())
}
