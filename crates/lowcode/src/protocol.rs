//! The messages of the Airbyte protocol: typed values that are serialized as one line of JSON each.
//!
//! The format is that of airbyte_protocol_dataclasses 0.17.1 as the CDK prints it
//! (models/airbyte_protocol_serializers.py). Fields that are None are omitted. The same applies to the top level of a
//! record and of a JSON schema.

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
    /// The specification that `spec` prints: `connectionSpecification`, `documentationUrl` and so on.
    Spec(Value),
    ConnectionStatus(ConnectionStatus),
    Catalog(AirbyteCatalog<'m>),
    Trace(Trace),
    Control(Control),
}

/// A callback that receives each message as soon as it is created.
pub type Out<'o> = dyn FnMut(Message<'_>) + 'o;

/// One record of a stream.
#[derive(Clone, Debug)]
pub struct Record {
    pub stream: String,
    pub data: Value,
    /// Milliseconds since 1970.
    pub emitted_at: i64,
}

/// How far a stream has been read.
#[derive(Clone, Debug)]
pub struct State {
    pub stream: String,
    pub state: Value,
    /// The number of records since the last state of this stream.
    pub records: u64,
}

/// A log line for people.
#[derive(Clone, Debug)]
pub struct Log {
    pub level: Level,
    pub message: String,
}

/// The level of a log line.
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
    /// The source cannot be reached. The message is the one that the CDK writes.
    Failed(String),
}

/// A status of a stream, or a failure of a stream or of the command.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Milliseconds since 1970.
    pub emitted_at: i64,
    pub what: TraceKind,
}

/// The kinds of trace that this interpreter emits. It emits no estimates and no analytics.
#[derive(Clone, Debug)]
pub enum TraceKind {
    StreamStatus { stream: String, status: StreamStatus },
    Error(TraceError),
}

/// The status of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStatus {
    Started,
    Running,
    Complete,
    Incomplete,
}

/// A failure, in the form that platforms read.
#[derive(Clone, Debug)]
pub struct TraceError {
    pub message: String,
    pub internal_message: Option<String>,
    pub failure_type: FailureType,
    pub stream: Option<String>,
}

/// A config that the source changed and that the platform must store. It contains secrets.
#[derive(Clone, Debug)]
pub struct Control {
    pub config: Value,
    /// Milliseconds since 1970.
    pub emitted_at: i64,
}

impl Message<'_> {
    /// Creates a log line for people.
    #[must_use]
    pub fn log(level: Level, message: impl Into<String>) -> Message<'static> {
        Message::Log(Log { level, message: message.into() })
    }

    /// Creates the status of a stream at `emitted_at` (milliseconds since 1970).
    #[must_use]
    pub fn status(stream: &str, status: StreamStatus, emitted_at: i64) -> Message<'static> {
        Message::Trace(Trace { emitted_at, what: TraceKind::StreamStatus { stream: stream.to_string(), status } })
    }

    /// Creates the trace of `failed` at `emitted_at` (milliseconds since 1970).
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

    /// Returns the message as one line of JSON, without the line break.
    #[must_use]
    pub fn line(&self) -> String {
        // Serialization fails only for a map whose keys are not strings, and there is no such map here.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the name that the protocol uses.
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

/// Serializes a value without the None fields of its top level.
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
        // The protocol writes counts as floats.
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
