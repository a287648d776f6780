//! `GET /catalogs`: the streams of all ACTIVE connections of a namespace as JSON lines, for data catalogs.
//!
//! The connections are read one after the other while the client reads the response, so any number of them needs the memory
//! of one catalog. If the registry cannot be read in the middle, the response ends without its last chunk, which every HTTP
//! client reports as an incomplete response.

use super::app::App;
use super::health::TinySync;
use super::problem::ApiProblem;
use super::request::{ApiRequest, ApiResult, escaped};
use crate::families::{self, Transport};
use crate::model::{Catalog, ConnectionId, Intent, State, Stream, SyncMode, Timestamp};
use crate::report::result::OwnerBody;
use crate::snapshot::Connection;
use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use utoipa::ToSchema;

/// The media type. The parameter is the version of the form of the lines.
pub const LINES: &str = "application/x-ndjson; catalog=v1";
/// The number of exports that run at the same time.
pub const MAX_EXPORTS: usize = 4;
/// The number of bytes after which lines are sent.
const CHUNK_BYTES: usize = 64 << 10;
/// The number of chunks that wait for the client.
const MAX_WAITING_CHUNKS: usize = 2;

/// One stream of an ACTIVE connection: a table, a file, a prefix or a list of an API.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CatalogLine {
    /// The version of the form of this line, always `v1`. New fields may be added to it.
    pub catalog: String,
    pub connection_id: String,
    pub namespace: String,
    pub source_type: String,
    pub resource_ids: Vec<String>,
    pub owner: Option<OwnerBody>,
    pub catalog_version: u32,
    /// The name of the stream in the source.
    pub stream: String,
    /// The database schema, bucket or resource id, if names alone are not unique.
    pub stream_namespace: Option<String>,
    pub fields: Vec<CatalogField>,
    /// The primary key, as paths of field names; empty if the source does not have one.
    pub primary_key: Vec<Vec<String>>,
    #[schema(value_type = Vec<SyncMode>)]
    pub sync_modes: Vec<SyncMode>,
    /// The estimate of the source; null if it does not give one.
    pub row_estimate: Option<u64>,
    #[schema(value_type = Transport)]
    pub transport: Transport,
    pub health: CatalogHealth,
    /// The latest successful read of a few items of the connection.
    pub last_sync: Option<TinySync>,
}

/// A field of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogField {
    pub name: String,
    /// The JSON types of its values, without `null`; empty if the source does not say.
    pub types: Vec<String>,
    /// Whether its values may be null.
    pub nullable: bool,
    /// The JSON Schema format, for example `date-time`.
    pub format: Option<String>,
}

/// The health of the connection of a stream.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CatalogHealth {
    #[schema(value_type = State)]
    pub status: String,
    pub healthy: bool,
    /// When the connection was last checked.
    pub checked_at: Option<String>,
}

/// `GET /catalogs`
///
/// # Errors
/// 400, 403, 503.
pub async fn export(request: ApiRequest) -> ApiResult {
    let namespace = request.namespace()?;
    let source_type = request.query.get("source_type").map(str::to_string);
    let app = Arc::clone(&request.app);
    let permit = Arc::clone(&app.exports).try_acquire_owned().map_err(|_| {
        ApiProblem::busy(format!("{MAX_EXPORTS} exports of catalogs are running; repeat the request when one has ended."))
    })?;
    let ids = active_connections(&app, &namespace, source_type.as_deref());
    let (chunks, mut received) = mpsc::channel::<io::Result<Bytes>>(MAX_WAITING_CHUNKS);
    tokio::task::spawn_blocking(move || write_all(&app, &ids, &chunks, &permit));
    let body = Body::from_stream(futures_util::stream::poll_fn(move |context| received.poll_recv(context)));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    Ok(response)
}

/// Returns the ids of the connections to export. Ids are small, so all of them are collected.
fn active_connections(app: &App, namespace: &str, source_type: Option<&str>) -> Vec<ConnectionId> {
    let snapshot = app.handle.registry.snapshot();
    let active = snapshot.of_namespace(namespace).filter(|(_, connection)| {
        connection.state() == State::Active && source_type.is_none_or(|wanted| *wanted == *connection.source_type)
    });
    active.map(|(id, _)| id).collect()
}

/// Writes the lines of all connections until the client goes away. `_permit` counts this export while it runs.
fn write_all(app: &App, ids: &[ConnectionId], chunks: &mpsc::Sender<io::Result<Bytes>>, _permit: &OwnedSemaphorePermit) {
    let mut chunk = Vec::new();
    for id in ids {
        let sent = lines(app, *id, |line| {
            chunk.extend_from_slice(line.as_bytes());
            chunk.push(b'\n');
            chunk.len() < CHUNK_BYTES || chunks.blocking_send(Ok(std::mem::take(&mut chunk).into())).is_ok()
        });
        match sent {
            Ok(true) => {}
            Ok(false) => return,
            Err(problem) => {
                let _ = chunks.blocking_send(Err(io::Error::other(problem.detail.clone())));
                return;
            }
        }
    }
    if !chunk.is_empty() {
        let _ = chunks.blocking_send(Ok(chunk.into()));
    }
}

/// Passes the lines of one connection to `take` until it returns false. Returns false then. A connection that is not ACTIVE
/// any more does not have lines.
fn lines(app: &App, id: ConnectionId, mut take: impl FnMut(&str) -> bool) -> Result<bool, ApiProblem> {
    let known = app.handle.registry.snapshot().connections.copy_of(&id);
    let Some(known) = known.filter(|known| known.state() == State::Active) else { return Ok(true) };
    let reader = app.handle.registry.reader();
    let Some((version, text)) = reader.catalog(id, known.catalog.map(|(version, _, _)| version))? else { return Ok(true) };
    let catalog: Catalog = serde_json::from_str(&text).unwrap_or_default();
    drop(text);
    let document = reader.body(known.document)?.and_then(|text| serde_json::from_str::<Intent>(&text).ok());
    let mut line = head(id, &known, version, document);
    for stream in catalog.streams {
        describe(&mut line, stream);
        let text = serde_json::to_string(&line).unwrap_or_default();
        if !take(&escaped(&text)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns what all lines of a connection have in common.
fn head(id: ConnectionId, known: &Connection, version: u32, document: Option<Intent>) -> CatalogLine {
    let (owner, resource_ids) =
        document.map(|intent| (Some(OwnerBody::from(&intent.owner)), intent.resource_ids)).unwrap_or_default();
    let proven = known.proven.as_ref();
    CatalogLine {
        catalog: "v1".to_string(),
        connection_id: id.to_string(),
        namespace: known.namespace.to_string(),
        source_type: known.source_type.to_string(),
        resource_ids,
        owner,
        catalog_version: version,
        stream: String::new(),
        stream_namespace: None,
        fields: Vec::new(),
        primary_key: Vec::new(),
        sync_modes: Vec::new(),
        row_estimate: None,
        transport: families::transport(&known.source_type),
        health: CatalogHealth {
            status: known.state().as_str().to_string(),
            healthy: known.conclusive.as_ref().is_some_and(|attempt| attempt.facts.healthy),
            checked_at: known.last_checked().map(Timestamp::rfc3339),
        },
        last_sync: proven.map(|attempt| TinySync {
            at: attempt.at.rfc3339(),
            rows: attempt.facts.rows,
            latency_ms: attempt.facts.latency_ms,
        }),
    }
}

/// Puts a stream into the line.
fn describe(line: &mut CatalogLine, stream: Stream) {
    line.fields = fields(&stream.json_schema);
    line.stream = stream.name;
    line.stream_namespace = stream.namespace;
    line.primary_key = stream.source_defined_primary_key;
    line.sync_modes = stream.supported_sync_modes;
    line.row_estimate = stream.row_estimate;
}

/// Returns the fields that a JSON Schema of records describes.
#[must_use]
pub fn fields(schema: &Value) -> Vec<CatalogField> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, schema)| field(name, schema)).collect()
}

fn field(name: &str, schema: &Value) -> CatalogField {
    let all: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    CatalogField {
        name: name.to_string(),
        nullable: all.is_empty() || all.contains(&"null"),
        types: all.into_iter().filter(|kind| *kind != "null").map(str::to_string).collect(),
        format: schema.get("format").and_then(Value::as_str).map(str::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_come_from_the_json_schema_of_the_records() {
        let schema = json!({"properties": {
            "id": {"type": "integer"},
            "at": {"type": ["null", "string"], "format": "date-time"},
            "any": {},
        }});
        let found: Vec<(String, Vec<String>, bool, Option<String>)> =
            fields(&schema).into_iter().map(|field| (field.name, field.types, field.nullable, field.format)).collect();
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                ("any".to_string(), texts(&[]), true, None),
                ("at".to_string(), texts(&["string"]), true, Some("date-time".to_string())),
                ("id".to_string(), texts(&["integer"]), false, None),
            ]
        );
        assert_eq!(fields(&json!({"type": "object"})), []);
    }
}
