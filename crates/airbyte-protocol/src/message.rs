//! The messages as they are written. Only what this crate uses is named; everything else is skipped.
//!
//! The fields are read one by one from raw JSON, so that a field with an unexpected type costs this field and not the message:
//! a failure whose message is an object is still a failure.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

type Raw<'l> = Option<&'l RawValue>;

/// One line.
#[derive(Deserialize)]
pub struct Envelope<'l> {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(borrow)]
    pub record: Raw<'l>,
    #[serde(borrow)]
    pub log: Raw<'l>,
    #[serde(borrow)]
    pub trace: Raw<'l>,
    #[serde(borrow)]
    pub spec: Raw<'l>,
    #[serde(borrow, rename = "connectionStatus")]
    pub connection_status: Raw<'l>,
    #[serde(borrow)]
    pub catalog: Raw<'l>,
    #[serde(borrow)]
    pub control: Raw<'l>,
}

#[derive(Deserialize)]
pub struct RecordMessage<'l> {
    pub stream: String,
    #[serde(borrow)]
    pub namespace: Raw<'l>,
    #[serde(borrow)]
    pub data: &'l RawValue,
}

#[derive(Deserialize)]
pub struct LogMessage<'l> {
    #[serde(borrow)]
    pub level: Raw<'l>,
    #[serde(borrow)]
    pub message: Raw<'l>,
}

#[derive(Deserialize)]
pub struct TraceMessage<'l> {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(borrow)]
    pub error: Raw<'l>,
    #[serde(borrow)]
    pub stream_status: Raw<'l>,
}

#[derive(Deserialize)]
pub struct TraceError<'l> {
    #[serde(borrow)]
    pub message: Raw<'l>,
    #[serde(borrow)]
    pub internal_message: Raw<'l>,
    #[serde(borrow)]
    pub stack_trace: Raw<'l>,
    #[serde(borrow)]
    pub failure_type: Raw<'l>,
    #[serde(borrow)]
    pub stream_descriptor: Raw<'l>,
}

#[derive(Deserialize)]
pub struct StreamDescriptor {
    pub name: String,
}

#[derive(Deserialize)]
pub struct StreamStatus {
    pub status: String,
}

#[derive(Deserialize)]
pub struct SpecMessage<'l> {
    #[serde(borrow, rename = "connectionSpecification")]
    pub connection_specification: &'l RawValue,
    #[serde(borrow, rename = "documentationUrl")]
    pub documentation_url: Raw<'l>,
    #[serde(borrow)]
    pub protocol_version: Raw<'l>,
}

#[derive(Deserialize)]
pub struct ConnectionStatus<'l> {
    pub status: String,
    #[serde(borrow)]
    pub message: Raw<'l>,
}

#[derive(Deserialize)]
pub struct CatalogMessage<'l> {
    #[serde(borrow)]
    pub streams: Vec<&'l RawValue>,
}

#[derive(Deserialize)]
pub struct CatalogStream<'l> {
    pub name: String,
    #[serde(borrow)]
    pub namespace: Raw<'l>,
    #[serde(borrow)]
    pub json_schema: Raw<'l>,
    #[serde(borrow)]
    pub supported_sync_modes: Raw<'l>,
    #[serde(borrow)]
    pub source_defined_cursor: Raw<'l>,
    #[serde(borrow)]
    pub default_cursor_field: Raw<'l>,
    #[serde(borrow)]
    pub source_defined_primary_key: Raw<'l>,
}

#[derive(Deserialize)]
pub struct ControlMessage<'l> {
    #[serde(borrow, rename = "type")]
    pub kind: Raw<'l>,
    #[serde(borrow, rename = "connectorConfig")]
    pub connector_config: Raw<'l>,
}

#[derive(Deserialize)]
pub struct ConnectorConfig<'l> {
    #[serde(borrow)]
    pub config: &'l RawValue,
}

/// Reads the content of a message. None if it is missing or does not have the documented form.
pub fn content<'l, T: Deserialize<'l>>(raw: Raw<'l>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Reads an optional field. None if it is missing, null, or of another type.
pub fn field<T: DeserializeOwned>(raw: Raw<'_>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Reads a text. A value of another type is returned as JSON, null and a text of spaces as None.
pub fn text(raw: Raw<'_>) -> Option<String> {
    let json = raw?.get();
    let text = serde_json::from_str::<Option<String>>(json).unwrap_or_else(|_| Some(json.to_owned()))?;
    (!text.trim().is_empty()).then_some(text)
}

/// Whether the text is a JSON object. Raw values do not begin with a space.
pub fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}
