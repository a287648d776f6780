//! The catalog of a connection, bounded for its page.

use super::super::View;
use super::collect::number;
use super::history::{self, History};
use crate::model::schema_change::ChangeKind;
use crate::model::{Catalog, ConnectionId, Stream, SyncMode, Timestamp};
use crate::page::connection::{CatalogSection, FieldNode, ShownCatalog, StreamNode};
use crate::report::drift::ChangeBody;
use crate::report::result::bounds;
use crate::server::catalogs::{CatalogField, fields};
use crate::server::drift::{DriftAnswer, compare};
use crate::server::problem::ApiProblem;
use crate::snapshot::Connection;
use std::collections::{BTreeMap, BTreeSet};

/// The number of streams on one page.
const MAX_STREAMS: usize = 200;
/// The number of fields of one stream that are shown if there are several streams.
const MAX_FIELDS: usize = 50;
/// The number of fields of the only stream that is shown.
const MAX_FIELDS_OF_ONE: usize = 1000;
/// The number of fields of all streams together.
const MAX_FIELDS_TOTAL: usize = 2000;
/// The number of skipped streams that are shown.
const MAX_SKIPPED: usize = 20;

/// The version of the catalog that the query names, or the latest as of the instant of the page.
///
/// # Errors
/// 400 for a query that is not valid, and 503.
pub fn section(view: &View, id: ConnectionId, known: &Connection, history: &History) -> Result<CatalogSection, ApiProblem> {
    let versions = history::versions(history);
    let missing = |text: String| Ok(CatalogSection { shown: None, missing: text, versions: versions.clone() });
    let Some((latest, _, _)) = known.catalog else {
        return missing("This connection does not have a catalog yet, because discovery has not passed.".to_string());
    };
    let (wanted, from) = (version(view, "version")?.unwrap_or(latest), version(view, "from")?);
    // Later versions exist perhaps, but not as of the instant of the page.
    if let Some(later) = [Some(wanted), from].into_iter().flatten().find(|version| *version > latest) {
        return missing(format!("This connection does not have catalog version {later}."));
    }
    let reader = view.app.handle.registry.reader();
    let answer = match compare(reader, id, Some(wanted), from) {
        Ok(answer) => answer,
        Err(problem) if problem.status == 404 => return missing(problem.detail.clone()),
        Err(problem) => return Err(problem),
    };
    let text = reader.catalog(id, Some(wanted))?.map(|(_, text)| text).unwrap_or_default();
    let catalog: Catalog = serde_json::from_str(&text).unwrap_or_default();
    drop(text);
    let filter = view.query.get("stream").unwrap_or_default().to_string();
    let start = usize::try_from(number(view, "skip")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let mut shown = shown(catalog, &answer.changes, filter, start);
    let DriftAnswer { previous_version, breaking_total, additive_total, acknowledged, changes, .. } = answer;
    (shown.version, shown.previous, shown.changes) = (wanted, previous_version, changes);
    (shown.breaking_total, shown.additive_total) = (breaking_total, additive_total);
    shown.acknowledged = acknowledged.filter(|by| Timestamp::parse(&by.at).is_ok_and(|at| at <= view.as_of()));
    Ok(CatalogSection { shown: Some(shown), missing: String::new(), versions })
}

fn version(view: &View, name: &str) -> Result<Option<u32>, ApiProblem> {
    Ok(number(view, name)?.map(|version| u32::try_from(version).unwrap_or(u32::MAX)))
}

/// The streams of `catalog` whose names contain `filter`, without the first `start` of them.
fn shown(catalog: Catalog, changes: &[ChangeBody], filter: String, start: usize) -> ShownCatalog {
    let changes = Changes::new(changes);
    let mut shown = ShownCatalog {
        is_truncated: catalog.truncated,
        total: catalog.streams.len(),
        skipped_total: catalog.skipped.len(),
        skipped: catalog.skipped.into_iter().take(MAX_SKIPPED).collect(),
        ..ShownCatalog::default()
    };
    for skipped in &mut shown.skipped {
        (skipped.name, skipped.reason) = (bounds::text(&skipped.name), bounds::text(&skipped.reason));
    }
    let part = filter.to_lowercase();
    let streams: Vec<(usize, Stream)> = catalog
        .streams
        .into_iter()
        .enumerate()
        .filter(|(_, stream)| part.is_empty() || full_name(stream).to_lowercase().contains(&part))
        .collect();
    (shown.matching, shown.filter, shown.start) = (streams.len(), filter, start.min(streams.len()));
    let mut room = if shown.matching == 1 { MAX_FIELDS_OF_ONE } else { MAX_FIELDS_TOTAL };
    let of_each = if shown.matching == 1 { MAX_FIELDS_OF_ONE } else { MAX_FIELDS };
    for (number, stream) in streams.into_iter().skip(start).take(MAX_STREAMS) {
        let node = node(number, &stream, &changes, room.min(of_each));
        room = room.saturating_sub(node.fields.len());
        shown.streams.push(node);
    }
    shown
}

fn node(number: usize, stream: &Stream, changes: &Changes, max_fields: usize) -> StreamNode {
    let name = full_name(stream);
    let keys: Vec<String> = stream.source_defined_primary_key.iter().map(|path| path.join(".")).collect();
    let key_names: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let all = fields(&stream.json_schema);
    let fields_total = all.len();
    let shown = all.into_iter().take(max_fields).map(|field| FieldNode {
        types: types(&field),
        is_key: key_names.contains(field.name.as_str()),
        change: changes.get(&name, Some(&field.name)),
        name: bounds::text(&field.name),
    });
    let modes: Vec<&str> = stream.supported_sync_modes.iter().copied().map(SyncMode::as_str).collect();
    StreamNode {
        fields: shown.collect(),
        fields_total,
        change: changes.get(&name, None),
        name: bounds::text(&name),
        number,
        key: bounds::text(&keys.join(", ")),
        sync_modes: modes.join(", "),
        row_estimate: stream.row_estimate,
    }
}

/// The name of a stream, after its namespace and a point if it has one, as changes name it.
fn full_name(stream: &Stream) -> String {
    match &stream.namespace {
        Some(namespace) => format!("{namespace}.{}", stream.name),
        None => stream.name.clone(),
    }
}

/// The types of a field as text.
fn types(field: &CatalogField) -> String {
    let mut text = if field.types.is_empty() { "any type".to_string() } else { field.types.join(" or ") };
    if let Some(format) = &field.format {
        text = format!("{text} ({format})");
    }
    if field.nullable && !field.types.is_empty() {
        text.push_str(", may be null");
    }
    bounds::text(&text)
}

/// The changes by the stream and the field that they concern.
struct Changes(BTreeMap<(String, Option<String>), String>);

impl Changes {
    fn new(changes: &[ChangeBody]) -> Changes {
        let text = |change: &ChangeBody| match change.change {
            ChangeKind::StreamAdded | ChangeKind::FieldAdded => Some("new".to_string()),
            ChangeKind::TypeChanged => Some(bounds::text(&format!("changed; it was {}", change.from))),
            ChangeKind::KeyChanged => Some("primary key changed".to_string()),
            // What is gone is not in the tree.
            ChangeKind::StreamRemoved | ChangeKind::FieldRemoved => None,
        };
        let named = changes.iter().filter_map(|change| Some(((change.stream.clone(), change.field.clone()), text(change)?)));
        Changes(named.collect())
    }

    fn get(&self, stream: &str, field: Option<&str>) -> String {
        self.0.get(&(stream.to_string(), field.map(str::to_string))).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn catalog(streams: usize, columns: usize) -> Catalog {
        let properties: serde_json::Map<String, serde_json::Value> =
            (0..columns).map(|n| (format!("c{n:04}"), json!({"type": ["null", "string"], "format": "date"}))).collect();
        let stream = |n: usize| Stream {
            name: format!("t{n:04}"),
            namespace: Some("public".to_string()),
            json_schema: json!({ "properties": properties }),
            supported_sync_modes: vec![SyncMode::FullRefresh],
            source_defined_primary_key: vec![vec!["c0000".to_string()]],
            row_estimate: None,
        };
        Catalog { streams: (0..streams).map(stream).collect(), ..Catalog::default() }
    }

    #[test]
    fn streams_and_fields_are_bounded_and_the_rest_is_found_with_the_filter() {
        let first = shown(catalog(450, 60), &[], String::new(), 0);
        assert_eq!((first.streams.len(), first.matching, first.total), (MAX_STREAMS, 450, 450));
        assert_eq!(first.streams.iter().map(|stream| stream.fields.len()).sum::<usize>(), MAX_FIELDS_TOTAL);
        assert!(first.streams.iter().all(|stream| stream.fields_total == 60 && stream.fields.len() <= MAX_FIELDS));
        let last = shown(catalog(450, 60), &[], String::new(), 400);
        assert_eq!((last.streams.len(), last.streams[0].number, last.streams[0].name.as_str()), (50, 400, "public.t0400"));
        let one = shown(catalog(450, 60), &[], "PUBLIC.T0449".to_string(), 0);
        assert_eq!((one.streams.len(), one.streams[0].fields.len()), (1, 60));
        let field = &one.streams[0].fields[0];
        assert_eq!((field.types.as_str(), field.is_key), ("string (date), may be null", true));
        assert!(shown(catalog(3, 1), &[], String::new(), usize::MAX).streams.is_empty(), "beyond the end");
    }

    #[test]
    fn changes_are_marked_where_they_are() {
        let mut earlier = catalog(1, 1);
        earlier.streams[0].json_schema = json!({"properties": {"c0000": {"type": "integer"}}});
        let later = catalog(2, 2);
        let changes: Vec<ChangeBody> = later.changes_from(&earlier).into_iter().map(ChangeBody::from).collect();
        let shown = shown(later, &changes, String::new(), 0);
        let fields: Vec<&str> = shown.streams[0].fields.iter().map(|field| field.change.as_str()).collect();
        assert_eq!(fields, ["changed; it was \"integer\"", "new"]);
        assert_eq!([&shown.streams[0].change, &shown.streams[1].change], ["", "new"]);
    }
}
