//! One difference between two catalogs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    StreamAdded,
    StreamRemoved,
    FieldAdded,
    FieldRemoved,
    TypeChanged,
    /// The primary key changed.
    KeyChanged,
}

impl ChangeKind {
    /// All kinds.
    pub const ALL: [ChangeKind; 6] = [
        ChangeKind::StreamAdded,
        ChangeKind::StreamRemoved,
        ChangeKind::FieldAdded,
        ChangeKind::FieldRemoved,
        ChangeKind::TypeChanged,
        ChangeKind::KeyChanged,
    ];

    /// Returns the name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::StreamAdded => "stream_added",
            ChangeKind::StreamRemoved => "stream_removed",
            ChangeKind::FieldAdded => "field_added",
            ChangeKind::FieldRemoved => "field_removed",
            ChangeKind::TypeChanged => "type_changed",
            ChangeKind::KeyChanged => "key_changed",
        }
    }

    /// Whether consumers of the source break.
    #[must_use]
    pub fn is_breaking(self) -> bool {
        !matches!(self, ChangeKind::StreamAdded | ChangeKind::FieldAdded)
    }
}

/// One difference between two catalogs.
#[derive(Clone, Debug, PartialEq)]
pub struct SchemaChange {
    pub kind: ChangeKind,
    /// The name of the stream, after its namespace and a point if it has one.
    pub stream: String,
    /// `None` for changes of the stream as a whole.
    pub field: Option<String>,
    /// The type or the primary key before. Null if there was none, or if the kind says it all.
    pub from: Value,
    pub to: Value,
}

impl SchemaChange {
    /// Returns the change in one sentence.
    #[must_use]
    pub fn message(&self) -> String {
        let SchemaChange { stream, from, to, .. } = self;
        let field = self.field.as_deref().unwrap_or_default();
        match self.kind {
            ChangeKind::StreamAdded => format!("stream {stream} is new"),
            ChangeKind::StreamRemoved => format!("stream {stream} is gone"),
            ChangeKind::FieldAdded => format!("column {stream}.{field} is new"),
            ChangeKind::FieldRemoved => format!("column {stream}.{field} is gone"),
            ChangeKind::TypeChanged => format!("column {stream}.{field} changed from {from} to {to}"),
            ChangeKind::KeyChanged => format!("the primary key of {stream} changed"),
        }
    }
}
