//! Collection frees what nobody needs and loses nothing, whatever runs beside it and whatever fails.

#![allow(clippy::unwrap_used, reason = "tests panic")]

#[path = "collection/beside.rs"]
mod beside;
#[path = "collection/crash.rs"]
mod crash;
#[path = "collection/matrix.rs"]
mod matrix;
#[path = "collection/space.rs"]
mod space;

use std::{sync::Arc, time::Duration};

use orlop_core::NoMonitor;
use orlop_repository::{CollectOptions, CollectReport, CollectState, Result};
use orlop_tests::Engine;
use tokio_util::sync::CancellationToken;

/// Everything at once, whatever share it is, and waiting for nobody.
fn all() -> CollectOptions {
    CollectOptions {
        max_removed_percent: 100,
        dead_percent: 10,
        patience: Duration::ZERO,
        ..CollectOptions::default()
    }
}

fn try_collect(engine: &Engine, options: CollectOptions) -> Result<CollectReport> {
    engine.wait(
        engine
            .repository()
            .collect(options, Arc::new(NoMonitor), CancellationToken::new()),
    )
}

fn collect(engine: &Engine) -> CollectReport {
    try_collect(engine, all()).unwrap()
}

/// Collects until nothing is left: the index segments that a collection replaces go with the next one.
fn collect_all(engine: &Engine) {
    for _ in 0..3 {
        if collect(engine).state == CollectState::Clean {
            return;
        }
    }
    panic!("there is always something left: {:?}", collect(engine));
}
