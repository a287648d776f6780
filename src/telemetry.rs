//! Logging. Logs go to stderr or to a file, and every known secret is removed by value. AAM does not send telemetry anywhere.

use crate::credentials::redact::ScrubbingWriter;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock};
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

/// The filter of what the crate notify logs.
const NOTIFY_ERRORS: &str = "notify=error";

/// Starts logging. `stderr` makes the writer for lines that do not go to a file.
///
/// # Errors
/// Returns what is wrong with the filter or the file.
pub fn start<W: std::io::Write + 'static>(
    options: &LogOptions,
    stderr: impl Fn() -> W + Send + Sync + 'static,
) -> Result<(), String> {
    let mut filter = EnvFilter::try_new(&options.filter).map_err(|error| {
        format!("the log filter {:?} is not valid: {error}; write for example info or aam::egress=debug", options.filter)
    })?;
    // When a folder was replaced, as at each update of a ConfigMap, its watch is gone before it is given up. The crate notify
    // reports that as a warning.
    if !options.filter.contains("notify") {
        filter = filter.add_directive(NOTIFY_ERRORS.parse().map_err(|error| format!("{error}"))?);
    }
    // The error of a second start is ignored, as happens in tests. The first setup stays.
    match &options.file {
        Some(path) => {
            let file = RwLock::new(open(path)?);
            let log = LOG_FILE.get_or_init(|| LogFile { path: path.clone(), file });
            let writer = ScrubbingWriter { inner: move || Appender(log), colour: false };
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

/// Checks a filter as it is typed. The library takes any word for the name of a part of the program, so that a misspelled level
/// would switch the log off.
///
/// # Errors
/// Returns what is wrong with it.
pub fn check_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let unknown = text.split(',').map(str::trim).find(|part| {
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(part));
        !part.is_empty() && !is_level && !part.starts_with("aam") && !part.contains(['=', ':', '['])
    });
    let problem = match (unknown, EnvFilter::try_new(text)) {
        (Some(part), _) => format!("{part:?} is not a level"),
        (None, Err(error)) => error.to_string(),
        (None, Ok(_)) => return Ok(text.to_string()),
    };
    Err(format!("{problem}; write one of {}, or a filter such as aam::egress=debug,warn", LEVELS.join(", ")))
}

fn open(path: &Path) -> Result<File, String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // If this fails, opening the file says why.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| format!("cannot write the log file {}: {error}; choose another one with --log-file", path.display()))
}

/// The open log file of this process.
struct LogFile {
    path: PathBuf,
    file: RwLock<File>,
}

static LOG_FILE: OnceLock<LogFile> = OnceLock::new();

/// Opens the log file again, so that a file which was renamed or deleted gets a new one in its place. Without a log file,
/// this does nothing.
///
/// # Errors
/// Returns why it cannot be opened. The log then goes on in the file that is open.
pub fn reopen() -> Result<(), String> {
    let Some(log) = LOG_FILE.get() else { return Ok(()) };
    let file = open(&log.path)?;
    *log.file.write().unwrap_or_else(PoisonError::into_inner) = file;
    Ok(())
}

/// Appends to the log file. Each line is one write, so that several processes can share a file.
struct Appender(&'static LogFile);

impl std::io::Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (&*self.0.file.read().unwrap_or_else(PoisonError::into_inner)).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
