//! Runs rows and says which did not hold.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use orlop_runtime::logging::LogFormat;

use super::{
    rows::{Place, Row},
    world::{Turn, World},
};

/// How long a row may take in all.
const LIMIT: Duration = Duration::from_mins(5);

/// Whether somebody asked for other rows only.
fn is_wanted(row: &Row) -> bool {
    std::env::var("ORLOP_ROW").map_or(true, |wanted| row.id.starts_with(&wanted))
}

/// Runs rows in a cluster in memory. With `ORLOP_LOG` its programs say what they do.
pub(crate) async fn in_memory(rows: &[Row]) {
    orlop_runtime::logging::init_from(LogFormat::Text, "off");
    let rows: Vec<&Row> = rows.iter().filter(|row| is_wanted(row)).collect();
    if rows.is_empty() {
        return;
    }
    let world = World::in_memory().await;
    let failed = run(&world, &rows).await;
    world.end().await;
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Runs rows in the cluster at hand.
pub(crate) async fn in_a_cluster(rows: &[Row]) {
    let Some(world) = World::real().await else {
        return;
    };
    let mut failed = Vec::new();
    for alone in [false, true] {
        let (here, not_here): (Vec<&Row>, Vec<&Row>) = rows
            .iter()
            .filter(|row| is_wanted(row) && (row.place == Place::Alone) == alone)
            .partition(|row| !matches!(row.place, Place::Memory(_)));
        for row in not_here {
            if let Place::Memory(why) = row.place {
                println!("in memory only: {}: {why}", row.id);
            }
        }
        if here.is_empty() {
            continue;
        }
        let turn = tokio::task::block_in_place(|| Turn::take(alone));
        failed.extend(run(&world, &here).await);
        drop(turn);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

async fn run(world: &World, rows: &[&Row]) -> Vec<String> {
    let mut failed = Vec::new();
    for row in rows {
        let client = world.client();
        let began = Instant::now();
        let work = tokio::time::timeout(LIMIT, (row.run)(world, &client));
        let ended = AssertUnwindSafe(work).catch_unwind().await;
        let took = began.elapsed();
        let why = match ended {
            Ok(Ok(())) => missing_request(row, &client.sent()),
            Ok(Err(_)) => Some(format!("it took longer than {LIMIT:?}")),
            Err(panic) => Some(
                panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_else(|| "it panicked".to_owned()),
            ),
        };
        match why {
            None => println!("{} holds: {} ({took:.1?})", row.id, row.change),
            Some(why) => {
                let line = format!(
                    "{} does not hold ({took:.1?}): {} [{}]: {why}",
                    row.id, row.change, row.source
                );
                println!("{line}");
                failed.push(line);
            }
        }
    }
    failed
}

/// What a row says it sends and has not sent, if anything.
fn missing_request(row: &Row, sent: &[String]) -> Option<String> {
    let mut rest = sent.iter();
    let missing = row
        .requests
        .iter()
        .find(|wanted| !rest.any(|one| matches(wanted, one)))?;
    Some(format!("it did not send {missing} in its turn: {sent:#?}"))
}

/// Whether a text is as a pattern says, in which `*` is any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|at| rest.is_char_boundary(*at))
                .any(|at| matches(tail, &rest[at..]))
        }),
    }
}

#[test]
fn patterns_match_whole_texts() {
    assert!(matches("GET /a/*", "GET /a/b"));
    assert!(matches("GET /*/b", "GET /a/b"));
    assert!(!matches("GET /a", "GET /a/b"));
    assert!(!matches("GET /*/c", "GET /a/b"));
}
