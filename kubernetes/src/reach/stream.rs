//! Bytes to and from a port of a pod.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use kube::api::Portforwarder;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::ReachError;

type Complaint = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// A connection to a port of a pod; it ends with the value.
pub struct PodStream {
    bytes: DuplexStream,
    /// What the node says if the port cannot be used.
    complaint: Option<Complaint>,
    forwarder: Portforwarder,
    pod: String,
}

impl std::fmt::Debug for PodStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodStream")
            .field("pod", &self.pod)
            .finish_non_exhaustive()
    }
}

impl PodStream {
    pub(super) fn new(
        mut forwarder: Portforwarder,
        pod: &str,
        port: u16,
    ) -> Result<Self, ReachError> {
        let bytes = forwarder.take_stream(port);
        let complaint = forwarder.take_error(port);
        let Some(bytes) = bytes else {
            let pod = pod.to_owned();
            return Err(ReachError::NoStream { pod, port });
        };
        Ok(Self {
            bytes,
            complaint: complaint.map(|one| Box::pin(one) as Complaint),
            forwarder,
            pod: pod.to_owned(),
        })
    }

    /// What the node has said, once the bytes have ended.
    fn complained(&mut self, context: &mut Context<'_>) -> Option<io::Error> {
        let complaint = self.complaint.as_mut()?;
        let Poll::Ready(said) = complaint.as_mut().poll(context) else {
            return None;
        };
        self.complaint = None;
        let (pod, said) = (&self.pod, said?);
        let message = format!("the node of pod {pod} cannot reach it: {}", said.trim());
        Some(io::Error::new(io::ErrorKind::ConnectionRefused, message))
    }
}

impl Drop for PodStream {
    fn drop(&mut self) {
        // The task would else wait for an API server that does not close its side.
        self.forwarder.abort();
    }
}

impl AsyncRead for PodStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        ready!(Pin::new(&mut self.bytes).poll_read(context, buffer))?;
        let has_ended = buffer.filled().len() == before && room > 0;
        match has_ended.then(|| self.complained(context)).flatten() {
            Some(error) => Poll::Ready(Err(error)),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for PodStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(context)
    }
}
