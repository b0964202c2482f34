//! One attempt to put or get an object through the coordinator.

use bytes::{Bytes, BytesMut};
use orlop_proto::v1::{self, put_request::Piece, put_response::Answer, store_client::StoreClient};
use orlop_repository::store::Put;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::pieces::Pieces;
use crate::app::Client;

/// Pieces of a put that wait for the network.
const WAITING: usize = 2;

/// One attempt to put: asks, waits until the coordinator has room, sends, waits for the end.
pub(super) async fn put(
    mut client: StoreClient<Client>,
    header: v1::PutHeader,
    parts: &[Bytes],
) -> Result<Put, Status> {
    let (sender, requests) = mpsc::channel(WAITING);
    let request = |piece| v1::PutRequest { piece: Some(piece) };
    let closed = |_| Status::cancelled("the call has ended");
    let header = request(Piece::Header(header));
    sender.send(header).await.map_err(closed)?;
    let answers = client.put(ReceiverStream::new(requests)).await?;
    let mut answers = answers.into_inner();
    match answers.message().await?.and_then(|message| message.answer) {
        Some(Answer::Ready(_)) => {}
        _ => {
            return Err(Status::internal(
                "the coordinator does not say that it is ready",
            ));
        }
    }
    let send = async {
        for data in Pieces::of(parts) {
            // The coordinator takes no more: it says why.
            if sender.send(request(Piece::Data(data))).await.is_err() {
                break;
            }
        }
        drop(sender);
    };
    let answer = tokio::select! {
        answer = answers.message() => answer?,
        () = send => answers.message().await?,
    };
    match answer.and_then(|message| message.answer) {
        Some(Answer::Done(done)) if done.created => Ok(Put::Created),
        Some(Answer::Done(_)) => Ok(Put::Exists),
        _ => Err(Status::internal(
            "the coordinator does not say how it ended",
        )),
    }
}

/// One attempt to get, at most `most` bytes.
pub(super) async fn get(
    mut client: StoreClient<Client>,
    request: v1::GetRequest,
    most: u64,
) -> Result<Bytes, Status> {
    let broken = || Status::internal("the coordinator sends other bytes than it was asked for");
    let exact = request.range.is_some_and(|range| !range.up_to);
    let mut answers = client.get(request).await?.into_inner();
    let Some(first) = answers.message().await? else {
        let empty = Bytes::new();
        return if exact && most > 0 {
            Err(broken())
        } else {
            Ok(empty)
        };
    };
    let mut bytes = first.data;
    if let Some(second) = answers.message().await? {
        let capacity = if exact {
            most as usize
        } else {
            4 * bytes.len()
        };
        let mut all = BytesMut::with_capacity(capacity.min(most as usize));
        all.extend_from_slice(&bytes);
        let mut next = Some(second);
        while let Some(piece) = next {
            if (all.len() + piece.data.len()) as u64 > most {
                return Err(broken());
            }
            all.extend_from_slice(&piece.data);
            next = answers.message().await?;
        }
        bytes = all.freeze();
    }
    let len = bytes.len() as u64;
    if len > most || exact && len < most {
        return Err(broken());
    }
    Ok(bytes)
}
