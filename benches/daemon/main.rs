//! `make bench`: the speed of the built binary. Each figure is compared with a baseline that was measured just before on
//! the same machine. The bench prints one table and never fails because of a figure.
//!
//! | figure | measured | baseline | ratio |
//! |---|---|---|---|
//! | onboard | `aam once`, empty registry, half SQLite files and half CSV files, until all are ACTIVE, `reconcile.concurrency` 256; wall time of the whole process | one thread: the same reads (open, count the schema, table info, 20 rows; open, header, 20 rows), then the commits on an SQLite file with WAL and `synchronous=FULL` that a writer without grouping needs: accepted, begun, finished, each as one row of about the ledger's size in its own transaction | measured / baseline |
//! | onboard, a commit each | the same run | the same reads, then one commit for each intent | measured / baseline |
//! | onboard, grouped | the same run | the same reads, then only as many commits as the daemon made (it logs them), with the same rows distributed over them | measured / baseline |
//! | pass | the daemon's own time of one full scan of the intents folder in which nothing changed, as it logs it, policy and plan included; median of nine, with `reconcile.resync` at 1 s | `find intents -type f -printf '%s %T@\n'` with its output discarded, median | measured / baseline |
//! | save | from before the rename of a new intent into the folder until the API says ACTIVE, polled | the source's own time: the same reads done by a plain call; it is added to the target | the p99 itself |
//! | funnel, page | requests a second of the daemon with a bearer token, eight connections kept alive | a hyper HTTP/1 server in its own process that answers with a fixed body of the same size, same client | measured / baseline |
//! | fleet | `aam serve` on an empty registry with 2,000 connections of a custom manifest whose server answers each call after 200 ms; spawn until the API says that all are ACTIVE, median of three; each connection has its own host, so the default caps apply to each connection separately | the calls of one attempt that are made in sequence, times 200 ms | measured / baseline |
//! | fleet, peak memory | VmHWM of that process, the largest of the runs | none | the figure itself |
//! | credentials | `aam once`, empty registry, files whose intents name a hundred secrets of a vault (OpenBao on loopback, KV version 2); median of three | the same with a hundred environment variables, in turns | measured / baseline |
//! | credentials, reads | secrets that were read from the vault in one run, by AAM's call log | none | the figure itself |
//! | connectors | `aam serve` on an empty registry with 50 connections whose connector is a process of 120 MB that works for half a second; the policy allows each 256 MiB and all together 1 GiB; spawn until all are ACTIVE | the commands, four at a time | measured / baseline |
//! | connectors, peak memory | the resident memory of all connectors together, looked at 20 times a second | none | the figure itself |
//! | open, cold start, a million rows | opening a registry of 100,000 connections with ten rows each, written through AAM's writer, in a process of its own; median of five; and spawn until `/readyz` is 200 | the same without the stored fold, so that the whole ledger is folded | measured / baseline |
//! | open, resident and peak memory | VmRSS and VmHWM of that process | the same without the stored fold | measured / baseline |
//! | scale | a registry of 10,000, 100,000 and 1,000,000 connections that came over the API and whose attempts a script answers, in the real loop: the cost of one connection (accept, first attempt, plan, push again, resync), of one more intent and of one end of an outage among all of them, the funnel, a page, the start and its memory | the same among the fewest connections | measured / baseline |
//! | soak | 100 simulated hours of 10,000 connections with re-checks, drift, rotated secrets, outages, withdrawals and restarts; the connections that do not end as their script says, memory, file handles and threads | the second quarter of the time | measured / baseline |
//! | replicas | `aam serve` on an empty registry with 100,000 connections to the sandbox, on SQLite, and on PostgreSQL with 1, 2 and 4 processes; spawn until all are ACTIVE | rows a second that pgbench inserts with as many rows in each transaction and a session for each process, on the same server, afterwards | measured / baseline, in rows a second |
//! | divided | 100,000 connections that all work, in PostgreSQL, and 1, 2 and 4 processes of `aam serve` on them; VmRSS of the largest when each has packed the connections of the others, and the first funnel | one process | measured / baseline |
//! | idle, cold start | utime + stime over a quiet period, VmRSS, spawn until `/readyz` is 200 | none | the figure itself |
//!
//! `AAM_BENCH_SCALE=0.1` makes everything a tenth as large, for a smoke run; its ratios are not meaningful.
//! `AAM_BENCH_ONLY=pass,api` runs only the named figures: onboard, save, idle, pass, api, fleet, credentials, connectors,
//! ledger. `scale`, `soak`, `replicas` and `divided` run only if they are named, because they take many minutes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

mod api;
mod baseline;
mod connectors;
mod credentials;
mod daemon;
mod distant;
mod divided;
mod fixed;
mod fixture;
mod fleet;
mod http;
mod idle;
mod ledger;
mod onboard;
mod pass;
mod replicas;
mod save;
mod scale;
mod scale_fill;
mod server;
#[path = "../../tests/support/simulation/mod.rs"]
mod simulation;
mod soak;
mod stats;
mod table;

use fixture::Fixture;
use table::Table;

/// The result of a measurement. If one fails, the bench prints why and measures the other figures.
pub type Measured<T> = Result<T, Box<dyn std::error::Error>>;

/// The number of connections to files.
const FILES: usize = 10_000;
/// The number of connections that wait for a credential.
const KNOWN: usize = 100_000;
/// The number of connections to a vendor that answers after 200 ms.
const FLEET: usize = 2_000;
/// The number of connections whose connector is a process. It is not scaled.
const CONNECTORS: usize = 50;

fn main() {
    let mut arguments = std::env::args().skip(1);
    // The servers are this program, run again, so that each has its own process, as the daemon does.
    match arguments.next().as_deref() {
        Some(fixed::COMMAND) => return fixed::run(&arguments.collect::<Vec<_>>()),
        Some(distant::COMMAND) => return distant::run(),
        Some(ledger::COMMAND) => return ledger::run(&arguments.collect::<Vec<_>>()),
        Some(scale_fill::COMMAND) => return scale_fill::run(&arguments.collect::<Vec<_>>()),
        Some(soak::COMMAND) => return soak::run(&arguments.collect::<Vec<_>>()),
        _ => {}
    }
    let mut table = Table::default();
    let files = of_files(&mut table).err();
    let known = of_known(&mut table).err();
    let fleet = of_fleet(&mut table).err();
    let credentials = of_credentials(&mut table).err();
    let connectors = of_connectors(&mut table).err();
    let ledger = of_ledger(&mut table).err();
    let scale = of_scale(&mut table).err();
    let soak = of_soak(&mut table).err();
    let replicas = of_replicas(&mut table).err();
    let divided = of_divided(&mut table).err();
    table.print();
    let first = files.iter().chain(&known).chain(&fleet).chain(&credentials).chain(&connectors);
    for error in first.chain(&ledger).chain(&scale).chain(&soak).chain(&replicas).chain(&divided) {
        eprintln!("bench: not measured: {error}");
    }
}

/// The figures of ten thousand files: onboarding, then a daemon on the same registry.
fn of_files(table: &mut Table) -> Measured<()> {
    if !["onboard", "save", "idle"].into_iter().any(wanted) {
        return Ok(());
    }
    let fixture = Fixture::of_files(scaled(FILES))?;
    onboard::measure(&fixture, table)?;
    if wanted("idle") {
        idle::measure(&fixture, table)?;
    }
    if wanted("save") {
        save::measure(&fixture, table)?;
    }
    Ok(())
}

/// The figures of a hundred thousand connections that wait for a credential.
fn of_known(table: &mut Table) -> Measured<()> {
    if !["pass", "api"].into_iter().any(wanted) {
        return Ok(());
    }
    let fixture = Fixture::of_known(scaled(KNOWN))?;
    let daemon = pass::onboard(&fixture)?;
    if wanted("pass") {
        pass::measure(&fixture, &daemon, table)?;
    }
    if wanted("api") {
        api::measure(&daemon, table)?;
    }
    daemon.stop()
}

/// The figures of a fleet whose vendor answers after 200 ms.
fn of_fleet(table: &mut Table) -> Measured<()> {
    if wanted("fleet") { fleet::measure(scaled(FLEET), table) } else { Ok(()) }
}

/// The figures of ten thousand connections on a hundred secrets of a vault.
fn of_credentials(table: &mut Table) -> Measured<()> {
    if wanted("credentials") { credentials::measure(scaled(FILES), table) } else { Ok(()) }
}

/// The figures of connectors that run as processes.
fn of_connectors(table: &mut Table) -> Measured<()> {
    if wanted("connectors") { connectors::measure(CONNECTORS, table) } else { Ok(()) }
}

/// The start of a registry with a long history.
fn of_ledger(table: &mut Table) -> Measured<()> {
    if wanted("ledger") { ledger::measure(scaled(KNOWN), table) } else { Ok(()) }
}

/// The cost of a connection among up to a million of them.
fn of_scale(table: &mut Table) -> Measured<()> {
    if named("scale") { scale::measure(table) } else { Ok(()) }
}

/// Many simulated hours.
fn of_soak(table: &mut Table) -> Measured<()> {
    if named("soak") { soak::measure(scaled(FILES), table) } else { Ok(()) }
}

/// The same connections with one process and with several.
fn of_replicas(table: &mut Table) -> Measured<()> {
    if named("replicas") { replicas::measure(scaled(KNOWN), table) } else { Ok(()) }
}

/// The memory of processes that divide the connections.
fn of_divided(table: &mut Table) -> Measured<()> {
    if named("divided") { divided::measure(scaled(KNOWN), table) } else { Ok(()) }
}

/// Whether the figure is asked for by its name.
fn named(name: &str) -> bool {
    std::env::var("AAM_BENCH_ONLY").is_ok_and(|_| wanted(name))
}

fn wanted(name: &str) -> bool {
    std::env::var("AAM_BENCH_ONLY").map_or(true, |only| only.split(',').any(|one| one.trim() == name))
}

fn scaled(count: usize) -> usize {
    let scale: f64 = std::env::var("AAM_BENCH_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size of a bench")]
    let scaled = (count as f64 * scale) as usize;
    scaled.max(200)
}
