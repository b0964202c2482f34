//! Which store a task uses, and how it gets there.

use std::sync::Arc;

use orlop_proto::v1::{self, start_task};
use orlop_repository::Repository;

use super::{Holder, Runs};
use crate::config::StoreAccess;

/// How agents reach the store.
pub(super) struct Route {
    /// Its URL.
    pub(super) url: String,
    /// Who opens it.
    pub(super) access: StoreAccess,
    /// The node whose agent runs in this process.
    pub(super) own_node: Option<String>,
}

impl Route {
    /// What the agent of `node` is told.
    pub(super) fn of(&self, node: &str) -> start_task::Store {
        let direct = match self.access {
            StoreAccess::Auto => self.own_node.as_deref() == Some(node),
            StoreAccess::Direct => true,
            StoreAccess::Gateway => false,
        };
        if direct {
            start_task::Store::StoreUrl(self.url.clone())
        } else {
            start_task::Store::Gateway(v1::Gateway {})
        }
    }
}

impl Runs {
    /// The repository of a task's sessions.
    pub(crate) fn repository_of(&self, _holder: &Holder) -> Arc<Repository> {
        Arc::clone(&self.parts.repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(access: StoreAccess, own_node: Option<&str>, node: &str) -> bool {
        let route = Route {
            url: "/srv/repo".to_owned(),
            access,
            own_node: own_node.map(str::to_owned),
        };
        match route.of(node) {
            start_task::Store::StoreUrl(url) => {
                assert_eq!(url, "/srv/repo");
                true
            }
            start_task::Store::Gateway(_) => false,
        }
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
