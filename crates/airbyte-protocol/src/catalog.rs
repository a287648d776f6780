//! The streams of a connector.

use crate::JsonText;
use crate::message::{CatalogMessage, CatalogStream, content, field, is_object, text};
use serde::Serialize;
use serde_json::value::RawValue;

/// The streams that `discover` found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// In the order in which the connector lists them.
    pub streams: Vec<Stream>,
    /// Streams that were left out because there were more than [`crate::Limits::streams`] or because they cannot be
    /// read (without a name, for example).
    pub left_out: usize,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub name: String,
    pub namespace: Option<String>,
    /// The JSON schema of a record. It is kept as text, because the parsed schemas of a large catalog need ten times the
    /// memory: parse one after the other.
    pub json_schema: JsonText,
    /// The paths of the fields that identify a record, if the source defines them.
    pub primary_key: Vec<Vec<String>>,
    /// The path of the field that the source uses as the cursor, or proposes.
    pub cursor_field: Vec<String>,
    /// The source defines the cursor, so that the user cannot choose another one.
    pub source_defined_cursor: bool,
    /// Without an unknown mode. Empty if the connector names none; `full_refresh` is what connectors mean then.
    pub sync_modes: Vec<SyncMode>,
}

/// How a stream can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncMode {
    FullRefresh,
    Incremental,
}

impl SyncMode {
    /// Returns the name of the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullRefresh => "full_refresh",
            Self::Incremental => "incremental",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::FullRefresh, Self::Incremental].into_iter().find(|mode| mode.as_str() == name)
    }
}

impl Catalog {
    /// Reads the content of a CATALOG message, with at most `max_streams` streams.
    pub(crate) fn from_message(raw: Option<&RawValue>, max_streams: usize) -> Option<Self> {
        let listed = content::<CatalogMessage>(raw)?.streams;
        let streams: Vec<Stream> = listed.iter().filter_map(|raw| Stream::from_raw(raw)).take(max_streams).collect();
        let left_out = listed.len().saturating_sub(streams.len());
        Some(Self { streams, left_out })
    }
}

impl Stream {
    fn from_raw(raw: &RawValue) -> Option<Self> {
        let stream: CatalogStream<'_> = content(Some(raw))?;
        let modes: Vec<String> = field(stream.supported_sync_modes).unwrap_or_default();
        Some(Self {
            namespace: text(stream.namespace),
            json_schema: stream.json_schema.filter(|raw| is_object(raw)).map_or_else(JsonText::empty_object, JsonText::new),
            primary_key: key_paths(stream.source_defined_primary_key),
            cursor_field: path(stream.default_cursor_field),
            source_defined_cursor: field(stream.source_defined_cursor).unwrap_or_default(),
            sync_modes: modes.iter().filter_map(|mode| SyncMode::parse(mode)).collect(),
            name: stream.name,
        })
    }
}

/// Reads a list of paths. Some connectors write a list of names instead.
fn key_paths(raw: Option<&RawValue>) -> Vec<Vec<String>> {
    let paths: Option<Vec<Vec<String>>> = field(raw);
    paths.unwrap_or_else(|| path(raw).into_iter().map(|name| vec![name]).collect())
}

/// Reads a path. Some connectors write a name instead.
fn path(raw: Option<&RawValue>) -> Vec<String> {
    field(raw).or_else(|| Some(vec![field(raw)?])).unwrap_or_default()
}

/// Returns the content of the file for `read --catalog`: these streams, read in full where they can be.
#[must_use]
pub fn configured_catalog(streams: &[&Stream]) -> String {
    let streams = streams.iter().map(|stream| configured(stream)).collect();
    // Names and JSON texts can always be written.
    serde_json::to_string(&ConfiguredCatalog { streams }).unwrap_or_default()
}

fn configured(stream: &Stream) -> ConfiguredStream<'_> {
    let full = stream.sync_modes.is_empty() || stream.sync_modes.contains(&SyncMode::FullRefresh);
    let supported = if stream.sync_modes.is_empty() { vec![SyncMode::FullRefresh] } else { stream.sync_modes.clone() };
    ConfiguredStream {
        stream: WrittenStream {
            name: &stream.name,
            namespace: stream.namespace.as_deref(),
            json_schema: &stream.json_schema,
            supported_sync_modes: supported.into_iter().map(SyncMode::as_str).collect(),
            source_defined_cursor: stream.source_defined_cursor,
            default_cursor_field: &stream.cursor_field,
            source_defined_primary_key: &stream.primary_key,
        },
        sync_mode: if full { SyncMode::FullRefresh } else { SyncMode::Incremental }.as_str(),
        // The mode of a destination that does not exist here; the protocol requires one.
        destination_sync_mode: "overwrite",
        cursor_field: &stream.cursor_field,
        primary_key: &stream.primary_key,
    }
}

#[derive(Serialize)]
struct ConfiguredCatalog<'c> {
    streams: Vec<ConfiguredStream<'c>>,
}

#[derive(Serialize)]
struct ConfiguredStream<'c> {
    stream: WrittenStream<'c>,
    sync_mode: &'static str,
    destination_sync_mode: &'static str,
    cursor_field: &'c [String],
    primary_key: &'c [Vec<String>],
}

#[derive(Serialize)]
struct WrittenStream<'c> {
    name: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'c str>,
    json_schema: &'c JsonText,
    supported_sync_modes: Vec<&'static str>,
    source_defined_cursor: bool,
    default_cursor_field: &'c [String],
    source_defined_primary_key: &'c [Vec<String>],
}
