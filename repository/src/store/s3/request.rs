//! Single requests: a PUT with what proves its content, a GET with all that its answer promised.

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::{
    client::customize::CustomizableOperation,
    error::SdkError,
    operation::{
        get_object::GetObjectOutput,
        put_object::{PutObjectError, PutObjectOutput, builders::PutObjectFluentBuilder},
    },
    primitives::ByteStream,
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextMut},
        orchestrator::HttpResponse,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use bytes::{Bytes, BytesMut};

use super::{
    S3Store,
    body::Parts,
    explain::{self, Want},
};
use crate::{
    error::{AccessError, Error, Result},
    store::{ChecksumMode, Put},
};

/// Larger objects are in no repository; what claims to be one is not read into memory.
pub(super) const OBJECT_MAX: u64 = 2 << 30;

/// Which bytes of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) offset: u64,
    /// Not zero.
    pub(super) len: u64,
}

/// Bytes of an object, and how many it has.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    pub(super) object_bytes: u64,
}

/// What a range of an object turned out to be.
pub(super) enum Read {
    Part(Part),
    /// The object ends before the range; its size if the store told it.
    Beyond(Option<u64>),
}

impl S3Store {
    /// One PUT. `conditional`: only if there is no such object; `wrong`: with a checksum that does not
    /// fit, to see whether the store verifies it.
    pub(super) async fn put_with(
        &self,
        name: &str,
        parts: &Parts,
        conditional: bool,
        checksum: ChecksumMode,
        wrong: bool,
    ) -> Result<Put> {
        let connection = self.connection(Want::Put, name).await?;
        let mut request = connection
            .client
            .put_object()
            .bucket(&self.url.bucket)
            .key(self.key(name))
            .body(ByteStream::new(parts.body()));
        if conditional {
            request = request.if_none_match("*");
        }
        let request = self.proven(request, parts, checksum, wrong);
        match request.send().await {
            Ok(_) => Ok(Put::Created),
            Err(error) if status(&error) == Some(412) && conditional => Ok(Put::Exists),
            Err(error) => Err(self.explain(Want::Put, name, error)),
        }
    }

    /// Adds what proves the content. Only one of checksum and signed content is needed; on an open
    /// network the signature must cover the content, else another could be put in its place.
    fn proven(
        &self,
        request: PutObjectFluentBuilder,
        parts: &Parts,
        checksum: ChecksumMode,
        wrong: bool,
    ) -> CustomizableOperation<PutObjectOutput, PutObjectError, PutObjectFluentBuilder> {
        let other = Parts::new(vec![Bytes::from_static(b"other content")]);
        let summed = if wrong { &other } else { parts };
        let request = match checksum {
            ChecksumMode::Signature => request,
            ChecksumMode::Crc32c => request.checksum_crc32_c(summed.crc32c()),
            ChecksumMode::Crc64Nvme => request.checksum_crc64_nvme(summed.crc64_nvme()),
        };
        let open = self
            .url
            .endpoint
            .as_ref()
            .is_some_and(|e| !e.tls && !e.is_loopback());
        let signing = if checksum == ChecksumMode::Signature || open {
            PayloadSigningOverride::Precomputed(parts.sha256())
        } else {
            PayloadSigningOverride::UnsignedPayload
        };
        request.customize().interceptor(Signing(signing))
    }

    pub(super) async fn read(&self, want: Want, name: &str, range: Option<Range>) -> Result<Read> {
        let connection = self.connection(want, name).await?;
        let request = connection
            .client
            .get_object()
            .bucket(&self.url.bucket)
            .key(self.key(name))
            .set_range(range.map(|r| format!("bytes={}-{}", r.offset, r.offset + (r.len - 1))));
        let output = match request.send().await {
            Err(error) if range.is_some() && status(&error) == Some(416) => {
                let total = error
                    .raw_response()
                    .and_then(|r| r.headers().get("content-range"));
                return Ok(Read::Beyond(total.and_then(total_of)));
            }
            Err(error) => return Err(self.explain(want, name, error)),
            Ok(output) => output,
        };
        self.body(want, name, range, output).await.map(Read::Part)
    }

    /// The bytes of an answer, all that it promised.
    async fn body(
        &self,
        want: Want,
        name: &str,
        range: Option<Range>,
        mut output: GetObjectOutput,
    ) -> Result<Part> {
        let promised = output.content_length().and_then(|n| u64::try_from(n).ok());
        // Without a content range the answer is the whole object: some stores know no ranges.
        let total = match output.content_range() {
            Some(range) => total_of(range),
            None => promised,
        };
        let whole = output.content_range().is_none();
        let skip = range.filter(|_| whole).map_or(0, |r| r.offset);
        let most = range.map_or(OBJECT_MAX, |r| skip.saturating_add(r.len));
        let mut body = BytesMut::new();
        let mut only = Bytes::new();
        let mut got = 0u64;
        while let Some(next) = output.body.next().await {
            let next =
                next.map_err(|e| self.fail(want, name, explain::broken(&explain::text(&e))))?;
            got += next.len() as u64;
            if got == next.len() as u64 {
                only = next;
            } else {
                if body.is_empty() {
                    body.reserve(promised.unwrap_or(0).clamp(got, 32 << 20) as usize);
                    body.extend_from_slice(&std::mem::take(&mut only));
                }
                body.extend_from_slice(&next);
            }
            if got > OBJECT_MAX {
                return Err(Error::damaged(
                    name,
                    "it is larger than any object of a repository",
                ));
            }
            if whole && range.is_some() && got >= most {
                break;
            }
        }
        let stopped = whole && range.is_some() && got >= most;
        if let Some(promised) = promised.filter(|promised| got < *promised && !stopped) {
            return Err(self.fail(want, name, AccessError::Short { got, promised }));
        }
        let bytes = if body.is_empty() { only } else { body.freeze() };
        let end = (bytes.len() as u64).min(most) as usize;
        Ok(Part {
            bytes: bytes.slice((skip as usize).min(end)..end),
            object_bytes: total.unwrap_or(got),
        })
    }
}

pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|raw| raw.status().as_u16())
}

/// The object's size in a `Content-Range`.
fn total_of(range: &str) -> Option<u64> {
    range.rsplit_once('/')?.1.parse().ok()
}

/// Says how the content of a request is signed.
#[derive(Debug)]
struct Signing(PayloadSigningOverride);

impl Intercept for Signing {
    fn name(&self) -> &'static str {
        "Signing"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(self.0.clone());
        Ok(())
    }
}
