//! From signals to the one cancellation token of the process.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that a signal ended before its work was put down in order.
const INTERRUPTED: i32 = 130;

/// A token that SIGINT or SIGTERM cancels; a second signal ends the process with code 130.
///
/// Call it inside a tokio runtime, once. Where signals cannot be watched the token is never cancelled
/// and signals keep their default meaning.
pub fn signal_token() -> CancellationToken {
    let token = CancellationToken::new();
    let watched = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = watched else {
        tracing::warn!("signals cannot be watched");
        return token;
    };
    let cancel = token.clone();
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        cancel.cancel();
        next(&mut interrupt, &mut terminate).await;
        std::process::exit(INTERRUPTED);
    });
    token
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
