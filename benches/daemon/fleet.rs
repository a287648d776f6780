//! A fleet of connections to a vendor that answers after 200 ms.

use crate::Measured;
use crate::daemon::Daemon;
use crate::distant::{DELAY, Distant};
use crate::fixture::{Fixture, TOKEN};
use crate::http::Client;
use crate::stats::{median, seconds};
use crate::table::Table;
use std::time::Duration;

/// The number of runs of each setting.
const RUNS: usize = 3;
/// The pause between two polls: short compared to the figure, but long enough that polling does not slow the daemon.
const POLL: Duration = Duration::from_millis(20);
/// The maximum duration of a run.
const TIMEOUT: Duration = Duration::from_secs(120);
/// The target time, as a multiple of the time of the calls in sequence.
const MAX_RATIO: f64 = 1.3;
/// The target for resident memory, in MB (10^6 bytes).
const MAX_MEMORY: f64 = 200.0;

/// Measures the time from an empty registry to ACTIVE, with as many attempts in flight as there are connections, and with the default
/// of `reconcile.concurrency`.
pub fn measure(count: usize, table: &mut Table) -> Measured<()> {
    let distant = Distant::start()?;
    let fixture = Fixture::of_distant(count, distant.port)?;
    for (setting, concurrency) in [("all in flight", Some(count)), ("default concurrency", None)] {
        fixture.bound(concurrency)?;
        let (mut times, mut sequences, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
        for run in 0..RUNS {
            let _ = distant.report()?;
            let (took, memory) = once(&fixture, &format!("{}-{run}", setting.replace(' ', "-")))?;
            let report = distant.report()?;
            times.push(took);
            peak = peak.max(memory);
            sequences.push(report.calls_in_sequence);
            eprintln!(
                "bench: {} calls, {} in sequence, {}, {memory:.1} MB",
                report.calls,
                report.calls_in_sequence,
                seconds(took)
            );
        }
        let took = median(&times);
        sequences.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "a number of calls")]
        let each = sequences.get(RUNS / 2).copied().unwrap_or_default() as f64 / count as f64;
        let least = DELAY.mul_f64(each);
        let ratio = took.as_secs_f64() / least.as_secs_f64();
        let figure = format!("{count} connections 200 ms away, {setting}");
        let baseline = format!("{each:.1} calls in sequence {}", seconds(least));
        table.add(&figure, seconds(took), baseline, format!("{ratio:.2}"), "<= 1.3", ratio <= MAX_RATIO);
        table.add(format!("{figure}: peak memory"), format!("{peak:.1} MB"), "", "", "< 200 MB", peak < MAX_MEMORY);
    }
    Ok(())
}

/// Starts a daemon on an empty registry. Returns the time until all connections are ACTIVE, and the peak memory.
fn once(fixture: &Fixture, name: &str) -> Measured<(Duration, f64)> {
    let daemon = Daemon::start(fixture, &fixture.registry(name))?;
    let mut client = Client::connect(daemon.port)?;
    loop {
        let (_, body) = client.get("/metrics/funnel", TOKEN)?;
        let funnel: serde_json::Value = serde_json::from_slice(&body)?;
        if funnel["active"].as_u64() == Some(fixture.count as u64) {
            break;
        }
        if daemon.started.elapsed() > TIMEOUT {
            return Err(format!("not all connections were ACTIVE within {TIMEOUT:?}: {}", String::from_utf8_lossy(&body)).into());
        }
        std::thread::sleep(POLL);
    }
    let took = daemon.started.elapsed();
    let peak = daemon.peak()?;
    daemon.stop()?;
    Ok((took, peak))
}
