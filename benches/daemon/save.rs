//! The time from saving a file to ACTIVE, in a folder with ten thousand other files.

use crate::daemon::Daemon;
use crate::fixture::{Fixture, TOKEN, name};
use crate::http::Client;
use crate::stats::{median, ms, percentile};
use crate::table::Table;
use crate::{Measured, baseline, onboard};
use std::time::{Duration, Instant};

/// The number of files that are saved.
const FILES: usize = 100;
/// The pause between two polls: short compared to the figure, but long enough that polling does not slow the daemon.
const POLL: Duration = Duration::from_micros(500);
/// The target for the p99, without the source's own time.
const MAX_P99: Duration = Duration::from_millis(60);

/// Saves one file after another. Each is renamed into the folder after it is complete.
pub fn measure(fixture: &Fixture, table: &mut Table) -> Measured<()> {
    let daemon = Daemon::start(fixture, &fixture.registry(onboard::REGISTRY))?;
    let (mut times, mut sources) = (Vec::new(), Vec::new());
    for number in fixture.count..fixture.count + FILES {
        let (path, whole) = (fixture.intents().join(name(number)), fixture.home().join("whole"));
        fixture.save(number, &whole)?;
        let id = connection(fixture, number);
        let mut client = Client::connect(daemon.port)?;
        let started = Instant::now();
        std::fs::rename(&whole, &path)?;
        until_active(&mut client, &id, started)?;
        times.push(started.elapsed());
        let started = Instant::now();
        baseline::read(&fixture.source(number))?;
        sources.push(started.elapsed());
    }
    let (source, p50, p99) = (median(&sources), median(&times), percentile(&times, 99));
    let figure = format!("file saved to ACTIVE among {}", fixture.count);
    table.add(format!("{figure}: p50"), ms(p50), format!("source {}", ms(source)), "", "", true);
    table.add(
        format!("{figure}: p99"),
        ms(p99),
        format!("source {}", ms(source)),
        "",
        "< 60 ms + source",
        p99 < MAX_P99 + source,
    );
    daemon.stop()
}

fn connection(fixture: &Fixture, number: usize) -> String {
    let shown = fixture.source(number).display().to_string();
    let (family, resource) =
        if number.is_multiple_of(2) { ("filesource", shown) } else { ("jdbc", format!("jdbc:sqlite:{shown}")) };
    aam::model::ConnectionId::derive("autonomy", family, &[resource]).to_string()
}

fn until_active(client: &mut Client, id: &str, started: Instant) -> Measured<()> {
    let target = format!("/connections/{id}");
    loop {
        let (status, body) = client.get(&target, TOKEN)?;
        if status == 200 && serde_json::from_slice::<serde_json::Value>(&body)?["status"] == "ACTIVE" {
            return Ok(());
        }
        if started.elapsed() > Duration::from_secs(20) {
            return Err(format!("{id} is not ACTIVE after 20 s: {}", String::from_utf8_lossy(&body)).into());
        }
        std::thread::sleep(POLL);
    }
}
