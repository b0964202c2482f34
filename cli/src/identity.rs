//! Certificates in programs that run for long: the server's are renewed, and those that an agent trusts are read again.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use orlop_runtime::identity::Authority;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

/// A server looks this often whether its certificates must be renewed.
const RENEW_TICK: Duration = Duration::from_hours(24);
/// An agent looks this often whether it is to trust others.
const READ_TICK: Duration = Duration::from_secs(30);

/// Looks each day whether the server's identity has been renewed, and cancels `stop` when it has. The task ends with
/// `stop`, and says whether it was it who cancelled.
pub(crate) fn renew(
    dir: PathBuf,
    names: Vec<String>,
    current: Authority,
    stop: CancellationToken,
) -> JoinHandle<bool> {
    renew_every(RENEW_TICK, dir, names, current, stop)
}

fn renew_every(
    tick: Duration,
    dir: PathBuf,
    names: Vec<String>,
    current: Authority,
    stop: CancellationToken,
) -> JoinHandle<bool> {
    tokio::spawn(async move {
        let renewed = async {
            loop {
                sleep(tick).await;
                if differs(&dir, &names, &current).await {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => false,
            () = renewed => {
                tracing::info!("certificates were renewed: the server starts again with them");
                stop.cancel();
                true
            }
        }
    })
}

async fn differs(dir: &Path, names: &[String], current: &Authority) -> bool {
    let (dir, names) = (dir.to_owned(), names.to_owned());
    let loaded = tokio::task::spawn_blocking(move || Authority::load_or_create(&dir, &names)).await;
    match loaded {
        Ok(Ok(now)) => (&now.ca_pem, &now.cert_pem) != (&current.ca_pem, &current.cert_pem),
        Ok(Err(error)) => {
            tracing::warn!(%error, "certificates cannot be renewed now");
            false
        }
        Err(error) => {
            tracing::error!(%error, "renewing certificates has panicked");
            false
        }
    }
}

/// Waits until `path` holds other certificates than `current`.
pub(crate) async fn changed(path: Option<&Path>, current: &str) {
    match path {
        Some(path) => changed_every(READ_TICK, path, current).await,
        None => std::future::pending().await,
    }
}

async fn changed_every(tick: Duration, path: &Path, current: &str) {
    loop {
        sleep(tick).await;
        // One that is being replaced is there again at the next look.
        match tokio::fs::read_to_string(path).await {
            Ok(now) if now != current && !now.trim().is_empty() => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(5);
    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(60);

    #[tokio::test]
    async fn a_server_that_runs_on_stops_when_its_certificates_are_others() {
        let dir = tempfile::tempdir().unwrap();
        let names = vec!["a.example".to_owned()];
        let first = Authority::load_or_create(dir.path(), &names).unwrap();
        let stop = CancellationToken::new();
        let dir_path = dir.path().to_owned();
        let watched = renew_every(TICK, dir_path, names.clone(), first.clone(), stop.clone());
        sleep(SHORT).await;
        assert!(!stop.is_cancelled(), "nothing has changed");
        // The pair is made anew when it is asked for the next time.
        std::fs::remove_file(dir.path().join("server.pem")).unwrap();
        assert!(tokio::time::timeout(LONG, watched).await.unwrap().unwrap());
        assert!(stop.is_cancelled());
    }

    #[tokio::test]
    async fn a_server_that_is_stopped_has_not_renewed_anything() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), &[]).unwrap();
        let stop = CancellationToken::new();
        let watched = renew(dir.path().to_owned(), Vec::new(), first, stop.clone());
        stop.cancel();
        assert!(!watched.await.unwrap());
    }

    #[tokio::test]
    async fn certificates_are_read_again_and_an_empty_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "one").unwrap();
        let wait = |long| tokio::time::timeout(long, changed_every(TICK, &path, "one"));
        assert!(wait(SHORT).await.is_err());
        std::fs::write(&path, "").unwrap();
        assert!(wait(SHORT).await.is_err());
        std::fs::write(&path, "two").unwrap();
        assert!(wait(LONG).await.is_ok());
    }
}
