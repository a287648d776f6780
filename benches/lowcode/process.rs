//! Wall time and peak memory of one process.
//!
//! The kernel reports the peak memory of all children of a process together. So each measured process gets its own
//! parent, which is this program, run again. The parent must be small, because the peak of a child starts at the size of
//! its parent.

use crate::Measured;
use nix::sys::resource::{UsageWho, getrusage};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The argument that makes this program the parent of a measured process.
pub const COMMAND: &str = "measure-one-process";

/// Wall time and peak memory of one run.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub wall: Duration,
    /// Peak resident memory in MB (10^6 bytes).
    pub peak: f64,
}

/// Runs `program` to its end.
///
/// # Errors
/// If it cannot be started or does not end with exit code 0.
pub fn spent(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Measured<Spent> {
    let output = Command::new(std::env::current_exe()?)
        .arg(COMMAND)
        .arg(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(micros)), Some(Ok(kilobytes))) =>
        {
            #[expect(clippy::cast_precision_loss, reason = "a size of memory")]
            Ok(Spent { wall: Duration::from_micros(micros), peak: kilobytes as f64 * 1024.0 / 1e6 })
        }
        _ => Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into()),
    }
}

/// The parent: runs the program and prints microseconds and kilobytes.
pub fn run(command_line: &[String]) {
    let Some((program, arguments)) = command_line.split_first() else { return };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let started = Instant::now();
    let status = command.status();
    let wall = started.elapsed();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return eprintln!("ended with {status}"),
        Err(error) => return eprintln!("{error}"),
    }
    match getrusage(UsageWho::RUSAGE_CHILDREN) {
        Ok(usage) => println!("{} {}", wall.as_micros(), usage.max_rss()),
        Err(error) => eprintln!("{error}"),
    }
}
