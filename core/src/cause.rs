//! Errors for people.

use std::{error::Error, fmt::Write as _};

/// An error with its causes in one line, each said once.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let inner = Layer("no route", None);
        let middle = Layer("connect: no route", Some(Box::new(inner)));
        let outer = Layer("list pods", Some(Box::new(middle)));
        assert_eq!(with_causes(&outer), "list pods: connect: no route");
    }
}
