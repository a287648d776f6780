//! The reader as its callers see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

mod answers;
mod bounds;
mod connectors;
mod failures;
mod properties;
mod real;
mod secrets;

use airbyte_protocol::{Answer, Command, Limits, Progress, Reader, Trouble};

/// Reads `output` in one piece and ends with this exit code.
fn run(command: Command, output: &str, exit: i32) -> (Result<Answer, Trouble>, Reader) {
    let mut reader = Reader::new(command, Limits::for_command(command));
    reader.push(output.as_bytes());
    (reader.finish(Some(exit), None), reader)
}

fn answer(command: Command, output: &str) -> Answer {
    run(command, output, 0).0.expect("an answer")
}

fn trouble(command: Command, output: &str, exit: i32) -> Trouble {
    run(command, output, exit).0.expect_err("a failure")
}

/// Reads `output` line by line and returns what the reader said after each line.
fn progress(command: Command, limits: Limits, output: &str) -> Vec<Progress> {
    let mut reader = Reader::new(command, limits);
    output.split_inclusive('\n').map(|line| reader.push(line.as_bytes())).collect()
}
