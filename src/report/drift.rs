//! Schema changes for people and clients: what changed between which versions of a catalog, and who took note of it.

use crate::model::schema_change::{ChangeKind, SchemaChange};
use crate::model::text::{age, counted, printable};
use crate::model::{Catalog, ConnectionId, Timestamp};
use crate::snapshot::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write;
use utoipa::ToSchema;

/// The maximum number of changes of each entry in one response.
pub const MAX_CHANGES: usize = 1000;
/// The number of changes that the text of a list shows for each entry.
const MAX_SHOWN: usize = 20;

/// One change of a stream or of a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeBody {
    pub change: ChangeKind,
    /// The name of the stream, after its namespace and a point if it has one.
    pub stream: String,
    /// Null for changes of the stream as a whole.
    pub field: Option<String>,
    /// The JSON type of the field, or the primary key, in the earlier version.
    #[schema(value_type = Option<Value>)]
    pub from: Value,
    /// The same in the later version.
    #[schema(value_type = Option<Value>)]
    pub to: Value,
    /// Whether consumers of the source break.
    pub breaking: bool,
    /// The change in one sentence.
    pub message: String,
}

/// Who took note of the changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcknowledgedBody {
    pub by: String,
    pub at: String,
    /// What they wrote; may be empty.
    pub note: String,
}

/// The changes from one version of a connection's catalog to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftEntry {
    /// The number of the entry in the ledger.
    pub seq: u64,
    /// When the later version was found.
    pub at: String,
    pub connection_id: String,
    pub namespace: String,
    pub source_type: String,
    /// `owner.user` of the intent; empty if the intent cannot be read.
    pub owner: String,
    pub previous_version: u32,
    pub catalog_version: u32,
    /// Whether one of the changes breaks consumers.
    pub breaking: bool,
    pub breaking_total: usize,
    pub additive_total: usize,
    /// The first 1000 changes, the breaking ones first.
    pub changes: Vec<ChangeBody>,
    /// Null if the changes were not acknowledged.
    pub acknowledged: Option<AcknowledgedBody>,
}

impl From<SchemaChange> for ChangeBody {
    fn from(change: SchemaChange) -> ChangeBody {
        let (breaking, message) = (change.kind.is_breaking(), change.message());
        let SchemaChange { kind, stream, field, from, to } = change;
        ChangeBody { change: kind, stream, field, from, to, breaking, message }
    }
}

/// Returns the changes from `earlier` to `later`, the breaking ones first. The arguments are the texts of catalogs.
#[must_use]
pub fn changes(earlier: &str, later: &str) -> Vec<ChangeBody> {
    let parse = |text: &str| serde_json::from_str::<Catalog>(text).unwrap_or_default();
    let mut all: Vec<ChangeBody> = parse(later).changes_from(&parse(earlier)).into_iter().map(ChangeBody::from).collect();
    all.sort_by_key(|change| !change.breaking);
    all
}

/// What selects entries of a list. Empty selects everything.
#[derive(Clone, Debug, Default)]
pub struct DriftFilter {
    pub namespace: String,
    pub connection: Option<ConnectionId>,
    /// The later version.
    pub version: Option<u32>,
    pub families: Vec<String>,
    /// A part of the owner's name, without regard to case.
    pub owner: Option<String>,
    pub since: Option<Timestamp>,
    pub breaking: Option<bool>,
    pub acknowledged: Option<bool>,
}

impl DriftFilter {
    /// Whether the filter selects a change of this connection, as far as the connection decides it.
    #[must_use]
    pub fn selects(&self, id: ConnectionId, connection: &Connection) -> bool {
        *connection.namespace == *self.namespace
            && self.connection.is_none_or(|wanted| wanted == id)
            && (self.families.is_empty()
                || self.families.iter().any(|family| family.eq_ignore_ascii_case(&connection.source_type)))
    }

    /// Whether the filter selects a connection of this owner.
    #[must_use]
    pub fn selects_owner(&self, owner: &str) -> bool {
        self.owner.as_ref().is_none_or(|part| owner.to_lowercase().contains(&part.to_lowercase()))
    }
}

/// Formats a list. `more` says that there are further entries.
#[must_use]
pub fn text(entries: &[DriftEntry], more: bool, now: Timestamp) -> String {
    if entries.is_empty() {
        return "no schema changes\n".to_string();
    }
    let mut text = String::new();
    for entry in entries {
        let found = Timestamp::parse(&entry.at).map(|at| age(now.since(at))).unwrap_or_default();
        let symbol = if entry.breaking { "!" } else { "+" };
        let _ = writeln!(
            text,
            "{symbol} {}  {}  catalog {} -> {}  {}  {found} ago",
            entry.connection_id,
            entry.source_type,
            entry.previous_version,
            entry.catalog_version,
            totals(entry.breaking_total, entry.additive_total),
        );
        text.push_str(&lines(&entry.changes, MAX_SHOWN, entry.breaking_total + entry.additive_total));
        let _ = match &entry.acknowledged {
            Some(known) => {
                let note = if known.note.is_empty() { String::new() } else { format!(": {}", known.note) };
                writeln!(text, "    acknowledged by {} at {}{}", printable(&known.by, &[]), known.at, printable(&note, &[]))
            }
            None if entry.breaking => writeln!(
                text,
                "    not acknowledged: aam drift acknowledge {} --version {}",
                entry.connection_id, entry.catalog_version
            ),
            None => Ok(()),
        };
    }
    if more {
        text.push_str("more: --limit shows them\n");
    }
    text
}

/// Formats changes, one on each line, at most `shown` of `total`.
#[must_use]
pub fn lines(changes: &[ChangeBody], shown: usize, total: usize) -> String {
    let mut text = String::new();
    for change in changes.iter().take(shown) {
        let kind = if change.breaking { "breaking" } else { "additive" };
        let _ = writeln!(text, "    {kind}  {}", printable(&described(change), &[]));
    }
    let listed = changes.len().min(shown);
    if total > listed {
        let _ = writeln!(text, "    and {}; --format json lists them", counted(total - listed, "more change"));
    }
    text
}

fn described(change: &ChangeBody) -> String {
    match change.change {
        ChangeKind::KeyChanged => format!("{} from {} to {}", change.message, change.from, change.to),
        ChangeKind::FieldAdded if !change.to.is_null() => format!("{}: {}", change.message, change.to),
        ChangeKind::FieldRemoved if !change.from.is_null() => format!("{}; it was {}", change.message, change.from),
        _ => change.message.clone(),
    }
}

/// The counts of changes as text.
#[must_use]
pub fn totals(breaking: usize, additive: usize) -> String {
    match (breaking, additive) {
        (0, 0) => "no changes".to_string(),
        (0, _) => format!("{additive} additive"),
        (_, 0) => format!("{breaking} breaking"),
        _ => format!("{breaking} breaking, {additive} additive"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn catalog(columns: &Value) -> String {
        let stream = json!({"name": "t", "json_schema": {"properties": columns}, "supported_sync_modes": ["full_refresh"]});
        json!({"streams": [stream]}).to_string()
    }

    #[test]
    fn every_change_says_stream_field_from_and_to() {
        let earlier = catalog(&json!({"id": {"type": "integer"}, "old": {"type": "string"}}));
        let later = catalog(&json!({"id": {"type": ["null", "string"]}, "new": {"type": "boolean"}}));
        let found = changes(&earlier, &later);
        let facts: Vec<Value> =
            found.iter().map(|change| json!([change.change, change.field, change.from, change.to, change.breaking])).collect();
        assert_eq!(
            facts,
            [
                json!(["type_changed", "id", "integer", ["null", "string"], true]),
                json!(["field_removed", "old", "string", null, true]),
                json!(["field_added", "new", null, "boolean", false]),
            ]
        );
        assert_eq!(
            lines(&found, 2, 3),
            "    breaking  column t.id changed from \"integer\" to [\"null\",\"string\"]\n    breaking  column t.old is gone; it was \"string\"\n    and 1 more change; --format json lists them\n"
        );
    }
}
