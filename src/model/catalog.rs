//! Catalog v1: the Airbyte catalog form, and drift between two of them.

use super::ids::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a source offers. Streams are sorted by (namespace, name), so that equal content has an equal digest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub streams: Vec<Stream>,
    /// A bound of the discovery was met: there is more than is listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Streams that exist and could not be described, with the reason in the source's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedStream>,
}

/// One stream: a table, a file, a prefix, a GET operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    pub name: String,
    /// Database schema, bucket or resource id, where names alone could collide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// JSON Schema of one record; `properties` holds the columns.
    pub json_schema: Value,
    pub supported_sync_modes: Vec<SyncMode>,
    /// The primary key as paths, empty when the source has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_defined_primary_key: Vec<Vec<String>>,
    /// Only where the source gives it for free. Not part of the digest: it moves with every write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_estimate: Option<u64>,
}

/// A stream that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedStream {
    pub name: String,
    pub reason: String,
}

/// Airbyte's sync modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    FullRefresh,
    Incremental,
}

/// What changed between two versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// New streams and columns: readers do not notice.
    pub additive: Vec<String>,
    /// Streams, columns or types that went away or changed: readers break.
    pub breaking: Vec<String>,
}

impl Catalog {
    /// Sorts the streams; every connector calls it once before returning.
    #[must_use]
    pub fn sorted(mut self) -> Catalog {
        self.streams.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        self.skipped.sort_by(|a, b| a.name.cmp(&b.name));
        self
    }

    /// The digest of the structure; row estimates and skip reasons are left out.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut bare = self.clone().sorted();
        bare.skipped.clear();
        for stream in &mut bare.streams {
            stream.row_estimate = None;
        }
        Digest::of(serde_json::to_string(&bare).unwrap_or_default().as_bytes())
    }

    /// The difference from `earlier` to `self`.
    ///
    /// A stream that is skipped now, or may lie behind a truncation, is not gone: unreadable is not absent.
    #[must_use]
    pub fn drift_from(&self, earlier: &Catalog) -> Drift {
        let before = by_name(earlier);
        let after = by_name(self);
        let mut drift = Drift::default();
        for (name, stream) in &before {
            match after.get(name) {
                Some(now) => columns(name, stream, now, &mut drift),
                None if self.truncated || self.skipped.iter().any(|skipped| skipped.name == stream.name) => {}
                None => drift.breaking.push(format!("stream {name} is gone")),
            }
        }
        if !earlier.truncated {
            drift
                .additive
                .extend(after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("stream {name} is new")));
        }
        drift
    }
}

fn by_name(catalog: &Catalog) -> BTreeMap<String, &Stream> {
    let full = |stream: &Stream| match &stream.namespace {
        Some(namespace) => format!("{namespace}.{}", stream.name),
        None => stream.name.clone(),
    };
    catalog.streams.iter().map(|stream| (full(stream), stream)).collect()
}

fn columns(name: &str, before: &Stream, now: &Stream, drift: &mut Drift) {
    let empty = serde_json::Map::new();
    let old = before.json_schema["properties"].as_object().unwrap_or(&empty);
    let new = now.json_schema["properties"].as_object().unwrap_or(&empty);
    for (column, schema) in old {
        match new.get(column) {
            None => drift.breaking.push(format!("column {name}.{column} is gone")),
            Some(other) if other["type"] != schema["type"] => {
                drift.breaking.push(format!("column {name}.{column} changed from {} to {}", schema["type"], other["type"]));
            }
            Some(_) => {}
        }
    }
    drift
        .additive
        .extend(new.keys().filter(|column| !old.contains_key(*column)).map(|column| format!("column {name}.{column} is new")));
    if before.source_defined_primary_key != now.source_defined_primary_key && !before.source_defined_primary_key.is_empty() {
        drift.breaking.push(format!("the primary key of {name} changed"));
    }
}
