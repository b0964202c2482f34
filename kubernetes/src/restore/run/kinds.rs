//! In which version an object is made.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;

use super::{Run, ended};
use crate::{
    client::{CALL_LIMIT, ClientError},
    collect::ServedKind,
    restore::{RestoreError, api::Stop},
};

impl Run<'_> {
    /// The kind of an object in the version that the object has; in the one that the server prefers if it no longer
    /// has that, which the flag says. `None` if the server does not have the kind at all.
    pub(super) async fn kind_of(
        &mut self,
        resource: &str,
        api_version: &str,
    ) -> Result<Option<(ServedKind, bool)>, RestoreError> {
        let Some(served) = self.kinds.get(resource).cloned() else {
            return Ok(None);
        };
        let version = api_version.rsplit('/').next().unwrap_or_default();
        if version == served.version || version.is_empty() {
            return Ok(Some((served, false)));
        }
        let wanted = ServedKind {
            version: version.to_owned(),
            ..served.clone()
        };
        if self.has_version(resource, &wanted).await? {
            Ok(Some((wanted, false)))
        } else {
            Ok(Some((served, true)))
        }
    }

    async fn has_version(
        &mut self,
        resource: &str,
        kind: &ServedKind,
    ) -> Result<bool, RestoreError> {
        let key = (resource.to_owned(), kind.version.clone());
        if let Some(known) = self.versions.get(&key) {
            return Ok(*known);
        }
        let connection = self.api.connection;
        let group_version = &kind.api_version();
        let is_core = kind.resource.group.is_empty();
        let list = self.api.patiently(async || {
            let list: Result<APIResourceList, ClientError> = connection
                .call(CALL_LIMIT, async |client| {
                    if is_core {
                        client.list_core_api_resources(group_version).await
                    } else {
                        client.list_api_group_resources(group_version).await
                    }
                })
                .await;
            list
        });
        let has = match list.await {
            Ok(list) => list
                .resources
                .iter()
                .any(|one| one.name == kind.resource.plural),
            Err(Stop::Failed(error)) if error.is_not_found() => false,
            Err(stop) => return Err(ended(stop)),
        };
        self.versions.insert(key, has);
        Ok(has)
    }
}
