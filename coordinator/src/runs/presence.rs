//! Agents that come back, stay silent, or are asked to look again.

use std::{sync::atomic::Ordering, time::Duration};

use orlop_core::{
    TaskId,
    run::{Event, RunPhase},
};
use orlop_proto::v1::{self, LogLevel, agent_command::Command};

use super::{
    RunKey, Runs,
    agents::{Agent, command},
    commands,
    table::Table,
};

impl Runs {
    /// Cuts off agents that are silent, and gives up the tasks of those that were away for too long.
    pub(super) fn expire(&self) {
        let limits = &self.parts.limits;
        let mut table = self.lock();
        let now_ms = self.now_ms();
        let mut lost = Vec::new();
        for (node, agent) in &mut table.agents {
            let silent = agent.last_seen.elapsed();
            if agent.link.is_some() && silent > limits.heartbeat * 3 {
                tracing::warn!(node, "agent is silent and is cut off");
                agent.link = None;
            }
            if agent.link.is_none() && !agent.lost && silent > limits.node_deadline {
                agent.lost = true;
                lost.push((node.clone(), silent));
            }
        }
        for (node, silent) in lost {
            let message = lost_message(&node, silent);
            tracing::warn!(node, "agent is lost");
            for key in table.runs_on(&node) {
                let event = Event::NodeLost {
                    node: node.clone(),
                    message: message.clone(),
                };
                table.apply(&key, event, now_ms);
            }
        }
    }

    /// Lets every connected agent look for volumes and waits until they have, or until `patience` ends. Also
    /// waits for the first agent if there is none yet. False if there is still none.
    pub(super) async fn refresh_inventories(&self, patience: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + patience;
        let mut changed = self.signals.agents.subscribe();
        // Larger than every one before, which a clock may not be.
        let number = self.inventories.fetch_add(1, Ordering::Relaxed) + 1;
        let mut asked = Vec::new();
        loop {
            let waits = {
                let mut table = self.lock();
                if asked.is_empty() {
                    asked = table.node_limits(None).map(|(node, _)| node).collect();
                    for node in &asked {
                        let refresh = v1::RefreshInventory { number };
                        table.send(node, command(Command::Refresh(refresh)));
                    }
                }
                let open = |node: &String| {
                    let agent = &table.agents[node];
                    agent.link.is_some() && agent.inventory < number
                };
                asked.is_empty() || asked.iter().any(open)
            };
            if !waits {
                return true;
            }
            if !matches!(
                tokio::time::timeout_at(deadline, changed.changed()).await,
                Ok(Ok(()))
            ) {
                return !asked.is_empty();
            }
        }
    }
}

fn lost_message(node: &str, silent: Duration) -> String {
    format!(
        "the agent of node {node} was not heard of for {} s",
        silent.as_secs()
    )
}

impl Table {
    /// The run of a task, if the task is on this node.
    pub(super) fn key_on(&self, node: &str, task: TaskId) -> Option<RunKey> {
        let key = self.tasks.get(&task)?;
        let found = self.document(key)?.run.task(task)?;
        (found.node == node).then(|| key.clone())
    }

    /// Whether a task that an agent has is known, perhaps only now by its context.
    pub(super) fn recognise(
        &mut self,
        node: &str,
        task: TaskId,
        context: &[u8],
        now_ms: i64,
    ) -> bool {
        if self.key_on(node, task).is_some() {
            return true;
        }
        let Some(document) = commands::recovered(context, &self.context_key) else {
            return false;
        };
        let key = RunKey::of(&document.run);
        if self.entries.contains_key(&key) || document.run.phase != RunPhase::Queued {
            return false;
        }
        tracing::info!(
            run_id = key.name,
            node,
            "run is found again from what its agent tells"
        );
        self.insert(document, 0);
        let message = "found again from what an agent tells: the state database was lost";
        self.log(&key, LogLevel::Warning, None, message, now_ms);
        for node in self.nodes_of(&key) {
            self.agents.entry(node).or_insert_with(Agent::awaited);
        }
        self.key_on(node, task).is_some()
    }

    fn nodes_of(&self, key: &RunKey) -> Vec<String> {
        let tasks = self
            .document(key)
            .map(|document| document.run.tasks.as_slice());
        let nodes = tasks.unwrap_or_default().iter().map(|task| &task.node);
        // A volume of a pod that waits nowhere yet is on none.
        nodes.filter(|node| !node.is_empty()).cloned().collect()
    }
}
