//! The field paths and types of documents, without their values.
//!
//! A name can be data: some applications use addresses or identifiers as keys. Such names, and those of nested documents with
//! very many fields, are not kept; the document is then described as a map.

use bson::raw::RawBsonRef;
use bson::{RawArray, RawDocument};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Limit on the depth of nested documents and arrays that are described.
pub const MAX_DEPTH: usize = 4;
/// Limit on the items of an array that are described.
pub const MAX_ITEMS: usize = 5;
/// Limit on the fields of one document that are described.
pub const MAX_NAMES: usize = 500;
/// A nested document with more fields than this is a map.
const MAX_NESTED_NAMES: usize = 100;
/// Limit on all paths of one collection.
const MAX_PATHS: usize = 2000;
/// Limit on the length of a name in bytes. A longer name is data.
const MAX_NAME_BYTES: usize = 128;

/// The types as the operator `$type` names them (manual, "BSON Types").
const TYPES: [&str; 21] = [
    "double",
    "string",
    "object",
    "array",
    "binData",
    "undefined",
    "objectId",
    "bool",
    "date",
    "null",
    "regex",
    "dbPointer",
    "javascript",
    "symbol",
    "javascriptWithScope",
    "int",
    "timestamp",
    "long",
    "decimal",
    "minKey",
    "maxKey",
];

/// How many paths may still be added.
#[derive(Debug)]
pub struct Budget {
    paths: usize,
    columns: usize,
    /// Whether paths were left out.
    pub truncated: bool,
}

impl Budget {
    /// Allows `columns` fields at the top of a document.
    #[must_use]
    pub fn new(columns: usize) -> Budget {
        Budget { paths: MAX_PATHS, columns: columns.min(MAX_NAMES), truncated: false }
    }

    fn take(&mut self) -> bool {
        let left = self.paths.checked_sub(1);
        self.truncated |= left.is_none();
        self.paths = left.unwrap_or(0);
        left.is_some()
    }
}

/// The fields of a document.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    by_name: BTreeMap<String, Field>,
    /// Whether the names are data.
    is_map: bool,
}

/// One field: its types, and what is inside it.
#[derive(Clone, Debug, Default)]
pub struct Field {
    types: BTreeSet<&'static str>,
    fields: Option<Box<Fields>>,
    items: Option<Box<Field>>,
}

impl Fields {
    /// The field called `name`, or `None` if it is not described.
    pub fn field(&mut self, name: &str, depth: usize, budget: &mut Budget) -> Option<&mut Field> {
        if self.is_map {
            return None;
        }
        if is_data(name) {
            self.is_map |= depth > 0;
            return None;
        }
        if !self.by_name.contains_key(name) {
            if depth > 0 && self.by_name.len() >= MAX_NESTED_NAMES {
                self.is_map = true;
                self.by_name.clear();
                return None;
            }
            if depth == 0 && self.by_name.len() >= budget.columns {
                budget.truncated = true;
                return None;
            }
            if !budget.take() {
                return None;
            }
        }
        Some(self.by_name.entry(name.to_string()).or_default())
    }

    /// Adds the fields of `document`. Returns `None` if it is not valid BSON.
    #[must_use]
    pub fn add_document(&mut self, document: &RawDocument, budget: &mut Budget) -> Option<()> {
        self.add_nested(document, 0, budget)
    }

    fn add_nested(&mut self, document: &RawDocument, depth: usize, budget: &mut Budget) -> Option<()> {
        for element in document.iter().take(MAX_NAMES + 1) {
            let (name, value) = element.ok()?;
            if let Some(field) = self.field(name.as_str(), depth, budget) {
                field.add_value(value, depth, budget)?;
            }
        }
        Some(())
    }

    /// The `properties` of a JSON Schema.
    #[must_use]
    pub fn properties(&self) -> Map<String, Value> {
        self.by_name.iter().map(|(name, field)| (name.clone(), field.schema(name == "_id"))).collect()
    }
}

impl Field {
    /// Adds a type by its name. Returns `None` for a type that MongoDB does not have.
    #[must_use]
    pub fn add_type(&mut self, name: &str) -> Option<()> {
        self.types.insert(TYPES.iter().find(|known| **known == name)?);
        Some(())
    }

    /// The fields of the nested document.
    pub fn fields(&mut self) -> &mut Fields {
        self.fields.get_or_insert_default()
    }

    /// The items of the array, all as one.
    pub fn items(&mut self) -> &mut Field {
        self.items.get_or_insert_default()
    }

    fn add_value(&mut self, value: RawBsonRef<'_>, depth: usize, budget: &mut Budget) -> Option<()> {
        self.types.insert(type_of(value));
        if depth + 1 >= MAX_DEPTH {
            return Some(());
        }
        match value {
            RawBsonRef::Document(inside) => self.fields().add_nested(inside, depth + 1, budget),
            RawBsonRef::Array(items) => self.add_items(items, depth + 1, budget),
            _ => Some(()),
        }
    }

    fn add_items(&mut self, items: &RawArray, depth: usize, budget: &mut Budget) -> Option<()> {
        for item in items.into_iter().take(MAX_ITEMS) {
            let item = item.ok()?;
            self.items().add_value(item, depth, budget)?;
        }
        Some(())
    }

    /// The JSON Schema. A field may be missing in other documents, so it admits null, unless it is `required`.
    fn schema(&self, required: bool) -> Value {
        let mut names: BTreeSet<&str> = self.types.iter().filter_map(|native| json_type(native)).collect();
        // Every integer is a number.
        if names.contains("number") {
            names.remove("integer");
        }
        let names: Vec<&str> = if required { names.into_iter().collect() } else { [&["null"], &*Vec::from_iter(names)].concat() };
        let mut schema = json!({"type": names, "x-native-type": self.types.iter().copied().collect::<Vec<_>>().join(", ")});
        let only: Vec<&str> = self.types.iter().copied().filter(|native| json_type(native).is_some()).collect();
        match only.as_slice() {
            ["date"] => schema["format"] = json!("date-time"),
            ["binData"] => schema["contentEncoding"] = json!("base64"),
            _ => {}
        }
        if let Some(fields) = &self.fields {
            if fields.is_map {
                schema["additionalProperties"] = json!(true);
            } else {
                schema["properties"] = Value::Object(fields.properties());
            }
        }
        if let Some(items) = &self.items {
            schema["items"] = items.schema(false);
        }
        schema
    }
}

/// The type in JSON, or `None` for a type without a value.
fn json_type(native: &str) -> Option<&'static str> {
    match native {
        "null" | "undefined" => None,
        "int" | "long" => Some("integer"),
        "double" | "decimal" => Some("number"),
        "bool" => Some("boolean"),
        "object" => Some("object"),
        "array" => Some("array"),
        _ => Some("string"),
    }
}

fn type_of(value: RawBsonRef<'_>) -> &'static str {
    match value {
        RawBsonRef::Double(_) => "double",
        RawBsonRef::String(_) => "string",
        RawBsonRef::Document(_) => "object",
        RawBsonRef::Array(_) => "array",
        RawBsonRef::Binary(_) => "binData",
        RawBsonRef::Undefined => "undefined",
        RawBsonRef::ObjectId(_) => "objectId",
        RawBsonRef::Boolean(_) => "bool",
        RawBsonRef::DateTime(_) => "date",
        RawBsonRef::Null => "null",
        RawBsonRef::RegularExpression(_) => "regex",
        RawBsonRef::DbPointer(_) => "dbPointer",
        RawBsonRef::JavaScriptCode(_) => "javascript",
        RawBsonRef::Symbol(_) => "symbol",
        RawBsonRef::JavaScriptCodeWithScope(_) => "javascriptWithScope",
        RawBsonRef::Int32(_) => "int",
        RawBsonRef::Timestamp(_) => "timestamp",
        RawBsonRef::Int64(_) => "long",
        RawBsonRef::Decimal128(_) => "decimal",
        RawBsonRef::MinKey => "minKey",
        RawBsonRef::MaxKey => "maxKey",
    }
}

/// Whether a name is rather data than the name of a field: an address, a number, or an identifier such as an ObjectId or UUID.
fn is_data(name: &str) -> bool {
    let is_identifier = || {
        let digits = name.bytes().filter(u8::is_ascii_digit).count();
        name.len() >= 16 && digits >= 4 && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || name.contains('@')
        || name.contains(|c: char| c.is_control())
        || name.bytes().all(|byte| byte.is_ascii_digit())
        || is_identifier()
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
