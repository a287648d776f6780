//! The second part of `make bench`: the low-code engine compared with the Python package that it replaces.
//!
//! | figure | measured | baseline | ratio |
//! |---|---|---|---|
//! | spec, check, discover, read | wall time of the whole process `aam lowcode ...`, median of 15, manifest and shop of `tests/data/lowcode/shop.yaml` (three streams; 20 records) | `source-declarative-manifest` with the same arguments against the same server, median of 3; its `spec` prints a fixed text and reads no manifest | baseline / measured |
//! | peak memory of each | `ru_maxrss` of that process, the largest of the runs | the same, the smallest of the runs | baseline / measured |
//! | connections | `aam once` with 1,000 low-code connections on a loopback server, empty registry to ACTIVE; wall time of the whole process | the same HTTP requests with the same concurrency, by a plain loop with reqwest, and by threads with plain sockets, which is the minimum for such a program; then as many SQLite commits as the daemon logged | measured / baseline |
//! | discover, corpus | text of the manifest to catalog, in this process, for each manifest of `../shared/lowcode` that runs here | none | the figure itself |
//! | template | one evaluation of `{{ config['x'] }}`, compiled once | none | the figure itself |
//!
//! `AAM_BENCH_ONLY=commands,connections,corpus,template` runs only the named figures; `AAM_BENCH_SCALE=0.1` makes it smaller.
//! The Python side needs `scripts/with_peers.sh cdk`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

mod commands;
mod connections;
mod corpus;
#[path = "../daemon/http.rs"]
#[allow(dead_code, reason = "the daemon's bench uses the rest of it")]
mod http;
mod process;
#[path = "../../tests/support/shop.rs"]
mod shop;
#[path = "../daemon/stats.rs"]
mod stats;
#[path = "../daemon/table.rs"]
mod table;
mod template;

use table::Table;

/// The result of a measurement. If one fails, the bench prints why and measures the other figures.
pub type Measured<T> = Result<T, Box<dyn std::error::Error>>;

/// A group of rows and the function that measures them.
type Figure = (&'static str, fn(&mut Table) -> Measured<()>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // This program was run again, as the small parent of one measured process.
    if arguments.first().is_some_and(|first| first == process::COMMAND) {
        process::run(arguments.get(1..).unwrap_or_default());
        return;
    }
    let mut table = Table::default();
    let figures: [Figure; 4] = [
        ("commands", commands::measure),
        ("connections", connections::measure),
        ("corpus", corpus::measure),
        ("template", template::measure),
    ];
    let mut errors = Vec::new();
    for (name, measure) in figures.iter().filter(|(name, _)| wanted(name)) {
        if let Err(error) = measure(&mut table) {
            errors.push(format!("{name}: {error}"));
        }
    }
    table.print();
    for error in errors {
        eprintln!("bench: not measured: {error}");
    }
}

fn wanted(name: &str) -> bool {
    std::env::var("AAM_BENCH_ONLY").map_or(true, |only| only.split(',').any(|one| one.trim() == name))
}

/// `count`, made smaller by `AAM_BENCH_SCALE`.
#[must_use]
pub fn scaled(count: usize, least: usize) -> usize {
    let scale: f64 = std::env::var("AAM_BENCH_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size of a bench")]
    let scaled = (count as f64 * scale) as usize;
    scaled.max(least)
}
