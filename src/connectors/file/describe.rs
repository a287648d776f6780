//! The description of one file, independent of its format.

use crate::credentials::redact;
use crate::model::{Evidence, Stream, SyncMode};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Columns and types of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Column name to JSON schema.
    pub properties: Map<String, Value>,
    /// The columns that can never be empty.
    pub required: Vec<String>,
    /// The number of columns, including those beyond the limit.
    pub columns: usize,
    pub truncated: bool,
    /// The number of rows that the types were inferred from.
    pub rows_seen: usize,
    pub row_estimate: Option<u64>,
    /// Facts for the evidence. They never contain data.
    pub notes: Evidence,
    /// What was guessed or is irregular, as sentences that do not contain data.
    pub warnings: Vec<String>,
}

impl Description {
    /// The stream of this file. It has no namespace: if a connection has several resources, the pipeline
    /// gives their streams different namespaces.
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
pub struct ColumnNames {
    taken: HashSet<String>,
    /// How many names from the file had to be changed.
    pub changed: usize,
}

impl ColumnNames {
    /// Returns the name of the column at `index`, counted from zero.
    pub fn unique(&mut self, given: &str, index: usize) -> String {
        let base = match given.trim() {
            "" => format!("column_{}", index + 1),
            // A header cell can be a megabyte long; the name keeps its first 200 characters. Control characters could
            // act on a terminal.
            name => redact::shortened(&name.chars().filter(|c| !c.is_control()).collect::<String>(), 200),
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
