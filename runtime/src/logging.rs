//! Where log lines go: to stderr, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Sends log lines of level INFO and above to stderr; `ORLOP_LOG` overrides (`debug`,
/// `orlop_agent=debug,info`). A second call changes nothing.
pub fn init(format: LogFormat) {
    init_from(format, "info");
}

/// As [`init`], with another level or filter where `ORLOP_LOG` is not set.
pub fn init_from(format: LogFormat, default_filter: &str) {
    let filter =
        EnvFilter::try_from_env("ORLOP_LOG").unwrap_or_else(|_| EnvFilter::new(default_filter));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A subscriber that is there already stays: tests and embedders bring their own.
    drop(match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().try_init(),
    });
}
