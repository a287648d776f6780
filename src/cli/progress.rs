//! Shows how far a long command has come: a bar on a terminal, and a plain line every 10 s elsewhere. Both go to stderr, so that
//! the output of a command stays data.

use super::terminal;
use crate::credentials::redact;
use crate::model::text::{age, printable};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::future::Future;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a bar is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(500);
/// How often a line is printed where there is no bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// A command that ends within this time shows no bar.
const SHOW_AFTER: Duration = Duration::from_millis(500);
/// The number of running checks that are named.
pub const MAX_NAMED: usize = 3;
/// The longest name of a source that is shown, in characters.
const MAX_NAME_CHARS: usize = 48;

/// The bar that is on the terminal. Whatever else is printed must go above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// How far a command has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub done: u64,
    /// Zero if it is not known yet how much there is to do.
    pub total: u64,
    /// What else is known, for example how many connections are in which state.
    pub detail: String,
}

/// The progress of one command, which ends when it is dropped.
pub struct Progress {
    verb: &'static str,
    noun: &'static str,
    started: Instant,
    bar: Option<ProgressBar>,
    line_interval: Duration,
    /// When the last line was printed, or the command was started.
    last_line: Option<Instant>,
}

impl Progress {
    /// Starts to show the progress of `verb`, counted in `noun`, unless `quiet` is set.
    #[must_use]
    pub fn start(verb: &'static str, noun: &'static str, quiet: bool) -> Progress {
        let bar = (!quiet && is_capable_terminal()).then(|| new_bar(verb, noun));
        let last_line = (!quiet && bar.is_none()).then(Instant::now);
        Progress { verb, noun, started: Instant::now(), bar, line_interval: line_interval(), last_line }
    }

    /// Shows what `read` returns until `work` ends, and returns the result of `work`.
    pub async fn during<T>(mut self, mut read: impl FnMut() -> Reading, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(DRAW_INTERVAL.min(self.line_interval));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                _ = ticks.tick() => self.show_if_due(&mut read),
            }
        }
    }

    /// Shows what `read` returns, if it is time to.
    pub fn show_if_due(&mut self, read: impl FnOnce() -> Reading) {
        if let Some(bar) = &self.bar {
            if self.started.elapsed() >= SHOW_AFTER {
                draw(bar, &read());
            }
        } else if self.last_line.is_some_and(|last| last.elapsed() >= self.line_interval) {
            terminal::print_error(&line(self.verb, self.noun, self.started.elapsed(), &read()));
            self.last_line = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            shown().take();
            bar.finish_and_clear();
        }
    }
}

/// Runs `print` while no bar is on the terminal.
pub fn above_bar<T>(print: impl FnOnce() -> T) -> T {
    let bar = shown().clone();
    match bar {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// The text of checks that run, the longest first: their number, and the names of the slowest.
#[must_use]
pub fn running(count: usize, slowest: &[(String, Duration)]) -> String {
    if count == 0 {
        return String::new();
    }
    let name = |(name, time): &(String, Duration)| format!("{} {}", redact::scrub_and_cut(name, MAX_NAME_CHARS), age(*time));
    let names: Vec<String> = slowest.iter().take(MAX_NAMED).map(name).collect();
    format!("{count} running, the slowest: {}", names.join(", "))
}

/// Joins the parts of a detail that are not empty.
#[must_use]
pub fn joined(parts: &[String]) -> String {
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("; ")
}

fn shown() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether stderr is a terminal that can move its cursor.
fn is_capable_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb" && !term.is_empty())
}

fn new_bar(verb: &str, noun: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = format!("{verb} [{{bar:24}}] {{human_pos}} of {{human_len}} {noun}, {{elapsed}}\n  {{wide_msg}}");
    // The template is fixed, so a failure would be a defect, which the plain style survives.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    shown().replace(bar.clone());
    bar
}

fn draw(bar: &ProgressBar, reading: &Reading) {
    bar.set_length(reading.total);
    bar.set_position(reading.done);
    let detail = redact::scrub_all(&reading.detail);
    bar.set_message(printable(&detail, &[]).into_owned());
}

fn line(verb: &str, noun: &str, elapsed: Duration, reading: &Reading) -> String {
    let count = match reading.total {
        0 => String::new(),
        total => format!("{} of {total} {noun}", reading.done),
    };
    let text = joined(&[count, reading.detail.clone()]);
    format!("{verb}, {}: {}\n", age(elapsed), printable(&text, &[]))
}

/// The interval of the lines, which tests of a debug build shorten with `AAM_TEST_PROGRESS_MS`.
fn line_interval() -> Duration {
    let wanted = std::env::var("AAM_TEST_PROGRESS_MS").ok().filter(|_| cfg!(debug_assertions));
    wanted.and_then(|text| text.parse().ok()).map_or(LINE_INTERVAL, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_counts_and_the_slowest_sources() {
        let slowest = [("okta acme".to_string(), Duration::from_secs(12)), ("x".repeat(60), Duration::from_secs(130))];
        let detail = joined(&["900 ACTIVE".to_string(), String::new(), running(16, &slowest)]);
        let reading = Reading { done: 1200, total: 2000, detail };
        let text = line("checking", "connections", Duration::from_secs(40), &reading);
        assert!(
            text.starts_with("checking, 40s: 1200 of 2000 connections; 900 ACTIVE; 16 running, the slowest: okta acme 12s, xxx")
        );
        assert!(text.ends_with(" 2m\n") && text.chars().count() < 180, "{text}");
        let unknown = Reading { detail: "reading the intents".to_string(), ..Reading::default() };
        assert_eq!(line("checking", "connections", Duration::ZERO, &unknown), "checking, 0s: reading the intents\n");
    }

    #[test]
    fn quiet_shows_nothing() {
        let mut progress = Progress::start("checking", "connections", true);
        progress.show_if_due(unreachable_reading);
        assert!(progress.bar.is_none() && progress.last_line.is_none());
    }

    fn unreachable_reading() -> Reading {
        panic!("nothing is read if nothing is shown")
    }
}
