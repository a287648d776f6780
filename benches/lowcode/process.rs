//! Wall time and peak memory of one process.
//!
//! The kernel tells the peak of all children together, so each process gets a parent of its own: this program,
//! run again. The parent is small, because a child's peak begins with the size of its parent.

use crate::Measured;
use nix::sys::resource::{UsageWho, getrusage};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The argument that makes this program such a parent.
pub const COMMAND: &str = "measure-one-process";

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    pub wall: Duration,
    /// Peak resident memory in MB (10^6 bytes).
    pub peak: f64,
}

/// Runs `program` to its end.
///
/// # Errors
/// It cannot be started, or it did not end with 0.
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
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(Ok(micros)), Some(Ok(kilobytes))) =>
        {
            #[expect(clippy::cast_precision_loss, reason = "a size of memory")]
            Ok(Spent { wall: Duration::from_micros(micros), peak: kilobytes as f64 * 1024.0 / 1e6 })
        }
        _ => Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into()),
    }
}

/// The parent: runs the program, prints microseconds and kilobytes.
pub fn run(words: &[String]) {
    let Some((program, arguments)) = words.split_first() else { return };
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
