//! Implements `read`: emits the statuses, records and states of one stream after the other.

use super::context::Run;
use super::error::Failed;
use super::protocol::{Level, Message, Out, Record, State, StreamStatus};
use super::slice::Slice;
use super::stream::Stream;
use super::value::{Dict, Value};
use std::sync::PoisonError;

/// A read in progress.
pub struct Reading<'a, 'o> {
    run: &'a Run<'a>,
    out: &'a mut Out<'o>,
    /// The streams that failed, each with its failures.
    failures: Vec<(String, Failed)>,
}

/// How far one stream has been read.
struct Progress<'s> {
    stream: &'s Stream,
    records: usize,
    /// The number of records since the last state.
    unreported: u64,
    /// The latest cursor value of the slices that were read completely.
    latest: Option<(i128, Value)>,
    /// The latest cursor value of the slice that is being read.
    current: Option<(i128, Value)>,
    /// The start of the first slice, for a stream without records or with earlier ones only.
    start: Option<(i128, Value)>,
    /// Why the cursor values of the slice cannot be compared. The slice fails with it at the next value, or at its end.
    incomparable: Option<Failed>,
    failed: bool,
    cut: bool,
}

impl<'a, 'o> Reading<'a, 'o> {
    pub fn new(run: &'a Run<'a>, out: &'a mut Out<'o>) -> Reading<'a, 'o> {
        Reading { run, out, failures: Vec::new() }
    }

    /// Reports a stream that was requested but that the source does not have (`_select_streams`).
    pub fn missing(&mut self, name: &str) {
        self.status(name, StreamStatus::Incomplete);
    }

    /// Reads one stream. If a slice fails, the remaining slices are still read, unless the failure is a reached bound.
    pub async fn stream(&mut self, stream: &Stream) {
        self.log(Level::Info, format!("Marking stream {} as STARTED", stream.name));
        self.status(&stream.name, StreamStatus::Started);
        let mut progress = Progress::new(stream);
        match stream.slices(self.run) {
            Err(failed) => self.failed(&mut progress, failed),
            Ok(mut slices) => loop {
                match slices.next().await {
                    Ok(None) => break,
                    Err(failed) => {
                        self.failed(&mut progress, failed);
                        break;
                    }
                    Ok(Some(slice)) => {
                        if self.slice(&mut progress, slice).await || progress.cut {
                            break;
                        }
                    }
                }
            },
        }
        self.report();
        self.finish(&mut progress);
    }

    /// Reads one slice. Returns whether the stream ends with it.
    async fn slice(&mut self, progress: &mut Progress<'_>, slice: Slice) -> bool {
        let run = self.run;
        progress.begin(&slice, run);
        let mut records = match progress.stream.records(run, slice).await {
            Ok(records) => records,
            Err(failed) => return self.slice_failed(progress, failed),
        };
        loop {
            if run.limits.records.is_some_and(|most| progress.records >= most) {
                progress.cut = true;
                return true;
            }
            match records.next().await {
                Ok(Some(record)) => {
                    if let Some(failed) = self.record(progress, record) {
                        return self.slice_failed(progress, failed);
                    }
                }
                Ok(None) => break,
                Err(failed) => return self.slice_failed(progress, failed),
            }
        }
        if let Some(failed) = progress.incomparable.take() {
            return self.slice_failed(progress, failed);
        }
        if progress.close() {
            self.state(progress);
        }
        false
    }

    /// Emits a record. Returns the failure of the slice if the cursor cannot compare the record with those before it.
    fn record(&mut self, progress: &mut Progress<'_>, data: Value) -> Option<Failed> {
        if progress.records == 0 {
            self.log(Level::Info, format!("Marking stream {} as RUNNING", progress.stream.name));
            self.status(&progress.stream.name, StreamStatus::Running);
        }
        let failed = progress.see(&data, self.run);
        let emitted_at = self.now();
        (self.out)(Message::Record(Record { stream: progress.stream.name.clone(), data, emitted_at }));
        failed
    }

    fn slice_failed(&mut self, progress: &mut Progress<'_>, failed: Failed) -> bool {
        // A request that was refused because of a bound or by the host would be refused again.
        let over = failed.class == "Bound" || failed.host_error.is_some();
        self.failed(progress, failed);
        over
    }

    fn failed(&mut self, progress: &mut Progress<'_>, failed: Failed) {
        self.report();
        let name = &progress.stream.name;
        progress.failed = true;
        progress.current = None;
        let text = failed.internal.as_ref().unwrap_or(&failed.message);
        self.log(Level::Error, format!("Exception while syncing stream {name}: {}: {text}", failed.class));
        let message = Message::error(&failed.for_users(Some(name)), Some(name), self.now());
        (self.out)(message);
        self.failures.push((name.clone(), failed));
    }

    /// Reports the failures that did not end the stream by themselves.
    fn report(&mut self) {
        let reported = std::mem::take(&mut *self.run.reported.lock().unwrap_or_else(PoisonError::into_inner));
        for failed in reported {
            let message = Message::error(&failed.for_users(None), None, self.now());
            (self.out)(message);
        }
    }

    fn finish(&mut self, progress: &mut Progress<'_>) {
        let name = &progress.stream.name;
        if progress.cut {
            self.log(Level::Info, format!("Stream {name}: stopped at the limit of {} records", progress.records));
        }
        self.log(Level::Info, format!("Read {} records from {name} stream", progress.records));
        self.log(Level::Info, format!("Marking stream {name} as STOPPED"));
        self.status(name, if progress.failed { StreamStatus::Incomplete } else { StreamStatus::Complete });
        self.state(progress);
    }

    fn state(&mut self, progress: &mut Progress<'_>) {
        let Some(state) = progress.state() else { return };
        let records = std::mem::take(&mut progress.unreported);
        (self.out)(Message::State(State { stream: progress.stream.name.clone(), state, records }));
    }

    fn status(&mut self, stream: &str, status: StreamStatus) {
        let message = Message::status(stream, status, self.now());
        (self.out)(message);
    }

    fn log(&mut self, level: Level, message: String) {
        (self.out)(Message::log(level, message));
    }

    fn now(&self) -> i64 {
        self.run.host.now().as_millisecond()
    }

    /// Returns the failure of the whole read, if a stream failed.
    #[must_use]
    pub fn end(self) -> Option<Failed> {
        if self.failures.is_empty() {
            return None;
        }
        let lines: Vec<String> =
            self.failures.iter().map(|(name, failed)| format!("{name}: {}", failed.exception_repr())).collect();
        let message = format!("During the sync, the following streams did not sync successfully: {}", lines.join("\n"));
        let mut failed = Failed::config("AirbyteTracedException", message);
        failed.internal = Some("Concurrent read failure".to_string());
        Some(failed)
    }
}

impl<'s> Progress<'s> {
    fn new(stream: &'s Stream) -> Progress<'s> {
        Progress {
            stream,
            records: 0,
            unreported: 0,
            latest: None,
            current: None,
            start: None,
            incomparable: None,
            failed: false,
            cut: false,
        }
    }

    fn begin(&mut self, slice: &Slice, run: &Run<'_>) {
        self.current = None;
        self.incomparable = None;
        if let (None, Some(cursor)) = (&self.start, &self.stream.cursor) {
            self.start = cursor.start_of(&slice.cursor_slice, &run.eval_context(None)).ok().flatten();
        }
    }

    /// Observes the cursor value of a record. A value that cannot be compared fails the slice only when it is compared: with
    /// the next value, or at the end of the slice with the start value. The CDK does the same.
    fn see(&mut self, record: &Value, run: &Run<'_>) -> Option<Failed> {
        self.records += 1;
        self.unreported += 1;
        match self.stream.cursor.as_ref()?.position(record, &run.eval_context(None)) {
            Ok(None) => None,
            Ok(Some(position)) => {
                if self.current.as_ref().is_none_or(|current| current.0 < position.0) {
                    self.current = Some(position);
                }
                self.incomparable.take()
            }
            Err(failed) if failed.class == "TypeError" && self.current.is_none() => {
                self.incomparable = Some(failed);
                None
            }
            Err(failed) => (failed.class == "TypeError").then_some(failed),
        }
    }

    /// Records that the slice was read completely. Returns whether a state should be emitted.
    fn close(&mut self) -> bool {
        if let Some(position) = self.current.take()
            && self.latest.as_ref().is_none_or(|latest| latest.0 < position.0)
        {
            self.latest = Some(position);
        }
        self.stream.cursor.is_some() && self.stream.router.is_single()
    }

    /// Returns the state from which a later run could continue. A cursor per partition has no such state: this
    /// interpreter reads samples, and it does not know which partitions of a sample are complete.
    fn state(&self) -> Option<Value> {
        let Some(cursor) = &self.stream.cursor else {
            return Some(Value::Dict(Dict::from_iter([("__ab_no_cursor_state_message".into(), Value::Bool(true))])));
        };
        if !self.stream.router.is_single() {
            return None;
        }
        let latest = self.latest.iter().chain(&self.start).reduce(|most, other| if other.0 > most.0 { other } else { most });
        Some(Value::Dict(latest.map(|(_, text)| (cursor.field.clone(), text.clone())).into_iter().collect()))
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
