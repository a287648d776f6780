//! Logging. Logs go to stderr or to a file, and every known secret is removed by value. AAM does not send telemetry anywhere.

use crate::credentials::redact::ScrubbingWriter;
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// How and what to log.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// A filter such as `info` or `aam::egress=debug,warn`.
    pub filter: String,
    /// One JSON object per line instead of text.
    pub json: bool,
    /// The file that lines are appended to. `None` for stderr.
    pub file: Option<PathBuf>,
}

/// Starts logging. `stderr` makes the writer for lines that do not go to a file.
///
/// # Errors
/// Returns what is wrong with the filter or the file.
pub fn start<W: std::io::Write + 'static>(
    options: &LogOptions,
    stderr: impl Fn() -> W + Send + Sync + 'static,
) -> Result<(), String> {
    let filter = EnvFilter::try_new(&options.filter).map_err(|error| {
        format!("the log filter {:?} is not valid: {error}; write for example info or aam::egress=debug", options.filter)
    })?;
    // The error of a second start is ignored, as happens in tests. The first setup stays.
    match &options.file {
        Some(path) => {
            let file = Arc::new(open(path)?);
            let writer = ScrubbingWriter { inner: move || Appender(Arc::clone(&file)), colour: false };
            let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
            let _ = if options.json { builder.json().try_init() } else { builder.try_init() };
        }
        None => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            let writer = ScrubbingWriter { inner: stderr, colour };
            let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour);
            let _ = if options.json { builder.json().try_init() } else { builder.try_init() };
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| format!("cannot write the log file {}: {error}; choose another one with --log-file", path.display()))
}

/// Appends to the log file. Each line is one write, so that several processes can share a file.
struct Appender(Arc<File>);

impl std::io::Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
