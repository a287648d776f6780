//! Why a command failed.

use crate::logs::LogBook;
use crate::message::{StreamDescriptor, TraceError, content, field};
use crate::{Command, Counts, Limits};

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub kind: Kind,
    pub origin: Origin,
    /// What the connector says to its user, or a sentence of this crate if it says nothing ([`Origin::Exit`],
    /// [`Origin::Output`]). The connector's text is not scrubbed and not cut.
    pub message: String,
    /// What the connector says to its developers: often the response of the vendor. Not scrubbed and not cut.
    pub internal_message: Option<String>,
    /// The stack trace, which ends with the error. Not scrubbed and not cut.
    pub stack_trace: Option<String>,
    /// The stream that failed, if the connector names one.
    pub stream: Option<String>,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The configuration does not work: a wrong credential, a missing permission, an invalid field.
    Config,
    /// It may work later.
    Transient,
    /// The connector or the vendor failed.
    System,
    /// The connector ended with success and without an answer.
    Silent,
    /// A signal ended the connector.
    Killed,
    /// The connector needed more memory than it may use.
    Memory,
}

/// Where a failure was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A TRACE message of type ERROR: the connector names the kind.
    Trace,
    /// A CONNECTION_STATUS of FAILED. It has no kind, so it counts as [`Kind::Config`], but its text may say that
    /// the vendor was not reachable or limits the rate.
    Status,
    /// A log message of level FATAL or ERROR of a connector that ended with an error code and has no TRACE message.
    Log,
    /// The exit code or the signal. `message` is a sentence of this crate.
    Exit,
    /// What was written, or that nothing was written, to standard output. `message` is a sentence of this crate.
    Output,
}

impl Kind {
    /// Returns the name of the kind for people and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Transient => "transient",
            Self::System => "system",
            Self::Silent => "silent",
            Self::Killed => "killed",
            Self::Memory => "memory",
        }
    }
}

impl Trouble {
    fn new(kind: Kind, origin: Origin, message: String) -> Self {
        Self { kind, origin, message, internal_message: None, stack_trace: None, stream: None }
    }

    /// Returns the last `lines` lines of the stack trace, where the error is. `scrub` removes the secrets of the whole text
    /// before it is cut, because a secret may have several lines (a private key).
    #[must_use]
    pub fn stack_excerpt(&self, lines: usize, scrub: impl Fn(&str) -> String) -> Option<String> {
        let scrubbed = scrub(self.stack_trace.as_deref()?);
        let all: Vec<&str> = scrubbed.trim_end().lines().collect();
        let last = all.get(all.len().saturating_sub(lines)..)?;
        Some(last.join("\n"))
    }
}

/// The failure that a connector reports. The first one is kept: later ones are often summaries of it ("1 stream failed").
#[derive(Debug, Default)]
pub struct Failure {
    trace: Option<Trouble>,
    status: Option<Trouble>,
}

impl Failure {
    pub fn add_trace(&mut self, error: &TraceError<'_>, limits: &Limits) {
        if self.trace.is_some() {
            return;
        }
        let internal_message = limits.whole_text(error.internal_message);
        let stack_trace = limits.whole_text(error.stack_trace);
        let failure_type: Option<String> = field(error.failure_type);
        let kind = match failure_type.as_deref() {
            _ if is_memory_error(internal_message.as_deref()) || is_memory_error(stack_trace.as_deref()) => Kind::Memory,
            Some("config_error") => Kind::Config,
            Some("transient_error") => Kind::Transient,
            // The protocol's default.
            _ => Kind::System,
        };
        let stream: Option<StreamDescriptor> = content(error.stream_descriptor);
        let message = limits.whole_text(error.message).or_else(|| internal_message.clone());
        self.trace = Some(Trouble {
            kind,
            origin: Origin::Trace,
            message: message.unwrap_or_else(|| "The connector reports a failure without a message".to_owned()),
            internal_message,
            stack_trace,
            stream: stream.map(|stream| stream.name),
        });
    }

    pub fn add_status(&mut self, message: Option<String>) {
        let message = message.unwrap_or_else(|| "The connector says that the check failed, without a message".to_owned());
        self.status.get_or_insert_with(|| Trouble::new(Kind::Config, Origin::Status, message));
    }

    /// Takes the failure. A TRACE message is preferred, because it has a kind.
    pub fn take(&mut self) -> Option<Trouble> {
        self.trace.take().or_else(|| self.status.take())
    }
}

/// Whether the last line of `text` is an exception that Python or Java raises when memory runs out. The line is
/// `NAME: message`, where the name may be longer (`java.lang.OutOfMemoryError`).
fn is_memory_error(text: Option<&str>) -> bool {
    let last = text.and_then(|text| text.trim_end().lines().next_back()).unwrap_or_default();
    let name = last.split(':').next().unwrap_or_default().trim();
    !name.contains(' ') && name.ends_with("MemoryError")
}

/// How a process ended that reports no failure.
pub struct Ending<'r> {
    pub command: Command,
    pub limits: &'r Limits,
    pub counts: &'r Counts,
    pub logs: &'r LogBook,
    pub exit: Option<i32>,
    pub signal: Option<i32>,
}

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;
/// A shell or a container reports a signal as this number plus that of the signal.
const SIGNAL_EXIT: i32 = 128;
const LAST_SIGNAL: i32 = 64;

impl Ending<'_> {
    /// Returns the failure of a process that wrote more than allowed.
    pub fn too_much(&self) -> Trouble {
        let message = format!(
            "The connector wrote more than {} bytes to its standard output during {}",
            self.limits.output_bytes,
            self.command.as_str()
        );
        Trouble::new(Kind::System, Origin::Output, message)
    }

    /// Returns an error if a `read` with this number of records was stopped, or lost all its records.
    pub fn read_was_stopped(&self, records: usize) -> Result<(), Trouble> {
        if let Some(trouble) = self.killed().or_else(|| self.failed_exit()) {
            return Err(trouble);
        }
        let ended_by_caller = self.exit.is_none() && records == 0;
        let lost = records == 0 && self.counts.long_lines + self.counts.invalid_messages > 0;
        if ended_by_caller || lost { Err(self.no_answer()) } else { Ok(()) }
    }

    /// Returns the failure of a process that ended without an answer.
    pub fn no_answer(&self) -> Trouble {
        self.killed().or_else(|| self.failed_exit()).unwrap_or_else(|| {
            Trouble::new(
                Kind::Silent,
                Origin::Output,
                format!("The connector ended {} without an answer{}", self.command.as_str(), self.what_came()),
            )
        })
    }

    fn killed(&self) -> Option<Trouble> {
        let from_exit = self.exit.map(|exit| exit - SIGNAL_EXIT).filter(|signal| (1..=LAST_SIGNAL).contains(signal));
        let signal = self.signal.or(from_exit)?;
        let (kind, what) = match signal {
            // Memory is by far the most frequent reason for this signal.
            SIGKILL => (Kind::Memory, "it was killed (signal 9), as the system does when memory runs out".to_owned()),
            SIGXCPU => (Kind::Killed, "it used more processor time than allowed (signal 24)".to_owned()),
            SIGXFSZ => (Kind::Killed, "it wrote a larger file than allowed (signal 25)".to_owned()),
            _ => (Kind::Killed, format!("signal {signal} ended it")),
        };
        let message = format!("The connector has no answer for {}: {what}", self.command.as_str());
        Some(Trouble::new(kind, Origin::Exit, message))
    }

    fn failed_exit(&self) -> Option<Trouble> {
        let exit = self.exit.filter(|exit| *exit != 0)?;
        if let Some(log) = self.logs.last_error() {
            let kind = if is_memory_error(Some(&log.message)) { Kind::Memory } else { Kind::System };
            return Some(Trouble::new(kind, Origin::Log, log.message.clone()));
        }
        let message = format!("The connector ended {} with exit code {exit}{}", self.command.as_str(), self.what_came());
        Some(Trouble::new(Kind::System, Origin::Exit, message))
    }

    /// Says what may have hidden the answer.
    fn what_came(&self) -> String {
        let Counts { long_lines, invalid_messages, noise_lines, .. } = *self.counts;
        let hints = [
            (long_lines, "too long", "too long"),
            (invalid_messages, "not in the form of the protocol", "not in the form of the protocol"),
            (noise_lines, "not a message", "not messages"),
        ];
        let mut sentence = String::new();
        for (count, one, many) in hints {
            match count {
                0 => {}
                1 => sentence.push_str(&format!("; 1 line was {one}")),
                _ => sentence.push_str(&format!("; {count} lines were {many}")),
            }
        }
        sentence
    }
}
