//! Streams of changes: of the state of runs, and of their logs.

use orlop_core::run::{Run, RunKind, RunPhase};
use orlop_proto::v1::{self, ReadLogResponse};
use tokio::sync::{
    broadcast::{Receiver, error::RecvError},
    mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Answers, Context, status::refused};
use crate::{records::Document, runs::RunKey};

/// Answers that wait for a slow reader.
const WAITING: usize = 16;

/// Makes the message of a run.
pub(super) type Message<T> = fn(&Run, Option<&Document>) -> T;

/// The state of one run (`name`) or of all, now and after every change.
pub(super) fn runs<T: Send + 'static>(
    context: &Context,
    kind: RunKind,
    name: Option<String>,
    message: Message<T>,
) -> Result<Answers<T>, Status> {
    let one = name.map(|name| RunKey::new(kind, name));
    let mut changes = context.runs.changes();
    let first = match &one {
        Some(key) => vec![context.runs.get(key).map_err(refused)?],
        None => context.runs.list(kind),
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let Context { runs, shutdown, .. } = context.clone();
    context.tasks.spawn(async move {
        let mut states = first;
        loop {
            let mut ended = false;
            for document in &states {
                let state = message(&document.run, Some(document));
                if sender.send(Ok(state)).await.is_err() {
                    return;
                }
                ended = one.is_some() && document.run.phase.is_final();
            }
            if ended {
                return;
            }
            let change = tokio::select! {
                () = shutdown.cancelled() => return,
                () = sender.closed() => return,
                change = changes.recv() => change,
            };
            states = match (change, &one) {
                (Err(RecvError::Closed), _) => return,
                (Err(RecvError::Lagged(_)), None) => runs.list(kind),
                (Ok(key), None) if key.kind != kind => Vec::new(),
                (Ok(key), Some(one)) if key != *one => Vec::new(),
                (Ok(key), None) => state_of(runs.get(&key).ok(), &key, &sender, message).await,
                (_, Some(key)) => {
                    let found = state_of(runs.get(key).ok(), key, &sender, message).await;
                    if found.is_empty() {
                        return;
                    }
                    found
                }
            };
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// The run's state as a list; of a run that is gone its reader is told at once.
async fn state_of<T>(
    found: Option<Document>,
    key: &RunKey,
    sender: &mpsc::Sender<Result<T, Status>>,
    message: Message<T>,
) -> Vec<Document> {
    if let Some(document) = found {
        return vec![document];
    }
    let mut run = Run::new(key.kind, &key.name, "", 0);
    run.phase = RunPhase::Deleting;
    // An error says that the reader is gone, which the next send finds too.
    let _ = sender.send(Ok(message(&run, None))).await;
    Vec::new()
}

/// The log of a run.
pub(super) fn log(
    context: &Context,
    key: RunKey,
    follow: bool,
    after: u64,
) -> Result<Answers<ReadLogResponse>, Status> {
    let mut changes = context.runs.changes();
    context.runs.get(&key).map_err(refused)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let Context { runs, shutdown, .. } = context.clone();
    context.tasks.spawn(async move {
        let mut after = after;
        loop {
            // A run that was deleted has no more lines.
            let Ok((lines, ended)) = runs.log(&key, after) else {
                return;
            };
            let idle = lines.is_empty();
            if let Some(last) = lines.last() {
                after = last.number;
                let lines = lines.into_iter().map(line).collect();
                if sender.send(Ok(ReadLogResponse { lines })).await.is_err() {
                    return;
                }
            }
            if ended || (idle && !follow) {
                return;
            }
            if idle {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = sender.closed() => return,
                    () = change_of(&key, &mut changes) => {}
                }
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Waits until the run may have changed.
async fn change_of(key: &RunKey, changes: &mut Receiver<RunKey>) {
    loop {
        match changes.recv().await {
            Ok(changed) if changed != *key => {}
            _ => return,
        }
    }
}

fn line(line: crate::state::LogLine) -> v1::LogLine {
    v1::LogLine {
        number: line.number,
        time_ms: line.time_ms,
        level: line.level,
        task_id: line.task,
        message: line.message,
    }
}
