//! Tells of what happens on the objects that it happens to, as `kubectl describe` shows it.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::client::{Connection, ObjectKind, Objects};

/// Occurrences that may wait to be told. More are dropped: they are news, not records.
const WAITING: usize = 256;

/// How long the same occurrence is counted on one event, as other programs do it.
const SERIES: Duration = Duration::from_mins(10);

/// How often counts are written.
const WRITTEN_EVERY: Duration = Duration::from_secs(20);

/// How many different occurrences are counted at once.
const COUNTED: usize = 512;

/// How long the last counts may take to be written when the program ends.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The most bytes of a note that servers take.
const NOTE_MAX: usize = 1024;

/// The object that something happens to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EventObject {
    /// Such as `velero.io/v1`.
    pub api_version: String,
    /// Such as `Backup`.
    pub kind: String,
    /// Empty for an object of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, without which `kubectl describe` does not find the event.
    pub uid: String,
}

impl EventObject {
    /// The object that this one is.
    pub fn of<K: ObjectKind>(object: &K) -> Self {
        let meta = object.meta();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            uid: text(&meta.uid),
        }
    }

    fn reference(&self) -> ObjectReference {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ObjectReference {
            api_version: some(&self.api_version),
            kind: some(&self.kind),
            namespace: some(&self.namespace),
            name: some(&self.name),
            uid: some(&self.uid),
            ..ObjectReference::default()
        }
    }

    /// Where its events are. Those of the cluster's objects are in the namespace `default`.
    fn place(&self) -> &str {
        if self.namespace.is_empty() {
            "default"
        } else {
            &self.namespace
        }
    }
}

/// Something that has happened to an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    /// The object.
    pub object: EventObject,
    /// Whether somebody should look at it.
    pub warning: bool,
    /// One word for programs, such as `VolumeSkipped`.
    pub reason: String,
    /// A line for people; the server keeps 1024 bytes of it.
    pub note: String,
}

/// Takes what is to be told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventRecorder {
    waiting: mpsc::Sender<Occurrence>,
    dropped: Arc<AtomicU64>,
}

impl EventRecorder {
    /// Tells of an occurrence, soon. It neither waits nor fails; if too much waits already, it is dropped.
    pub fn record(&self, occurrence: Occurrence) {
        if self.waiting.try_send(occurrence).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many occurrences were dropped, because too much waited or nobody writes any more.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes what recorders take.
#[derive(Debug)]
pub struct EventWriter {
    connection: Connection,
    component: String,
    waiting: mpsc::Receiver<Occurrence>,
    counted: BTreeMap<Occurrence, Series>,
}

/// An event that is on the server, and what is not yet written of it.
#[derive(Debug)]
struct Series {
    name: String,
    count: i32,
    written: i32,
    since: Instant,
    last: Timestamp,
}

/// A recorder and what writes for it. `component` is who tells, such as `orlop`.
pub fn events(connection: &Connection, component: &str) -> (EventRecorder, EventWriter) {
    let (sender, waiting) = mpsc::channel(WAITING);
    let recorder = EventRecorder {
        waiting: sender,
        dropped: Arc::default(),
    };
    let writer = EventWriter {
        connection: connection.clone(),
        component: component.to_owned(),
        waiting,
        counted: BTreeMap::new(),
    };
    (recorder, writer)
}

impl EventWriter {
    /// Writes until it is cancelled or all recorders are gone, and then up to five seconds more what still waits.
    /// What cannot be written is left out, with a line in the log.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut tick = interval(WRITTEN_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                occurrence = self.waiting.recv() => match occurrence {
                    Some(occurrence) => {
                        let took = cancel.run_until_cancelled(self.take(occurrence)).await;
                        if took.is_none() {
                            break;
                        }
                    }
                    None => break,
                },
                _ = tick.tick() => {
                    cancel.run_until_cancelled(self.write_counts()).await;
                }
            }
        }
        let end = Instant::now() + END_LIMIT;
        self.waiting.close();
        let rest = async {
            while let Some(occurrence) = self.waiting.recv().await {
                self.take(occurrence).await;
            }
            self.write_counts().await;
        };
        // What is not written by then is lost; it was news.
        let _ = timeout_at(end, rest).await;
    }

    async fn take(&mut self, mut occurrence: Occurrence) {
        shorten(&mut occurrence.note);
        let now = Timestamp::now();
        if let Some(series) = self.counted.get_mut(&occurrence)
            && series.since.elapsed() < SERIES
        {
            series.count = series.count.saturating_add(1);
            series.last = now;
            return;
        }
        let event = event(&occurrence, &self.component, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        let events = Objects::<Event>::of(&self.connection, Some(occurrence.object.place()));
        if let Err(error) = events.create(&event).await {
            tracing::debug!(
                namespace = occurrence.object.namespace, object = occurrence.object.name,
                reason = occurrence.reason, %error, "an event was not written"
            );
            return;
        }
        if self.counted.len() >= COUNTED {
            self.write_counts().await;
            self.counted.clear();
        }
        let series = Series {
            name,
            count: 1,
            written: 1,
            since: Instant::now(),
            last: now,
        };
        self.counted.insert(occurrence, series);
    }

    async fn write_counts(&mut self) {
        for (occurrence, series) in &mut self.counted {
            if series.count == series.written {
                continue;
            }
            let events = Objects::<Event>::of(&self.connection, Some(occurrence.object.place()));
            let patch = json!({"count": series.count, "lastTimestamp": Time(series.last)});
            // The server removes events after an hour.
            if let Err(error) = events.merge_patch(&series.name, &patch).await {
                tracing::debug!(event = series.name, %error, "an event's count was not written");
            }
            series.written = series.count;
        }
        self.counted
            .retain(|_, series| series.since.elapsed() < SERIES);
    }
}

fn event(occurrence: &Occurrence, component: &str, now: Timestamp) -> Event {
    let random = RandomState::new().build_hasher().finish();
    let object: String = occurrence.object.name.chars().take(200).collect();
    let object = object.trim_end_matches(['.', '-']);
    let kind = if occurrence.warning {
        "Warning"
    } else {
        "Normal"
    };
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{random:016x}")),
            namespace: Some(occurrence.object.place().to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: occurrence.object.reference(),
        type_: Some(kind.to_owned()),
        reason: Some(occurrence.reason.clone()),
        message: Some(occurrence.note.clone()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource {
            component: Some(component.to_owned()),
            host: None,
        }),
        reporting_component: Some(component.to_owned()),
        ..Event::default()
    }
}

/// Cuts a note at the end of a character.
fn shorten(note: &mut String) {
    if note.len() > NOTE_MAX {
        note.truncate(note.floor_char_boundary(NOTE_MAX - '…'.len_utf8()));
        note.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(namespace: &str, note: &str) -> Occurrence {
        Occurrence {
            object: EventObject {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                namespace: namespace.to_owned(),
                name: "db-0".to_owned(),
                uid: "u".to_owned(),
            },
            warning: true,
            reason: "VolumeSkipped".to_owned(),
            note: note.to_owned(),
        }
    }

    #[test]
    fn an_event_is_where_its_object_is_and_that_of_the_clusters_objects_in_default() {
        let now = Timestamp::UNIX_EPOCH;
        let of_pod = event(&occurrence("shop", "n"), "orlop", now);
        assert_eq!(of_pod.metadata.namespace.as_deref(), Some("shop"));
        assert!(of_pod.metadata.name.unwrap().starts_with("db-0."));
        assert_eq!(of_pod.type_.as_deref(), Some("Warning"));
        assert_eq!(of_pod.involved_object.uid.as_deref(), Some("u"));
        let of_node = event(&occurrence("", "n"), "orlop", now);
        assert_eq!(of_node.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(of_node.involved_object.namespace, None);
    }

    #[test]
    fn a_long_note_ends_between_two_characters() {
        let mut note = "ä".repeat(1000);
        shorten(&mut note);
        assert!(
            note.len() <= NOTE_MAX && note.ends_with("ä…"),
            "{}",
            note.len()
        );
    }

    #[tokio::test]
    async fn nobody_waits_for_an_event_to_be_told() {
        let connection = Connection::to_url("http://127.0.0.1:1", None).unwrap();
        let (recorder, writer) = events(&connection, "orlop");
        for _ in 0..WAITING + 3 {
            recorder.record(occurrence("shop", "n"));
        }
        assert_eq!(recorder.dropped(), 3);
        drop(writer);
    }
}
