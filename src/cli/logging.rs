//! The flags that set what is logged and where to.

use super::terminal::LogWriter;
use crate::telemetry::{self, LogOptions};
use clap::ValueEnum;
use std::path::PathBuf;

/// Flags of the log, which every command has.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LoggingOptions {
    /// Log errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Log more: -v what happens, -vv every call and decision, -vvv everything
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet", global = true)]
    verbose: u8,
    /// What to log: error, warn, info, debug, trace, or a filter such as aam::egress=debug,warn
    #[arg(long, env = "AAM_LOG", value_name = "FILTER", value_parser = telemetry::check_filter, conflicts_with_all = ["quiet", "verbose"], global = true)]
    log_level: Option<String>,
    /// The form of a line of the log
    #[arg(long, env = "AAM_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
    /// Append the log to this file instead of stderr
    #[arg(long, env = "AAM_LOG_FILE", value_name = "FILE", global = true)]
    log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LoggingOptions {
    /// Starts the log with `default` as the filter of the command.
    ///
    /// # Errors
    /// Returns what is wrong with the filter or the file.
    pub fn start(&self, default: &str) -> Result<(), String> {
        let filter = match (self.quiet, self.verbose, &self.log_level) {
            (true, ..) => "error",
            (false, 1, _) => "info",
            (false, 2, _) => "info,aam=debug",
            (false, 3.., _) => "trace",
            (false, 0, Some(filter)) if !filter.trim().is_empty() => filter,
            (false, 0, _) => default,
        };
        let json = self.log_format == LogFormat::Json;
        let options = LogOptions { filter: filter.to_string(), json, file: self.log_file.clone() };
        telemetry::start(&options, || LogWriter)
    }

    /// Whether only errors are wanted.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether the log goes to a file.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.log_file.is_some()
    }
}
