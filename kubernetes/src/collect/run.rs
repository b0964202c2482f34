//! One collection, from the first list to the last related object.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use kube::{api::GetParams, core::Request};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    CollectError, CollectReport, CollectedObject, ObjectSink, ServedKind, discover, related,
    report::Problems, scope::Scope,
};
use crate::{
    client::{CALL_LIMIT, ClientError, Connection, list_page},
    files::{FileError, tarball::ItemPath},
    selection::{Choice, Filters, Severity, filters::is_excluded, labels},
};

/// How often a list begins anew whose pages have expired, before the kind is given up.
const LISTS_MAX: u32 = 5;

/// Waits before a page is asked for again that the network or the server has lost.
const WAITS: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(8),
];

/// Lists that are waited for as long as [`WAITS`] says; those after as many have failed are tried twice.
const PATIENT_LISTS: usize = 5;

/// Reads all objects that `filters` mean and hands them to `sink`, pods first; then the objects that those need.
///
/// A kind that cannot be listed is a problem in the report, not the end. It is cancelled between two objects, or
/// while it waits for the server; what the sink has then is of no use.
///
/// # Errors
/// It was cancelled, the server does not say which kinds it has, or the sink takes no more.
pub async fn collect(
    connection: &Connection,
    filters: &Filters,
    sink: &mut dyn ObjectSink,
    cancel: &CancellationToken,
) -> Result<CollectReport, CollectError> {
    let kinds = or_cancel(cancel, discover(connection)).await?;
    let (kinds, told) = kinds.map_err(CollectError::Discovery)?;
    let mut problems = Problems::default();
    for problem in told {
        problems.add(problem.severity, problem.message);
    }
    let names: Vec<_> = kinds.iter().map(|kind| kind.resource.clone()).collect();
    for name in filters.unknown_kinds(&names) {
        problems.add(
            Severity::Warning,
            format!("no kind of object is called {name:?}; look for a misspelling"),
        );
    }
    let scope = or_cancel(cancel, Scope::read(connection, filters, &mut problems)).await?;
    let mut run = Run {
        connection,
        filters,
        scope,
        sink,
        cancel,
        taken: HashSet::new(),
        wanted: BTreeSet::new(),
        accounts: HashSet::new(),
        holding: BTreeSet::new(),
        in_vain: 0,
        report: CollectReport::default(),
        problems,
    };
    for kind in &kinds {
        run.kind(kind).await?;
    }
    run.accounts(&kinds).await?;
    run.needed(&kinds).await?;
    run.namespaces(&kinds).await?;
    run.report.problems = run.problems.into_list();
    Ok(run.report)
}

async fn or_cancel<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, CollectError> {
    let done = cancel.run_until_cancelled(work).await;
    done.ok_or(CollectError::Cancelled)
}

struct Run<'a> {
    connection: &'a Connection,
    filters: &'a Filters,
    scope: Scope,
    sink: &'a mut dyn ObjectSink,
    cancel: &'a CancellationToken,
    /// What the sink has.
    taken: HashSet<ItemPath>,
    /// What something that was taken needs.
    wanted: BTreeSet<ItemPath>,
    /// Service accounts that were taken, by namespace and name.
    accounts: HashSet<(String, String)>,
    /// Namespaces of what was taken.
    holding: BTreeSet<String>,
    /// Lists that were tried again in vain.
    in_vain: usize,
    report: CollectReport,
    problems: Problems,
}

impl Run<'_> {
    /// Takes all objects of a kind, if the kind is meant.
    async fn kind(&mut self, kind: &ServedKind) -> Result<(), CollectError> {
        if kind.is_namespaces() || self.filters.choose(&kind.resource) != Choice::Taken {
            return Ok(());
        }
        let before = self.taken.len();
        let own = |one: Option<&str>| one.map(str::to_owned);
        let lists = if kind.resource.namespaced {
            self.scope.lists().into_iter().map(own).collect()
        } else {
            vec![None]
        };
        let selectors = self.filters.selectors();
        let mut queries: Vec<String> = selectors.iter().map(labels::query).collect();
        if queries.is_empty() {
            queries.push(String::new());
        }
        'lists: for namespace in &lists {
            let request = kind.request(namespace.as_deref());
            for query in &queries {
                let done = self
                    .list(&request, query, &mut |run, object| run.listed(kind, object))
                    .await?;
                let Err(error) = done else { continue };
                self.not_listed(kind, namespace.as_deref(), &error);
                if error.is_transient() {
                    // Its server does not answer, and would be waited for with each of the other lists.
                    break 'lists;
                }
            }
        }
        if self.taken.len() > before {
            self.wanted.extend(related::definition(kind));
        }
        Ok(())
    }

    fn not_listed(&mut self, kind: &ServedKind, namespace: Option<&str>, error: &ClientError) {
        // A definition that was removed meanwhile has taken its objects along.
        let severity = if error.is_not_found() {
            Severity::Warning
        } else {
            Severity::Error
        };
        let name = kind.resource.group_resource();
        let place = namespace.map_or(String::new(), |name| format!(" of namespace {name}"));
        self.problems.add(
            severity,
            format!("{name}{place} cannot be listed, not all of them are in the backup: {error}"),
        );
    }

    /// Lists objects and shows each to `each`, some of them twice if the list must begin anew.
    async fn list(
        &mut self,
        request: &Request,
        query: &str,
        each: &mut (dyn FnMut(&mut Self, Value) -> Result<(), CollectError> + Send),
    ) -> Result<Result<(), ClientError>, CollectError> {
        let mut lists = 1;
        let mut point: Option<String> = None;
        // Where many kinds fail, all of their waits would keep the backup from beginning.
        let most = if self.in_vain < PATIENT_LISTS {
            WAITS.len()
        } else {
            1
        };
        let mut waits = WAITS.into_iter().take(most);
        loop {
            let page = list_page(self.connection, request, query, point.as_deref());
            match or_cancel(self.cancel, page).await? {
                Ok(page) => {
                    waits = WAITS.into_iter().take(most);
                    for object in page.items {
                        if self.cancel.is_cancelled() {
                            return Err(CollectError::Cancelled);
                        }
                        each(self, object)?;
                    }
                    point = page.metadata.continue_.filter(|point| !point.is_empty());
                    if point.is_none() {
                        return Ok(Ok(()));
                    }
                }
                Err(ClientError::Expired { .. }) if lists < LISTS_MAX => {
                    lists += 1;
                    point = None;
                }
                Err(error) if error.is_transient() => {
                    let Some(wait) = waits.next() else {
                        self.in_vain += 1;
                        return Ok(Err(error));
                    };
                    or_cancel(self.cancel, tokio::time::sleep(wait)).await?;
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// An object of a list: takes it if it is meant.
    fn listed(&mut self, kind: &ServedKind, object: Value) -> Result<(), CollectError> {
        if self.filters.takes_labels(&labels_of(&object)) {
            self.take(kind, object)?;
        }
        Ok(())
    }

    /// Hands an object on, unless it was handed on before, is being deleted, or is kept out by its namespace or
    /// its own label.
    fn take(&mut self, kind: &ServedKind, mut object: Value) -> Result<(), CollectError> {
        let meta = &object["metadata"];
        let Some(name) = meta["name"].as_str() else {
            return Ok(());
        };
        let resource = kind.resource.group_resource();
        let item = match meta["namespace"]
            .as_str()
            .filter(|_| kind.resource.namespaced)
        {
            Some(namespace) => ItemPath::namespaced(&resource, namespace, name),
            None => ItemPath::cluster(&resource, name),
        };
        let outside = |namespace: &String| !self.scope.takes(namespace);
        let goes = !meta["deletionTimestamp"].is_null();
        if goes
            || item.namespace.as_ref().is_some_and(outside)
            || is_excluded(&labels_of(&object))
            || self.taken.contains(&item)
        {
            return Ok(());
        }
        // Objects of a list do not say what they are.
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.as_str().into();
        let json = serde_json::to_vec(&object).map_err(FileError::from)?;
        let collected = CollectedObject {
            item: &item,
            kind,
            object: &object,
            json: &json,
        };
        match self.sink.object(&collected) {
            Ok(()) => {}
            Err(error @ (FileError::Name { .. } | FileError::Refused { .. })) => {
                let message = format!("{resource} {:?} is not in the backup: {error}", item.name);
                self.problems.add(Severity::Error, message);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        self.wanted.extend(related::needs(&item, &object));
        if let Some(namespace) = &item.namespace {
            self.holding.insert(namespace.clone());
            if resource == "serviceaccounts" {
                self.accounts.insert((namespace.clone(), item.name.clone()));
            }
        }
        *self.report.objects.entry(resource).or_default() += 1;
        self.taken.insert(item);
        Ok(())
    }

    /// Takes the bindings of roles to the service accounts that were taken.
    async fn accounts(&mut self, kinds: &[ServedKind]) -> Result<(), CollectError> {
        if self.accounts.is_empty() {
            return Ok(());
        }
        for name in [related::CLUSTER_ROLE_BINDINGS, related::ROLE_BINDINGS] {
            let kind = kinds
                .iter()
                .find(|kind| kind.resource.group_resource() == name);
            let Some(kind) = kind.filter(|kind| self.may_take(kind)) else {
                continue;
            };
            let request = kind.request(None);
            let done = self
                .list(&request, "", &mut |run, binding| run.binding(kind, binding))
                .await?;
            if let Err(error) = done {
                self.not_listed(kind, None, &error);
            }
        }
        Ok(())
    }

    fn binding(&mut self, kind: &ServedKind, binding: Value) -> Result<(), CollectError> {
        let namespace = binding["metadata"]["namespace"].as_str();
        let accounts = related::bound_accounts(namespace, &binding);
        if accounts
            .iter()
            .any(|account| self.accounts.contains(account))
        {
            self.wanted.extend(related::bound_role(namespace, &binding));
            self.take(kind, binding)?;
        }
        Ok(())
    }

    fn may_take(&self, kind: &ServedKind) -> bool {
        self.filters.choose(&kind.resource) != Choice::LeftOut
    }

    /// Takes what is needed by what was taken, and what that needs.
    async fn needed(&mut self, kinds: &[ServedKind]) -> Result<(), CollectError> {
        while let Some(item) = self.wanted.pop_first() {
            let kind = kinds
                .iter()
                .find(|kind| kind.resource.group_resource() == item.resource);
            let Some(kind) = kind.filter(|kind| self.may_take(kind)) else {
                continue;
            };
            let outside = item
                .namespace
                .as_ref()
                .is_some_and(|name| !self.scope.takes(name));
            if !outside && !self.taken.contains(&item) {
                self.fetch(kind, &item).await?;
            }
        }
        Ok(())
    }

    async fn namespaces(&mut self, kinds: &[ServedKind]) -> Result<(), CollectError> {
        let Some(kind) = kinds.iter().find(|kind| kind.is_namespaces()) else {
            return Ok(());
        };
        if !self.filters.takes_namespace_objects() {
            return Ok(());
        }
        let kept = self.scope.kept(self.filters, &self.holding);
        let kept: Vec<ItemPath> = kept
            .map(|name| ItemPath::cluster("namespaces", name))
            .collect();
        for item in kept {
            self.fetch(kind, &item).await?;
        }
        Ok(())
    }

    /// Takes one object, if it exists.
    async fn fetch(&mut self, kind: &ServedKind, item: &ItemPath) -> Result<(), CollectError> {
        let request = kind.request(item.namespace.as_deref());
        let answer = self.connection.call(CALL_LIMIT, async |client| {
            let request = request.get(&item.name, &GetParams::default());
            let request = request.map_err(kube::Error::BuildRequest)?;
            client.request_text(request).await
        });
        let text = match or_cancel(self.cancel, answer).await? {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => {
                let place = item
                    .namespace
                    .as_ref()
                    .map_or(String::new(), |name| format!("{name}/"));
                let message = format!(
                    "{} {place}{} is not in the backup: {error}",
                    item.resource, item.name
                );
                self.problems.add(Severity::Error, message);
                return Ok(());
            }
        };
        match serde_json::from_str(&text) {
            Ok(object) => self.take(kind, object),
            Err(error) => {
                let message = format!("{} {} cannot be read: {error}", item.resource, item.name);
                self.problems.add(Severity::Error, message);
                Ok(())
            }
        }
    }
}

fn labels_of(object: &Value) -> labels::Labels {
    let labels = object["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten();
    labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}
