//! One object: what it needs first, then itself.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Run, ended};
use crate::{
    collect::ServedKind,
    files::tarball::ItemPath,
    restore::{
        ItemEnd, ItemReport, RestoreError,
        actions::{Context, Decision, is_served, prepare},
        api::Stop,
        apply::{Outcome, Wanted, apply},
        json::{annotation, text},
        order::{CLAIMS, DEFINITIONS, NAMESPACES, PODS, VOLUMES},
        reset,
        volumes::ClaimVolume,
    },
    selection::NameFilter,
    velero::labels::RESTORE_STATUS,
};

/// How long a definition may take until the server serves what it defines.
const DEFINITION_MAX: Duration = Duration::from_mins(10);

const LOOK: Duration = Duration::from_millis(500);

/// The policy by which objects that are there and differ are changed.
const UPDATE: &str = "update";

impl Run<'_> {
    /// Restores an object of the backup, unless it is done or the backup does not have it.
    pub(super) fn item(&mut self, path: ItemPath) -> BoxFuture<'_, Result<(), RestoreError>> {
        Box::pin(async move {
            if self.api.cancel.is_cancelled() {
                return Err(RestoreError::Cancelled);
            }
            let Some(object) = self.items.get(&path) else {
                return Ok(());
            };
            if !self.done.insert(path.clone()) {
                return Ok(());
            }
            self.count(std::slice::from_ref(&path));
            let (object, outcome) = match object {
                Ok(mut object) => {
                    let outcome = self.restore(&path, &mut object).await?;
                    (object, outcome)
                }
                Err(error) => {
                    let error = format!("the backup's copy of it cannot be read: {error}");
                    (Value::Null, Outcome::failed(error))
                }
            };
            let namespace = path.namespace.as_deref().unwrap_or_default();
            let name = match path.resource.as_str() {
                NAMESPACES => self.scope.mapped(&path.name),
                _ => &path.name,
            };
            let report = ItemReport {
                kind: text(&object, "/kind").unwrap_or_default().to_owned(),
                api_version: text(&object, "/apiVersion").unwrap_or_default().to_owned(),
                namespace: self.scope.mapped(namespace).to_owned(),
                name: name.to_owned(),
                resource: path.resource,
                end: outcome.end,
                warnings: outcome.warnings,
                errors: outcome.errors,
            };
            self.tell(report);
            Ok(())
        })
    }

    async fn restore(
        &mut self,
        path: &ItemPath,
        object: &mut Value,
    ) -> Result<Outcome, RestoreError> {
        if path.resource == NAMESPACES {
            let done = self.namespace(&path.name).await?;
            return Ok(match done {
                Ok(end) => Outcome::new(end),
                Err(error) => Outcome::failed(error),
            });
        }
        let api_version = text(object, "/apiVersion").unwrap_or_default().to_owned();
        let Some((kind, outdated)) = self.kind_of(&path.resource, &api_version).await? else {
            return Ok(self.unserved(path));
        };
        let volume = self.fate_of_claim(path, object).await?;
        let decision = prepare(path, object, &volume, &self.context());
        let Decision::Make {
            mut warnings,
            needs,
        } = decision
        else {
            return Ok(Outcome::new(ItemEnd::Skipped));
        };
        if outdated {
            warnings.push(format!(
                "the server no longer has {api_version}, so it is made as {} of the same fields",
                kind.api_version()
            ));
            object["apiVersion"] = kind.api_version().into();
        }
        let mut namespace = None;
        if let Some(source) = &path.namespace {
            if let Err(error) = self.namespace(source).await? {
                return Ok(Outcome::failed(error));
            }
            namespace = Some(self.scope.mapped(source).to_owned());
        }
        for need in needs {
            if self.scope.allows(&need, &self.kinds) {
                self.item(need).await?;
            }
        }
        if let Some(namespace) = &namespace {
            object["metadata"]["namespace"] = namespace.as_str().into();
        }
        let mut outcome = match path.resource.as_str() {
            PODS => self.pod(path, &kind, object).await?,
            _ => self.put(path, &kind, object).await?,
        };
        if path.resource == CLAIMS && outcome.own.is_none() {
            // It keeps what it holds, whatever a new one would hold.
            warnings.clear();
            let namespace = namespace.unwrap_or_default();
            self.found_claims.insert((namespace, path.name.clone()));
        }
        if path.resource == DEFINITIONS && outcome.end != ItemEnd::Failed {
            self.until_served(path, &kind, &mut outcome).await?;
        }
        outcome.warnings.splice(0..0, warnings);
        Ok(outcome)
    }

    fn context(&self) -> Context<'_> {
        Context {
            scope: &self.scope,
            items: &self.items,
            volumes: &self.volumes,
            settings: &self.settings,
            keeps_ports: self
                .request
                .restore
                .spec
                .preserve_node_ports
                .unwrap_or(false),
        }
    }

    /// Makes the object, marked as this restore's.
    pub(super) async fn put(
        &mut self,
        path: &ItemPath,
        kind: &ServedKind,
        object: &mut Value,
    ) -> Result<Outcome, RestoreError> {
        let status = self.status_of(kind, object);
        let managed = object.pointer_mut("/metadata/managedFields");
        let managed = managed.map(Value::take).unwrap_or_default();
        reset::metadata(object);
        if status.is_none() {
            reset::status(object);
        }
        self.mark.put(object);
        let namespace = path
            .namespace
            .as_deref()
            .map(|name| self.scope.mapped(name));
        let mark = &self.mark;
        let wanted = Wanted {
            resource: &path.resource,
            kind,
            namespace,
            name: &path.name,
            object,
            is_own: &|found| mark.is_on(found),
            updates: self.request.restore.spec.existing_resource_policy == UPDATE,
        };
        let mut outcome = apply(&mut self.api, &wanted).await.map_err(ended)?;
        let has_managers = managed.as_array().is_some_and(|list| !list.is_empty());
        if has_managers && outcome.own.is_some() {
            // Who applies it again from its source is still the one who owns its fields.
            let patch = json!({"metadata": {"managedFields": managed}});
            match self
                .api
                .patch(kind, namespace, &path.name, &patch, None)
                .await
            {
                Ok(_) => {}
                // Whoever has made it go has no use for them.
                Err(Stop::Failed(error)) if error.is_not_found() => {}
                Err(Stop::Failed(error)) => outcome
                    .warnings
                    .push(format!("its managedFields cannot be restored: {error}")),
                Err(Stop::Cancelled) => return Err(RestoreError::Cancelled),
            }
        }
        if let (Some(status), true) = (status, outcome.own.is_some()) {
            let patch = json!({"status": status});
            let done = self
                .api
                .patch(kind, namespace, &path.name, &patch, Some("status"))
                .await;
            match done {
                Ok(_) => {}
                // Where the status is no part of its own, it was made with the object.
                Err(Stop::Failed(error)) if error.is_not_found() => {}
                Err(Stop::Failed(error)) => {
                    outcome
                        .warnings
                        .push(format!("its status cannot be restored: {error}"));
                }
                Err(Stop::Cancelled) => return Err(RestoreError::Cancelled),
            }
        }
        Ok(outcome)
    }

    /// The status, if it is restored: the object's own annotation says so, or else the restore.
    fn status_of(&self, kind: &ServedKind, object: &Value) -> Option<Value> {
        let status = object.get("status").filter(|status| !status.is_null())?;
        let wanted = match annotation(object, RESTORE_STATUS) {
            Some("true") => true,
            Some("false") => false,
            _ => {
                let spec = self.request.restore.spec.restore_status.as_ref();
                spec.is_some_and(|spec| {
                    let (included, excluded) = (&spec.included_resources, &spec.excluded_resources);
                    NameFilter::ignoring_empty(included, excluded)
                        .selects_by(|name| kind.resource.is_called(name))
                })
            }
        };
        wanted.then(|| status.clone())
    }

    /// Makes sure that there is a namespace of the backup.
    async fn namespace(&mut self, source: &str) -> Result<Result<ItemEnd, String>, RestoreError> {
        let name = self.scope.mapped(source).to_owned();
        let mark = &self.mark;
        let done = self
            .namespaces
            .ensure(
                &mut self.api,
                &self.items,
                (source, &name),
                &|object| mark.put(object),
                &|object| mark.is_on(object),
            )
            .await;
        done.map_err(ended)
    }

    /// What becomes of the volume of a claim.
    async fn fate_of_claim(
        &mut self,
        path: &ItemPath,
        object: &Value,
    ) -> Result<ClaimVolume, RestoreError> {
        let (CLAIMS, Some(namespace)) = (path.resource.as_str(), &path.namespace) else {
            return Ok(ClaimVolume::None);
        };
        let old = text(object, "/spec/volumeName");
        let asks = self.volumes.asks_for_old(namespace, &path.name, object);
        let (mut may_restore, mut is_there) = (false, false);
        if let (Some(old), true) = (old, asks) {
            may_restore = self
                .scope
                .allows(&ItemPath::cluster(VOLUMES, old), &self.kinds);
            if let Some(kind) = self.kinds.get(VOLUMES).cloned() {
                let found = match self.api.get(&kind, None, old).await {
                    Ok(found) => found,
                    Err(Stop::Cancelled) => return Err(RestoreError::Cancelled),
                    // The claim itself will tell what is wrong with the server.
                    Err(Stop::Failed(_)) => None,
                };
                let claim = (self.scope.mapped(namespace), path.name.as_str());
                is_there = found
                    .as_ref()
                    .is_some_and(|found| is_free_for(found, claim));
                // One that serves another claim is neither restored nor used.
                may_restore &= is_there || found.is_none();
            }
        }
        let claim = (namespace.as_str(), path.name.as_str());
        Ok(self
            .volumes
            .of_claim(claim, object, &self.items, may_restore, is_there))
    }

    /// An object of a kind that the server does not have. It is said once for each kind, and is an error unless the
    /// kind was the server's own, which newer servers lack.
    fn unserved(&mut self, path: &ItemPath) -> Outcome {
        let group = path.resource.split_once('.').map_or("", |(_, group)| group);
        let own = !group.contains('.') || group.ends_with(".k8s.io");
        let end = if own {
            ItemEnd::Skipped
        } else {
            ItemEnd::Failed
        };
        let mut outcome = Outcome::new(end);
        if self.unserved.insert(path.resource.clone()) {
            let count = self.items.of(&path.resource).count();
            let text = format!(
                "the server has no kind {}, of which the backup has {count} objects; none of them is restored",
                path.resource
            );
            if own {
                outcome.warnings.push(text);
            } else {
                outcome
                    .errors
                    .push(format!("{text}: restore or install its definition first"));
            }
        }
        outcome
    }

    /// Waits until the server serves what a definition defines.
    async fn until_served(
        &mut self,
        path: &ItemPath,
        kind: &ServedKind,
        outcome: &mut Outcome,
    ) -> Result<(), RestoreError> {
        let end = Instant::now() + DEFINITION_MAX;
        loop {
            let found = match self.api.get(kind, None, &path.name).await {
                Ok(found) => found.unwrap_or_default(),
                Err(Stop::Failed(error)) => {
                    outcome.errors.push(error.to_string());
                    return Ok(());
                }
                Err(Stop::Cancelled) => return Err(RestoreError::Cancelled),
            };
            if is_served(&found) {
                return Ok(());
            }
            if Instant::now() >= end {
                outcome.errors.push(format!(
                    "the server does not serve it after {} minutes",
                    DEFINITION_MAX.as_secs() / 60
                ));
                return Ok(());
            }
            self.api.pause(LOOK).await.map_err(ended)?;
        }
    }
}

/// Whether a persistent volume can serve a claim.
fn is_free_for(volume: &Value, (namespace, name): (&str, &str)) -> bool {
    let claim = &volume["spec"]["claimRef"];
    claim.is_null() || (claim["namespace"] == namespace && claim["name"] == name)
}
