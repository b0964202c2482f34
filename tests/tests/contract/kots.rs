//! What KOTS works out of objects: the volumes of a page with their percentages and times, sums, and states.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    client::{Client, PATIENCE, POLL, VELERO, phase},
    download,
    logfmt::{self, Page},
};

/// A volume as the pages show it.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) pod: String,
    pub(crate) namespace: String,
    pub(crate) of_pod: String,
    pub(crate) total: i64,
    pub(crate) done: i64,
    /// Divided as whole numbers, so 0 or 100.
    pub(crate) percent: i64,
    /// Before it is made a whole number, where what is not finite becomes anything.
    pub(crate) remaining_seconds: Option<f64>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) finished: Option<Timestamp>,
    pub(crate) phase: String,
}

/// A time in a status, which Go must be able to read.
pub(crate) fn time(object: &Value, field: &str) -> Option<Timestamp> {
    let text = object["status"][field].as_str()?;
    assert!(text.len() == 20 && text.ends_with('Z'), "{field} {text:?}");
    Some(text.parse().unwrap())
}

/// Works out what is shown of a volume of a backup or a restore.
pub(crate) fn volume(object: &Value) -> Volume {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let progress = &object["status"]["progress"];
    let number = |field: &str| progress[field].as_i64().unwrap_or(0);
    let (total, done) = (number("totalBytes"), number("bytesDone"));
    let started = time(object, "startTimestamp");
    let remaining_seconds = started.filter(|_| total > 0).map(|started| {
        let elapsed = Timestamp::now().duration_since(started).as_secs_f64();
        (total - done) as f64 / (done as f64 / elapsed)
    });
    let pod = &object["spec"]["pod"];
    Volume {
        name: text(&object["metadata"]["name"]),
        pod: text(&pod["name"]),
        namespace: text(&pod["namespace"]),
        of_pod: text(&object["spec"]["volume"]),
        total,
        done,
        percent: if total > 0 { done / total * 100 } else { 0 },
        remaining_seconds,
        started,
        finished: time(object, "completionTimestamp"),
        phase: phase(object).to_owned(),
    }
}

impl Volume {
    /// Nothing that a page would show as nonsense, whenever it looks.
    pub(crate) fn check(&self) {
        let is_finite = self.remaining_seconds.is_none_or(|seconds| {
            seconds.is_finite() && seconds >= 0.0 && seconds < f64::from(i32::MAX)
        });
        assert!(is_finite, "{self:?}");
        assert!((0..=self.total).contains(&self.done), "{self:?}");
        assert!((0..=100).contains(&self.percent), "{self:?}");
        if let Some(finished) = self.finished {
            assert!(
                self.started.is_some_and(|started| started <= finished),
                "{self:?}"
            );
        }
    }
}

/// The volumes of a backup, each checked.
pub(crate) async fn backup_volumes(client: &Client, backup: &str) -> Vec<Volume> {
    let path = format!("{VELERO}/podvolumebackups");
    volumes(client, &path, &format!("velero.io/backup-name={backup}")).await
}

/// Looks at the volumes of a backup until they are as they should be.
pub(crate) async fn until_volumes(
    client: &Client,
    backup: &str,
    what: &str,
    are_they: impl Fn(&[Volume]) -> bool,
) -> Vec<Volume> {
    let mut last = Vec::new();
    let looking = async {
        loop {
            last = backup_volumes(client, backup).await;
            if are_they(&last) {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, looking).await;
    assert!(
        looked.is_ok(),
        "waited in vain until {backup} {what}: {last:?}"
    );
    last
}

/// Those of a restore.
pub(crate) async fn restore_volumes(client: &Client, restore: &str) -> Vec<Volume> {
    let path = format!("{VELERO}/podvolumerestores");
    volumes(client, &path, &format!("velero.io/restore-name={restore}")).await
}

async fn volumes(client: &Client, path: &str, labels: &str) -> Vec<Volume> {
    let found = client.list(path, labels).await;
    let volumes: Vec<Volume> = found.iter().map(volume).collect();
    volumes.iter().for_each(Volume::check);
    volumes
}

/// The state in the list of backups.
pub(crate) fn state(backup: &Value) -> &'static str {
    let phase = phase(backup);
    match phase {
        "Completed" => "Completed",
        "Deleting" => "Deleting",
        _ if phase.to_lowercase().contains("fail") => "Failed",
        _ => "InProgress",
    }
}

/// What the page of a backup has from its log, which is fetched in final phases only.
pub(crate) async fn page(client: &Client, backup: &str) -> Page {
    let log = download::text(client, "BackupLog", backup).await;
    logfmt::read(&log).unwrap()
}
