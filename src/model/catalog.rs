//! Catalogs in Airbyte's format, and the schema changes (drift) between two of them.

use super::failure::Class;
use super::ids::Digest;
use super::schema_change::{ChangeKind, SchemaChange};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The streams of a source, sorted by namespace and name, so that equal catalogs have equal digests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    pub streams: Vec<Stream>,
    /// True if discovery reached a limit, so that streams may be missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Streams that exist but could not be described.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedStream>,
}

/// A stream: a table, a file, a prefix or a GET operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    pub name: String,
    /// The database schema, bucket or resource id, if names alone are not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The JSON Schema of a record; `properties` holds the columns.
    pub json_schema: Value,
    pub supported_sync_modes: Vec<SyncMode>,
    /// The primary key as paths; empty if the source does not have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_defined_primary_key: Vec<Vec<String>>,
    /// The estimated number of rows, if the source provides it without an extra query. It is not part of the digest,
    /// because it changes constantly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_estimate: Option<u64>,
}

/// A stream that was left out of the catalog, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedStream {
    pub name: String,
    pub reason: String,
    /// The resource id, if the connection has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The class of the failure to read the stream, if the source refused it. Absent if AAM leaves the stream out for
    /// another reason, for example because a relation does not have columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// The permission that is missing, as the source names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What to do if the stream is needed, as the family says it for this failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl SkippedStream {
    #[must_use]
    pub fn new(name: impl Into<String>, reason: impl Into<String>) -> SkippedStream {
        SkippedStream { name: name.into(), reason: reason.into(), resource: None, class: None, missing: None, fix: None }
    }

    /// Returns true if `stream`, from an earlier catalog, may be this skipped stream. If a connection has several resources,
    /// the namespace of a stream begins with the resource id.
    fn may_be(&self, stream: &Stream) -> bool {
        let of_resource = |resource: &str| {
            let rest = stream.namespace.as_deref().and_then(|namespace| namespace.strip_prefix(resource));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.name == stream.name && self.resource.as_deref().is_none_or(of_resource)
    }
}

/// Airbyte's sync modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncMode {
    FullRefresh,
    Incremental,
}

impl SyncMode {
    /// All sync modes.
    pub const ALL: [SyncMode; 2] = [SyncMode::FullRefresh, SyncMode::Incremental];

    /// Returns the name in catalogs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SyncMode::FullRefresh => "full_refresh",
            SyncMode::Incremental => "incremental",
        }
    }
}

/// The differences between two catalogs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// New streams and columns, which do not affect consumers.
    pub additive: Vec<String>,
    /// Removed streams and columns and changed types, which break consumers.
    pub breaking: Vec<String>,
}

impl Catalog {
    /// Sorts the streams. Every connector calls this before it returns a catalog.
    #[must_use]
    pub fn sorted(mut self) -> Catalog {
        self.streams.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        self.skipped.sort_by(|a, b| (&a.resource, &a.name).cmp(&(&b.resource, &b.name)));
        self
    }

    /// Returns true if `stream`, from an earlier catalog, may be one of the skipped streams of this one.
    #[must_use]
    pub fn skips(&self, stream: &Stream) -> bool {
        self.skipped.iter().any(|skipped| skipped.may_be(stream))
    }

    /// Returns the catalog as JSON, and its digest. The digest does not cover row estimates and skipped streams.
    #[must_use]
    pub fn written(&self) -> (String, Digest) {
        let text = serde_json::to_string(self).unwrap_or_default();
        let digest = if self.is_bare() { Digest::from_bytes(text.as_bytes()) } else { self.digest_of_structure() };
        (text, digest)
    }

    /// Returns the digest of the structure, which does not cover row estimates and skipped streams.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.written().1
    }

    fn digest_of_structure(&self) -> Digest {
        let mut bare = self.clone().sorted();
        bare.skipped.clear();
        for stream in &mut bare.streams {
            stream.row_estimate = None;
        }
        Digest::from_bytes(serde_json::to_string(&bare).unwrap_or_default().as_bytes())
    }

    /// Returns true if the catalog is sorted and does not contain anything that the digest leaves out.
    fn is_bare(&self) -> bool {
        self.skipped.is_empty()
            && self.streams.iter().all(|stream| stream.row_estimate.is_none())
            && self.streams.is_sorted_by(|a, b| (&a.namespace, &a.name) < (&b.namespace, &b.name))
    }

    /// Returns the differences from `earlier` to `self` as texts.
    #[must_use]
    pub fn drift_from(&self, earlier: &Catalog) -> Drift {
        let mut drift = Drift::default();
        for change in self.changes_from(earlier) {
            let list = if change.kind.is_breaking() { &mut drift.breaking } else { &mut drift.additive };
            list.push(change.message());
        }
        drift
    }

    /// Returns the differences from `earlier` to `self`.
    ///
    /// A missing stream does not count as removed if it was skipped or if this catalog is truncated, because it may
    /// still exist.
    #[must_use]
    pub fn changes_from(&self, earlier: &Catalog) -> Vec<SchemaChange> {
        let before = by_name(earlier);
        let after = by_name(self);
        let mut changes = Vec::new();
        let of_stream =
            |kind, stream| SchemaChange { kind, stream: full_name(stream), field: None, from: Value::Null, to: Value::Null };
        for (key, stream) in &before {
            match after.get(key) {
                Some(now) => columns(stream, now, &mut changes),
                None if self.truncated || self.skips(stream) => {}
                None => changes.push(of_stream(ChangeKind::StreamRemoved, stream)),
            }
        }
        if !earlier.truncated {
            let new = after.iter().filter(|(key, _)| !before.contains_key(*key));
            changes.extend(new.map(|(_, stream)| of_stream(ChangeKind::StreamAdded, stream)));
        }
        changes
    }
}

/// Returns the streams by namespace and name. A joined name would be ambiguous: `a.b` + `c` is the same text as
/// `a` + `b.c`.
fn by_name(catalog: &Catalog) -> BTreeMap<(Option<&str>, &str), &Stream> {
    catalog.streams.iter().map(|stream| ((stream.namespace.as_deref(), stream.name.as_str()), stream)).collect()
}

fn full_name(stream: &Stream) -> String {
    match &stream.namespace {
        Some(namespace) => format!("{namespace}.{}", stream.name),
        None => stream.name.clone(),
    }
}

fn columns(before: &Stream, now: &Stream, changes: &mut Vec<SchemaChange>) {
    let empty = serde_json::Map::new();
    let name = full_name(now);
    let old = before.json_schema["properties"].as_object().unwrap_or(&empty);
    let new = now.json_schema["properties"].as_object().unwrap_or(&empty);
    let mut add = |kind, field: Option<&String>, from: Value, to: Value| {
        changes.push(SchemaChange { kind, stream: name.clone(), field: field.cloned(), from, to });
    };
    for (column, schema) in old {
        let from = &schema["type"];
        match new.get(column).map(|other| &other["type"]) {
            None => add(ChangeKind::FieldRemoved, Some(column), from.clone(), Value::Null),
            Some(to) if to != from => add(ChangeKind::TypeChanged, Some(column), from.clone(), to.clone()),
            Some(_) => {}
        }
    }
    for (column, schema) in new.iter().filter(|(column, _)| !old.contains_key(*column)) {
        add(ChangeKind::FieldAdded, Some(column), Value::Null, schema["type"].clone());
    }
    let (from, to) = (&before.source_defined_primary_key, &now.source_defined_primary_key);
    if from != to && !from.is_empty() {
        add(ChangeKind::KeyChanged, None, from.clone().into(), to.clone().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(namespace: Option<&str>, name: &str, columns: &[(&str, &str)]) -> Stream {
        let properties: serde_json::Map<String, Value> =
            columns.iter().map(|(column, kind)| ((*column).to_string(), serde_json::json!({ "type": kind }))).collect();
        Stream {
            name: name.to_string(),
            namespace: namespace.map(str::to_string),
            json_schema: serde_json::json!({ "properties": properties }),
            supported_sync_modes: vec![SyncMode::FullRefresh],
            source_defined_primary_key: Vec::new(),
            row_estimate: None,
        }
    }

    fn of(streams: Vec<Stream>) -> Catalog {
        Catalog { streams, ..Catalog::default() }.sorted()
    }

    #[test]
    fn names_that_join_to_one_text_are_two_streams() {
        let before = of(vec![stream(Some("a.b"), "c", &[]), stream(Some("a"), "b.c", &[])]);
        let after = of(vec![stream(Some("a"), "b.c", &[])]);
        assert_eq!(after.drift_from(&before).breaking, ["stream a.b.c is gone"]);
    }

    #[test]
    fn what_is_skipped_or_behind_a_truncation_is_not_gone() {
        let before = of(vec![stream(None, "t", &[]), stream(None, "u", &[])]);
        let mut after = of(vec![stream(None, "t", &[])]);
        assert_eq!(after.drift_from(&before).breaking, ["stream u is gone"]);
        after.truncated = true;
        assert_eq!(after.drift_from(&before), Drift::default());
        assert_eq!(before.drift_from(&after), Drift::default(), "it may have been there before");
        after.truncated = false;
        after.skipped.push(SkippedStream::new("u", "denied"));
        assert_eq!(after.drift_from(&before), Drift::default());
    }

    #[test]
    fn what_one_resource_skips_hides_nothing_of_another() {
        let before =
            of(vec![stream(Some("db-1"), "t", &[]), stream(Some("db-2/public"), "t", &[]), stream(Some("db-20"), "t", &[])]);
        let mut after = of(vec![]);
        after.skipped.push(SkippedStream { resource: Some("db-2".to_string()), ..SkippedStream::new("t", "denied") });
        assert_eq!(after.drift_from(&before).breaking, ["stream db-1.t is gone", "stream db-20.t is gone"]);
    }

    #[test]
    fn columns_types_and_keys_break_and_new_ones_do_not() {
        let before = of(vec![stream(None, "t", &[("id", "integer"), ("name", "string")])]);
        let mut now = stream(None, "t", &[("id", "string"), ("email", "string")]);
        now.source_defined_primary_key = vec![vec!["id".to_string()]];
        let after = of(vec![now]);
        let drift = after.drift_from(&before);
        assert_eq!(drift.additive, ["column t.email is new"]);
        assert_eq!(drift.breaking, ["column t.id changed from \"integer\" to \"string\"", "column t.name is gone"]);
        assert!(before.drift_from(&after).breaking.contains(&"the primary key of t changed".to_string()));
    }

    fn streams() -> impl Strategy<Value = Vec<Stream>> {
        let one = (proptest::option::of("[ab]"), "[tu]{1,2}", proptest::collection::btree_map("[xy]", "string|integer", 0..3));
        proptest::collection::btree_set(one, 0..5).prop_map(|set| {
            let mut seen = std::collections::BTreeSet::new();
            set.into_iter()
                .filter(|(namespace, name, _)| seen.insert((namespace.clone(), name.clone())))
                .map(|(namespace, name, columns)| {
                    let columns: Vec<(&str, &str)> = columns.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
                    stream(namespace.as_deref(), &name, &columns)
                })
                .collect()
        })
    }

    proptest! {
        /// There is no drift if and only if the digests are equal. What is new in one direction is gone in the other.
        #[test]
        fn drift_and_digest_agree(a in streams(), b in streams(), estimate in 0..9_u64) {
            let (before, after) = (of(a.clone()), of(b));
            let mut shuffled = Catalog { streams: a.into_iter().rev().collect(), ..Catalog::default() };
            for stream in &mut shuffled.streams {
                stream.row_estimate = Some(estimate);
            }
            prop_assert_eq!(shuffled.digest(), before.digest());
            prop_assert_eq!(before.drift_from(&before), Drift::default());
            let (there, back) = (after.drift_from(&before), before.drift_from(&after));
            prop_assert_eq!(there == Drift::default(), after.digest() == before.digest());
            for line in &there.additive {
                prop_assert!(back.breaking.contains(&line.replace(" is new", " is gone")), "{line}");
            }
        }
    }
}
