//! Ten thousand files from an empty registry to ACTIVE.

use crate::fixture::Fixture;
use crate::stats::{median, seconds, timed};
use crate::table::Table;
use crate::{Measured, baseline, daemon, wanted};
use std::time::Duration;

/// The name of the registry that the other figures use afterwards.
pub const REGISTRY: &str = "aam";
/// The number of runs of daemon, reads and grouped commits, which take turns.
const RUNS: usize = 3;
/// The commits of a writer without grouping for one connection: accepted, begun, finished.
const COMMITS: usize = 3;
/// Rows of the ledger for one connection: accepted, begun, catalog, finished.
const ROWS: usize = 4;

/// Measures both sides and leaves a registry in which all connections are ACTIVE.
pub fn measure(fixture: &Fixture, table: &mut Table) -> Measured<()> {
    let runs = if wanted("onboard") { RUNS } else { 1 };
    let (mut ours, mut reads, mut plain, mut single, mut grouped, mut commits) = (vec![], vec![], vec![], vec![], vec![], 0);
    for run in 0..runs {
        let last = run + 1 == runs;
        let registry = fixture.registry(if last { REGISTRY } else { "spare" });
        let (took, made) = once(fixture, &registry)?;
        ours.push(took);
        commits = made;
        if wanted("onboard") {
            let (read, took) = timed(|| baseline::read_all(fixture));
            read?;
            reads.push(took);
            // Tens of thousands of syncs to disk take long, so they are measured once.
            if run == 0 {
                plain.push(commit(fixture, COMMITS * fixture.count)?);
                single.push(commit(fixture, fixture.count)?);
            }
            grouped.push(commit(fixture, commits.max(1))?);
        }
        if !last {
            remove(&registry);
        }
    }
    if wanted("onboard") {
        let ours = median(&ours);
        let figure = format!("onboard {} files", fixture.count);
        let ungrouped = COMMITS * fixture.count;
        add(table, &figure, ours, median(&reads), median(&plain), ungrouped);
        add(table, &format!("{figure}, a commit each"), ours, median(&reads), median(&single), fixture.count);
        add(table, &format!("{figure}, grouped commits"), ours, median(&reads), median(&grouped), commits);
    }
    Ok(())
}

fn add(table: &mut Table, figure: &str, ours: Duration, reads: Duration, writes: Duration, commits: usize) {
    let baseline = reads + writes;
    let ratio = ours.as_secs_f64() / baseline.as_secs_f64();
    let details = format!("{} (reads {}, {commits} commits {})", seconds(baseline), seconds(reads), seconds(writes));
    table.add(figure, seconds(ours), details, format!("{ratio:.2}"), "<= 1.5", ratio <= 1.5);
}

/// The wall time of one `aam once`, and the number of commits that it logged.
fn once(fixture: &Fixture, registry: &std::path::Path) -> Measured<(Duration, usize)> {
    let log = registry.with_extension("once.log");
    let mut command = daemon::aam(fixture, registry, &log)?;
    let (status, took) = timed(|| command.arg("once").status());
    let status = status?;
    if !status.success() {
        return Err(format!(
            "aam once ended with {status}; its log ends with: {}",
            daemon::lines(&log, "")?.pop().unwrap_or_default()
        )
        .into());
    }
    Ok((took, daemon::lines(&log, "committed")?.len()))
}

fn commit(fixture: &Fixture, commits: usize) -> Measured<Duration> {
    let path = fixture.registry("plain");
    let (done, took) = timed(|| baseline::commit_all(&path, commits, (ROWS * fixture.count).max(commits)));
    done?;
    remove(&path);
    Ok(took)
}

fn remove(registry: &std::path::Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = registry.as_os_str().to_os_string();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}
