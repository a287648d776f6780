//! The messages of the Airbyte protocol: typed values that become one line of JSON each.
//!
//! Form and omissions are those of airbyte_protocol_dataclasses 0.17.1 as the CDK prints them
//! (models/airbyte_protocol_serializers.py): no field that is None, which holds for the first level of a
//! record and of a JSON schema, too.

use super::catalog::AirbyteCatalog;
use super::error::{Failed, FailureType};
use super::value::{Dict, Value};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// One message.
#[derive(Clone, Debug)]
pub enum Message<'m> {
    Record(Record),
    State(State),
    Log(Log),
    /// The specification as `spec` says it: `connectionSpecification`, `documentationUrl` and so on.
    Spec(Value),
    ConnectionStatus(ConnectionStatus),
    Catalog(AirbyteCatalog<'m>),
    Trace(Trace),
    Control(Control),
}

/// Takes each message as soon as there is one.
pub type Out<'o> = dyn FnMut(Message<'_>) + 'o;

/// One record of a stream.
#[derive(Clone, Debug)]
pub struct Record {
    pub stream: String,
    pub data: Value,
    /// Milliseconds since 1970.
    pub emitted_at: i64,
}

/// How far a stream was read.
#[derive(Clone, Debug)]
pub struct State {
    pub stream: String,
    pub state: Value,
    /// Records since the last state of this stream.
    pub records: u64,
}

/// A line for people.
#[derive(Clone, Debug)]
pub struct Log {
    pub level: Level,
    pub message: String,
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Fatal,
    Error,
    Warn,
    Info,
}

/// Whether the source can be reached with this config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionStatus {
    Succeeded,
    /// With the message as the CDK writes it.
    Failed(String),
}

/// What happens to a stream or to the command.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Milliseconds since 1970.
    pub emitted_at: i64,
    pub what: TraceKind,
}

/// The kinds of trace that a source without estimates and analytics has.
#[derive(Clone, Debug)]
pub enum TraceKind {
    StreamStatus { stream: String, status: StreamStatus },
    Error(TraceError),
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    Started,
    Running,
    Complete,
    Incomplete,
}

/// A failure as a platform reads it.
#[derive(Clone, Debug)]
pub struct TraceError {
    pub message: String,
    pub internal_message: Option<String>,
    pub failure_type: FailureType,
    pub stream: Option<String>,
}

/// The config that a source changed, for the platform to keep. It holds secrets.
#[derive(Clone, Debug)]
pub struct Control {
    pub config: Value,
    /// Milliseconds since 1970.
    pub emitted_at: i64,
}

impl Message<'_> {
    /// A line for people.
    #[must_use]
    pub fn log(level: Level, message: impl Into<String>) -> Message<'static> {
        Message::Log(Log { level, message: message.into() })
    }

    /// The status of a stream at `emitted_at` (milliseconds since 1970).
    #[must_use]
    pub fn status(stream: &str, status: StreamStatus, emitted_at: i64) -> Message<'static> {
        Message::Trace(Trace { emitted_at, what: TraceKind::StreamStatus { stream: stream.to_string(), status } })
    }

    /// The trace of `failed` at `emitted_at` (milliseconds since 1970).
    #[must_use]
    pub fn error(failed: &Failed, stream: Option<&str>, emitted_at: i64) -> Message<'static> {
        let error = TraceError {
            message: failed.message.clone(),
            internal_message: failed.internal.clone(),
            failure_type: failed.failure_type,
            stream: stream.map(str::to_string),
        };
        Message::Trace(Trace { emitted_at, what: TraceKind::Error(error) })
    }

    /// One line of JSON without its end.
    #[must_use]
    pub fn line(&self) -> String {
        // This fails only for a map with keys that are not strings, and there is no such map here.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The word of the protocol.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Message::Record(_) => "RECORD",
            Message::State(_) => "STATE",
            Message::Log(_) => "LOG",
            Message::Spec(_) => "SPEC",
            Message::ConnectionStatus(_) => "CONNECTION_STATUS",
            Message::Catalog(_) => "CATALOG",
            Message::Trace(_) => "TRACE",
            Message::Control(_) => "CONTROL",
        }
    }
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Fatal => "FATAL",
            Level::Error => "ERROR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
        }
    }
}

impl StreamStatus {
    fn as_str(self) -> &'static str {
        match self {
            StreamStatus::Started => "STARTED",
            StreamStatus::Running => "RUNNING",
            StreamStatus::Complete => "COMPLETE",
            StreamStatus::Incomplete => "INCOMPLETE",
        }
    }
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("type", self.as_str())?;
        match self {
            Message::Record(record) => map.serialize_entry("record", record)?,
            Message::State(state) => map.serialize_entry("state", state)?,
            Message::Log(log) => map.serialize_entry("log", log)?,
            Message::Spec(spec) => map.serialize_entry("spec", &Shallow(spec))?,
            Message::ConnectionStatus(status) => map.serialize_entry("connectionStatus", status)?,
            Message::Catalog(catalog) => map.serialize_entry("catalog", catalog)?,
            Message::Trace(trace) => map.serialize_entry("trace", trace)?,
            Message::Control(control) => map.serialize_entry("control", control)?,
        }
        map.end()
    }
}

/// A value without the None of its first level.
struct Shallow<'a>(&'a Value);

impl Serialize for Shallow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Dict(dict) => serializer.collect_map(dict.iter().filter(|(_, value)| !value.is_none()).map(entry)),
            other => other.serialize(serializer),
        }
    }
}

fn entry<'a>((key, value): (&'a std::sync::Arc<str>, &'a Value)) -> (&'a str, &'a Value) {
    (key, value)
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("stream", &self.stream)?;
        map.serialize_entry("data", &Shallow(&self.data))?;
        map.serialize_entry("emitted_at", &self.emitted_at)?;
        map.end()
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Stream<'a> {
            stream_descriptor: Descriptor<'a>,
            stream_state: &'a Value,
        }
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("type", "STREAM")?;
        let stream = Stream { stream_descriptor: Descriptor { name: &self.stream }, stream_state: &self.state };
        map.serialize_entry("stream", &stream)?;
        // The protocol counts in floats.
        #[expect(clippy::cast_precision_loss, reason = "a tiny read has few records")]
        map.serialize_entry(
            "sourceStats",
            &Value::Dict(Dict::from_iter([("recordCount".into(), Value::Float(self.records as f64))])),
        )?;
        map.end()
    }
}

#[derive(Serialize)]
struct Descriptor<'a> {
    name: &'a str,
}

impl Serialize for Log {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("level", self.level.as_str())?;
        map.serialize_entry("message", &self.message)?;
        map.end()
    }
}

impl Serialize for ConnectionStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            ConnectionStatus::Succeeded => map.serialize_entry("status", "SUCCEEDED")?,
            ConnectionStatus::Failed(message) => {
                map.serialize_entry("status", "FAILED")?;
                map.serialize_entry("message", message)?;
            }
        }
        map.end()
    }
}

impl Serialize for Trace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Status<'a> {
            stream_descriptor: Descriptor<'a>,
            status: &'a str,
        }
        let mut map = serializer.serialize_map(Some(3))?;
        match &self.what {
            TraceKind::StreamStatus { stream, status } => {
                map.serialize_entry("type", "STREAM_STATUS")?;
                map.serialize_entry("emitted_at", &float(self.emitted_at))?;
                let status = Status { stream_descriptor: Descriptor { name: stream }, status: status.as_str() };
                map.serialize_entry("stream_status", &status)?;
            }
            TraceKind::Error(error) => {
                map.serialize_entry("type", "ERROR")?;
                map.serialize_entry("emitted_at", &float(self.emitted_at))?;
                map.serialize_entry("error", error)?;
            }
        }
        map.end()
    }
}

impl Serialize for TraceError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("message", &self.message)?;
        if let Some(internal) = &self.internal_message {
            map.serialize_entry("internal_message", internal)?;
        }
        map.serialize_entry("failure_type", self.failure_type.as_str())?;
        if let Some(name) = &self.stream {
            map.serialize_entry("stream_descriptor", &Descriptor { name })?;
        }
        map.end()
    }
}

impl Serialize for Control {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("type", "CONNECTOR_CONFIG")?;
        map.serialize_entry("emitted_at", &float(self.emitted_at))?;
        map.serialize_entry("connectorConfig", &Value::Dict(Dict::from_iter([("config".into(), self.config.clone())])))?;
        map.end()
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit for 285,000 years")]
fn float(millis: i64) -> f64 {
    millis as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_record_drops_the_none_of_its_first_level_only() {
        let data = value(r#"{"a":null,"b":{"c":null,"d":[null]},"f":1.0}"#);
        let message = Message::Record(Record { stream: "s".into(), data, emitted_at: 5 });
        assert_eq!(
            message.line(),
            r#"{"type":"RECORD","record":{"stream":"s","data":{"b":{"c":null,"d":[null]},"f":1.0},"emitted_at":5}}"#
        );
    }

    #[test]
    fn state_and_status_have_the_words_of_the_protocol() {
        let state = Message::State(State { stream: "s".into(), state: value(r#"{"at":"x"}"#), records: 7 });
        assert_eq!(
            state.line(),
            r#"{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"s"},"stream_state":{"at":"x"}},"sourceStats":{"recordCount":7.0}}}"#
        );
        assert_eq!(
            Message::status("s", StreamStatus::Incomplete, 1_795_383_840_884).line(),
            r#"{"type":"TRACE","trace":{"type":"STREAM_STATUS","emitted_at":1795383840884.0,"stream_status":{"stream_descriptor":{"name":"s"},"status":"INCOMPLETE"}}}"#
        );
        assert_eq!(
            Message::ConnectionStatus(ConnectionStatus::Succeeded).line(),
            r#"{"type":"CONNECTION_STATUS","connectionStatus":{"status":"SUCCEEDED"}}"#
        );
    }

    #[test]
    fn an_error_names_its_stream_where_it_has_one() {
        let failed = Failed::config("ValueError", "no \"x\"");
        assert_eq!(
            Message::error(&failed, Some("s"), 2).line(),
            r#"{"type":"TRACE","trace":{"type":"ERROR","emitted_at":2.0,"error":{"message":"no \"x\"","failure_type":"config_error","stream_descriptor":{"name":"s"}}}}"#
        );
        assert!(!Message::error(&failed, None, 2).line().contains("stream_descriptor"));
    }
}
