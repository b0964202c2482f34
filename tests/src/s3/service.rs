//! The operations of S3 that an object store needs, over [`Objects`].

use std::{sync::Arc, time::SystemTime};

use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm;
use futures_util::StreamExt as _;
use s3s::{
    Body, S3, S3Request, S3Response, S3Result,
    auth::{S3Auth, SecretKey},
    dto::{
        DeleteObjectInput, DeleteObjectOutput, ETag, ETagCondition, GetObjectInput,
        GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
        ListObjectsV2Input, ListObjectsV2Output, Object, PutObjectInput, PutObjectOutput,
        StreamingBlob, Timestamp,
    },
    s3_error,
};

use super::{Options, backend::Objects};

/// One bucket.
pub(super) struct Bucket {
    pub(super) objects: Arc<Objects>,
    pub(super) options: Options,
}

/// The keys that the server knows.
pub(super) struct Keys(pub(super) Vec<(String, String)>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.0
            .iter()
            .find(|(id, _)| id == access_key)
            .map(|(_, secret)| SecretKey::from(secret.as_str()))
            .ok_or_else(|| s3_error!(InvalidAccessKeyId, "no such key"))
    }
}

fn internal(error: std::io::Error) -> s3s::S3Error {
    s3s::S3Error::internal_error(error)
}

fn etag(bytes: &[u8]) -> ETag {
    let sum = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes);
    ETag::Strong(format!("{sum:032x}"))
}

fn base64(bytes: &[u8]) -> String {
    aws_smithy_types::base64::encode(bytes)
}

/// No times are kept, but other programs want to see one.
#[allow(clippy::unnecessary_wraps, reason = "what the fields of answers hold")]
fn now() -> Option<Timestamp> {
    Some(SystemTime::now().into())
}

impl Bucket {
    fn check(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.options.bucket {
            Ok(())
        } else {
            Err(s3_error!(
                NoSuchBucket,
                "The specified bucket does not exist"
            ))
        }
    }

    fn find(&self, bucket: &str, key: &str) -> S3Result<Bytes> {
        self.check(bucket)?;
        let found = self.objects.get(key).map_err(internal)?;
        found.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        self.check(&input.bucket)?;
        let create = match input.if_none_match {
            Some(_) if self.options.refuses_conditional => {
                return Err(s3_error!(
                    NotImplemented,
                    "If-None-Match is not implemented"
                ));
            }
            Some(ETagCondition::Any) => self.options.conditional,
            _ => false,
        };
        let mut content = BytesMut::new();
        if let Some(mut body) = input.body {
            while let Some(part) = body.next().await {
                content.extend_from_slice(
                    &part.map_err(|e| s3_error!(IncompleteBody, "the body is cut off: {e}"))?,
                );
            }
        }
        let content = content.freeze();
        if self.options.checksums {
            let nvme = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &content);
            let castagnoli = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, &content) as u32;
            let wrong = |given: &Option<String>, right: &[u8]| {
                given.as_ref().is_some_and(|given| *given != base64(right))
            };
            if wrong(&input.checksum_crc64nvme, &nvme.to_be_bytes())
                || wrong(&input.checksum_crc32c, &castagnoli.to_be_bytes())
            {
                return Err(s3_error!(BadDigest, "the checksum is another"));
            }
        }
        let tag = etag(&content);
        if self
            .objects
            .put(&input.key, content, create)
            .map_err(internal)?
        {
            let output = PutObjectOutput {
                e_tag: Some(tag),
                ..Default::default()
            };
            Ok(S3Response::new(output))
        } else {
            Err(s3_error!(PreconditionFailed, "it exists"))
        }
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let content = self.find(&input.bucket, &input.key)?;
        let size = content.len() as u64;
        let (bytes, content_range) = match input.range {
            Some(range) if self.options.ranges => {
                let range = range.check(size)?;
                let last = range.end - 1;
                let header = format!("bytes {}-{last}/{size}", range.start);
                let part = content.slice(range.start as usize..range.end as usize);
                (part, Some(header))
            }
            _ => (content, None),
        };
        let output = GetObjectOutput {
            content_length: Some(bytes.len() as i64),
            content_range,
            last_modified: now(),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    /// Other programs, which are measured beside ours, ask for the bucket first.
    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.check(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let content = self.find(&request.input.bucket, &request.input.key)?;
        let output = HeadObjectOutput {
            content_length: Some(content.len() as i64),
            e_tag: Some(etag(&content)),
            last_modified: now(),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        self.check(&input.bucket)?;
        let after = input.continuation_token.or(input.start_after);
        let prefix = input.prefix.unwrap_or_default();
        let mut found = self
            .objects
            .list(&prefix, after.as_deref())
            .map_err(internal)?;
        let more = found.len() > self.options.page;
        found.truncate(self.options.page);
        let next = found.last().filter(|_| more).map(|(key, _)| key.clone());
        let object = |(key, size): (String, u64)| Object {
            key: Some(key),
            size: Some(size as i64),
            last_modified: now(),
            ..Default::default()
        };
        let output = ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            key_count: Some(found.len() as i32),
            contents: Some(found.into_iter().map(object).collect()),
            is_truncated: Some(more),
            next_continuation_token: next,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.check(&request.input.bucket)?;
        self.objects.delete(&request.input.key).map_err(internal)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }
}

/// The service over a bucket, with its keys.
pub(super) fn service(bucket: Bucket, keys: Keys) -> s3s::service::S3Service {
    let mut builder = s3s::service::S3ServiceBuilder::new(bucket);
    builder.set_auth(keys);
    builder.build()
}
