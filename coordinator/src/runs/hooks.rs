//! The loop that runs hooks in pods. What a hook printed and how it ended is in the run's log.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use orlop_core::{hook::HookOutcome, run::Event};
use orlop_kubernetes::files::{HookLog, Level, Record};
use orlop_proto::v1::LogLevel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Runs, table::PodKey};

impl Runs {
    /// Runs hooks as they are asked for, those of each pod one after the other, until `shutdown`. One that runs then is
    /// run again by the next coordinator.
    pub(crate) async fn run_hooks(self: Arc<Self>, shutdown: CancellationToken) {
        let mut pods = JoinSet::new();
        loop {
            for pod in std::mem::take(&mut self.lock().hooks) {
                let (runs, shutdown) = (Arc::clone(&self), shutdown.clone());
                pods.spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = runs.hooks_of(&pod) => {}
                    }
                });
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.signals.hooks.notified() => {}
                Some(ended) = pods.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(error = %error, "running hooks has panicked");
                    }
                }
            }
        }
        while pods.join_next().await.is_some() {}
    }

    async fn hooks_of(&self, pod: &PodKey) {
        loop {
            let hook = {
                let table = self.lock();
                let run = table.document(&pod.run).map(|document| &document.run);
                run.and_then(|run| run.hook_to_run(&pod.namespace, &pod.pod))
                    .cloned()
            };
            let Some(hook) = hook else { return };
            let log = HookLog::new(&pod.run.name, &pod.namespace, &pod.pod, &hook);
            self.log_record(pod, log.started(self.time()));
            let cluster = &self.parts.cluster;
            let end = cluster.run_hook(&pod.namespace, &pod.pod, &hook).await;
            self.log_record(pod, log.stdout(self.time(), &end.stdout));
            self.log_record(pod, log.stderr(self.time(), &end.stderr));
            if end.outcome == HookOutcome::Failed {
                self.log_record(pod, log.failed(self.time(), &end.message));
            }
            let ended = Event::HookEnded {
                namespace: pod.namespace.clone(),
                pod: pod.pod.clone(),
                outcome: end.outcome,
                message: end.message,
            };
            self.lock().apply(&pod.run, ended, self.now_ms());
        }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now_ms()).unwrap_or_default()
    }

    fn log_record(&self, pod: &PodKey, record: Record) {
        let level = match record.level {
            Level::Debug | Level::Info => LogLevel::Info,
            Level::Warning => LogLevel::Warning,
            Level::Error => LogLevel::Error,
        };
        let fields = record.fields.into_iter();
        let fields: BTreeMap<String, String> = fields
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let now_ms = record.time.as_millisecond();
        self.lock()
            .log_fields(&pod.run, level, None, record.message, fields, now_ms);
    }
}
