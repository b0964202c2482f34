//! Finds out what a store can do, by doing it to objects that are deleted again.

use bytes::Bytes;
use futures_util::future::join;

use super::{Parts, S3Store, Want};
use crate::{
    error::{Error, Result},
    secret::{hex, random_bytes},
    store::{Capabilities, ChecksumMode, ObjectStore as _, Put},
};

/// Races of two creates each. A store that looks first and writes then loses one of them.
const ROUNDS: usize = 4;
/// Large enough that writing it takes a store a moment.
const BODY: usize = 64 << 10;

/// What the store can do. Its own settings do not matter for it and are not changed.
pub(super) async fn probe(store: &S3Store) -> Result<Capabilities> {
    let checksum = checksum(store).await?;
    let mut conditional_create = true;
    for _ in 0..ROUNDS {
        conditional_create = conditional_create && Box::pin(race(store, checksum)).await?;
    }
    Ok(Capabilities {
        conditional_create,
        checksum,
    })
}

fn probe_name() -> Result<String> {
    Ok(format!("probe/{}", hex(&random_bytes::<12>()?)))
}

fn content(fill: u8) -> Parts {
    Parts::new(vec![Bytes::from(vec![fill; BODY])])
}

/// The cheapest checksum that the store verifies: it refuses a wrong one and takes a right one.
async fn checksum(store: &S3Store) -> Result<ChecksumMode> {
    for mode in [ChecksumMode::Crc64Nvme, ChecksumMode::Crc32c] {
        let name = probe_name()?;
        let verified = verifies(store, &name, mode).await;
        let deleted = store.delete(&name).await;
        if verified? {
            return deleted.map(|()| mode);
        }
        deleted?;
    }
    Ok(ChecksumMode::Signature)
}

/// Whether the store refuses a wrong checksum and takes a right one.
async fn verifies(store: &S3Store, name: &str, mode: ChecksumMode) -> Result<bool> {
    for wrong in [true, false] {
        let put = store.put_with(name, &content(0), false, mode, wrong).await;
        let refused = match put {
            Err(error) if error.is_permanent() => true,
            Err(error) => return Err(error),
            Ok(_) => false,
        };
        if refused != wrong {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether of two creates at once exactly one wins, its content is kept, and a later one is refused.
async fn race(store: &S3Store, checksum: ChecksumMode) -> Result<bool> {
    let name = probe_name()?;
    let (one, two) = (content(1), content(2));
    let puts = join(
        store.put_with(&name, &one, true, checksum, false),
        store.put_with(&name, &two, true, checksum, false),
    );
    let results = Box::pin(puts).await;
    let proven = judge(store, &name, checksum, results).await;
    let deleted = store.delete(&name).await;
    let proven = proven?;
    deleted.map(|()| proven)
}

async fn judge(
    store: &S3Store,
    name: &str,
    checksum: ChecksumMode,
    results: (Result<Put>, Result<Put>),
) -> Result<bool> {
    let winner = match results {
        (Ok(Put::Created), Ok(Put::Exists)) => 1,
        (Ok(Put::Exists), Ok(Put::Created)) => 2,
        (Ok(_), Ok(_)) => return Ok(false),
        // A store that does not know the condition may refuse it.
        (Err(error), _) | (_, Err(error)) => {
            return if is_refusal(&error) {
                Ok(false)
            } else {
                Err(error)
            };
        }
    };
    let late = store
        .put_with(name, &content(3), true, checksum, false)
        .await?;
    let kept = store.get(name).await?;
    Ok(late == Put::Exists && kept.len() == BODY && kept.iter().all(|b| *b == winner))
}

/// Whether an answer says that the store does not know what was asked, rather than that this key may
/// not write.
fn is_refusal(error: &Error) -> bool {
    use crate::error::AccessError;
    matches!(error, Error::Access { action, source, .. } if *action == Want::Put.verb()
        && matches!(**source, AccessError::Rejected { .. }))
}
