//! Records the calls of an attempt, so that the registry can say later what AAM did.
//!
//! The sessions of an attempt find its [`CallRecorder`] when they are created. Calls outside an attempt, such as the renewal of a
//! lease or a message to a webhook, are held in [`BackgroundCalls`] until the daemon records them.

use super::{Caller, locked};
use crate::credentials::redact;
use crate::model::{CallPurpose, CallTarget, ConnectionId, NewCallBatch, RecordedCall, RecordedCalls};
use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, Mutex};

/// The number of calls of one attempt that are kept. Further calls are counted.
const MAX_CALLS: usize = 1000;
/// The bytes of text that the calls of one attempt hold.
const MAX_TEXT_BYTES: usize = 256 << 10;
/// The number of characters of each text.
const MAX_CHARS: usize = 4096;
/// The number of characters of a path.
pub const MAX_PATH_CHARS: usize = 1000;
/// The number of callers whose calls outside of attempts are held. The daemon records them every few seconds.
const MAX_CALLERS: usize = 1000;

tokio::task_local! {
    static CURRENT: Arc<CallRecorder>;
}

/// The calls of one attempt.
#[derive(Debug, Default)]
pub struct CallRecorder(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    recorded: RecordedCalls,
    text_bytes: usize,
    /// Whether the attempt has ended.
    closed: bool,
}

impl CallRecorder {
    /// Creates a recorder without calls.
    #[must_use]
    pub fn new() -> Arc<CallRecorder> {
        Arc::default()
    }

    /// Runs the work of the attempt: the sessions that it creates record their calls here.
    pub async fn run<T>(self: &Arc<CallRecorder>, work: impl Future<Output = T>) -> T {
        CURRENT.scope(Arc::clone(self), work).await
    }

    /// Returns the recorder of the running attempt, if there is one.
    #[must_use]
    pub fn current() -> Option<Arc<CallRecorder>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Records a call. Returns it if the attempt has ended.
    fn push(&self, call: RecordedCall) -> Option<RecordedCall> {
        let mut held = locked(&self.0);
        if held.closed {
            return Some(call);
        }
        let bytes = text_bytes(&call.target);
        if held.recorded.calls.len() >= MAX_CALLS || held.text_bytes + bytes > MAX_TEXT_BYTES {
            held.recorded.cut += 1;
        } else {
            held.text_bytes += bytes;
            held.recorded.calls.push(call);
        }
        None
    }

    /// Returns the calls without the secrets of the attempt, which must still be running, and ends the recording.
    #[must_use]
    pub fn take(&self) -> RecordedCalls {
        let mut recorded = {
            let mut held = locked(&self.0);
            held.closed = true;
            std::mem::take(&mut held.recorded)
        };
        recorded.calls.iter_mut().for_each(|call| clean(&mut call.target));
        recorded
    }
}

/// Calls that do not belong to a running attempt.
#[derive(Debug, Default)]
pub struct BackgroundCalls(Mutex<Vec<NewCallBatch>>);

impl BackgroundCalls {
    /// Holds `calls` until [`BackgroundCalls::take`].
    pub fn add(&self, connection: ConnectionId, family: &str, calls: RecordedCalls) {
        if calls.is_empty() {
            return;
        }
        let mut batches = locked(&self.0);
        let known = batches.iter().position(|batch| batch.connection == connection && batch.family == family);
        // The last batch counts what does not fit anywhere.
        let known = known.or((batches.len() >= MAX_CALLERS).then(|| batches.len() - 1));
        match known.and_then(|index| batches.get_mut(index)) {
            Some(batch) if batch.connection == connection && batch.family == family => {
                let free = MAX_CALLS.saturating_sub(batch.calls.calls.len());
                batch.calls.cut += calls.cut + calls.calls.len().saturating_sub(free) as u64;
                batch.calls.calls.extend(calls.calls.into_iter().take(free));
            }
            Some(batch) => batch.calls.cut += calls.cut + calls.calls.len() as u64,
            None => batches.push(NewCallBatch { connection, family: family.to_string(), calls }),
        }
    }

    /// Returns the calls since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<NewCallBatch> {
        std::mem::take(&mut *locked(&self.0))
    }
}

/// Records `call` in `recorder`, or in `background` if the call does not belong to a running attempt.
pub fn record(recorder: Option<&Arc<CallRecorder>>, background: &BackgroundCalls, caller: &Caller, call: RecordedCall) {
    let rest = match recorder {
        Some(recorder) => recorder.push(call),
        None => Some(call),
    };
    if let Some(mut call) = rest {
        clean(&mut call.target);
        background.add(caller.connection, &caller.family, RecordedCalls { calls: vec![call], cut: 0 });
    }
}

fn text_bytes(target: &CallTarget) -> usize {
    let CallTarget { purpose: _, method, host, path, statement, rule } = target;
    [method, host, path, statement, rule].map(String::len).iter().sum()
}

/// Removes secrets from the texts, and shortens them.
fn clean(target: &mut CallTarget) {
    let CallTarget { purpose, method, host, path, statement, rule } = target;
    if *purpose == CallPurpose::Webhook {
        // The path of many webhooks is their secret. The rule names the webhook.
        path.clear();
    }
    for (text, max) in [(method, MAX_CHARS), (host, MAX_CHARS), (path, MAX_PATH_CHARS), (statement, MAX_CHARS), (rule, MAX_CHARS)]
    {
        let clean = redact::cut(&redact::scrub(text), max);
        *text = match crate::model::text::printable(&clean, &[]) {
            Cow::Borrowed(_) => clean,
            Cow::Owned(escaped) => escaped,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn call(path: &str) -> RecordedCall {
        let target = CallTarget {
            purpose: CallPurpose::Source,
            method: "GET".to_string(),
            host: "api.acme.example".to_string(),
            path: path.to_string(),
            statement: String::new(),
            rule: String::new(),
        };
        RecordedCall { at: Timestamp(0), target, status: Some(200), sent: Some(0), bytes: 1, ms: 1, error: String::new() }
    }

    #[test]
    fn an_attempt_keeps_a_bounded_number_of_calls_and_counts_the_others() {
        let recorder = CallRecorder::new();
        for number in 0..MAX_CALLS + 7 {
            assert!(recorder.push(call(&format!("/{number}"))).is_none());
        }
        let taken = recorder.take();
        assert_eq!((taken.calls.len(), taken.cut), (MAX_CALLS, 7));
        assert!(recorder.push(call("/late")).is_some(), "the attempt has ended");
        let recorder = CallRecorder::new();
        for _ in 0..5 {
            assert!(recorder.push(call(&"x".repeat(100 << 10))).is_none());
        }
        let taken = recorder.take();
        assert_eq!((taken.calls.len(), taken.cut), (2, 3));
        let expected = format!("{}… (cut, {} characters)", "x".repeat(MAX_PATH_CHARS), 100 << 10);
        assert_eq!(taken.calls[0].target.path, expected, "shortened after secrets were removed");
    }

    #[test]
    fn calls_outside_attempts_are_held_for_each_caller_within_bounds() {
        let background = BackgroundCalls::default();
        let id = |number: usize| ConnectionId::derive("n", "f", &[number.to_string()]);
        for number in 0..MAX_CALLERS + 3 {
            background.add(id(number), "webhook", RecordedCalls { calls: vec![call("/")], cut: 0 });
        }
        background.add(id(0), "webhook", RecordedCalls { calls: vec![call("/"); MAX_CALLS], cut: 2 });
        let taken = background.take();
        assert_eq!(taken.len(), MAX_CALLERS);
        assert_eq!((taken[0].calls.calls.len(), taken[0].calls.cut), (MAX_CALLS, 3));
        assert_eq!(taken[MAX_CALLERS - 1].calls.cut, 3);
        assert!(background.take().is_empty());
    }
}
