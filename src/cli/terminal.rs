//! The only place of the command line that prints. Secrets are removed, and what would steer a terminal is escaped: names,
//! messages and paths come from sources and callers, and could otherwise rewrite what the operator sees.

use crate::credentials::redact;
use crate::model::text::{printable, printable_json};
use std::io::Write;

/// The control characters that texts of several lines contain.
const LINES: [char; 1] = ['\n'];

/// Prints `text`, which ends with a line feed, to stdout.
pub fn print(text: &str) {
    // It is not an error if the reader has closed the pipe (`| head`).
    let _ = std::io::stdout().lock().write_all(printable(&redact::scrub_all(text), &LINES).as_bytes());
}

/// Prints one line to stdout.
pub fn print_line(line: &str) {
    print(&format!("{line}\n"));
}

/// Prints a JSON text to stdout.
pub fn print_json(json: &str) {
    let _ = std::io::stdout().lock().write_all(printable_json(&redact::scrub_all(json)).as_bytes());
}

/// Prints `text`, which ends with a line feed, to stderr.
pub fn print_error(text: &str) {
    let _ = std::io::stderr().lock().write_all(printable(&redact::scrub_all(text), &LINES).as_bytes());
}
