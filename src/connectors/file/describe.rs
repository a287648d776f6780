//! What discovery finds in one file, whatever its format.

use crate::model::{Evidence, Stream, SyncMode};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Columns and types of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Column name to JSON schema.
    pub properties: Map<String, Value>,
    /// Columns that can never be empty.
    pub required: Vec<String>,
    /// Columns there are, also those beyond the bound.
    pub columns: usize,
    pub truncated: bool,
    /// Rows that the types were inferred from.
    pub rows_seen: usize,
    pub row_estimate: Option<u64>,
    /// Facts for the evidence; never data.
    pub notes: Evidence,
}

impl Description {
    /// The stream of this file. It has no namespace: where a connection has several resources, the
    /// pipeline keeps their streams apart.
    #[must_use]
    pub fn stream(self, name: String) -> Stream {
        let mut schema = json!({"type": "object", "properties": self.properties});
        if let (false, Some(object)) = (self.required.is_empty(), schema.as_object_mut()) {
            object.insert("required".to_owned(), json!(self.required));
        }
        Stream {
            name,
            namespace: None,
            json_schema: schema,
            supported_sync_modes: vec![SyncMode::FullRefresh],
            source_defined_primary_key: Vec::new(),
            row_estimate: self.row_estimate,
        }
    }
}

/// Makes column names unique: an empty one becomes `column_3`, a second `id` becomes `id_2`.
#[derive(Default)]
pub struct Names {
    taken: HashSet<String>,
    /// Names that had to be changed although the file gave one.
    pub changed: usize,
}

impl Names {
    /// The name for the column at `index`, counted from zero.
    pub fn unique(&mut self, given: &str, index: usize) -> String {
        let base = match given.trim() {
            "" => format!("column_{}", index + 1),
            // A header of a megabyte is no name.
            name => name.chars().take(200).collect(),
        };
        let mut name = base.clone();
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{base}_{number}");
            number += 1;
        }
        if !given.trim().is_empty() && name != given.trim() {
            self.changed += 1;
        }
        name
    }
}
