//! Reads the standard output of one command.

use crate::logs::LogBook;
use crate::message::{
    ConnectionStatus, ConnectorConfig, ControlMessage, Envelope, LogMessage, RecordMessage, StreamStatus, TraceError,
};
use crate::message::{TraceMessage, content, field, is_object, text};
use crate::scan::{shape, without_python_numbers};
use crate::trouble::{Ending, Failure};
use crate::{Answer, Catalog, CheckPassed, Command, JsonText, Limits, Log, Record, Records, Spec, Trouble};
use serde_json::value::RawValue;
use std::fmt;

/// A buffer that one long line has made larger than this is given back after the line.
const KEPT_BUFFER_BYTES: usize = 256 * 1024;

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Read on.
    More,
    /// The answer of `spec`, `check` or `discover` is complete, or a failure was reported. Read on until the process ends,
    /// because a CONTROL message may follow, and end it after a grace: some connectors have threads that never end.
    Answered,
    /// `read` has as many records as it may. End the process now. Until it ends, keep reading its output, or it blocks.
    Enough,
    /// The connector writes more than [`Limits::output_bytes`]. End the process now; `finish` returns a [`Trouble`].
    TooMuch,
}

/// How much of what was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of standard output.
    pub bytes: u64,
    /// Lines that are not messages of the protocol: plain text, or JSON without a type. They are never kept. Empty lines do
    /// not count.
    pub noise_lines: u64,
    /// Messages of a type that this crate does not know.
    pub unknown_messages: u64,
    /// Messages of a known type whose content does not have the documented form, and messages that are too deep or have too
    /// many values.
    pub invalid_messages: u64,
    /// Lines that were longer than [`Limits::line_bytes`].
    pub long_lines: u64,
    /// Answers of another command, and answers after the first one.
    pub unexpected_messages: u64,
    pub log_messages: u64,
    pub records: u64,
    pub state_messages: u64,
    pub control_messages: u64,
}

/// Reads the standard output of one command. See the crate's documentation for the order of calls.
pub struct Reader {
    command: Command,
    limits: Limits,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The line is longer than allowed, so the rest of it is skipped.
    skipping: bool,
    progress: Progress,
    counts: Counts,
    logs: LogBook,
    config: Option<JsonText>,
    answer: Option<Answer>,
    records: Records,
    record_bytes: usize,
    /// The connector says that it did not read a stream to its end.
    incomplete: bool,
    failure: Failure,
}

/// Shows numbers only: what was read may contain secrets and customer data.
impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reader");
        shown.field("command", &self.command).field("progress", &self.progress).field("counts", &self.counts);
        shown.finish_non_exhaustive()
    }
}

impl Reader {
    /// Returns a reader for the output of one process that runs `command`.
    #[must_use]
    pub fn new(command: Command, limits: Limits) -> Self {
        Self {
            command,
            limits,
            line: Vec::new(),
            skipping: false,
            progress: Progress::More,
            counts: Counts::default(),
            logs: LogBook::new(limits.logs),
            config: None,
            answer: None,
            records: Records::default(),
            record_bytes: 0,
            incomplete: false,
            failure: Failure::default(),
        }
    }

    /// Reads the next bytes of standard output. Where the caller cuts them does not matter. After [`Progress::Enough`] and
    /// [`Progress::TooMuch`] the bytes are ignored.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        let mut rest = bytes;
        while !rest.is_empty() && !self.has_ended() {
            let (part, ends, after) = match rest.iter().position(|byte| *byte == b'\n').and_then(|at| rest.split_at_checked(at)) {
                Some((part, after)) => (part, true, after.get(1..).unwrap_or_default()),
                None => (rest, false, [].as_slice()),
            };
            self.take_part(part, ends);
            rest = after;
        }
        self.progress
    }

    /// Returns the configuration of the last CONTROL message, once. It replaces the one that the connector was started with, and
    /// it may contain the only token that still works: persist it at once.
    pub fn take_config(&mut self) -> Option<JsonText> {
        self.config.take()
    }

    /// Returns what the command found. `exit` is the exit code and `signal` the number of the signal that ended the process. A
    /// caller that ended the process after [`Progress::Answered`] or [`Progress::Enough`] may give anything. A caller that ended
    /// it for another reason (time, memory) knows the reason better than this crate and reports its own.
    ///
    /// Call it once. [`Reader::take_config`], [`Reader::logs`] and [`Reader::counts`] still work afterwards.
    ///
    /// # Errors
    ///
    /// The connector reports a failure, has no answer, or was stopped before it had one.
    pub fn finish(&mut self, exit: Option<i32>, signal: Option<i32>) -> Result<Answer, Trouble> {
        if !self.has_ended() && !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            self.take_line(&line);
        }
        let records = std::mem::take(&mut self.records);
        if self.progress == Progress::Enough {
            return Ok(Answer::Read(records));
        }
        let ending = Ending { command: self.command, limits: &self.limits, counts: &self.counts, logs: &self.logs, exit, signal };
        if self.progress == Progress::TooMuch {
            return Err(self.failure.take().unwrap_or_else(|| ending.too_much()));
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.command == Command::Read {
            ending.read_was_stopped(records.records.len())?;
            let lost = self.counts.long_lines > 0 || self.counts.invalid_messages > 0;
            return Ok(Answer::Read(Records { complete: exit == Some(0) && !self.incomplete && !lost, ..records }));
        }
        self.answer.take().ok_or_else(|| ending.no_answer())
    }

    /// Returns the log messages that were kept: the most severe ones and, among equally severe ones, the last ones.
    #[must_use]
    pub fn logs(&self) -> &[Log] {
        self.logs.entries()
    }

    /// Returns how much of what was read.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn has_ended(&self) -> bool {
        matches!(self.progress, Progress::Enough | Progress::TooMuch)
    }

    /// Takes a part of a line, with its line feed if it `ends` the line. The bound of the output is a number of bytes, so that
    /// the cuts do not matter: what is within the bound is taken first.
    fn take_part(&mut self, part: &[u8], ends: bool) {
        let bytes = u64::try_from(part.len()).unwrap_or(u64::MAX).saturating_add(u64::from(ends));
        let left = self.limits.output_bytes.saturating_sub(self.counts.bytes);
        if bytes <= left {
            self.counts.bytes = self.counts.bytes.saturating_add(bytes);
            return self.take_counted(part, ends);
        }
        let within = usize::try_from(left).ok().and_then(|left| part.get(..left)).unwrap_or(part);
        self.take_counted(within, false);
        self.counts.bytes = self.limits.output_bytes;
        self.line = Vec::new();
        self.progress = Progress::TooMuch;
    }

    fn take_counted(&mut self, part: &[u8], ends: bool) {
        if self.line.len().saturating_add(part.len()) > self.limits.line_bytes && !self.skipping {
            self.skipping = true;
            self.line = Vec::new();
            self.counts.long_lines += 1;
        }
        match (self.skipping, ends) {
            (true, _) => self.skipping = !ends,
            (false, false) => self.line.extend_from_slice(part),
            (false, true) if self.line.is_empty() => self.take_line(part),
            (false, true) => {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.take_line(&line);
                if line.capacity() <= KEPT_BUFFER_BYTES {
                    line.clear();
                    self.line = line;
                }
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        if line.first() != Some(&b'{') {
            self.counts.noise_lines += 1;
            return;
        }
        let shape = shape(line);
        if shape.depth > self.limits.depth || shape.values > self.limits.values {
            self.counts.invalid_messages += 1;
            return;
        }
        let fixed = shape.python_numbers.then(|| without_python_numbers(line));
        match serde_json::from_slice::<Envelope<'_>>(fixed.as_deref().unwrap_or(line)) {
            Ok(message) => self.take_message(&message),
            Err(_) => self.counts.noise_lines += 1,
        }
    }

    fn take_message(&mut self, message: &Envelope<'_>) {
        let understood = match message.kind.as_str() {
            "RECORD" => self.take_record(message.record),
            "STATE" => {
                self.counts.state_messages += 1;
                Some(())
            }
            "LOG" => self.take_log(message.log),
            "TRACE" => self.take_trace(message.trace),
            "CONTROL" => self.take_control(message.control),
            "CONNECTION_STATUS" => self.take_status(message.connection_status),
            "SPEC" => Spec::from_message(message.spec).map(|spec| self.take_answer(Command::Spec, Answer::Spec(spec))),
            "CATALOG" if self.command != Command::Discover => {
                self.counts.unexpected_messages += 1;
                Some(())
            }
            "CATALOG" => Catalog::from_message(message.catalog, self.limits.streams)
                .map(|catalog| self.take_answer(Command::Discover, Answer::Discover(catalog))),
            _ => {
                self.counts.unknown_messages += 1;
                Some(())
            }
        };
        if understood.is_none() {
            self.counts.invalid_messages += 1;
        }
    }

    /// Keeps the first answer of this command. Airbyte's platform does the same.
    fn take_answer(&mut self, command: Command, answer: Answer) {
        if command == self.command && self.answer.is_none() {
            self.answer = Some(answer);
            self.progress = Progress::Answered;
        } else {
            self.counts.unexpected_messages += 1;
        }
    }

    fn take_record(&mut self, raw: Option<&RawValue>) -> Option<()> {
        if self.command != Command::Read {
            self.counts.unexpected_messages += 1;
            return Some(());
        }
        let record: RecordMessage<'_> = content(raw)?;
        if !is_object(record.data) {
            return None;
        }
        self.counts.records += 1;
        self.record_bytes = self.record_bytes.saturating_add(record.data.get().len());
        let fits = self.record_bytes <= self.limits.record_bytes;
        if fits && self.records.records.len() < self.limits.records {
            let (namespace, data) = (text(record.namespace), JsonText::new(record.data));
            self.records.records.push(Record { stream: record.stream, namespace, data });
        }
        if !fits || self.records.records.len() >= self.limits.records {
            self.progress = Progress::Enough;
        }
        Some(())
    }

    fn take_log(&mut self, raw: Option<&RawValue>) -> Option<()> {
        let log: LogMessage<'_> = content(raw)?;
        self.counts.log_messages += 1;
        let level: Option<String> = field(log.level);
        self.logs.add(level.as_deref().unwrap_or_default(), || self.limits.whole_text(log.message));
        Some(())
    }

    fn take_trace(&mut self, raw: Option<&RawValue>) -> Option<()> {
        let trace: TraceMessage<'_> = content(raw)?;
        match trace.kind.as_str() {
            "ERROR" => {
                let error: TraceError<'_> = content(trace.error)?;
                self.failure.add_trace(&error, &self.limits);
                self.progress = Progress::Answered;
            }
            "STREAM_STATUS" => {
                let status: StreamStatus = content(trace.stream_status)?;
                self.incomplete |= status.status == "INCOMPLETE";
            }
            // Estimates and analytics are of no use here.
            "ESTIMATE" | "ANALYTICS" => {}
            _ => self.counts.unknown_messages += 1,
        }
        Some(())
    }

    fn take_control(&mut self, raw: Option<&RawValue>) -> Option<()> {
        let control: ControlMessage<'_> = content(raw)?;
        if field::<String>(control.kind).is_some_and(|kind| kind != "CONNECTOR_CONFIG") {
            self.counts.unknown_messages += 1;
            return Some(());
        }
        let ConnectorConfig { config } = content(control.connector_config)?;
        if !is_object(config) {
            return None;
        }
        self.counts.control_messages += 1;
        self.config = Some(JsonText::new(config));
        Some(())
    }

    fn take_status(&mut self, raw: Option<&RawValue>) -> Option<()> {
        let status: ConnectionStatus<'_> = content(raw)?;
        let message = self.limits.whole_text(status.message);
        match status.status.as_str() {
            "SUCCEEDED" => self.take_answer(Command::Check, Answer::Check(CheckPassed { message })),
            "FAILED" if self.command == Command::Check => {
                self.failure.add_status(message);
                self.progress = Progress::Answered;
            }
            "FAILED" => self.counts.unexpected_messages += 1,
            _ => return None,
        }
        Some(())
    }
}
