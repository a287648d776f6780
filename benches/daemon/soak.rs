//! A hundred hours of ten thousand connections in simulated time, in a process of its own.
//!
//! `AAM_BENCH_SOAK=CONNECTIONS,HOURS` replaces the size.

use crate::Measured;
use crate::simulation::soak::{self, Sample, Size};
use crate::stats::seconds;
use crate::table::Table;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The first argument that makes this program run a soak and print what it found.
pub const COMMAND: &str = "--soak";
/// The simulated hours.
const HOURS: u64 = 100;
/// How often each connection is checked in that time: every two hours.
const CHECKS: u32 = 50;
/// The least jump of the time.
const STEP: Duration = Duration::from_secs(30);
/// How long the whole soak may take.
const AIM: Duration = Duration::from_secs(600);

/// What the process of the soak printed.
struct Found {
    took: Duration,
    opened: u64,
    rows: u64,
    problems: Vec<String>,
    /// The largest values of the second and of the last quarter: memory in MB, handles, threads.
    second: (f64, u64, u64),
    last: (f64, u64, u64),
}

/// Runs the soak and adds its rows.
pub fn measure(connections: usize, table: &mut Table) -> Measured<()> {
    let size = std::env::var("AAM_BENCH_SOAK").ok();
    let size = size.as_deref().and_then(|text| text.split_once(','));
    let (connections, hours) = match size {
        Some((connections, hours)) => (connections.trim().parse()?, hours.trim().parse()?),
        None => (connections, HOURS),
    };
    let found = in_own_process(connections, hours)?;
    let figure = format!("soak: {connections} connections, {hours} simulated hours");
    table.add(format!("{figure}: time"), seconds(found.took), "", "", "< 600 s", found.took < AIM);
    let attempts = format!("{} attempts, {} rows", found.opened, found.rows);
    table.add(format!("{figure}: wrong ends"), found.problems.len().to_string(), attempts, "", "0", found.problems.is_empty());
    for problem in &found.problems {
        eprintln!("bench: soak: {problem}");
    }
    let (second, last) = (found.second, found.last);
    let ratio = last.0 / second.0;
    let baseline = format!("second quarter {:.1} MB", second.0);
    table.add(
        "soak: memory, last quarter",
        format!("{:.1} MB", last.0),
        baseline,
        format!("{ratio:.2}"),
        "<= 1.05",
        ratio <= 1.05,
    );
    let grown = |name: &str, last: u64, second: u64, table: &mut Table| {
        let baseline = format!("second quarter {second}");
        table.add(format!("soak: {name}, last quarter"), last.to_string(), baseline, "", "not more", last <= second);
    };
    grown("file handles", last.1, second.1, table);
    grown("threads", last.2, second.2, table);
    Ok(())
}

fn in_own_process(connections: usize, hours: u64) -> Measured<Found> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([COMMAND, &connections.to_string(), &hours.to_string()]).stderr(Stdio::inherit());
    let output = command.output()?;
    let text = String::from_utf8(output.stdout)?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("the soak ended early: {error}: {text}"))?;
    let samples = value["samples"].as_array().cloned().unwrap_or_default();
    let quarter = samples.len() / 4;
    let most = |from: usize| {
        let part = samples.iter().skip(from * quarter).take(quarter);
        part.fold((0.0_f64, 0, 0), |(memory, handles, threads), sample| {
            let number = |name: &str| sample[name].as_u64().unwrap_or_default();
            let resident = sample["resident"].as_f64().unwrap_or_default();
            (memory.max(resident), number("handles").max(handles), number("threads").max(threads))
        })
    };
    let problems = value["problems"].as_array().into_iter().flatten();
    Ok(Found {
        took: Duration::from_secs_f64(value["took"].as_f64().unwrap_or_default()),
        opened: value["opened"].as_u64().unwrap_or_default(),
        rows: value["rows"].as_u64().unwrap_or_default(),
        problems: problems.filter_map(|problem| problem.as_str().map(str::to_string)).collect(),
        second: most(1),
        last: most(3),
    })
}

/// Runs the soak with these numbers of connections and hours and, if they are given, of checks and of seconds of the least jump.
/// Prints a line on standard error for each sample, and one JSON object at the end.
pub fn run(arguments: &[String]) {
    if let Err(error) = try_run(arguments) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn try_run(arguments: &[String]) -> Measured<()> {
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse::<u64>().ok());
    let (Some(connections), Some(hours)) = (number(0), number(1)) else { return Err("two numbers are needed".into()) };
    let size = Size {
        connections: usize::try_from(connections)?,
        total: Duration::from_secs(hours * 3600),
        checks: number(2).map_or(Ok(CHECKS), u32::try_from)?,
        step: number(3).map_or(STEP, Duration::from_secs),
    };
    let folder = tempfile::Builder::new().prefix("aam-soak").tempdir()?;
    let started = Instant::now();
    let report = soak::in_own_runtime(size, folder.path(), &mut |sample| print(sample, started))?;
    let samples: Vec<_> = report.samples.iter().map(as_json).collect();
    let found = serde_json::json!({
        "took": started.elapsed().as_secs_f64(), "opened": report.counts.opened,
        "rows": report.samples.last().map(|sample| sample.rows), "samples": samples, "problems": report.problems,
    });
    eprintln!("bench: soak: failed attempts by class: {:?}", report.counts.failed);
    println!("{found}");
    Ok(())
}

fn print(sample: &Sample, started: Instant) {
    let hour = sample.after.as_secs_f64() / 3600.0;
    eprintln!(
        "bench: soak: hour {hour:.1}, {:.0} s: {} attempts, {} rows, {:.1} MB, {} handles, {} threads",
        started.elapsed().as_secs_f64(),
        sample.opened,
        sample.rows,
        sample.resident,
        sample.handles,
        sample.threads
    );
}

fn as_json(sample: &Sample) -> serde_json::Value {
    serde_json::json!({"resident": sample.resident, "handles": sample.handles, "threads": sample.threads})
}
