//! What the test server does wrong, and when.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Gate, Random};

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum S3Op {
    /// PUT of an object.
    Put,
    /// GET of an object or a part of one.
    Get,
    /// HEAD of an object.
    Head,
    /// GET of a list.
    List,
    /// DELETE of an object.
    Delete,
}

/// What a request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Fault {
    /// Nothing happens, and this is answered: status, code, more XML in the error, headers.
    Refuse {
        /// HTTP status.
        status: u16,
        /// S3's code; empty for an answer without a body.
        code: String,
        /// More elements of the error.
        xml: String,
        /// More headers.
        headers: Vec<(String, String)>,
    },
    /// Nothing happens, and this text is answered.
    Text(u16, String),
    /// Nothing happens, and the connection is closed.
    Reset,
    /// Some of the request's body is read, then the connection is closed.
    ResetInUpload,
    /// It happens, but the connection is closed instead of an answer.
    LoseAnswer,
    /// It happens, but status 500 is answered.
    FailAfter,
    /// It happens, but 404 is answered.
    NotFoundAfter,
    /// It happens; the answer ends after half of its body.
    HalfBody,
    /// It happens after this time.
    Slow(Duration),
    /// It happens once the gate is open.
    Hold(Gate),
    /// Nothing happens, and no answer comes.
    Hang,
}

impl S3Fault {
    /// A refusal with status and code.
    pub fn refuse(status: u16, code: &str) -> Self {
        Self::Refuse {
            status,
            code: code.to_owned(),
            xml: String::new(),
            headers: Vec::new(),
        }
    }

    /// 503 SlowDown.
    pub fn slow_down() -> Self {
        Self::refuse(503, "SlowDown")
    }

    /// 500 InternalError.
    pub fn internal() -> Self {
        Self::refuse(500, "InternalError")
    }
}

struct Rule {
    op: Option<S3Op>,
    /// Part of the key.
    key: String,
    fault: S3Fault,
    left: u64,
}

struct Storm {
    random: Random,
    per_mille: u64,
}

/// The plan of faults of a server.
#[derive(Default)]
pub struct S3Faults {
    rules: Mutex<VecDeque<Rule>>,
    storm: Mutex<Option<Storm>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl S3Faults {
    /// The next `times` requests of that kind (all kinds without one) whose key contains `key` meet the
    /// fault. Rules are looked at in the order in which they were given.
    pub fn add(&self, op: impl Into<Option<S3Op>>, key: &str, times: u64, fault: S3Fault) {
        lock(&self.rules).push_back(Rule {
            op: op.into(),
            key: key.to_owned(),
            fault,
            left: times,
        });
    }

    /// From now on so many requests of a thousand meet one of the faults that pass, chosen by `seed`.
    pub fn storm(&self, seed: u64, per_mille: u64) {
        *lock(&self.storm) = Some(Storm {
            random: Random::new(seed),
            per_mille,
        });
    }

    /// No faults any more.
    pub fn clear(&self) {
        lock(&self.rules).clear();
        *lock(&self.storm) = None;
    }

    /// What a request meets.
    pub(super) fn next(&self, op: S3Op, key: &str) -> Option<S3Fault> {
        let mut rules = lock(&self.rules);
        let met = rules.iter_mut().find(|rule| {
            rule.left > 0 && rule.op.is_none_or(|o| o == op) && key.contains(&rule.key)
        });
        if let Some(rule) = met {
            rule.left -= 1;
            return Some(rule.fault.clone());
        }
        let mut storm = lock(&self.storm);
        let storm = storm.as_mut()?;
        if storm.random.below(1000) >= storm.per_mille {
            return None;
        }
        Some(match storm.random.below(9) {
            0 => S3Fault::internal(),
            1 => S3Fault::slow_down(),
            2 => S3Fault::Reset,
            3 if op == S3Op::Put => S3Fault::ResetInUpload,
            3 => S3Fault::refuse(400, "RequestTimeout"),
            4 | 5 => S3Fault::LoseAnswer,
            6 => S3Fault::FailAfter,
            7 if op == S3Op::Delete => S3Fault::NotFoundAfter,
            7 => S3Fault::Slow(Duration::from_millis(5)),
            _ => S3Fault::HalfBody,
        })
    }
}
