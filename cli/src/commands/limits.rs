//! How fast backups may go.

use std::{num::NonZeroU64, sync::Arc};

use clap::Args;
use orlop_agent::backup::Limits;
use orlop_repository::Throttle;

use crate::text;

/// Limits that all backups of this process share.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitArgs {
    /// Send no more than so much a second to the store, such as 20MiB, all backups together (default: no limit)
    #[arg(long, env = "ORLOP_LIMIT_UPLOAD", value_name = "SIZE", value_parser = parse_rate)]
    limit_upload: Option<NonZeroU64>,
    /// Read no more than so much a second of files, such as 100MiB, all backups together (default: no limit)
    #[arg(long, env = "ORLOP_LIMIT_READ", value_name = "SIZE", value_parser = parse_rate)]
    limit_read: Option<NonZeroU64>,
}

impl LimitArgs {
    pub(crate) fn limits(&self) -> Limits {
        let throttle = |rate: Option<NonZeroU64>| rate.map(|rate| Arc::new(Throttle::new(rate)));
        Limits {
            read: throttle(self.limit_read),
            upload: throttle(self.limit_upload),
        }
    }
}

/// Reads bytes per second.
fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let bytes = text::parse_bytes(text.strip_suffix("/s").unwrap_or(text))?;
    NonZeroU64::new(bytes)
        .ok_or_else(|| "nothing would ever be done: leave the option out for no limit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_size_and_never_nothing() {
        for text in ["20MiB", "20MiB/s"] {
            assert_eq!(parse_rate(text).map(NonZeroU64::get), Ok(20 << 20));
        }
        for text in ["0", "0B/s", "fast", "", "/s"] {
            assert!(parse_rate(text).is_err(), "{text:?}");
        }
    }
}
