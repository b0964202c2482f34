//! The objects of a tarball, each of which can be had at any time: in memory is what they are called and where they
//! are in a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{BufReader, BufWriter, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{RestoreError, json};
use crate::{
    files::{
        FileError,
        tarball::{ItemPath, Layout, Tarball, TarballLimits},
    },
    selection::labels::Labels,
};

/// Where an object is in the file.
#[derive(Debug, Clone, Copy)]
struct Stored {
    offset: u64,
    bytes: usize,
    /// Whether its labels are meant.
    meant: bool,
}

/// The objects of a tarball.
#[derive(Debug)]
pub(super) struct Items {
    file: File,
    index: BTreeMap<ItemPath, Stored>,
}

impl Items {
    /// Puts the objects of a tarball into a file beside it, which has no name and goes with the value. Blocks the
    /// thread. Of an object that is there twice the last one counts.
    ///
    /// # Errors
    /// The tarball cannot be read, the disk is full, or it was cancelled.
    pub(super) fn read(
        tarball: &Path,
        takes: impl Fn(&Labels) -> bool,
        cancel: &CancellationToken,
    ) -> Result<Self, RestoreError> {
        let input = BufReader::new(File::open(tarball).map_err(FileError::from)?);
        let file = nameless(tarball).map_err(FileError::from)?;
        let mut out = BufWriter::new(file);
        let (mut offset, mut index) = (0, BTreeMap::new());
        Tarball::open(input, TarballLimits::default()).read(|item| {
            if cancel.is_cancelled() {
                return Err(RestoreError::Cancelled);
            }
            // Every object is also there by its version; the plain place has the one that the cluster preferred.
            if item.layout != Layout::Plain {
                return Ok(());
            }
            out.write_all(&item.json).map_err(FileError::from)?;
            let object: Value = serde_json::from_slice(&item.json).unwrap_or_default();
            let bytes = item.json.len();
            let meant = takes(&json::labels(&object));
            let stored = Stored {
                offset,
                bytes,
                meant,
            };
            offset += bytes as u64;
            index.insert(item.path, stored);
            Ok(())
        })?;
        let file = out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error);
        let file = file.map_err(FileError::from)?;
        Ok(Self { file, index })
    }

    /// An object; `None` if the backup does not have it.
    ///
    /// # Errors
    /// It is no JSON object with the name that it is stored by, or the file cannot be read.
    pub(super) fn get(&self, path: &ItemPath) -> Option<Result<Value, FileError>> {
        let stored = self.index.get(path)?;
        Some(self.load(path, stored))
    }

    fn load(&self, path: &ItemPath, stored: &Stored) -> Result<Value, FileError> {
        let mut bytes = vec![0; stored.bytes];
        self.file.read_exact_at(&mut bytes, stored.offset)?;
        let object: Value = serde_json::from_slice(&bytes)?;
        match problem(path, &object) {
            None => Ok(object),
            Some(reason) => Err(FileError::Refused {
                path: path.file(&Layout::Plain)?,
                reason,
            }),
        }
    }

    /// An object that can be read; for what is only looked at.
    pub(super) fn look(&self, path: &ItemPath) -> Option<Value> {
        self.get(path)?.ok()
    }

    /// The kinds that it has objects of.
    pub(super) fn resources(&self) -> BTreeSet<String> {
        self.index
            .keys()
            .map(|path| path.resource.clone())
            .collect()
    }

    /// The objects of a kind, in order of namespace and name, and whether their labels are meant.
    pub(super) fn of(&self, resource: &str) -> impl Iterator<Item = (&ItemPath, bool)> {
        let first = ItemPath {
            resource: resource.to_owned(),
            namespace: None,
            name: String::new(),
        };
        let end = resource.to_owned();
        self.index
            .range(first..)
            .take_while(move |(path, _)| path.resource == end)
            .map(|(path, stored)| (path, stored.meant))
    }
}

/// What is wrong with an object as such.
fn problem(path: &ItemPath, object: &Value) -> Option<&'static str> {
    let meta = &object["metadata"];
    let is_map = |key: &str| meta[key].is_object() || meta[key].is_null();
    if !object.is_object() || !meta.is_object() || !is_map("labels") || !is_map("annotations") {
        return Some("it is no object of Kubernetes");
    }
    let is_named = meta["name"] == path.name.as_str()
        && json::text(meta, "/namespace") == path.namespace.as_deref();
    (!is_named).then_some("it is another object than its name says")
}

/// A file beside `tarball` that only we can open and that nobody has to remove.
fn nameless(tarball: &Path) -> std::io::Result<File> {
    let mut name = tarball.file_name().unwrap_or_default().to_owned();
    name.push(".objects");
    let path = tarball.with_file_name(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    // Secrets lie in it.
    let file = options.mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::files::TarballWriter;

    /// A tarball of these objects, each by its resource and its JSON, in a directory of its own.
    pub(crate) fn tarball(objects: &[(&str, Value)]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("b.tar.gz");
        let mut writer = TarballWriter::create(Vec::new(), 0).unwrap();
        for (resource, object) in objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            let path = match object["metadata"]["namespace"].as_str() {
                Some(namespace) => ItemPath::namespaced(resource, namespace, name),
                None => ItemPath::cluster(resource, name),
            };
            let bytes = serde_json::to_vec(object).unwrap();
            writer.add(&path, "v1", &bytes).unwrap();
        }
        fs::write(&file, writer.finish().unwrap()).unwrap();
        (dir, file)
    }

    /// The objects themselves.
    pub(crate) fn items(objects: &[(&str, Value)]) -> Items {
        let (_dir, file) = tarball(objects);
        Items::read(&file, |_| true, &CancellationToken::new()).unwrap()
    }

    #[test]
    fn objects_can_be_had_in_any_order_and_nothing_stays_on_the_disk() {
        let named = |namespace: &str, name: &str| json!({"metadata": {"namespace": namespace, "name": name, "labels": {"app": name}}});
        let (dir, file) = tarball(&[
            ("pods", named("shop", "b")),
            ("pods", named("mail", "z")),
            ("podsx", named("mail", "z")),
            ("pods", named("shop", "a")),
            ("nodes", json!({"metadata": {"name": "n"}})),
        ]);
        let takes = |labels: &Labels| labels.get("app").is_some_and(|app| app == "a");
        let items = Items::read(&file, takes, &CancellationToken::new()).unwrap();
        let pods: Vec<(String, bool)> = items
            .of("pods")
            .map(|(path, meant)| (path.name.clone(), meant))
            .collect();
        let want = [("z", false), ("a", true), ("b", false)];
        assert_eq!(pods, want.map(|(name, meant)| (name.to_owned(), meant)));
        for name in ["b", "a"] {
            let pod = items.look(&ItemPath::namespaced("pods", "shop", name));
            assert_eq!(pod.unwrap()["metadata"]["name"], name);
        }
        assert!(items.get(&ItemPath::cluster("nodes", "m")).is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_object_or_another_one_is_refused() {
        let (_dir, file) = tarball(&[("pods", json!({"metadata": {"name": "a", "labels": "x"}}))]);
        let items = Items::read(&file, |_| true, &CancellationToken::new()).unwrap();
        let read = items.get(&ItemPath::cluster("pods", "a")).unwrap();
        assert!(read.unwrap_err().to_string().contains("no object"));
        let path = ItemPath::namespaced("pods", "shop", "a");
        for other in [
            json!({"metadata": {"name": "a"}}),
            json!({"metadata": {"name": "b", "namespace": "shop"}}),
        ] {
            assert!(problem(&path, &other).is_some(), "{other}");
        }
        let same = json!({"metadata": {"name": "a", "namespace": "shop"}});
        assert_eq!(problem(&path, &same), None);
    }

    #[test]
    fn a_cancelled_read_ends() {
        let (_dir, file) = tarball(&[("nodes", json!({"metadata": {"name": "n"}}))]);
        let cancel = CancellationToken::new();
        cancel.cancel();
        let done = Items::read(&file, |_| true, &cancel);
        assert!(matches!(done, Err(RestoreError::Cancelled)));
    }
}
