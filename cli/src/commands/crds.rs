//! `orlop crds`.

use std::io::Write as _;

use anyhow::Result;
use clap::Args;

use crate::exit::Outcome;

/// What to print: the definitions as YAML, for `kubectl apply -f -`.
#[derive(Debug, Args)]
pub(crate) struct CrdsArgs {}

impl CrdsArgs {
    #[expect(clippy::unused_self, reason = "as all verbs have it")]
    pub(crate) fn run(self) -> Result<Outcome> {
        let yaml = orlop_kubernetes::crds::to_yaml(&orlop_kubernetes::crds::all());
        std::io::stdout().lock().write_all(yaml.as_bytes())?;
        Ok(Outcome::Done)
    }
}
