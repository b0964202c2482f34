//! What became of each object of a restore, put aside line by line until the restore is recorded.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use orlop_kubernetes::files::{ResourceList, RestoreOutcome};
use serde::{Deserialize, Serialize};

use crate::cluster::{ItemEnd, ItemReport};

/// An object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Object {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Created,
    Updated,
    Failed,
    Skipped,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    object: Object,
    end: End,
}

impl From<&ItemReport> for Line {
    fn from(report: &ItemReport) -> Self {
        Self {
            object: Object {
                api_version: report.api_version.clone(),
                kind: report.kind.clone(),
                namespace: report.namespace.clone(),
                name: report.name.clone(),
            },
            end: match report.end {
                ItemEnd::Created => End::Created,
                ItemEnd::Updated => End::Updated,
                ItemEnd::Failed => End::Failed,
                ItemEnd::Skipped => End::Skipped,
            },
        }
    }
}

/// Writes reports. Those of an earlier time are void, but for what they say was changed: an object that was changed then
/// is as it should be now.
pub(crate) struct ReportWriter {
    out: BufWriter<File>,
    changed: BTreeSet<Object>,
}

impl ReportWriter {
    /// Begins the file anew.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut changed = BTreeSet::new();
        for_each(path, |line| {
            if line.end == End::Updated {
                changed.insert(line.object);
            }
        })?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        Ok(Self {
            out: BufWriter::new(options.open(path)?),
            changed,
        })
    }

    /// Adds a report.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub(crate) fn write(&mut self, report: &ItemReport) -> io::Result<()> {
        let mut line = Line::from(report);
        if line.end == End::Skipped && self.changed.contains(&line.object) {
            line.end = End::Updated;
        }
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    /// Lets others see what was written.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The objects in a file of reports, each with what became of it; none if there is no such file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn reported(path: &Path) -> io::Result<ResourceList> {
    let mut list = ResourceList::default();
    for_each(path, |line| {
        let Object {
            api_version,
            kind,
            namespace,
            name,
        } = line.object;
        let namespace = Some(namespace.as_str()).filter(|name| !name.is_empty());
        let end = match line.end {
            End::Created => RestoreOutcome::Created,
            End::Updated => RestoreOutcome::Updated,
            End::Failed => RestoreOutcome::Failed,
            End::Skipped => RestoreOutcome::Skipped,
        };
        list.add_restored(&api_version, &kind, namespace, &name, end);
    })?;
    list.sort();
    Ok(list)
}

/// A line that was cut off is left out.
fn for_each(path: &Path, mut each: impl FnMut(Line)) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for line in BufReader::new(file).split(b'\n') {
        if let Ok(line) = serde_json::from_slice(&line?) {
            each(line);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str, end: ItemEnd) -> ItemReport {
        ItemReport {
            resource: "pods".to_owned(),
            kind: "Pod".to_owned(),
            api_version: "v1".to_owned(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            end,
            warnings: vec!["w".to_owned()],
            errors: Vec::new(),
        }
    }

    #[test]
    fn what_was_changed_before_a_restart_still_counts_as_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.reports");
        assert_eq!(reported(&path).unwrap(), ResourceList::default());
        let mut writer = ReportWriter::create(&path).unwrap();
        writer.write(&report("a", ItemEnd::Updated)).unwrap();
        writer.write(&report("b", ItemEnd::Created)).unwrap();
        writer.flush().unwrap();
        let mut writer = ReportWriter::create(&path).unwrap();
        for name in ["b", "a"] {
            writer.write(&report(name, ItemEnd::Skipped)).unwrap();
        }
        writer.flush().unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"cut")
            .unwrap();
        let list = reported(&path).unwrap();
        assert_eq!(
            list.objects["v1/Pod"],
            ["shop/a(updated)", "shop/b(skipped)"]
        );
    }
}
