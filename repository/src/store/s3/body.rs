//! The body of a put: parts that are sent as they are, without joining them in memory.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use aws_lc_rs::digest;
use aws_smithy_types::{base64, body::SdkBody};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use http_body::{Body, Frame, SizeHint};

use crate::secret::hex;

/// What is handed to the connection at once: small enough that a slow connection shows progress to the
/// watch over stalled uploads.
const FRAME_BYTES: usize = 256 << 10;

/// Bytes to send, shared with their copies.
#[derive(Clone)]
pub(super) struct Parts {
    all: Arc<[Bytes]>,
    next: usize,
    offset: usize,
    left: u64,
}

impl Parts {
    pub(super) fn new(parts: Vec<Bytes>) -> Self {
        let left = parts.iter().map(|part| part.len() as u64).sum();
        Self {
            all: parts.into(),
            next: 0,
            offset: 0,
            left,
        }
    }

    /// A body that can be sent again.
    pub(super) fn body(&self) -> SdkBody {
        let parts = self.clone();
        SdkBody::retryable(move || SdkBody::from_body_1_x(parts.clone()))
    }

    /// SHA-256 in hexadecimal.
    pub(super) fn sha256(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in &*self.all {
            context.update(part);
        }
        hex(context.finish().as_ref())
    }

    /// CRC-64/NVME as S3 writes it: base64 of its bytes, the largest first.
    pub(super) fn crc64_nvme(&self) -> String {
        base64::encode(self.crc(CrcAlgorithm::Crc64Nvme).to_be_bytes())
    }

    /// CRC-32C as S3 writes it.
    pub(super) fn crc32c(&self) -> String {
        base64::encode((self.crc(CrcAlgorithm::Crc32Iscsi) as u32).to_be_bytes())
    }

    fn crc(&self, algorithm: CrcAlgorithm) -> u64 {
        let mut digest = Digest::new(algorithm);
        for part in &*self.all {
            digest.update(part);
        }
        digest.finalize()
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            let Some(part) = self.all.get(self.next) else {
                return Poll::Ready(None);
            };
            let end = part.len().min(self.offset + FRAME_BYTES);
            let frame = part.slice(self.offset..end);
            if end == part.len() {
                self.next += 1;
                self.offset = 0;
            } else {
                self.offset = end;
            }
            if !frame.is_empty() {
                self.left -= frame.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(frame))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standards() {
        let parts = Parts::new(vec![
            Bytes::from_static(b"12345"),
            Bytes::from_static(b"6789"),
        ]);
        assert_eq!(
            parts.crc64_nvme(),
            base64::encode(0xae8b_1486_0a79_9888_u64.to_be_bytes())
        );
        assert_eq!(
            parts.crc32c(),
            base64::encode(0xe306_9283_u32.to_be_bytes())
        );
        assert!(parts.sha256().starts_with("15e2b0d3c33891eb"));
        assert_eq!(parts.body().content_length(), Some(9));
    }

    #[tokio::test]
    async fn a_body_is_its_parts_each_time_it_is_sent() {
        let long = Bytes::from(vec![7; FRAME_BYTES * 2 + 1]);
        let parts = Parts::new(vec![
            Bytes::new(),
            long.clone(),
            Bytes::new(),
            Bytes::from_static(b"end"),
        ]);
        let body = parts.body();
        for body in [body.try_clone().unwrap(), body] {
            let sent = aws_smithy_types::byte_stream::ByteStream::new(body);
            let sent = sent.collect().await.unwrap().into_bytes();
            assert_eq!(
                (&sent[..long.len()], &sent[long.len()..]),
                (&long[..], &b"end"[..])
            );
        }
    }
}
