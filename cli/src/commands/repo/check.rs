//! `orlop repo check`.

use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use orlop_core::Monitor;
use orlop_repository::{CheckDepth, CheckOptions, Sample, open_store, scrub_without_key};
use tokio_util::sync::CancellationToken;

use super::RepoArgs;
use crate::{
    exit::{self, Outcome},
    output::OutputArgs,
    progress::Display,
    shapes::CheckShape,
    text,
};

/// How deep a check looks and how much it reads, wherever it runs.
#[derive(Debug, Args)]
pub(crate) struct CheckDepthArgs {
    /// How deep to look, each including those before: structure (log, index, snapshots), existence (every pack that
    /// is needed is there), scrub (packs hold the bytes that were stored), data (chunks are decrypted and right)
    /// [default: existence, or data with --read-data]
    #[arg(long, value_name = "DEPTH", value_parser = ["structure", "existence", "scrub", "data"])]
    depth: Option<String>,
    /// Read data: all, or a share such as 10%, a part such as 1/7, or a size such as 5GiB. Of a share or a size comes
    /// first what was read longest ago, so that samples cover everything in time
    #[arg(
        long,
        value_name = "SAMPLE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "100%",
        value_parser = parse_sample
    )]
    read_data: Option<Sample>,
    /// Go on with the last such check, if it was cut short
    #[arg(long)]
    resume: bool,
}

/// Reads how much is read.
pub(crate) fn parse_sample(text: &str) -> Result<Sample, String> {
    if text == "100%" {
        return Ok(Sample::All);
    }
    if text.ends_with(|c: char| c.is_ascii_alphabetic()) {
        return text::parse_bytes(text).map(Sample::Bytes);
    }
    text.parse::<Sample>().map_err(|error| error.to_string())
}

impl CheckDepthArgs {
    /// What they ask for.
    ///
    /// # Errors
    /// They contradict each other.
    pub(crate) fn options(&self) -> Result<CheckOptions> {
        let depth = match (&self.depth, self.read_data) {
            (Some(depth), _) => depth.parse::<CheckDepth>().map_err(exit::usage)?,
            (None, Some(_)) => CheckDepth::Data,
            (None, None) => CheckDepth::default(),
        };
        let reads = depth.reads_data();
        if !reads && (self.read_data.is_some() || self.resume) {
            let option = if self.resume {
                "--resume"
            } else {
                "--read-data"
            };
            return Err(exit::usage(format!(
                "{option} has no meaning at depth {depth}: use --depth scrub or --depth data"
            )));
        }
        Ok(CheckOptions {
            depth,
            sample: self.read_data.unwrap_or_default(),
            resume: self.resume,
            bytes_per_second: 0,
        })
    }
}

/// How deep to look.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    repo: RepoArgs,
    #[command(flatten)]
    depth: CheckDepthArgs,
    /// Without any password: read all packs and index segments, and compare their bytes with their names. What is
    /// missing, and whom it hits, only somebody with the password can find out
    #[arg(long, conflicts_with_all = ["depth", "read_data", "resume"])]
    keyless: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl CheckArgs {
    pub(crate) async fn run(self, cancel: CancellationToken) -> Result<Outcome> {
        let options = self.depth.options()?;
        let display = Arc::new(Display::new("check", self.quiet));
        let report = if self.keyless {
            let store = open_store(&self.repo.repository)?;
            scrub_without_key(store, &*display, &cancel).await
        } else {
            let repository = self.repo.open().await?;
            let monitor: Arc<dyn Monitor> = display.clone();
            repository.check(options, monitor, cancel).await
        };
        display.finish();
        let report = report?;
        let ok = report.ok;
        self.output
            .print(&CheckShape::from(report), CheckShape::table)?;
        Ok(Outcome::with_errors(!ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(depth: Option<&str>, read_data: Option<&str>, resume: bool) -> CheckDepthArgs {
        CheckDepthArgs {
            depth: depth.map(str::to_owned),
            read_data: read_data.map(|text| parse_sample(text).unwrap()),
            resume,
        }
    }

    #[test]
    fn samples_are_shares_parts_and_sizes() {
        assert_eq!(parse_sample("100%"), Ok(Sample::All));
        assert_eq!(parse_sample("5GiB"), Ok(Sample::Bytes(5 << 30)));
        assert_eq!(parse_sample("1/7"), Ok(Sample::Part { number: 1, of: 7 }));
        assert!(matches!(parse_sample("10%"), Ok(Sample::Share { .. })));
        for wrong in ["10", "0%", "8/7", "x", "5 apples", ""] {
            assert!(parse_sample(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn reading_data_means_the_depth_that_does() {
        let depth = |depth, read, resume| args(depth, read, resume).options().map(|o| o.depth);
        assert_eq!(depth(None, None, false).unwrap(), CheckDepth::Existence);
        assert_eq!(depth(None, Some("10%"), true).unwrap(), CheckDepth::Data);
        assert_eq!(
            depth(Some("scrub"), Some("10%"), false).unwrap(),
            CheckDepth::Scrub
        );
        assert!(depth(Some("structure"), Some("10%"), false).is_err());
        assert!(depth(None, None, true).is_err());
    }
}
