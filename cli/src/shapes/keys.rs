//! What opens a repository.

use std::fmt::Write as _;

use orlop_repository::{KeyInfo, KeyKind, RotateReport};
use serde::Serialize;

use crate::text;

/// `repo key list`, `add` and `remove`.
#[derive(Debug, Serialize)]
pub(crate) struct KeyShape {
    id: String,
    kind: &'static str,
    label: Option<String>,
    created: Option<String>,
    in_use: bool,
    left_behind: bool,
    #[serde(skip)]
    created_ms: i64,
}

impl From<KeyInfo> for KeyShape {
    fn from(key: KeyInfo) -> Self {
        Self {
            kind: match key.kind {
                Some(KeyKind::Passphrase) => "password",
                Some(KeyKind::KeyFile) => "key_file",
                Some(KeyKind::Unknown) => "unknown",
                None => "damaged",
            },
            label: super::present(&key.label),
            created: super::time(key.created_ms),
            created_ms: key.created_ms,
            in_use: key.in_use,
            left_behind: key.left_behind,
            id: key.id,
        }
    }
}

impl KeyShape {
    /// The list as people read it.
    pub(crate) fn table(keys: &[Self]) -> String {
        let rows: Vec<Vec<String>> = keys.iter().map(Self::row).collect();
        text::table(&["ID", "KIND", "CREATED", "LABEL", "STATE"], &rows)
    }

    fn row(&self) -> Vec<String> {
        let state = match (self.in_use, self.left_behind) {
            (true, _) => "in use",
            (false, true) => "left behind by a rotation",
            (false, false) => "",
        };
        vec![
            self.id.clone(),
            self.kind.replace('_', " "),
            text::short_time(self.created_ms),
            text::path(self.label.as_deref().unwrap_or("-").as_bytes()),
            state.to_owned(),
        ]
    }

    /// What `add` says.
    pub(crate) fn added(&self) -> String {
        format!("added key {} ({})\n", self.id, self.kind.replace('_', " "))
    }

    /// What `remove` says, and what it cannot do.
    pub(crate) fn removed(&self) -> String {
        format!(
            "removed key {}; should somebody have it and a copy of keys/{}, only `orlop repo key rotate` keeps them from what comes later\n",
            self.id, self.id
        )
    }
}

/// `repo key rotate`.
#[derive(Debug, Serialize)]
pub(crate) struct RotateShape {
    epoch: u32,
    resumed: bool,
    resealed: u64,
    damaged: Vec<String>,
    kept: Vec<String>,
    removed: Vec<String>,
}

impl From<RotateReport> for RotateShape {
    fn from(report: RotateReport) -> Self {
        Self {
            epoch: report.epoch,
            resumed: report.resumed,
            resealed: report.resealed,
            damaged: report.damaged,
            kept: report.kept,
            removed: report.removed,
        }
    }
}

impl RotateShape {
    /// Whether a snapshot could not be sealed anew.
    pub(crate) fn has_damage(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// The report as people read it.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        for object in &self.damaged {
            let _ = writeln!(out, "damaged, left as it is: {object}");
        }
        if self.resumed {
            let _ = writeln!(
                out,
                "finished an earlier rotation; run it again for another one"
            );
        }
        let _ = writeln!(
            out,
            "epoch {} of the keys: {} sealed anew, {} kept, {} removed; `orlop repo collect` removes what was sealed to the old keys",
            self.epoch,
            text::count(self.resealed, "snapshot"),
            text::count(self.kept.len() as u64, "key"),
            self.removed.len()
        );
        out
    }
}
