//! Objects in a bucket of S3, Amazon's or compatible.
//!
//! An object is created by one plain PUT with `If-None-Match: *`: whole and never overwritten. Nothing is
//! tried again here; [`RetryStore`](super::RetryStore) does that.

mod body;
mod client;
mod explain;
mod probe;
mod request;
mod url;

use std::{
    fmt,
    sync::{PoisonError, RwLock},
};

use async_trait::async_trait;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;
use orlop_core::S3Keys;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use self::{
    body::Parts,
    client::Connection,
    explain::{Asked, Want},
    request::{OBJECT_MAX, Range, Read, status},
};
use super::{
    Capabilities, Durability, ListPage, ObjectInfo, ObjectStore, Put, StoreOptions, check_name,
    check_prefix,
};
use crate::error::{AccessError, Error, Result};

pub use self::url::S3Url;

/// Keys to a bucket, for who does not want them from the environment.
#[derive(Clone)]
pub struct S3Credentials {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
}

impl S3Credentials {
    /// An access key with its secret, and the token if they are temporary.
    pub fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Self {
        Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Zeroizing::new(secret_access_key.to_owned()),
            session_token: session_token.map(|token| Zeroizing::new(token.to_owned())),
        }
    }
}

impl From<&S3Keys> for S3Credentials {
    fn from(keys: &S3Keys) -> Self {
        let token = Some(keys.session_token.as_str()).filter(|token| !token.is_empty());
        Self::new(&keys.access_key_id, &keys.secret_access_key, token)
    }
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Credentials(…)")
    }
}

/// A bucket, or the part of one below a prefix. Nobody is asked anything before the first call.
#[derive(Debug)]
pub struct S3Store {
    url: S3Url,
    credentials: Option<S3Credentials>,
    /// Authorities to trust instead of those of the URL or the system; may be empty.
    ca_pem: String,
    connection: OnceCell<Connection>,
    capabilities: RwLock<Capabilities>,
}

impl S3Store {
    /// The store at `url`, with credentials from the environment: variables, profiles, a web identity
    /// token, a container's role, an instance's role.
    pub fn new(url: S3Url) -> Self {
        Self {
            url,
            credentials: None,
            ca_pem: String::new(),
            connection: OnceCell::new(),
            capabilities: RwLock::default(),
        }
    }

    /// The same with these credentials and no others.
    #[must_use]
    pub fn with_credentials(mut self, credentials: S3Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// The same with keys and authorities of its own, as far as there are any.
    #[must_use]
    pub(crate) fn with_options(mut self, options: StoreOptions) -> Self {
        self.credentials = options.credentials;
        self.ca_pem = options.ca_pem;
        self
    }

    fn key(&self, name: &str) -> String {
        if self.url.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.url.prefix)
        }
    }

    fn capabilities(&self) -> Capabilities {
        *self
            .capabilities
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(&self, want: Want, name: &str) -> Result<&Connection> {
        self.connection
            .get_or_try_init(|| client::connect(&self.url, self.credentials.as_ref(), &self.ca_pem))
            .await
            .map_err(|cause| self.fail(want, name, cause))
    }

    fn fail(&self, want: Want, name: &str, cause: AccessError) -> Error {
        Error::Access {
            action: want.verb(),
            name: if name.is_empty() { "objects" } else { name }.to_owned(),
            store: self.description(),
            source: Box::new(cause),
        }
    }

    fn missing(&self, name: &str) -> Error {
        Error::NotFound {
            name: name.to_owned(),
            store: self.description(),
        }
    }

    /// The error of a request for an object.
    fn explain<E>(&self, want: Want, name: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let code = error.as_service_error().and_then(|e| e.code());
        let silent = || {
            error
                .raw_response()
                .is_some_and(|r| r.body().bytes() == Some(b""))
        };
        let missing = matches!(code, Some("NoSuchKey" | "NotFound"))
            || (status(&error) == Some(404) && code.is_none() && silent());
        if missing && matches!(want, Want::Get | Want::Stat) {
            return self.missing(name);
        }
        if matches!(
            code,
            Some("QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded")
        ) || status(&error) == Some(507)
        {
            return Error::Full {
                name: name.to_owned(),
                store: self.description(),
            };
        }
        let asked = Asked {
            want,
            url: &self.url,
            endpoint: self.endpoint(),
            region: self.connection.get().map_or("", |c| &c.region),
        };
        self.fail(want, name, asked.explain(error))
    }

    /// The server, for messages.
    fn endpoint(&self) -> String {
        match &self.url.endpoint {
            Some(endpoint) => endpoint.to_string(),
            None => "Amazon S3".to_owned(),
        }
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, name: &str, parts: Vec<Bytes>, _durability: Durability) -> Result<Put> {
        check_name(name)?;
        let Capabilities {
            conditional_create,
            checksum,
        } = self.capabilities();
        // Without conditional creates this is all that keeps an object from being overwritten.
        if !conditional_create && self.stat(name).await?.is_some() {
            return Ok(Put::Exists);
        }
        let parts = Parts::new(parts);
        self.put_with(name, &parts, conditional_create, checksum, false)
            .await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        check_name(name)?;
        match self.read(Want::Get, name, None).await? {
            Read::Part(part) => Ok(part.bytes),
            Read::Beyond(_) => Ok(Bytes::new()),
        }
    }

    async fn get_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        check_name(name)?;
        let short = |size: Option<u64>| {
            let size = size.map_or_else(|| "fewer".to_owned(), |n| n.to_string());
            Error::damaged(
                name,
                format!("it has {size} bytes, {len} at {offset} were wanted"),
            )
        };
        // Some servers reckon in signed or short numbers, and a range of nothing cannot be asked for.
        if len == 0 || offset.saturating_add(len) > OBJECT_MAX {
            let Some(found) = self.stat(name).await? else {
                return Err(self.missing(name));
            };
            let fits = offset.checked_add(len).is_some_and(|end| end <= found.size);
            return if fits {
                Ok(Bytes::new())
            } else {
                Err(short(Some(found.size)))
            };
        }
        match self
            .read(Want::Get, name, Some(Range { offset, len }))
            .await?
        {
            Read::Part(part) if part.bytes.len() as u64 == len => Ok(part.bytes),
            Read::Part(part) => Err(short(Some(part.object_bytes))),
            Read::Beyond(size) => Err(short(size)),
        }
    }

    async fn get_up_to(&self, name: &str, offset: u64, max_len: u64) -> Result<Bytes> {
        check_name(name)?;
        let len = max_len.min(OBJECT_MAX.saturating_sub(offset));
        if len == 0 {
            return match self.stat(name).await? {
                Some(_) => Ok(Bytes::new()),
                None => Err(self.missing(name)),
            };
        }
        match self
            .read(Want::Get, name, Some(Range { offset, len }))
            .await?
        {
            Read::Part(part) => Ok(part.bytes),
            Read::Beyond(_) => Ok(Bytes::new()),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.list_page(prefix, cursor).await?;
            found.extend(page.objects);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        found.sort();
        Ok(found)
    }

    async fn list_page(&self, prefix: &str, cursor: Option<String>) -> Result<ListPage> {
        check_prefix(prefix)?;
        let connection = self.connection(Want::List, prefix).await?;
        let output = connection
            .client
            .list_objects_v2()
            .bucket(&self.url.bucket)
            .set_prefix(Some(self.key(prefix)).filter(|key| !key.is_empty()))
            .set_continuation_token(cursor)
            .send()
            .await
            .map_err(|error| self.explain(Want::List, prefix, error))?;
        let base = self.key("");
        let mut objects = Vec::with_capacity(output.contents().len());
        for object in output.contents() {
            // What is not named as objects are was put there by others.
            let name = object.key().and_then(|key| key.strip_prefix(&base));
            let Some(name) = name.filter(|name| check_name(name).is_ok()) else {
                continue;
            };
            objects.push(ObjectInfo {
                name: name.to_owned(),
                size: object
                    .size()
                    .and_then(|n| u64::try_from(n).ok())
                    .unwrap_or(0),
            });
        }
        let more = output.is_truncated() == Some(true);
        let next = output.next_continuation_token.filter(|_| more);
        if more && next.is_none() {
            let cause = explain::broken("the list is cut off and does not say how it goes on");
            return Err(self.fail(Want::List, prefix, cause));
        }
        Ok(ListPage { objects, next })
    }

    async fn stat(&self, name: &str) -> Result<Option<ObjectInfo>> {
        check_name(name)?;
        let connection = self.connection(Want::Stat, name).await?;
        let request = connection
            .client
            .head_object()
            .bucket(&self.url.bucket)
            .key(self.key(name));
        let info = |size| ObjectInfo {
            name: name.to_owned(),
            size,
        };
        match request.send().await {
            Ok(output) => {
                let size = output.content_length().and_then(|n| u64::try_from(n).ok());
                Ok(Some(info(size.unwrap_or(0))))
            }
            Err(error) if status(&error) == Some(404) => Ok(None),
            // The answer to a HEAD has no body that could say why: the same is asked once more as a GET.
            Err(error) if matches!(status(&error), Some(300..=499)) => {
                let first = Range { offset: 0, len: 1 };
                match self.read(Want::Stat, name, Some(first)).await {
                    Ok(Read::Part(part)) => Ok(Some(info(part.object_bytes))),
                    Ok(Read::Beyond(size)) => Ok(Some(info(size.unwrap_or(0)))),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(self.explain(Want::Stat, name, error)),
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        let connection = self.connection(Want::Delete, name).await?;
        let request = connection
            .client
            .delete_object()
            .bucket(&self.url.bucket)
            .key(self.key(name));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let code = error.as_service_error().and_then(|e| e.meta().code());
                let bucket = code == Some("NoSuchBucket");
                if status(&error) == Some(404) && !bucket {
                    Ok(())
                } else {
                    Err(self.explain(Want::Delete, name, error))
                }
            }
        }
    }

    async fn barrier(&self) -> Result<()> {
        // What a store has answered for is durable.
        Ok(())
    }

    fn description(&self) -> String {
        self.url.place()
    }

    async fn probe(&self) -> Result<Option<Capabilities>> {
        Box::pin(probe::probe(self)).await.map(Some)
    }

    fn set_capabilities(&self, capabilities: Capabilities) {
        *self
            .capabilities
            .write()
            .unwrap_or_else(PoisonError::into_inner) = capabilities;
    }
}
