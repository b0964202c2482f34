//! Objects of one kind: to read, make, change and remove them.

use std::{fmt::Debug, marker::PhantomData, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::{
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::Request,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    connection::{CALL_LIMIT, Connection, PAGE_LIMIT},
    error::ClientError,
};

/// Objects in one page of a list: what other clients of Kubernetes use too.
pub(crate) const PAGE_OBJECTS: u32 = 500;

/// Under which name our changes are recorded in an object's managed fields.
pub(crate) const FIELD_MANAGER: &str = "orlop";

/// How often a list begins anew whose pages have expired underway.
const LISTS_MAX: u32 = 3;

/// A kind of object that we have a type for.
pub trait ObjectKind:
    kube::Resource<DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> ObjectKind for K where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// An object that exists but cannot be read as its type, for somebody wrote nonsense into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableObject {
    /// Its namespace, empty for an object of the cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// What is wrong with it.
    pub message: String,
}

/// What a list has found.
#[derive(Debug, Clone)]
pub struct Listing<K> {
    /// The objects, in the server's order: by namespace and name.
    pub objects: Vec<K>,
    /// Those that cannot be read.
    pub unreadable: Vec<UnreadableObject>,
    /// The point in time from which a watch can go on.
    pub(crate) resource_version: String,
}

/// A page of a list, with its objects as they came.
#[derive(Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    pub(crate) metadata: ListMeta,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) items: Vec<Value>,
}

/// Go writes an empty list as null in some places.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Value>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Objects of one kind, in one namespace or in all. Cheap to clone.
///
/// Every call ends within half a minute, a page of a list within one. A call whose future is dropped may still be
/// done by the server.
pub struct Objects<K> {
    pub(crate) connection: Connection,
    /// Of the namespace, or of all.
    pub(crate) request: Request,
    path: Arc<str>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Objects<K> {
    fn clone(&self) -> Self {
        Self {
            connection: self.connection.clone(),
            request: Request::new(self.path.as_ref()),
            path: Arc::clone(&self.path),
            kind: PhantomData,
        }
    }
}

impl<K> Debug for Objects<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Objects").field(&self.path).finish()
    }
}

impl<K: ObjectKind> Objects<K> {
    /// Those of `namespace`; with `None` those of all namespaces, or those of the cluster if the kind has no
    /// namespaces. Only lists and watches make sense over all namespaces.
    pub fn of(connection: &Connection, namespace: Option<&str>) -> Self {
        let path = K::url_path(&(), namespace);
        Self {
            connection: connection.clone(),
            request: Request::new(path.as_str()),
            path: path.into(),
            kind: PhantomData,
        }
    }

    /// An object; `None` if there is none of that name.
    ///
    /// # Errors
    /// The server does not answer or refuses, or the object cannot be read as its type.
    pub async fn get(&self, name: &str) -> Result<Option<K>, ClientError> {
        let answer = self
            .connection
            .call(CALL_LIMIT, async |client| {
                let request = self.request.get(name, &GetParams::default());
                let request = request.map_err(kube::Error::BuildRequest)?;
                client.request_text(request).await
            })
            .await;
        match answer {
            Ok(text) => self.read(name, &text).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The objects whose labels match `selector`, such as `app=shop,tier!=test`; all with `""`.
    ///
    /// Objects that cannot be read as their type are left out, with a warning in the log.
    ///
    /// # Errors
    /// The server does not answer or refuses, or goes on forgetting the list before its end.
    pub async fn list(&self, selector: &str) -> Result<Vec<K>, ClientError> {
        let listing = self.list_all(selector).await?;
        for one in &listing.unreadable {
            tracing::warn!(
                kind = %K::kind(&()), namespace = one.namespace, name = one.name, error = one.message,
                "an object cannot be read and is left out"
            );
        }
        Ok(listing.objects)
    }

    /// The same, with those that cannot be read. All are of one point in time.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn list_all(&self, selector: &str) -> Result<Listing<K>, ClientError> {
        let mut lists = 1;
        loop {
            match self.list_once(selector).await {
                Err(ClientError::Expired { .. }) if lists < LISTS_MAX => lists += 1,
                done => return done,
            }
        }
    }

    async fn list_once(&self, selector: &str) -> Result<Listing<K>, ClientError> {
        let mut listing = Listing {
            objects: Vec::new(),
            unreadable: Vec::new(),
            resource_version: String::new(),
        };
        let mut point = None;
        loop {
            let page = list_page(&self.connection, &self.request, selector, point.as_deref());
            let page = page.await?;
            for object in page.items {
                match parse(object) {
                    Ok(object) => listing.objects.push(object),
                    Err(unreadable) => listing.unreadable.push(unreadable),
                }
            }
            listing.resource_version = page.metadata.resource_version.unwrap_or_default();
            point = page.metadata.continue_.filter(|point| !point.is_empty());
            if point.is_none() {
                return Ok(listing);
            }
        }
    }

    /// Makes an object and returns it as the server keeps it.
    ///
    /// # Errors
    /// One of that name exists, its namespace does not, or the server does not answer or refuses. After
    /// [`ClientError::TimedOut`] and [`ClientError::Unavailable`] it may exist all the same.
    pub async fn create(&self, object: &K) -> Result<K, ClientError> {
        let body = serde_json::to_vec(object).map_err(|error| ClientError::Request {
            message: error.to_string(),
        })?;
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let text = self
            .connection
            .call(CALL_LIMIT, async |client| {
                let request = self.request.create(&parameters, body.clone());
                let request = request.map_err(kube::Error::BuildRequest)?;
                client.request_text(request).await
            })
            .await?;
        self.read("", &text)
    }

    /// Makes an object of this name, or merges `patch` into the one that is there.
    ///
    /// # Errors
    /// Its namespace does not exist, or the server does not answer or refuses. To do it again does no harm.
    pub async fn create_or_merge(
        &self,
        name: &str,
        object: &K,
        patch: &Value,
    ) -> Result<(), ClientError> {
        match self.create(object).await {
            Err(ClientError::AlreadyExists { .. }) => self.merge_patch(name, patch).await.map(drop),
            made => made.map(drop),
        }
    }

    /// Merges `patch` into an object, its status included, and returns what became of it. A field that is null
    /// there is removed; a list is replaced as a whole. With `metadata.resourceVersion` in the patch it succeeds
    /// only if nobody else has changed the object since.
    ///
    /// # Errors
    /// There is no such object, it has changed since, or the server does not answer or refuses. To do it again
    /// does no harm.
    pub async fn merge_patch(&self, name: &str, patch: &Value) -> Result<K, ClientError> {
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let text = self
            .connection
            .call(CALL_LIMIT, async |client| {
                let request = self.request.patch(name, &parameters, &Patch::Merge(patch));
                let request = request.map_err(kube::Error::BuildRequest)?;
                client.request_text(request).await
            })
            .await?;
        self.read(name, &text)
    }

    /// Removes an object, and in the background what it owns; with `uid`, only if it is still the same object.
    /// One with finalizers stays until they are gone. The answer is false if it was not there, or another one of
    /// its name.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn delete(&self, name: &str, uid: Option<&str>) -> Result<bool, ClientError> {
        let mut parameters = DeleteParams::background();
        if let Some(uid) = uid {
            parameters = parameters.preconditions(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            });
        }
        let answer = self
            .connection
            .call(CALL_LIMIT, async |client| {
                let request = self.request.delete(name, &parameters);
                let request = request.map_err(kube::Error::BuildRequest)?;
                client.request_text(request).await
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(ClientError::NotFound { .. }) => Ok(false),
            Err(ClientError::Conflict { message }) if uid.is_some() && speaks_of_uid(&message) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn read(&self, name: &str, text: &str) -> Result<K, ClientError> {
        serde_json::from_str(text).map_err(|error| ClientError::Unreadable {
            what: format!("{} {name:?} of {}", K::kind(&()), self.path),
            message: error.to_string(),
        })
    }
}

/// The server has two wordings for an object that is no longer the same.
fn speaks_of_uid(message: &str) -> bool {
    message.contains("UID in ")
}

/// One page of a list, from the point where the one before it ended.
pub(crate) async fn list_page(
    connection: &Connection,
    request: &Request,
    selector: &str,
    point: Option<&str>,
) -> Result<Page, ClientError> {
    let mut parameters = ListParams::default().limit(PAGE_OBJECTS);
    if !selector.is_empty() {
        parameters = parameters.labels(selector);
    }
    if let Some(point) = point {
        parameters = parameters.continue_token(point);
    }
    let text = connection
        .call(PAGE_LIMIT, async |client| {
            let request = request.list(&parameters);
            let request = request.map_err(kube::Error::BuildRequest)?;
            client.request_text(request).await
        })
        .await?;
    serde_json::from_str(&text).map_err(|error| ClientError::Unreadable {
        what: "the API server's list".to_owned(),
        message: error.to_string(),
    })
}

/// An object as its type.
pub(crate) fn parse<K: DeserializeOwned>(object: Value) -> Result<K, UnreadableObject> {
    let text = |key: &str| {
        let value = object["metadata"][key].as_str();
        value.unwrap_or_default().to_owned()
    };
    let mut unreadable = UnreadableObject {
        namespace: text("namespace"),
        name: text("name"),
        uid: text("uid"),
        message: String::new(),
    };
    serde_json::from_value(object).map_err(|error| {
        unreadable.message = error.to_string();
        unreadable
    })
}
