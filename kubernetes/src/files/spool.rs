//! Objects that were put aside while the volumes of their backup are read: a compressed file of pairs of lines, of
//! which the first says what the second is.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::Path,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};

use super::{FileError, ItemPath};

/// What an object is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledItem {
    /// Plural and group, such as `deployments.apps`.
    pub resource: String,
    /// The version in which it was read, such as `v1`.
    pub version: String,
    /// As in the object: `apps/v1`.
    pub api_version: String,
    /// As in the object: `Deployment`.
    pub kind: String,
    /// Its namespace; `None` for a cluster resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl SpooledItem {
    /// Where it is in a tarball.
    pub fn path(&self) -> ItemPath {
        ItemPath {
            resource: self.resource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// Puts objects aside.
pub struct SpoolWriter {
    out: GzEncoder<BufWriter<File>>,
    count: u64,
}

impl SpoolWriter {
    /// A new file; one that is there is replaced.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        Ok(Self {
            out: GzEncoder::new(file, Compression::fast()),
            count: 0,
        })
    }

    /// Adds an object, which is one JSON value.
    ///
    /// # Errors
    /// It is no JSON, or the disk is full.
    pub fn add(&mut self, item: &SpooledItem, json: &[u8]) -> Result<(), FileError> {
        serde_json::to_writer(&mut self.out, item)?;
        self.out.write_all(b"\n")?;
        if json.contains(&b'\n') {
            let value: serde_json::Value = serde_json::from_slice(json)?;
            serde_json::to_writer(&mut self.out, &value)?;
        } else {
            self.out.write_all(json)?;
        }
        self.out.write_all(b"\n")?;
        self.count += 1;
        Ok(())
    }

    /// Ends the file and makes it durable; gives the number of objects.
    ///
    /// # Errors
    /// The disk is full.
    pub fn finish(self) -> io::Result<u64> {
        let file = self
            .out
            .finish()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(self.count)
    }
}

/// Reads the objects of a file in the order in which they were put aside.
///
/// # Errors
/// The file is missing, cut off or damaged, or `each` says so.
pub fn read_spool<E: From<FileError>>(
    path: &Path,
    mut each: impl FnMut(SpooledItem, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |error: io::Error| E::from(FileError::from(error));
    let mut lines = BufReader::new(GzDecoder::new(File::open(path).map_err(fail)?));
    let (mut head, mut body) = (Vec::new(), Vec::new());
    loop {
        head.clear();
        body.clear();
        if lines.read_until(b'\n', &mut head).map_err(fail)? == 0 {
            return Ok(());
        }
        lines.read_until(b'\n', &mut body).map_err(fail)?;
        if body.pop() != Some(b'\n') {
            return Err(fail(io::ErrorKind::UnexpectedEof.into()));
        }
        let item = serde_json::from_slice(&head).map_err(FileError::from)?;
        each(item, &body)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> SpooledItem {
        SpooledItem {
            resource: "pods".to_owned(),
            version: "v1".to_owned(),
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: Some("shop".to_owned()),
            name: name.to_owned(),
        }
    }

    #[test]
    fn objects_come_back_in_order_and_a_file_that_is_cut_off_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("objects");
        let mut spool = SpoolWriter::create(&path).unwrap();
        spool.add(&item("a"), br#"{"a":1}"#).unwrap();
        spool.add(&item("b"), b"{\n \"b\": \"x\\ny\"\n}").unwrap();
        assert_eq!(spool.finish().unwrap(), 2);
        let read = |path: &Path| {
            let mut seen = Vec::new();
            let done = read_spool(path, |item, json| {
                seen.push((item.name, String::from_utf8(json.to_vec()).unwrap()));
                Ok::<(), FileError>(())
            });
            done.map(|()| seen)
        };
        let wanted = [
            ("a".to_owned(), r#"{"a":1}"#.to_owned()),
            ("b".to_owned(), r#"{"b":"x\ny"}"#.to_owned()),
        ];
        assert_eq!(read(&path).unwrap(), wanted);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        assert!(read(&path).is_err());
        assert!(read(&dir.path().join("none")).is_err());
    }
}
