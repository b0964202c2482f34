//! Writes a tarball as it is produced: nothing but one object is held in memory.

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::path::{ItemPath, Layout};
use crate::{files::error::FileError, velero::backup::FORMAT_VERSION};

/// Writes a tarball. The same calls give the same bytes.
pub struct TarballWriter<W: Write> {
    tar: Builder<GzEncoder<W>>,
    mtime_secs: u64,
}

impl<W: Write> TarballWriter<W> {
    /// A tarball that is written to `out`, with the format's version in it. All its entries were last changed at
    /// `mtime_secs` after 1970.
    ///
    /// # Errors
    /// The output takes no more.
    pub fn create(out: W, mtime_secs: u64) -> io::Result<Self> {
        let encoder = GzEncoder::new(out, Compression::default());
        let mut writer = Self {
            tar: Builder::new(encoder),
            mtime_secs,
        };
        let version = format!("{FORMAT_VERSION}\n");
        writer.file("metadata/version", version.as_bytes())?;
        Ok(writer)
    }

    /// Adds an object in the version that the cluster prefers, in both of its places.
    ///
    /// # Errors
    /// A part of its name cannot be a part of a path, or the output takes no more.
    pub fn add(&mut self, item: &ItemPath, version: &str, json: &[u8]) -> Result<(), FileError> {
        let versioned = Layout::Version {
            version: version.to_owned(),
            preferred: true,
        };
        let plain = item.file(&Layout::Plain)?;
        let versioned = item.file(&versioned)?;
        self.file(&plain, json)?;
        Ok(self.file(&versioned, json)?)
    }

    /// Adds an object in a version that the cluster does not prefer: by resource and version only.
    ///
    /// # Errors
    /// As for [`Self::add`].
    pub fn add_other(
        &mut self,
        item: &ItemPath,
        version: &str,
        json: &[u8],
    ) -> Result<(), FileError> {
        let path = item.file(&Layout::Version {
            version: version.to_owned(),
            preferred: false,
        })?;
        Ok(self.file(&path, json)?)
    }

    /// Ends the tarball; without this it is cut off.
    ///
    /// # Errors
    /// The output takes no more.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()?.finish()
    }

    fn file(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o755);
        header.set_mtime(self.mtime_secs);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        self.tar.append_data(&mut header, path, content)
    }
}
