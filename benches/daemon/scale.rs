//! What a connection costs among 10,000, 100,000 and 1,000,000 of them. A script answers the attempts instead of a source; the
//! registry, the pipeline and the loop are those of the daemon.
//!
//! `AAM_BENCH_SCALE=500,2000` (a list) replaces the sizes, a factor scales them. `AAM_BENCH_SCALE_FILES` is the number of files
//! of the pass over files, 0 for none. A million connections need about 6 GB of disk below the folder for temporary files.

use crate::daemon::Daemon;
use crate::fixture::{Fixture, TOKEN};
use crate::http::Client;
use crate::scale_fill::{self, Filled};
use crate::stats::{median, ms, seconds, timed};
use crate::table::Table;
use crate::{Measured, ledger, pass, scaled};
use std::path::Path;
use std::time::Duration;

/// The numbers of connections.
const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
/// The number of files whose pass is compared with `find`.
const FILES: usize = 100_000;
/// The number of passes and pages that are measured.
const RUNS: usize = 9;
/// How much more a connection may cost among the most connections than among the fewest.
const FLAT: f64 = 1.2;

/// The memory that a daemon may use after its start, by the number of connections, in MB.
const MEMORY: [(usize, f64); 2] = [(100_000, 150.0), (1_000_000, 1200.0)];

/// One of the figures.
type Figure = fn(&Figures) -> Duration;

/// The figures of one size.
struct Figures {
    count: usize,
    filled: Filled,
    pass: Duration,
    page: Duration,
}

/// Fills a registry of each size and measures it.
pub fn measure(table: &mut Table) -> Measured<()> {
    let mut all: Vec<Figures> = Vec::new();
    for count in sizes() {
        let figures = of_size(count, table)?;
        all.push(figures);
    }
    flat(&all, table);
    let files = std::env::var("AAM_BENCH_SCALE_FILES").ok().and_then(|text| text.parse().ok());
    let most = all.iter().map(|figures| figures.count).max().unwrap_or_default();
    match files.unwrap_or_else(|| most.min(FILES)) {
        0 => Ok(()),
        files => of_files(files, table),
    }
}

fn sizes() -> Vec<usize> {
    let list = std::env::var("AAM_BENCH_SCALE").ok().filter(|text| text.contains(','));
    match list {
        Some(list) => list.split(',').filter_map(|size| size.trim().parse().ok()).collect(),
        None => SIZES.into_iter().map(scaled).collect(),
    }
}

fn of_size(count: usize, table: &mut Table) -> Measured<Figures> {
    let fixture = Fixture::of_known(0)?;
    let registry = fixture.registry("scale");
    let filled = scale_fill::in_own_process(&registry, &fixture, count)?;
    let of = |figure: &str| format!("scale {count}: {figure}");
    let fill = filled.accept + filled.attempts;
    table.add(of("fill"), seconds(fill), format!("{} rows, {} commits", filled.rows, filled.commits), "", "", true);
    table.add(of("plan of all"), ms(filled.plan), "", "", "", true);
    table.add(of("funnel"), ms(filled.funnel), "", "", "", true);
    let pushed = filled.pushed_again;
    table.add(
        of("all documents pushed again: rows"),
        filled.rows_of_push.to_string(),
        seconds(pushed),
        "",
        "0",
        filled.rows_of_push == 0,
    );
    table.add(of("one new intent to its first attempt, p50"), ms(filled.one_more), "", "", "", true);
    table.add(of("one end of an outage among 50, mean"), ms(filled.recovery), "", "", "", true);

    let mut starts = Vec::new();
    let mut resident = 0.0;
    for _ in 0..3 {
        let opened = ledger::open(&registry, &[])?;
        starts.push(opened.took);
        resident = opened.resident;
    }
    let start = median(&starts);
    table.add(of("open"), ms(start), "", "", "< 1 s", start < Duration::from_secs(1));
    let limit = MEMORY.iter().find(|(size, _)| *size >= count).map_or(f64::MAX, |(_, limit)| *limit);
    let aim = format!("< {limit:.0} MB");
    table.add(of("open: resident"), format!("{resident:.1} MB"), "", "", &aim, resident < limit);
    of_daemon(&fixture, &registry, (count, limit), filled, table)
}

/// The figures of a daemon on the filled registry. Every connection is ACTIVE, and nothing is due.
fn of_daemon(
    fixture: &Fixture,
    registry: &Path,
    (count, limit): (usize, f64),
    filled: Filled,
    table: &mut Table,
) -> Measured<Figures> {
    let of = |figure: &str| format!("scale {count}: {figure}");
    let daemon = Daemon::start(fixture, registry)?;
    table.add(of("cold start to ready"), ms(daemon.ready_after), "", "", "", true);
    fixture.resync("1s")?;
    // The first pass reads the changed policy.
    pass::pass(&daemon)?;
    let before = rows(registry)?;
    let passes = (0..RUNS).map(|_| pass::pass(&daemon)).collect::<Measured<Vec<_>>>()?;
    let pass = median(&passes);
    let appended = rows(registry)? - before;
    table.add(of("resync of unchanged intents of the API"), ms(pass), format!("{appended} rows"), "", "", appended == 0);
    let resident = daemon.resident()?;
    table.add(of("daemon: resident"), format!("{resident:.1} MB"), "", "", &format!("< {limit:.0} MB"), resident < limit);
    let page = median(&pages(&daemon)?);
    table.add(of("GET /connections?limit=100, each page for the first time, p50"), ms(page), "", "", "", true);
    let (funnel, took) = timed(|| daemon.get("/metrics/funnel"));
    funnel?;
    table.add(of("GET /metrics/funnel for the first time"), ms(took), "", "", "", true);
    daemon.stop()?;
    Ok(Figures { count, filled, pass, page })
}

/// How long each of the first pages of the list takes.
fn pages(daemon: &Daemon) -> Measured<Vec<Duration>> {
    let mut client = Client::connect(daemon.port)?;
    let (mut times, mut cursor) = (Vec::new(), String::new());
    for _ in 0..RUNS {
        let (answer, took) = timed(|| client.get(&format!("/connections?limit=100{cursor}"), TOKEN));
        let (status, body) = answer?;
        if status != 200 {
            return Err(format!("a page of connections answered {status}").into());
        }
        times.push(took);
        let page: serde_json::Value = serde_json::from_slice(&body)?;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    Ok(times)
}

fn rows(registry: &Path) -> Measured<i64> {
    let base = rusqlite::Connection::open_with_flags(registry, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Ok(base.query_row("SELECT coalesce(max(seq), 0) FROM ledger", [], |row| row.get(0))?)
}

/// Compares the cost of a connection among the most connections with that among the fewest.
fn flat(all: &[Figures], table: &mut Table) {
    let (Some(first), Some(last)) = (all.first(), all.last().filter(|_| all.len() > 1)) else { return };
    let each: [(&str, Figure); 5] = [
        ("accept", |figures| figures.filled.accept),
        ("first attempt recorded", |figures| figures.filled.attempts),
        ("plan", |figures| figures.filled.plan),
        ("pushed again unchanged", |figures| figures.filled.pushed_again),
        ("resync", |figures| figures.pass),
    ];
    for (name, figure) in each {
        #[expect(clippy::cast_precision_loss, reason = "a number of connections")]
        let micros = |figures: &Figures| figure(figures).as_secs_f64() * 1e6 / figures.count as f64;
        row(table, &format!("{name}, per connection"), (first.count, micros(first)), (last.count, micros(last)));
    }
    let whole: [(&str, Figure); 3] = [
        ("one new intent to its first attempt", |figures| figures.filled.one_more),
        ("one end of an outage", |figures| figures.filled.recovery),
        ("one page of connections", |figures| figures.page),
    ];
    for (name, figure) in whole {
        let micros = |figures: &Figures| figure(figures).as_secs_f64() * 1e6;
        row(table, name, (first.count, micros(first)), (last.count, micros(last)));
    }
}

fn row(table: &mut Table, name: &str, first: (usize, f64), last: (usize, f64)) {
    let ratio = last.1 / first.1;
    let baseline = format!("among {}: {:.1} µs", first.0, first.1);
    table.add(
        format!("flat: {name}, among {}", last.0),
        format!("{:.1} µs", last.1),
        baseline,
        format!("{ratio:.2}"),
        "<= 1.2",
        ratio <= FLAT,
    );
}

/// A pass over unchanged files against `find`.
fn of_files(files: usize, table: &mut Table) -> Measured<()> {
    let fixture = Fixture::of_known(files)?;
    let daemon = pass::onboard(&fixture)?;
    pass::measure(&fixture, &daemon, table)?;
    daemon.stop()
}
