//! Connections whose connectors are processes of their own: the memory of all of them together has a limit.

use crate::Measured;
use crate::daemon::Daemon;
use crate::fixture::Fixture;
use crate::stats::{median, seconds, timed};
use crate::table::Table;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The memory that all connectors may take together, and what the policy allows one of them, in MiB.
pub const TOGETHER_MIB: u64 = 1024;
pub const EACH_MIB: u64 = 256;
/// The commands of one attempt: check, discover and read. The specification is asked for once.
const COMMANDS: usize = 3;
/// The pause between two looks at the processes.
const POLL: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(600);
/// The target time, as a multiple of the time of the commands with as many at a time as the memory allows.
const MAX_RATIO: f64 = 1.5;
const PAGE_BYTES: u64 = 4096;

/// Measures the time from an empty registry to ACTIVE, and the most memory that the connectors took together.
pub fn measure(count: usize, table: &mut Table) -> Measured<()> {
    let fixture = Fixture::of_connectors(count)?;
    let alone = alone(&fixture)?;
    let daemon = Daemon::start(&fixture, &fixture.registry("connectors"))?;
    let (mut peak, mut most) = (0, 0);
    let mut active = 0;
    while active < count as u64 {
        if daemon.started.elapsed() > TIMEOUT {
            return Err(format!("{active} of {count} connections were ACTIVE within {TIMEOUT:?}").into());
        }
        let polled = Instant::now();
        while polled.elapsed() < Duration::from_secs(1) {
            let (bytes, processes) = connectors(&fixture)?;
            peak = peak.max(bytes);
            most = most.max(processes);
            std::thread::sleep(POLL);
        }
        active = daemon.funnel("active")?;
    }
    let took = daemon.started.elapsed();
    daemon.stop()?;
    let slots = u32::try_from(TOGETHER_MIB / EACH_MIB)?;
    let least = alone * u32::try_from(count * COMMANDS)? / slots;
    let ratio = took.as_secs_f64() / least.as_secs_f64();
    let figure = format!("{count} connections of processes, {TOGETHER_MIB} MiB together");
    let baseline = format!("{COMMANDS} commands of {} each, {slots} at a time: {}", seconds(alone), seconds(least));
    table.add(&figure, seconds(took), baseline, format!("{ratio:.2}"), "<= 1.5", ratio <= MAX_RATIO);
    let limit = TOGETHER_MIB << 20;
    table.add(format!("{figure}: peak memory of the processes"), megabytes(peak), "", "", "< 1073.7 MB", peak < limit);
    table.add(format!("{figure}: at a time"), most.to_string(), "", "", "<= 4", most <= u64::from(slots));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// The time of one command that is started without AAM.
fn alone(fixture: &Fixture) -> Measured<Duration> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut command = Command::new(python()?);
        command.arg(fixture.connector()).arg("check").stdout(Stdio::null());
        let (status, took) = timed(|| command.status());
        if !status?.success() {
            return Err("the connector of the bench failed".into());
        }
        times.push(took);
    }
    Ok(median(&times))
}

/// The whole path of the interpreter: the command of a version manager is not one.
pub fn python() -> Measured<String> {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_string())
}

/// The resident bytes of all processes that run the connector of this fixture, and their number.
fn connectors(fixture: &Fixture) -> Measured<(u64, u64)> {
    let script = fixture.connector().display().to_string();
    let (mut bytes, mut processes) = (0, 0);
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(&script) {
            let pages = std::fs::read_to_string(entry.path().join("statm")).unwrap_or_default();
            let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default();
            bytes += resident * PAGE_BYTES;
            processes += u64::from(resident > 0);
        }
    }
    Ok((bytes, processes))
}
