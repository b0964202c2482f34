//! One restore of objects, from the tarball to the last of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    ItemReport, RESTORE_UID, RestoreError, RestoreRequest, RestoreSink,
    api::{Api, Stop},
    items::Items,
    json::set_meta,
    namespaces::Namespaces,
    order::{self, DEFINITIONS, NAMESPACES, PODS},
    scope::{Kinds, Scope},
    settings::Settings,
    volumes::Volumes,
};
use crate::{
    client::Connection,
    collect::discover,
    files::tarball::ItemPath,
    selection::{Filters, filters::NEVER_RESTORED},
    velero::labels::{BACKUP_NAME, RESTORE_NAME, valid_name},
};

mod item;
mod kinds;
mod pods;

/// Restores the objects of a backup, one after another, and tells `sink` of each.
///
/// Objects that this restore has made before, which its label and annotation show, count as made: it can be begun again
/// at any time. A server that is away is waited for, up to ten minutes with each object. What cannot be restored is
/// said of the object, and the others come all the same. Cancelled it ends between two calls.
///
/// # Errors
/// It was cancelled, the tarball cannot be read, the API server cannot be asked at all, or the restore contradicts
/// itself.
pub async fn restore_objects(
    connection: &Connection,
    request: &RestoreRequest<'_>,
    sink: &mut dyn RestoreSink,
    cancel: &CancellationToken,
) -> Result<(), RestoreError> {
    let spec = &request.restore.spec;
    if spec.resource_modifier.is_some() {
        return Err(RestoreError::Unsupported {
            what: "changes of objects by a ConfigMap",
            field: "spec.resourceModifier",
        });
    }
    let filters = Filters::of_restore(spec)?;
    let items = read(request.tarball.to_owned(), filters.clone(), cancel.clone()).await?;
    let mut api = Api::new(connection, cancel);
    let home = request.restore.metadata.namespace.as_deref();
    let home = home.unwrap_or(connection.namespace());
    let settings = Settings::read(&mut api, home, request.image).await;
    let settings = settings.map_err(ended)?;
    let scope = Scope {
        filters,
        mapping: spec.namespace_mapping.clone(),
    };
    let mut run = Run {
        request,
        notes: settings.warnings.clone(),
        volumes: Volumes::new(request.volumes, true, |_, _| false),
        mark: Mark::of(request),
        api,
        sink,
        items,
        scope,
        settings,
        kinds: Kinds::new(),
        versions: BTreeMap::new(),
        namespaces: Namespaces::default(),
        done: HashSet::new(),
        planned: HashSet::new(),
        unserved: BTreeSet::new(),
        found_claims: HashSet::new(),
        total: 0,
    };
    run.all().await
}

async fn read(
    tarball: PathBuf,
    filters: Filters,
    cancel: CancellationToken,
) -> Result<Items, RestoreError> {
    let work = move || Items::read(&tarball, |labels| filters.takes_labels(labels), &cancel);
    let read = tokio::task::spawn_blocking(work).await;
    read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Why nothing more can be done.
fn ended(stop: Stop) -> RestoreError {
    match stop {
        Stop::Cancelled => RestoreError::Cancelled,
        Stop::Failed(error) => RestoreError::Client(error),
    }
}

/// What tells objects of this restore from others.
struct Mark {
    backup: String,
    restore: String,
    uid: String,
}

impl Mark {
    fn of(request: &RestoreRequest<'_>) -> Self {
        let name = |name: &Option<String>| valid_name(name.as_deref().unwrap_or_default());
        Self {
            backup: name(&request.backup.metadata.name),
            restore: name(&request.restore.metadata.name),
            uid: request.restore.metadata.uid.clone().unwrap_or_default(),
        }
    }

    fn put(&self, object: &mut Value) {
        set_meta(object, "labels", BACKUP_NAME, &self.backup);
        set_meta(object, "labels", RESTORE_NAME, &self.restore);
        set_meta(object, "annotations", RESTORE_UID, &self.uid);
    }

    fn is_on(&self, object: &Value) -> bool {
        let meta = &object["metadata"];
        meta["labels"][RESTORE_NAME] == self.restore.as_str()
            && meta["annotations"][RESTORE_UID] == self.uid.as_str()
    }
}

struct Run<'a> {
    request: &'a RestoreRequest<'a>,
    api: Api<'a>,
    sink: &'a mut dyn RestoreSink,
    items: Items,
    scope: Scope,
    settings: Settings,
    volumes: Volumes<'a>,
    mark: Mark,
    /// As the server has them now.
    kinds: Kinds,
    /// Whether the server has a kind in a version, by the names of both.
    versions: BTreeMap<(String, String), bool>,
    namespaces: Namespaces,
    /// Objects that are done, or under way.
    done: HashSet<ItemPath>,
    /// Objects that count already.
    planned: HashSet<ItemPath>,
    /// Kinds that the server does not have, which was said.
    unserved: BTreeSet<String>,
    /// Claims that were there already, by namespace in the cluster and name.
    found_claims: HashSet<(String, String)>,
    /// Objects to restore.
    total: u64,
    /// What is to be said with the next object.
    notes: Vec<String>,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), RestoreError> {
        self.ask_kinds().await?;
        let pods: HashSet<ItemPath> = self
            .scope
            .objects(PODS, &self.items, &self.kinds)
            .into_iter()
            .collect();
        let takes_pod = |namespace: &str, name: &str| {
            pods.contains(&ItemPath::namespaced(PODS, namespace, name))
        };
        let restores = self.request.restore.spec.restore_pvs.unwrap_or(true);
        self.volumes = Volumes::new(self.request.volumes, restores, takes_pod);
        let definitions = self.scope.definitions(&self.items, &self.kinds);
        self.count(&definitions);
        let any = !definitions.is_empty();
        for path in definitions {
            self.item(path).await?;
        }
        if any {
            self.ask_kinds().await?;
        }
        self.note_unknown_names();
        let config = self.request.restore.spec.uploader_config.as_ref();
        if config.is_some_and(|config| config.write_sparse_files == Some(false)) {
            self.notes.push(
                "uploaderConfig.writeSparseFiles is false, but long runs of zeros become holes all the same"
                    .to_owned(),
            );
        }
        let plan = self.plan();
        for (_, paths) in &plan {
            self.count(paths);
        }
        for path in plan.into_iter().flat_map(|(_, paths)| paths) {
            self.item(path).await?;
        }
        Ok(())
    }

    /// Everything but definitions, in order.
    fn plan(&self) -> Vec<(String, Vec<ItemPath>)> {
        let mut resources: Vec<String> = self.items.resources().into_iter().collect();
        order::sort(&mut resources);
        let objects = |resource: String| {
            let paths = match resource.as_str() {
                DEFINITIONS | NAMESPACES => Vec::new(),
                _ => self.scope.objects(&resource, &self.items, &self.kinds),
            };
            (resource, paths)
        };
        let mut plan: Vec<(String, Vec<ItemPath>)> = resources.into_iter().map(objects).collect();
        let namespaces = self.scope.namespaces(&self.items, &plan);
        if let Some((_, paths)) = plan.iter_mut().find(|(resource, _)| resource == NAMESPACES) {
            *paths = namespaces;
        }
        plan
    }

    /// Counts objects that were not yet.
    fn count(&mut self, paths: &[ItemPath]) {
        for path in paths {
            if self.planned.insert(path.clone()) {
                self.total += 1;
            }
        }
        self.sink.total(self.total);
    }

    async fn ask_kinds(&mut self) -> Result<(), RestoreError> {
        let connection = self.api.connection;
        let found = self
            .api
            .patiently(async || discover(connection).await)
            .await;
        let (kinds, problems) = found.map_err(ended)?;
        self.kinds = kinds
            .into_iter()
            .map(|kind| (kind.resource.group_resource(), kind))
            .collect();
        self.versions.clear();
        for problem in problems {
            if !self.notes.contains(&problem.message) {
                self.notes.push(problem.message);
            }
        }
        Ok(())
    }

    /// Names of kinds that nothing here is called by are probably misspelt.
    fn note_unknown_names(&mut self) {
        let kinds: Vec<_> = self
            .kinds
            .values()
            .map(|kind| kind.resource.clone())
            .collect();
        let in_backup = self.items.resources();
        for name in self.scope.filters.unknown_kinds(&kinds) {
            if !NEVER_RESTORED.contains(&name.as_str()) && !in_backup.contains(&name) {
                self.notes.push(format!(
                    "no kind of object is called {name:?}; look for a misspelling"
                ));
            }
        }
    }

    /// Tells what became of an object.
    fn tell(&mut self, mut report: ItemReport) {
        report.warnings.append(&mut self.notes);
        self.sink.item(report);
    }
}
