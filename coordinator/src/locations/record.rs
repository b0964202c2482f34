//! Locations on disk: what calls made, with its secrets, in files that only the coordinator may read.
//!
//! `NAME.json` each. Nothing of it is in a store: what opens a store cannot lie in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use orlop_core::LocationSpec;
use orlop_runtime::private;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const FORMAT: u32 = 1;
const SUFFIX: &str = ".json";

/// A location as somebody wants it, with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Version of the document.
    pub(super) format: u32,
    /// Its name.
    pub(crate) name: String,
    /// Rises with each change, from 1.
    pub(crate) version: u64,
    /// What it is.
    pub(crate) spec: LocationSpec,
    /// When it was changed last, milliseconds since 1970.
    pub(crate) updated_ms: i64,
}

impl Record {
    /// A location that is made now.
    pub(crate) fn new(name: String, spec: LocationSpec, now_ms: i64) -> Self {
        Self {
            format: FORMAT,
            name,
            version: 1,
            spec,
            updated_ms: now_ms,
        }
    }
}

/// The directory of the files.
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    /// The files below `directory`, which need not exist yet.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}{SUFFIX}"))
    }

    /// All that can be read; what cannot is left alone, and named in the log.
    pub(super) fn load(&self) -> Result<Vec<Record>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|source| self.failed(source))?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| self.failed(source))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.and_then(|name| name.strip_suffix(SUFFIX)) else {
                continue;
            };
            match read(&path, name) {
                Ok(record) => records.push(record),
                Err(reason) => {
                    tracing::error!(location = name, path = %path.display(), reason, "a location is left alone");
                }
            }
        }
        Ok(records)
    }

    /// Makes a record durable in the place of an older one.
    pub(super) fn save(&self, record: &Record) -> Result<()> {
        let json = serde_json::to_vec(record).expect("names and numbers are always JSON");
        private::create_dir(&self.directory)?;
        Ok(private::write(&self.path(&record.name), &json)?)
    }

    /// Removes a record; one that does not exist is no error.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Locations {
            directory: self.directory.clone(),
            source,
        }
    }
}

fn read(path: &Path, name: &str) -> Result<Record, String> {
    let text = private::read(path).map_err(|error| crate::runs::with_sources(&error))?;
    let text = text.ok_or("it is gone")?;
    let record: Record = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if record.format > FORMAT {
        return Err(format!(
            "it is of format {}, this program knows up to {FORMAT}",
            record.format
        ));
    }
    if record.name != name {
        return Err(format!("it is of another location, {}", record.name));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn record(name: &str) -> Record {
        let spec = LocationSpec {
            url: format!("/srv/{name}"),
            ..LocationSpec::default()
        };
        Record::new(name.to_owned(), spec, 7)
    }

    #[test]
    fn what_is_saved_is_loaded_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path().join("locations"));
        assert_eq!(files.load().unwrap(), []);
        files.save(&record("a")).unwrap();
        files.save(&record("b")).unwrap();
        let changed = Record {
            version: 2,
            ..record("a")
        };
        files.save(&changed).unwrap();
        let mode = fs::metadata(files.path("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut loaded = files.load().unwrap();
        loaded.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(loaded, [changed, record("b")]);
        files.remove("a").unwrap();
        files.remove("a").unwrap();
        assert_eq!(files.load().unwrap(), [record("b")]);
    }

    #[test]
    fn a_file_that_cannot_be_read_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path().to_owned());
        files.save(&record("good")).unwrap();
        files.save(&record("exposed")).unwrap();
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(files.path("exposed"), open).unwrap();
        private::write(&files.path("torn"), b"{").unwrap();
        private::write(
            &files.path("other"),
            b"{\"format\":1,\"name\":\"good\",\"version\":1,\"spec\":{},\"updated_ms\":0}",
        )
        .unwrap();
        private::write(
            &files.path("newer"),
            b"{\"format\":9,\"name\":\"newer\",\"version\":1,\"spec\":{},\"updated_ms\":0}",
        )
        .unwrap();
        assert_eq!(files.load().unwrap(), [record("good")]);
    }
}
