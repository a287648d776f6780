//! Logging. Logs go to stderr, and every known secret is removed by value. AAM does not send telemetry anywhere.

use crate::credentials::redact::ScrubbingWriter;
use tracing_subscriber::EnvFilter;

/// Starts logging. `AAM_LOG` is a filter such as `info` or `aam::egress=debug`. `AAM_LOG_FORMAT=json` writes one JSON
/// object per line.
pub fn start(default: &str) {
    let filter =
        std::env::var("AAM_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new(default));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let writer = ScrubbingWriter { inner: std::io::stderr, colour };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colour);
    let json = std::env::var("AAM_LOG_FORMAT").is_ok_and(|format| format == "json");
    // Ignore the error if logging has already been started in this process, as happens in tests. The first setup stays.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
