//! Reads what an Airbyte connector prints, within bounds, and says what it means. This crate is pure: it starts no process
//! and reads no file. The caller does both and hands over the bytes:
//!
//! ```text
//! let mut reader = Reader::new(Command::Check, Limits::for_command(Command::Check));
//! loop {
//!     let progress = reader.push(bytes of stdout);
//!     if let Some(config) = reader.take_config() { persist it at once, it may hold the only valid token }
//!     match progress {
//!         Progress::More => read on,
//!         Progress::Answered => read on until the process ends; end it after a grace,
//!         Progress::Enough | Progress::TooMuch => end the process now,
//!     }
//! }
//! let answer = reader.finish(exit code, signal);
//! if let Some(config) = reader.take_config() { persist it, also when `answer` is a `Trouble` }
//! ```
//!
//! Four rules follow from how connectors behave:
//! - Standard output holds plain text between the messages. It may be customer data, so this crate counts it
//!   ([`Counts::noise_lines`]) and keeps none of it.
//! - The texts that this crate returns are those of the connector. They may contain secrets, and they are never cut here,
//!   because a part of a secret cannot be recognized later. The caller scrubs them and then cuts them.
//! - A connector that replaces its configuration says so in a CONTROL message, possibly before it fails.
//! - A connector may write more than anybody wants to read, so every number has a bound in [`Limits`].

mod catalog;
mod json_text;
mod limits;
mod logs;
mod message;
mod reader;
mod scan;
mod spec;
mod trouble;

pub use catalog::{Catalog, Stream, SyncMode, configured_catalog};
pub use json_text::JsonText;
pub use limits::Limits;
pub use logs::{Level, Log};
pub use reader::{Counts, Progress, Reader};
pub use spec::{PathStep, SecretPath, Spec};
pub use trouble::{Kind, Origin, Trouble};

/// A command of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// `spec`: describes the configuration. It receives no configuration.
    Spec,
    /// `check --config FILE`: says whether the configuration works.
    Check,
    /// `discover --config FILE`: lists the streams.
    Discover,
    /// `read --config FILE --catalog FILE`: writes records.
    Read,
}

impl Command {
    /// Returns the name of the command, which is the connector's first argument.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Check => "check",
            Self::Discover => "discover",
            Self::Read => "read",
        }
    }
}

/// What a command that succeeded found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer of `spec`.
    Spec(Spec),
    /// `check` found that the configuration works.
    Check(CheckPassed),
    /// The answer of `discover`.
    Discover(Catalog),
    /// The answer of `read`.
    Read(Records),
}

/// The answer of a `check` that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckPassed {
    /// What the connector adds, if anything. Not scrubbed.
    pub message: Option<String>,
}

/// The answer of a `read`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// At most [`Limits::records`], in the order in which they came.
    pub records: Vec<Record>,
    /// The connector ended by itself, so these are all records of the catalog's streams. Otherwise the reader stopped at a limit.
    pub complete: bool,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name of the stream.
    pub stream: String,
    pub namespace: Option<String>,
    /// A JSON object with the fields. It is customer data.
    pub data: JsonText,
}
