//! What a collection hands out, and what it reports.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kinds::ServedKind;
use crate::{
    client::ClientError,
    files::{FileError, tarball::ItemPath},
    selection::Severity,
};

/// An object of a backup.
#[derive(Debug)]
pub struct CollectedObject<'a> {
    /// What it is called.
    pub item: &'a ItemPath,
    /// Its kind.
    pub kind: &'a ServedKind,
    /// The object as the server has it, with `apiVersion` and `kind`.
    pub object: &'a Value,
    /// The same as JSON.
    pub json: &'a [u8],
}

/// What takes the objects of a backup, one after another.
pub trait ObjectSink: Send {
    /// Takes an object; each comes once. It runs on a thread that others wait for: it may compress, but not wait for
    /// a network.
    ///
    /// # Errors
    /// A name that cannot be a file's is reported, and the collection goes on; any other error ends it.
    fn object(&mut self, object: &CollectedObject<'_>) -> Result<(), FileError>;
}

/// Something to be told about a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// One line for a person.
    pub message: String,
}

#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, severity: Severity, message: String) {
        let problem = Problem { severity, message };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.0
    }
}

/// What a collection has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectReport {
    /// How many objects of each kind there are, by the kind's name such as `deployments.apps`.
    pub objects: BTreeMap<String, u64>,
    /// What went wrong. What it is about is missing in the backup if it is an error.
    pub problems: Vec<Problem>,
}

impl CollectReport {
    /// How many objects there are.
    pub fn total(&self) -> u64 {
        self.objects.values().sum()
    }
}

/// Why a collection has ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// Somebody has cancelled it.
    #[error("the collection of objects was cancelled")]
    Cancelled,
    /// The server does not say which kinds it has.
    #[error("ask the API server which kinds of objects it has")]
    Discovery(#[source] ClientError),
    /// Nobody takes the objects any more.
    #[error("keep the objects")]
    Sink(#[from] FileError),
}
