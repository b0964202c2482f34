//! How fast the index is, and how much memory it takes: `cargo bench -p orlop-repository --features testing --bench index`.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `ORLOP_BENCH_ENTRIES` | places in the index | 2000000 |
//! | `ORLOP_BENCH_LOOKUPS` | look-ups of each kind | 200000 |
//! | `ORLOP_BENCH_DIRECTORY` | where the tables are; some 32 bytes a place, at times twice that | a new directory below that of temporary files |
//!
//! With 100 million entries in 300 MiB of memory, the kernel's file pages included, as root:
//!
//! ```text
//! cargo bench -p orlop-repository --features testing --bench index --no-run     # says where the bench is
//! export ORLOP_BENCH_ENTRIES=100000000 ORLOP_BENCH_DIRECTORY=/var/tmp/orlop-bench
//! systemd-run --scope -p MemoryMax=300M -p MemorySwapMax=0 target/release/deps/index-…
//! ```
//!
//! Without systemd: make a directory below `/sys/fs/cgroup` (below its `memory` with cgroup v1), write 314572800 to
//! its `memory.max` (v1: `memory.limit_in_bytes`), and a shell's number to its `cgroup.procs` before it starts the bench.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on panics")]

use std::{fs, path::PathBuf, time::Instant};

use orlop_repository::MadeUpIndex;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Where the tables are; removed in the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        let chosen = std::env::var_os("ORLOP_BENCH_DIRECTORY").map(PathBuf::from);
        let other = || std::env::temp_dir().join(format!("orlop-bench-{}", std::process::id()));
        let place = chosen.unwrap_or_else(other).join("tables");
        fs::create_dir_all(&place).unwrap();
        Self(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A number of `/proc/self/status` in MiB.
fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or_default() >> 10
}

/// Limit and highest use of the group of processes that this one is in, in MiB.
fn group() -> Option<(u64, u64)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let read = |path: String| -> Option<u64> {
        Some(fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()? >> 20)
    };
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (kind, path) = (fields.next()?, fields.next()?);
        let (root, limit, peak) = match kind {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.peak"),
            "memory" => (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
            ),
            _ => return None,
        };
        let at = format!("{root}{path}");
        Some((
            read(format!("{at}/{limit}"))?,
            read(format!("{at}/{peak}"))?,
        ))
    })
}

/// Numbers of chunks in no order, the same in every run.
fn some(count: u64, first: u64, many: u64) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count).map(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        first + (state >> 16) % many
    })
}

fn show(what: &str, count: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{what:<28}{:>12.0} a second, {:.2} µs each",
        count as f64 / seconds,
        seconds * 1e6 / count as f64
    );
}

fn main() {
    let entries = number("ORLOP_BENCH_ENTRIES", 2_000_000);
    let lookups = number("ORLOP_BENCH_LOOKUPS", 200_000);
    let place = Place::new();
    let mut index = MadeUpIndex::open(&place.0);
    let begun = Instant::now();
    let step = entries.div_ceil(10).max(1);
    for part in 1..=10 {
        index.grow(entries.min(part * step)).unwrap();
        if entries >= 20_000_000 {
            println!(
                "{:>12} entries after {:.0} s, {} MiB resident",
                index.len(),
                begun.elapsed().as_secs_f64(),
                status("VmRSS")
            );
        }
    }
    println!("{:<28}{:>12}", "entries", index.len());
    println!(
        "{:<28}{:>12.1}",
        "seconds to build",
        begun.elapsed().as_secs_f64()
    );
    let there = index.len();
    // The first look-up of each part reads its filter.
    assert!(some(10_000, entries, u64::MAX >> 20).all(|n| !index.finds(n).unwrap()));
    let begun = Instant::now();
    assert!(some(lookups, entries, u64::MAX >> 20).all(|n| !index.finds(n).unwrap()));
    show("look-ups of others", lookups, begun);
    let begun = Instant::now();
    let found = some(lookups, 0, there)
        .filter(|n| index.finds(*n).unwrap())
        .count();
    show("look-ups of what is there", lookups, begun);
    assert_eq!(found as u64, lookups, "what was added is found");
    let begun = Instant::now();
    let first = there / 2;
    let found = (first..there.min(first + lookups))
        .filter(|n| index.finds(*n).unwrap())
        .count();
    show("look-ups in order of packs", found as u64, begun);
    let (tables, filters) = index.tables();
    println!("{:<28}{tables:>12}", "tables");
    println!("{:<28}{filters:>12}", "bytes of filters in memory");
    let begun = Instant::now();
    index.reopen();
    println!(
        "{:<28}{:>12.3}",
        "seconds to open again",
        begun.elapsed().as_secs_f64()
    );
    println!("{:<28}{:>12}", "entries in tables", index.len());
    println!("{:<28}{:>12} MiB", "resident at most", status("VmHWM"));
    if let Some((limit, peak)) = group() {
        println!(
            "{:<28}{peak:>12} MiB with file pages, of {limit} MiB",
            "group at most"
        );
    }
}
