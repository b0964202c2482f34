//! Which store a task uses, and how it gets there.

use std::sync::Arc;

use orlop_repository::{Committer, Repository};

use super::{Holder, Refusal, Runs};
use crate::{
    config::StoreAccess,
    locations::{Locations, Reach},
};

/// How agents reach stores.
pub(super) struct Route {
    /// Where stores are.
    pub(super) locations: Arc<Locations>,
    /// Who opens them.
    pub(super) access: StoreAccess,
    /// The node whose agent runs in this process.
    pub(super) own_node: Option<String>,
}

impl Route {
    /// How the agent of `node` reaches a location; `None` through the coordinator.
    pub(super) fn of(&self, node: &str, location: &str) -> Option<Reach> {
        let direct = match self.access {
            StoreAccess::Auto => self.own_node.as_deref() == Some(node),
            StoreAccess::Direct => true,
            StoreAccess::Gateway => false,
        };
        self.locations.reach(location).filter(|_| direct)
    }
}

impl Runs {
    /// The repository of a task's sessions.
    pub(crate) fn repository_of(&self, holder: &Holder) -> Result<Arc<Repository>, Refusal> {
        self.parts.locations.repository(&holder.location)
    }

    /// What grants sessions to a task.
    pub(crate) fn committer_of(&self, holder: &Holder) -> Result<Arc<dyn Committer>, Refusal> {
        self.committer_at(&holder.location)
    }

    /// What grants sessions of a location: one that is read-only leaves no trace of them.
    pub(super) fn committer_at(&self, location: &str) -> Result<Arc<dyn Committer>, Refusal> {
        let repository = self.parts.locations.repository(location)?;
        if self.parts.locations.is_read_only(location) {
            return Ok(repository.browser());
        }
        Ok(repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SystemClock, locations::Home};

    fn direct(access: StoreAccess, own_node: Option<&str>, node: &str) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let home = Home {
            location: "near".to_owned(),
            url: "/srv/repo".to_owned(),
            repository: None,
        };
        let clock = Arc::new(SystemClock::default());
        let locations = Locations::load(dir.path(), Some(home), None, clock).unwrap();
        let route = Route {
            locations: Arc::new(locations),
            access,
            own_node: own_node.map(str::to_owned),
        };
        assert!(route.of(node, "far").is_none());
        let reach = route.of(node, "near");
        assert!(reach.as_ref().is_none_or(|reach| reach.url == "/srv/repo"));
        reach.is_some()
    }

    #[test]
    fn only_the_agent_of_the_same_process_opens_the_store_unless_told_otherwise() {
        assert!(direct(StoreAccess::Auto, Some("a"), "a"));
        assert!(!direct(StoreAccess::Auto, Some("a"), "b"));
        assert!(!direct(StoreAccess::Auto, None, "a"));
        assert!(direct(StoreAccess::Direct, None, "b"));
        assert!(!direct(StoreAccess::Gateway, Some("a"), "a"));
    }
}
