//! What the server does wrong when it is told to.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::{failure::Failure, request::KubeRequest};

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeFault {
    /// The answer is an error of this code, such as 500, 503 or 429.
    Answer(u16),
    /// The same, with the seconds after which a client may try again.
    RetryAfter(u16, u32),
    /// The connection ends without an answer; nothing is done.
    Drop,
    /// The connection ends without an answer, after everything is done.
    DropAfter,
    /// Everything is done, but later.
    Delay(Duration),
}

impl KubeFault {
    /// What is answered, if this is an answer, and the seconds to wait.
    pub(super) fn answer(self) -> Option<(Failure, Option<u32>)> {
        let (code, wait) = match self {
            Self::Answer(code) => (code, None),
            Self::RetryAfter(code, wait) => (code, Some(wait)),
            _ => return None,
        };
        let (reason, message) = match code {
            429 => (
                "TooManyRequests",
                "Too many requests, please try again later.",
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "the server was unable to return a response in the time allotted",
            ),
            _ => (
                "InternalError",
                "Internal error occurred: the test wants it so",
            ),
        };
        let mut failure = Failure::new(code, reason, message);
        if let Some(wait) = wait {
            failure
                .details
                .insert("retryAfterSeconds".to_owned(), wait.into());
        }
        Some((failure, wait))
    }
}

type Matches = Box<dyn Fn(&KubeRequest) -> bool + Send + Sync>;

struct Planned {
    left: usize,
    matches: Matches,
    fault: KubeFault,
}

/// What goes wrong with the requests to come.
#[derive(Default)]
pub struct KubeFaults(Mutex<Vec<Planned>>);

impl KubeFaults {
    fn planned(&self) -> std::sync::MutexGuard<'_, Vec<Planned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the next `count` requests that match fail. Of several plans the oldest goes first.
    pub fn next(
        &self,
        count: usize,
        matches: impl Fn(&KubeRequest) -> bool + Send + Sync + 'static,
        fault: KubeFault,
    ) {
        self.planned().push(Planned {
            left: count,
            matches: Box::new(matches),
            fault,
        });
    }

    /// Forgets all plans.
    pub fn clear(&self) {
        self.planned().clear();
    }

    /// What goes wrong with a request.
    pub(super) fn take(&self, request: &KubeRequest) -> Option<KubeFault> {
        let mut planned = self.planned();
        let index = planned.iter().position(|plan| (plan.matches)(request))?;
        planned[index].left -= 1;
        let fault = planned[index].fault;
        planned.retain(|plan| plan.left > 0);
        Some(fault)
    }
}
