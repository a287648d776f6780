//! A daemon with ten thousand ACTIVE connections and nothing to do.

use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::stats::{median, ms};
use crate::table::Table;
use crate::{Measured, onboard};
use std::time::Duration;

/// The number of cold starts that are measured.
const COLD_STARTS: usize = 5;
/// How long the idle daemon is observed.
const OBSERVATION: Duration = Duration::from_secs(20);

/// Measures the cold start, then processor and memory of the last daemon.
pub fn measure(fixture: &Fixture, table: &mut Table) -> Measured<()> {
    let registry = fixture.registry(onboard::REGISTRY);
    let mut starts = Vec::new();
    for _ in 1..COLD_STARTS {
        let daemon = Daemon::start(fixture, &registry)?;
        starts.push(daemon.ready_after);
        daemon.stop()?;
    }
    let daemon = Daemon::start(fixture, &registry)?;
    starts.push(daemon.ready_after);
    let start = median(&starts);
    table.add(
        format!("cold start to ready, {} connections", fixture.count),
        ms(start),
        "",
        "",
        "< 300 ms",
        start < Duration::from_millis(300),
    );
    let active = daemon.funnel("active")?;
    let before = daemon.processor()?;
    std::thread::sleep(OBSERVATION);
    let percent = (daemon.processor()? - before) / OBSERVATION.as_secs_f64() * 100.0;
    let resident = daemon.resident()?;
    table.add(format!("idle, {active} ACTIVE: processor"), format!("{percent:.2} %"), "", "", "< 1 %", percent < 1.0);
    table.add(format!("idle, {active} ACTIVE: resident"), format!("{resident:.1} MB"), "", "", "< 60 MB", resident < 60.0);
    daemon.stop()
}
