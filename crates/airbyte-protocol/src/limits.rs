//! The bounds of one command.

use crate::Command;
use crate::message::text;
use serde_json::value::RawValue;

const MB: usize = 1024 * 1024;

/// The bounds of one command. What is over a bound is counted and left out, or ends the command ([`crate::Progress`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of one line. A longer line is skipped without being kept.
    pub line_bytes: usize,
    /// How deep the JSON of a line may be nested. It must stay below 128, where `serde_json` stops.
    pub depth: usize,
    /// The most values of one line. A value costs up to a few hundred bytes once a text is parsed.
    pub values: usize,
    /// The most bytes of standard output. More is [`crate::Progress::TooMuch`].
    pub output_bytes: u64,
    /// The number of records after which a `read` is [`crate::Progress::Enough`].
    pub records: usize,
    /// The most bytes of all records. The record that would exceed it is left out and the `read` is enough.
    pub record_bytes: usize,
    /// The most streams of a catalog. The others are counted.
    pub streams: usize,
    /// The most log messages that are kept.
    pub logs: usize,
    /// The most bytes of one log message, failure message or stack trace. A longer one is left out as a whole.
    pub text_bytes: usize,
}

impl Limits {
    /// Returns the bounds that fit a command. `read` ends after 20 records.
    #[must_use]
    pub fn for_command(command: Command) -> Self {
        let limits = Self {
            line_bytes: 2 * MB,
            depth: 100,
            values: 100_000,
            output_bytes: 32 * MB as u64,
            records: 20,
            record_bytes: 8 * MB,
            streams: 20_000,
            logs: 50,
            text_bytes: 64 * 1024,
        };
        match command {
            Command::Spec | Command::Check => limits,
            // A catalog is one line. Salesforce has some thousand objects with some hundred fields each.
            Command::Discover => Self { line_bytes: 64 * MB, values: 4_000_000, output_bytes: 128 * MB as u64, ..limits },
            Command::Read => Self { line_bytes: 4 * MB, output_bytes: 64 * MB as u64, ..limits },
        }
    }

    /// Reads a text of the connector. One that is too long is replaced, not cut: a part of a secret cannot be recognized.
    pub(crate) fn whole_text(&self, raw: Option<&RawValue>) -> Option<String> {
        let text = text(raw)?;
        Some(if text.len() > self.text_bytes { format!("(a text of {} bytes was left out)", text.len()) } else { text })
    }
}
