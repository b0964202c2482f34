//! `orlop completions SHELL`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use crate::exit::Outcome;

/// What to complete for.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(&self) -> Outcome {
        clap_complete::generate(
            self.shell,
            &mut Cli::command(),
            "orlop",
            &mut std::io::stdout(),
        );
        Outcome::Done
    }
}
