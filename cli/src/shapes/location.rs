//! Locations as the coordinator tells them.

use std::fmt::Write as _;

use orlop_proto::v1;
use serde::Serialize;

use super::{CoveredShape, present, time};
use crate::text;

/// One of `location get`.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that programs ask for"
)]
#[derive(Debug, Serialize)]
pub(crate) struct LocationShape {
    location: String,
    url: String,
    repository_id: Option<String>,
    available: bool,
    message: Option<String>,
    snapshots: u64,
    read_only: bool,
    is_default: bool,
    checked: Option<String>,
    since: Option<String>,
    has_keys: bool,
    has_unlock: bool,
    fixed: bool,
    version: u64,
    collected: Option<String>,
    collected_result: Option<String>,
    collect_failed: bool,
    scrubbed: Option<String>,
    scrubbed_result: Option<String>,
    scrub_failed: bool,
    damaged_objects: u64,
    covered: Option<CoveredShape>,
}

impl From<v1::LocationStatus> for LocationShape {
    fn from(location: v1::LocationStatus) -> Self {
        Self {
            location: location.location,
            url: location.url,
            repository_id: present(&location.repository_id),
            available: location.available,
            message: present(&location.message),
            snapshots: location.snapshots,
            read_only: location.read_only,
            is_default: location.is_default,
            checked: time(location.checked_ms),
            since: time(location.since_ms),
            has_keys: location.has_keys,
            has_unlock: location.has_unlock,
            fixed: location.fixed,
            version: location.version,
            collected: time(location.collected_ms),
            collected_result: present(&location.collected),
            collect_failed: location.collect_failed,
            scrubbed: time(location.scrubbed_ms),
            scrubbed_result: present(&location.scrubbed),
            scrub_failed: location.scrub_failed,
            damaged_objects: location.damaged_objects,
            covered: location.covered.map(Into::into),
        }
    }
}

impl LocationShape {
    /// Whether nothing is wrong with it.
    pub(crate) fn is_healthy(&self) -> bool {
        self.available && self.damaged_objects == 0
    }

    /// The list as people read it.
    pub(crate) fn table(list: &[Self]) -> String {
        if list.is_empty() {
            return "no locations\n".to_owned();
        }
        let row = |location: &Self| {
            let state = if location.available {
                "available"
            } else {
                "unavailable"
            };
            let access = if location.read_only {
                "read-only"
            } else {
                "read-write"
            };
            let name = if location.is_default {
                format!("{} (default)", location.location)
            } else {
                location.location.clone()
            };
            vec![
                name,
                location.url.clone(),
                state.to_owned(),
                access.to_owned(),
                location.snapshots.to_string(),
                location.collected.clone().unwrap_or_else(|| "-".to_owned()),
                match &location.covered {
                    Some(covered) => covered.said(),
                    None => "-".to_owned(),
                },
            ]
        };
        let rows: Vec<Vec<String>> = list.iter().map(row).collect();
        let header = [
            "LOCATION",
            "URL",
            "STATE",
            "ACCESS",
            "SNAPSHOTS",
            "COLLECTED",
            "READ AGAIN",
        ];
        let mut out = text::table(&header, &rows);
        for location in list {
            if let Some(message) = &location.message {
                let _ = writeln!(out, "{} is unavailable: {message}", location.location);
            }
            if let Some(result) = &location.collected_result
                && location.collect_failed
            {
                let _ = writeln!(out, "{} was not collected: {result}", location.location);
            }
            if location.damaged_objects > 0 {
                let _ = writeln!(
                    out,
                    "{} is damaged, {}: `orlop location check {}` names what it hits, `orlop repo repair` saves the rest",
                    location.location,
                    text::count(location.damaged_objects, "object"),
                    location.location
                );
            } else if let Some(result) = &location.scrubbed_result
                && location.scrub_failed
            {
                let _ = writeln!(out, "{} was not checked: {result}", location.location);
            }
        }
        out
    }
}
