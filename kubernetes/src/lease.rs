//! Makes sure that one of several processes leads, by a Lease that only one can hold.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::client::{ClientError, Connection, Objects, with_jitter};

/// How long a lease may take to be given back when the program ends.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// How often a lease is looked at and renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long a lease holds without being renewed, in whole seconds. The holder stops leading when a quarter of it
    /// is left.
    pub duration: Duration,
    /// How often the holder renews it, and others look at it; a third of the duration or less.
    pub renewal: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(30),
            renewal: Duration::from_secs(8),
        }
    }
}

/// Whether this process leads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Whether this process leads now. It is never true in two processes at once, as long as their clocks go equally
    /// fast: what the time is does not matter.
    pub fn is_leader(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this process leads. Never returns once the lease is no longer kept.
    pub async fn acquired(&mut self) {
        let leads = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        if self.0.wait_for(leads).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this process does not lead.
    pub async fn lost(&mut self) {
        loop {
            let until = *self.0.borrow_and_update();
            let Some(until) = until.filter(|until| Instant::now() < *until) else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => {}
                changed = self.0.changed() => if changed.is_err() {
                    sleep_until(until).await;
                },
            }
        }
    }
}

/// Keeps a lease, or tries to get it.
#[derive(Debug)]
pub struct LeaseKeeper {
    leases: Objects<Lease>,
    name: String,
    identity: String,
    times: LeaseTimes,
    leads: watch::Sender<Option<Instant>>,
    /// The lease as it was seen last, and since when it is so.
    seen: Option<(String, Instant)>,
}

/// The lease called `name` in our own namespace. `identity` is ours alone: the pod's name.
pub fn lease(
    connection: &Connection,
    name: &str,
    identity: &str,
    times: LeaseTimes,
) -> (Leadership, LeaseKeeper) {
    let (leads, leadership) = watch::channel(None);
    let keeper = LeaseKeeper {
        leases: Objects::of(connection, Some(connection.namespace())),
        name: name.to_owned(),
        identity: identity.to_owned(),
        times,
        leads,
        seen: None,
    };
    (Leadership(leadership), keeper)
}

impl LeaseKeeper {
    /// Gets the lease and renews it until it is cancelled; then gives it back, so that the next need not wait. What
    /// only the leader may do must have ended before.
    ///
    /// An outage of the API server ends the leadership in time, and is a line in the log.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let began = Instant::now();
            match cancel.run_until_cancelled(self.attempt_in_time()).await {
                None => break,
                Some(Ok(true)) => {
                    let until = began + self.times.duration - self.times.duration / 4;
                    let before = self.leads.send_replace(Some(until));
                    if before.is_none_or(|before| before < began) {
                        tracing::info!(lease = self.name, "this process leads");
                    }
                }
                Some(Ok(false)) => {
                    if self.leads.send_replace(None).is_some() {
                        tracing::warn!(lease = self.name, "another process leads");
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(lease = self.name, %error, "the lease was not renewed");
                }
            }
            let pause = tokio::time::sleep(with_jitter(self.times.renewal));
            if cancel.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        let held = self.leads.send_replace(None).is_some();
        if held && !matches!(timeout(RELEASE_LIMIT, self.release()).await, Ok(Ok(()))) {
            tracing::warn!(
                lease = self.name,
                "the lease was not given back; the next leader waits for its end"
            );
        }
    }

    /// A server that hangs is left early enough to ask again before the lease is over.
    async fn attempt_in_time(&mut self) -> Result<bool, ClientError> {
        let limit = self.times.duration / 3;
        let attempt = timeout(limit, self.attempt()).await;
        attempt.unwrap_or(Err(ClientError::TimedOut { limit }))
    }

    /// Gets or renews the lease; false if another process holds it.
    async fn attempt(&mut self) -> Result<bool, ClientError> {
        let Some(lease) = self.leases.get(&self.name).await? else {
            return match self.leases.create(&self.new_lease()).await {
                Ok(_) => Ok(true),
                Err(ClientError::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(error),
            };
        };
        let version = lease.metadata.resource_version.unwrap_or_default();
        let spec = lease.spec.unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let foreign = !holder.is_empty() && holder != self.identity;
        if foreign && !self.is_over(&version, &spec, Instant::now()) {
            return Ok(false);
        }
        let mut patch = self.renewal();
        patch["metadata"]["resourceVersion"] = version.into();
        if holder != self.identity {
            patch["spec"]["acquireTime"] = patch["spec"]["renewTime"].clone();
            patch["spec"]["leaseTransitions"] = (spec.lease_transitions.unwrap_or(0) + 1).into();
        }
        match self.leases.merge_patch(&self.name, &patch).await {
            Ok(_) => Ok(true),
            // Somebody was faster. What we hold already, we hold until its time is over or another is seen to hold it.
            Err(ClientError::Conflict { .. } | ClientError::NotFound { .. })
                if holder != self.identity =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the holder has not renewed the lease for so long that it is over. Only our own clock counts, from when
    /// we saw it change.
    fn is_over(&mut self, version: &str, spec: &LeaseSpec, now: Instant) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == version => {
                let seconds = spec.lease_duration_seconds.unwrap_or(0).max(1) as u64;
                now.duration_since(*since) >= Duration::from_secs(seconds)
            }
            _ => {
                self.seen = Some((version.to_owned(), now));
                false
            }
        }
    }

    fn seconds(&self) -> i32 {
        self.times.duration.as_secs().max(1) as i32
    }

    fn renewal(&self) -> Value {
        json!({"metadata": {}, "spec": {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.seconds(),
            "renewTime": MicroTime(Timestamp::now()),
        }})
    }

    fn new_lease(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(self.seconds()),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                lease_transitions: Some(0),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn release(&self) -> Result<(), ClientError> {
        let Some(lease) = self.leases.get(&self.name).await? else {
            return Ok(());
        };
        let holder = lease.spec.and_then(|spec| spec.holder_identity);
        if holder.as_ref() != Some(&self.identity) {
            return Ok(());
        }
        let patch = json!({
            "metadata": {"resourceVersion": lease.metadata.resource_version},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
        });
        self.leases.merge_patch(&self.name, &patch).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper() -> (Leadership, LeaseKeeper) {
        let connection = Connection::to_url("http://127.0.0.1:1", None).unwrap();
        lease(&connection, "orlop", "pod-1", LeaseTimes::default())
    }

    #[tokio::test]
    async fn a_lease_is_over_when_it_has_not_changed_for_its_time() {
        let (_, mut keeper) = keeper();
        let spec = LeaseSpec {
            lease_duration_seconds: Some(10),
            ..LeaseSpec::default()
        };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!keeper.is_over("1", &spec, start));
        assert!(!keeper.is_over("1", &spec, after(9)));
        assert!(!keeper.is_over("2", &spec, after(9)));
        assert!(!keeper.is_over("2", &spec, after(18)));
        assert!(keeper.is_over("2", &spec, after(19)));
    }

    #[tokio::test]
    async fn leadership_ends_by_itself_when_nobody_renews_it() {
        let (mut leadership, keeper) = keeper();
        assert!(!leadership.is_leader());
        let until = Instant::now() + Duration::from_millis(300);
        keeper.leads.send_replace(Some(until));
        leadership.acquired().await;
        leadership.lost().await;
        assert!(Instant::now() >= until && !leadership.is_leader());
    }
}
