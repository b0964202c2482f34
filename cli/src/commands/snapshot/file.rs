//! `orlop snapshot get`: shows a snapshot, or writes the bytes of one file of it.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum as _};
use orlop_proto::v1;
use tempfile::NamedTempFile;
use tonic::Streaming;

use super::PlaceArgs;
use crate::{
    client::{ClientArgs, refused},
    commands::repo::manifest_path,
    exit::{self, Outcome},
    output::{Format, OutputArgs},
    shapes::SnapshotShape,
};

/// What to show or get.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Id of the snapshot, the beginning of one, latest, or latest:NS/POD/VOL
    snapshot: String,
    /// A regular file, whose bytes are printed or written, each of them verified
    path: Option<OsString>,
    /// With a path: the file to write, - for stdout (the default); there is all of it or none. Without: table, json or yaml
    #[arg(short, long, value_name = "FILE|FORMAT")]
    output: Option<OsString>,
    /// Replace the file to write if it exists
    #[arg(long, requires_all = ["path", "output"])]
    force: bool,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    client: ClientArgs,
}

impl GetArgs {
    pub(super) async fn run(self) -> Result<Outcome> {
        let Some(path) = self.path else {
            return self.show().await;
        };
        let target = target(self.output)?;
        if let Some(target) = &target {
            check(target, self.force)?;
        }
        let request = v1::ReadFileRequest {
            snapshot: self.snapshot,
            path: manifest_path(&path).into(),
            location: self.place.location,
        };
        let mut snapshots = self.client.connect().await?.snapshots();
        let parts = snapshots.read_file(request).await.map_err(refused)?;
        let parts = parts.into_inner();
        if let Some(target) = target {
            write_file(parts, &target, self.force).await?;
        } else {
            copy(parts, &mut io::stdout(), "stdout").await?;
            io::stdout().flush()?;
        }
        Ok(Outcome::Done)
    }

    async fn show(self) -> Result<Outcome> {
        let format = match self.output {
            None => Format::default(),
            Some(text) => text
                .to_str()
                .and_then(|text| Format::from_str(text, false).ok())
                .ok_or_else(|| {
                    exit::usage(format!(
                        "-o {}: without a path it is table, json or yaml",
                        text.display()
                    ))
                })?,
        };
        let request = v1::GetSnapshotRequest {
            snapshot: self.snapshot,
            location: self.place.location,
        };
        let mut snapshots = self.client.connect().await?.snapshots();
        let answer = snapshots.get(request).await.map_err(refused)?.into_inner();
        let shape = SnapshotShape::from(answer.snapshot.unwrap_or_default());
        OutputArgs { format }.print(&shape, |shape| {
            SnapshotShape::table(std::slice::from_ref(shape))
        })?;
        Ok(Outcome::Done)
    }
}

/// The file to write; `None` for stdout.
fn target(output: Option<OsString>) -> Result<Option<PathBuf>> {
    let Some(output) = output.filter(|output| output != "-") else {
        return Ok(None);
    };
    let format = output
        .to_str()
        .and_then(|text| Format::from_str(text, false).ok());
    if format.is_some() {
        let name = output.display();
        return Err(exit::usage(format!(
            "-o {name}: with a path it names the file to write; write -o ./{name} if that is its name"
        )));
    }
    Ok(Some(PathBuf::from(output)))
}

/// Whether the file may be written, before anything is asked for.
fn check(target: &Path, force: bool) -> Result<()> {
    match target.symlink_metadata() {
        Ok(there) if there.is_dir() => Err(exit::usage(format!(
            "{} is a directory: name the file to write in it",
            target.display()
        ))),
        Ok(_) if !force => Err(exists(target)),
        _ => Ok(()),
    }
}

fn exists(target: &Path) -> anyhow::Error {
    let message = format!(
        "{} exists already: choose another name, or replace it with --force",
        target.display()
    );
    exit::failure(exit::FAILED, message)
}

/// Writes all of the file beside the target first: whatever happens, there is all of it or what was there before.
async fn write_file(
    parts: Streaming<v1::ReadFileResponse>,
    target: &Path,
    force: bool,
) -> Result<()> {
    let name = target.display().to_string();
    let cannot = || format!("cannot write {name}");
    let parent = target.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = parent.unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(dir).with_context(cannot)?;
    copy(parts, &mut file, &name).await?;
    file.as_file().sync_all().with_context(cannot)?;
    let kept = if force {
        file.persist(target)
    } else {
        file.persist_noclobber(target)
    };
    match kept {
        Ok(_) => Ok(()),
        // Somebody has made it meanwhile.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(target)),
        Err(error) => Err(error.error).with_context(cannot),
    }
}

async fn copy(
    mut parts: Streaming<v1::ReadFileResponse>,
    out: &mut impl Write,
    name: &str,
) -> Result<()> {
    while let Some(part) = parts.message().await.map_err(refused)? {
        out.write_all(&part.data)
            .with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_a_file_unless_it_is_a_dash_or_looks_like_a_format() {
        let of = |text: &str| target(Some(text.into()));
        assert_eq!(of("-").unwrap(), None);
        assert_eq!(target(None).unwrap(), None);
        assert_eq!(of("./json").unwrap(), Some("./json".into()));
        assert!(of("json").unwrap_err().to_string().contains("./json"));
    }

    #[test]
    fn what_is_there_is_replaced_only_if_that_is_wanted() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("x");
        check(&file, false).unwrap();
        std::os::unix::fs::symlink("/nowhere", &file).unwrap();
        assert!(
            check(&file, false)
                .unwrap_err()
                .to_string()
                .contains("--force")
        );
        check(&file, true).unwrap();
        assert!(check(place.path(), true).is_err());
    }
}
