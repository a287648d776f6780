//! A full scan of a hundred thousand intents, none of which has changed.

use crate::Measured;
use crate::daemon::{Daemon, number};
use crate::fixture::Fixture;
use crate::stats::{median, ms, timed};
use crate::table::Table;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The number of scans and of runs of `find`, which take turns.
const SCANS: usize = 9;

/// Starts a daemon that accepts all intents of the fixture.
pub fn onboard(fixture: &Fixture) -> Measured<Daemon> {
    let mut daemon = Daemon::start(fixture, &fixture.registry("known"))?;
    let count = fixture.count as u64;
    daemon.wait("done with every intent", |daemon| {
        std::thread::sleep(Duration::from_millis(100));
        Ok(daemon.funnel("awaiting_credentials")? == count)
    })?;
    Ok(daemon)
}

/// Compares the time of a scan with `find`, and checks appended rows and memory.
pub fn measure(fixture: &Fixture, daemon: &Daemon, table: &mut Table) -> Measured<()> {
    let rows = || -> Measured<i64> {
        let base = rusqlite::Connection::open_with_flags(fixture.registry("known"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        Ok(base.query_row("SELECT max(seq) FROM ledger", [], |row| row.get(0))?)
    };
    fixture.resync("1s")?;
    // The first scan reads the changed policy, which appends a row and plans all connections again.
    pass(daemon)?;
    let before = rows()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SCANS {
        ours.push(pass(daemon)?);
        theirs.push(find(fixture)?);
    }
    let (ours, theirs) = (median(&ours), median(&theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let appended = rows()? - before;
    let resident = daemon.resident()?;
    fixture.resync("30s")?;
    pass(daemon)?;
    table.add(
        format!("pass over {} unchanged", fixture.count),
        ms(ours),
        format!("find {}", ms(theirs)),
        format!("{ratio:.2}"),
        "<= 2",
        ratio <= 2.0,
    );
    table.add("pass: rows appended", appended.to_string(), "", "", "0", appended == 0);
    table.add(format!("{} known: resident", fixture.count), format!("{resident:.1} MB"), "", "", "< 150 MB", resident < 150.0);
    Ok(())
}

/// How long the daemon's next scan took, planning included.
pub fn pass(daemon: &Daemon) -> Measured<Duration> {
    let scans = || daemon.logged("read the policy and the folder, and planned");
    let before = scans()?.len();
    for _ in 0..15_000 {
        if let Some(line) = scans()?.get(before) {
            let us = number(line, "us").ok_or("the log line of a scan does not contain its time")?;
            return Ok(Duration::from_micros(us));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err("the daemon did not scan its folder".into())
}

fn find(fixture: &Fixture) -> Measured<Duration> {
    let mut command = Command::new("find");
    command.arg(fixture.intents()).args(["-type", "f", "-printf", "%s %T@\\n"]).stdout(Stdio::null());
    let (status, took) = timed(|| command.status());
    if status?.success() { Ok(took) } else { Err("find failed".into()) }
}
