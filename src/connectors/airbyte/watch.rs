//! Watches one run: reads what the connector prints, looks at what it uses up, and ends it with everything that it started.

use super::gate::Observed;
use super::rotation::Rotation;
use super::run::{Ended, MAX_THREADS, Ran, StepClock};
use crate::credentials::redact;
use crate::model::Failure;
use airbyte_protocol::{Level, Progress, Reader};
use confinement::{Confined, Usage};
use intercept::{Authority, Upstream};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinSet;

/// How often memory, processes and time are looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long a process may run on after its answer: a CONTROL message may follow.
const ANSWER_GRACE: Duration = Duration::from_secs(3);
/// How long output is waited for after the process has ended: what it started may hold its output open.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);
/// How long a process has to end by itself after SIGTERM.
const END_GRACE: Duration = Duration::from_millis(500);
const BUFFER_BYTES: usize = 64 << 10;
/// How long a connector may do nothing after AAM refused what it asked for last. Connectors wait for minutes before they try
/// again, and the second try would be refused too.
const REFUSED_GRACE: Duration = Duration::from_secs(5);
/// The time of the processor within which a connector does nothing in [`REFUSED_GRACE`].
const IDLE_TIME: Duration = Duration::from_millis(100);
/// The bytes of the end of stderr that are kept.
const MAX_STDERR_BYTES: usize = 8 << 10;
/// The processes that a connector may have at the same time.
const MAX_PROCESSES: u64 = 32;
/// The files, pipes and sockets that all its processes may have open at the same time. What waits in a socket is memory of the
/// kernel, at most some 200 kB each, which no process occupies.
const MAX_DESCRIPTORS: u64 = 1024;
/// The maximum number of log messages in the evidence, and of characters of each.
const MAX_LOGS: usize = 5;
const MAX_LOG_CHARS: usize = 200;

/// What is known of a run while it lasts.
pub struct Watch<'a> {
    pub reader: Reader,
    pub rotation: Option<&'a Rotation>,
    pub clock: &'a StepClock,
    pub observed: Arc<Observed>,
    /// The bytes that the run may take.
    pub memory: u64,
    /// The end of stderr.
    pub stderr: Vec<u8>,
    /// The most memory that was seen, in bytes.
    pub peak: u64,
}

impl Watch<'_> {
    /// Reads until the command has answered or has to end, and ends the process and its group.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if what the connector replaced in its config could not be kept.
    pub async fn until_end(
        mut self,
        confined: Confined,
        gate: Arc<dyn Upstream>,
        authority: &Arc<Authority>,
    ) -> Result<Ran, Failure> {
        let Confined { mut process, listener, mut stdout, mut stderr, support, .. } = confined;
        let mut proxy = JoinSet::new();
        proxy.spawn(intercept::serve(listener, Arc::clone(authority), gate, intercept::Limits::default()));
        let (mut exit, mut exited, mut answered): (Option<ExitStatus>, Option<Instant>, Option<Instant>) = (None, None, None);
        let (mut out_buffer, mut err_buffer) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
        let (mut out_open, mut err_open, mut ended) = (true, true, None);
        let mut ticks = tokio::time::interval(TICK);
        let mut idle = Idle::new();
        let observed = Arc::clone(&self.observed);
        loop {
            tokio::select! {
                read = stdout.read(&mut out_buffer), if out_open => {
                    let count = read.unwrap_or(0);
                    out_open = count > 0;
                    idle = Idle::new();
                    let progress = self.reader.push(out_buffer.get(..count).unwrap_or_default());
                    self.keep_config().await?;
                    match progress {
                        Progress::More => {}
                        Progress::Answered => answered = answered.or_else(|| Some(Instant::now())),
                        Progress::Enough | Progress::TooMuch => break,
                    }
                }
                read = stderr.read(&mut err_buffer), if err_open => {
                    let count = read.unwrap_or(0);
                    err_open = count > 0;
                    self.keep_stderr(err_buffer.get(..count).unwrap_or_default());
                }
                status = process.wait(), if exit.is_none() && exited.is_none() => {
                    exit = status.ok();
                    exited = Some(Instant::now());
                }
                () = observed.ended.notified() => break,
                _ = ticks.tick() => {
                    let usage = process.usage().unwrap_or_default();
                    self.peak = self.peak.max(usage.resident_bytes);
                    let waits = idle.is_over(self.observed.refused_last(), usage.processor_time);
                    ended = self.excess(&usage).or(waits.then_some(Ended::Waits));
                }
            }
            let is_over = |since: Option<Instant>, grace: Duration| since.is_some_and(|since| since.elapsed() >= grace);
            let is_done = exited.is_some() && (!out_open || is_over(exited, OUTPUT_GRACE));
            if ended.is_some() || is_done || is_over(answered, ANSWER_GRACE) {
                break;
            }
        }
        // The output is read until the end, because a process whose output is not read may not end.
        tokio::select! {
            _ = process.end(END_GRACE) => {}
            () = drained(&mut stdout, &mut stderr) => {}
        }
        drop(proxy);
        let (code, signal) = (exit.and_then(|exit| exit.code()), exit.and_then(|exit| exit.signal()));
        let result = self.reader.finish(code, signal);
        self.keep_config().await?;
        Ok(Ran {
            result,
            ended,
            observed: self.observed,
            counts: self.reader.counts(),
            logs: logs(&self.reader),
            stderr: redact::scrub_and_cut(&String::from_utf8_lossy(&self.stderr), 600),
            took: Duration::ZERO,
            peak: self.peak,
            weaker: support.missing(),
        })
    }

    /// Keeps what the connector replaced in its config.
    async fn keep_config(&mut self) -> Result<(), Failure> {
        match (self.reader.take_config(), self.rotation) {
            (Some(config), Some(rotation)) => rotation.keep(&config).await,
            _ => Ok(()),
        }
    }

    fn keep_stderr(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
        let excess = self.stderr.len().saturating_sub(MAX_STDERR_BYTES);
        self.stderr.drain(..excess);
    }

    /// Returns why the run has to end now.
    fn excess(&self, usage: &Usage) -> Option<Ended> {
        // Too many of these are also the reason for their memory.
        let bounds = [
            (usage.processes, MAX_PROCESSES, "processes"),
            (usage.threads, MAX_THREADS, "threads"),
            (usage.descriptors, MAX_DESCRIPTORS, "open files and sockets"),
        ];
        if let Some((count, _, what)) = bounds.into_iter().find(|(count, bound, _)| count > bound) {
            return Some(Ended::TooMany(count, what));
        }
        if usage.resident_bytes > self.memory {
            return Some(Ended::Memory(usage.resident_bytes));
        }
        self.clock.is_over().then_some(Ended::TimedOut(self.clock.limit()))
    }
}

/// Since when a connector has done nothing after a refusal.
struct Idle {
    since: Instant,
    /// The number of answers, and the time of the processor at that moment.
    at: Option<(u64, Duration)>,
}

impl Idle {
    fn new() -> Idle {
        Idle { since: Instant::now(), at: None }
    }

    /// Whether the connector has done nothing for [`REFUSED_GRACE`]. `answers` is the number of answers, if the last one was
    /// a refusal.
    fn is_over(&mut self, answers: Option<u64>, processor_time: Duration) -> bool {
        let Some(answers) = answers else {
            self.at = None;
            return false;
        };
        match self.at {
            Some((known, before)) if known == answers && processor_time.saturating_sub(before) < IDLE_TIME => {
                self.since.elapsed() >= REFUSED_GRACE
            }
            _ => {
                *self = Idle { since: Instant::now(), at: Some((answers, processor_time)) };
                false
            }
        }
    }
}

/// Reads and forgets until this is dropped.
async fn drained(stdout: &mut (impl AsyncRead + Unpin), stderr: &mut (impl AsyncRead + Unpin)) {
    let (mut out, mut err) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        tokio::select! {
            read = stdout.read(&mut out), if out_open => out_open = read.is_ok_and(|count| count > 0),
            read = stderr.read(&mut err), if err_open => err_open = read.is_ok_and(|count| count > 0),
        }
    }
    std::future::pending().await
}

/// The warnings and errors that the connector logged last, or what it logged last if there are none.
fn logs(reader: &Reader) -> Vec<String> {
    let logs = reader.logs();
    let last = |level: Level, count: usize| {
        let texts = logs.iter().rev().filter(|log| log.level >= level).take(count);
        texts.map(|log| redact::scrub_and_cut(&log.message, MAX_LOG_CHARS)).collect::<Vec<String>>()
    };
    let severe = last(Level::Warn, MAX_LOGS);
    let mut texts = if severe.is_empty() { last(Level::Info, 1) } else { severe };
    texts.reverse();
    texts.dedup();
    texts
}
