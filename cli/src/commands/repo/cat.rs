//! `orlop repo cat`.

use std::{
    ffi::OsString,
    fs::File,
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
};

use anyhow::Result;
use clap::Args;
use orlop_repository::EntryKind;
use tokio_util::sync::CancellationToken;

use super::{RepoArgs, manifest_path, with_session};
use crate::{
    exit::{self, Outcome},
    text,
};

/// Memory for what is read ahead, in bytes.
const MEMORY_BYTES: u64 = 48 << 20;

/// Which file to print.
#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The snapshot and the file in it: SNAPSHOT:/PATH
    #[arg(value_name = "SNAPSHOT:/PATH")]
    file: OsString,
}

impl CatArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let (snapshot, path) = split(&self.file)?;
        let repository = self.repo.open().await?;
        let snapshot = repository.resolve(&snapshot).await?.id;
        with_session(repository, snapshot, cancel, move |session| {
            let entry = session.entry(&path)?;
            if entry.kind != EntryKind::File {
                return Err(exit::usage(format!(
                    "{} is not a regular file",
                    text::path(&path)
                )));
            }
            // Not by way of the standard library's stdout, which looks for lines.
            let own = std::io::stdout().as_fd().try_clone_to_owned()?;
            let mut out = std::io::BufWriter::with_capacity(1 << 18, File::from(own));
            session.read_file(&entry, &mut out, MEMORY_BYTES)?;
            out.flush()?;
            Ok(())
        })
        .await?;
        Ok(Outcome::Done)
    }
}

/// The snapshot's name and the path in it.
fn split(file: &OsString) -> Result<(String, Vec<u8>)> {
    let bytes = file.as_bytes();
    let colon = bytes.windows(2).position(|pair| pair == b":/");
    let parts = colon.map(|at| (std::str::from_utf8(&bytes[..at]), &bytes[at + 1..]));
    match parts {
        Some((Ok(snapshot), path)) if !snapshot.is_empty() => Ok((
            snapshot.to_owned(),
            manifest_path(&OsString::from_vec(path.to_vec())),
        )),
        _ => Err(exit::usage(format!(
            "{:?} is not SNAPSHOT:/PATH",
            file.to_string_lossy()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_snapshot_and_path() {
        let (snapshot, path) = split(&"latest:a/b/c:/etc/x".into()).unwrap();
        assert_eq!(
            (snapshot.as_str(), path.as_slice()),
            ("latest:a/b/c", b"etc/x".as_slice())
        );
        assert!(split(&"/etc/x".into()).is_err());
    }
}
