//! Agreement with airbyte-cdk 7.39.1 on the data of `../shared/lowcode` (or `AAM_PARITY_DATA`).
//!
//! `make parity` runs it and prints every disagreement by name; a plain `cargo test` leaves it out. It passes
//! where the data is absent, saying so. Exit 1 where a row is below its target.
//! `AAM_PARITY_ONLY=templates,reads` runs some of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

mod catalogs;
mod outcome;
mod reads;
mod templates;

use outcome::Outcome;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// What must agree, in per cent. A row without a target here must agree in every case.
const TARGETS: [(&str, f64); 6] =
    [("templates", 99.5), ("specs", 100.0), ("catalogs", 99.0), ("refusals", 100.0), ("clean", 97.0), ("reads", 95.0)];

/// A comparison: the folder of the data to one row or several.
type Comparison = fn(&Path) -> Vec<Outcome>;

const COMPARISONS: [(&str, Comparison); 3] = [
    ("templates", |data| templates::run(data).into()),
    ("catalogs", |data| catalogs::run(data)),
    ("reads", |data| reads::run(data).into()),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test NAME` and `cargo test -- --list` ask for other tests.
    let named = arguments.iter().find(|argument| !argument.starts_with('-'));
    if arguments.iter().any(|argument| argument == "--list") || named.is_some_and(|name| !"parity".contains(name.as_str())) {
        return ExitCode::SUCCESS;
    }
    let data = std::env::var_os("AAM_PARITY_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/lowcode"), PathBuf::from);
    if !data.join("templates.jsonl").is_file() {
        println!("parity: no data in {}: nothing was compared (set AAM_PARITY_DATA)", data.display());
        return ExitCode::SUCCESS;
    }
    let outcomes = compare(&data);
    print(&outcomes);
    if outcomes.iter().all(met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn compare(data: &Path) -> Vec<Outcome> {
    let only = std::env::var("AAM_PARITY_ONLY").ok();
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.split(',').any(|one| one.trim() == name));
    let mut outcomes = Vec::new();
    for (name, run) in COMPARISONS.iter().filter(|(name, _)| wanted(name)) {
        let started = Instant::now();
        outcomes.extend(run(data));
        eprintln!("parity: {name}: {:.1} s", started.elapsed().as_secs_f64());
    }
    outcomes
}

fn target(outcome: &Outcome) -> f64 {
    TARGETS.iter().find(|(name, _)| *name == outcome.name).map_or(100.0, |(_, target)| *target)
}

/// In per cent; nothing compared agrees with nothing.
#[expect(clippy::cast_precision_loss, reason = "a few thousand cases")]
fn share(outcome: &Outcome) -> f64 {
    if outcome.total == 0 { 0.0 } else { outcome.agreed as f64 * 100.0 / outcome.total as f64 }
}

fn met(outcome: &Outcome) -> bool {
    share(outcome) >= target(outcome)
}

fn print(outcomes: &[Outcome]) {
    for outcome in outcomes {
        for line in &outcome.disagreements {
            println!("{}: {line}", outcome.name);
        }
    }
    println!("| {:<22} | {:>6} | {:>6} | {:>7} | {:>7} | verdict |", "agreement with the CDK", "total", "agreed", "%", "target");
    println!("|{:-<24}|{:-<8}|{:-<8}|{:-<9}|{:-<9}|---------|", "", "", "", "", "");
    for outcome in outcomes {
        // Cut and not rounded: 99.996 is not all.
        let share_shown = (share(outcome) * 100.0).floor() / 100.0;
        println!(
            "| {:<22} | {:>6} | {:>6} | {share_shown:>7.2} | {:>7.2} | {:<7} |",
            outcome.name,
            outcome.total,
            outcome.agreed,
            target(outcome),
            if met(outcome) { "met" } else { "MISSED" }
        );
    }
}
