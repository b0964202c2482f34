//! How a verb ends: the exit code, and the one line that says what went wrong.

use std::{error::Error as StdError, fmt, process::ExitCode};

use anyhow::Error;
use orlop_agent::{backup::BackupError, restore::RestoreError};

/// Exit code: the work failed.
pub(crate) const FAILED: u8 = 1;
/// Exit code: the command line cannot be understood.
pub(crate) const USAGE: u8 = 2;
/// Exit code: the work was finished, but with unreadable files or found damage.
pub(crate) const WITH_ERRORS: u8 = 3;
/// Exit code: what was asked for does not exist.
pub(crate) const NOT_FOUND: u8 = 4;
/// Exit code: a signal ended the work.
pub(crate) const INTERRUPTED: u8 = 130;

/// How a verb ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was done.
    Done,
    /// Done, except what was reported.
    WithErrors,
}

impl Outcome {
    /// `WithErrors` if there were any.
    pub(crate) fn with_errors(any: bool) -> Self {
        if any { Self::WithErrors } else { Self::Done }
    }
}

/// A failure with an exit code of its own.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

/// A failure that ends the program with `code`.
pub(crate) fn failure(code: u8, message: impl Into<String>) -> Error {
    Error::new(Failure {
        code,
        message: message.into(),
    })
}

/// The command line asks for something that makes no sense.
pub(crate) fn usage(message: impl Into<String>) -> Error {
    failure(USAGE, message)
}

/// Something named on the command line does not exist.
pub(crate) fn not_found(message: impl Into<String>) -> Error {
    failure(NOT_FOUND, message)
}

/// A signal ended the work.
pub(crate) fn interrupted() -> Error {
    failure(
        INTERRUPTED,
        "interrupted: what was stored so far is kept; run the same command again",
    )
}

/// Prints the error as one line and gives the program's exit code.
pub(crate) fn report(result: Result<Outcome, Error>) -> ExitCode {
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::WithErrors) => ExitCode::from(WITH_ERRORS),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orlop: {}", line(&error));
            ExitCode::from(code(&error))
        }
    }
}

/// The exit code that fits the error.
fn code(error: &Error) -> u8 {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.code;
        }
        if let Some(BackupError::Pattern(_)) = cause.downcast_ref() {
            return USAGE;
        }
        if let Some(RestoreError::NotInSnapshot { .. } | RestoreError::NothingMatches { .. }) =
            cause.downcast_ref()
        {
            return NOT_FOUND;
        }
        if let Some(cause) = cause.downcast_ref::<orlop_repository::Error>() {
            if cause.is_cancelled() {
                return INTERRUPTED;
            }
            if cause.is_not_found() {
                return NOT_FOUND;
            }
        }
    }
    FAILED
}

/// The error and its causes in one line; a cause whose text the line has already is left out.
fn line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

/// Whether the reader of our stdout has gone away, as `head` does: no reason to complain.
fn is_broken_pipe(error: &Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_nothing_twice() {
        let error = Err::<(), _>(usage("no\npassword"))
            .context("open R")
            .unwrap_err();
        assert_eq!(line(&error), "open R: no password");
        assert_eq!(code(&error), USAGE);
        let error = Err::<(), _>(anyhow::anyhow!("x"))
            .context("cannot read x")
            .unwrap_err();
        assert_eq!(line(&error), "cannot read x");
        assert_eq!(code(&error), FAILED);
    }
}
