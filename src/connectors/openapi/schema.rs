//! Turns OpenAPI 3.0 and 3.1 schemas into plain JSON Schema. The size is limited, and cycles are cut.
//!
//! Only the structure is kept: types, formats, properties and items. Descriptions, examples and defaults are left out, so
//! that an edit of them does not count as a schema change.

use super::refs::{DocumentSet, Node};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Limit on the values in the schema of one stream. Deeper parts are cut and marked with `x-aam-truncated`.
const MAX_NODES: usize = 500;
/// Numbers of object levels that a schema may describe. They are tried in this order until the schema fits [`MAX_NODES`].
/// Two levels cover a wrapper and the columns of its records.
const DEPTHS_TO_TRY: [usize; 3] = [4, 3, 2];
/// Limit on the recursion of the expansion. It applies to `allOf` chains and other nesting that does not consist of objects.
const MAX_RECURSION: usize = 48;
/// Limit on the values of one `enum`.
const MAX_ENUM: usize = 50;

/// Expands schemas and caches those that several operations share.
pub struct Expander<'a> {
    documents: &'a DocumentSet,
    /// For each target of an outermost `$ref`, the schema and its number of values. Results below an outermost `$ref` are
    /// not cached, because they depend on the path that led there (cycles, depth).
    memo: HashMap<usize, (Value, usize)>,
    /// The targets that are being expanded now.
    stack: Vec<usize>,
    /// Whether the expansion is below an outermost `$ref`.
    inside: bool,
    /// How many more values the schema may have.
    left: usize,
}

impl<'a> Expander<'a> {
    /// Creates an expander over `documents`.
    #[must_use]
    pub fn new(documents: &'a DocumentSet) -> Expander<'a> {
        Expander { documents, memo: HashMap::new(), stack: Vec::new(), inside: false, left: 0 }
    }

    /// Expands the schema of `node`. The result does not depend on earlier expansions.
    pub fn expand(&mut self, node: Node<'a>) -> Value {
        self.deepest(node).0
    }

    /// Returns the deepest expansion that fits [`MAX_NODES`], and its number of values.
    fn deepest(&mut self, node: Node<'a>) -> (Value, usize) {
        let outer = (self.left, std::mem::take(&mut self.stack));
        let mut best = json!({});
        for depth in DEPTHS_TO_TRY {
            self.left = MAX_NODES;
            best = self.schema(node, depth, MAX_RECURSION);
            if self.left > 0 {
                break;
            }
        }
        let cost = MAX_NODES - self.left;
        (self.left, self.stack) = outer;
        (best, cost)
    }

    /// Expands the target of an outermost `$ref` with a separate budget, and caches the result.
    fn shared(&mut self, target: Node<'a>) -> Value {
        let key = target.identity();
        if !self.memo.contains_key(&key) {
            self.inside = true;
            let schema_value = self.deepest(target);
            self.inside = false;
            self.memo.insert(key, schema_value);
        }
        let Some((known, cost)) = self.memo.get(&key) else {
            return json!({});
        };
        self.left = self.left.saturating_sub(*cost);
        known.clone()
    }

    fn schema(&mut self, node: Node<'a>, depth: usize, level: usize) -> Value {
        self.left = self.left.saturating_sub(1);
        if node.value == &Value::Bool(false) {
            return json!({"not": {}});
        }
        let target = match self.documents.follow(node) {
            Ok(target) => target,
            Err(reason) => return json!({"x-aam-unresolved": reason}),
        };
        if self.stack.contains(&target.identity()) {
            return json!({"x-aam-cycle": true});
        }
        if self.left == 0 || level == 0 {
            return shallow(target);
        }
        let mut schema_value = if !self.inside && node.value.get("$ref").is_some() {
            self.shared(target)
        } else {
            self.stack.push(target.identity());
            let schema_value = self.object(target, depth, level - 1);
            self.stack.pop();
            schema_value
        };
        if node.value.get("nullable") == Some(&Value::Bool(true)) {
            schema_value = nullable(schema_value);
        }
        schema_value
    }

    fn object(&mut self, node: Node<'a>, depth: usize, level: usize) -> Value {
        let mut out = Map::new();
        if let Some(schema_type) = schema_type(node) {
            out.insert("type".into(), schema_type);
        }
        for name in ["format", "const"] {
            if let Some(value) = node.value.get(name).filter(|value| !(value.is_object() || value.is_array())) {
                out.insert(name.into(), value.clone());
            }
        }
        if let Some(values) = node.value.get("enum").and_then(Value::as_array) {
            let few: Vec<Value> =
                values.iter().filter(|value| !(value.is_object() || value.is_array())).take(MAX_ENUM).cloned().collect();
            out.insert("enum".into(), few.into());
        }
        let nested = ["properties", "items", "additionalProperties", "allOf", "oneOf", "anyOf"];
        if depth == 0
            && node.value.get("items").is_none()
            && nested.iter().any(|name| node.value.get(name).is_some_and(|value| !value.is_boolean()))
        {
            out.insert("x-aam-truncated".into(), true.into());
            return out.into();
        }
        if let Some(items) = node.get("items").filter(|items| !items.value.is_boolean()) {
            let items = self.schema(items, depth, level);
            out.insert("items".into(), items);
        }
        if depth > 0 {
            self.children(node, depth - 1, level, &mut out);
            self.branches(node, depth, level, &mut out);
        }
        let required = node.value.get("required").and_then(Value::as_array);
        merge_required(&mut out, required.map(Vec::as_slice).unwrap_or_default());
        let out = Value::Object(out);
        if node.value.get("nullable") == Some(&Value::Bool(true)) { nullable(out) } else { out }
    }

    fn children(&mut self, node: Node<'a>, depth: usize, level: usize, out: &mut Map<String, Value>) {
        if let Some(properties) = node.get("properties") {
            let map: Map<String, Value> =
                properties.fields().map(|(name, schema)| (name.to_string(), self.schema(schema, depth, level))).collect();
            out.insert("properties".into(), map.into());
        }
        if let Some(schema) = node.get("additionalProperties") {
            let value = if schema.value.is_boolean() { schema.value.clone() } else { self.schema(schema, depth, level) };
            out.insert("additionalProperties".into(), value);
        }
    }

    /// Merges `allOf` into the schema. The branches of `oneOf` and `anyOf` are kept. If several branches are objects, their
    /// properties are merged too, because each of them may occur in a record.
    fn branches(&mut self, node: Node<'a>, depth: usize, level: usize, out: &mut Map<String, Value>) {
        for part in node.get("allOf").into_iter().flat_map(Node::items) {
            let part = self.schema(part, depth, level);
            merge_schema(out, &part, true);
        }
        for name in ["oneOf", "anyOf"] {
            let Some(list) = node.get(name) else { continue };
            let branches: Vec<Value> = list.items().map(|branch| self.schema(branch, depth, level)).collect();
            let null = branches.iter().any(|branch| branch["type"] == "null");
            let mut real: Vec<Value> = branches.into_iter().filter(|branch| branch["type"] != "null").collect();
            if real.len() == 1 {
                merge_schema(out, &real.remove(0), true);
            } else {
                // The value has the type of any branch. If a branch does not have a type, every type is possible.
                if let Some(union) = union_of_types(&real).filter(|_| !out.contains_key("type")) {
                    out.insert("type".into(), union);
                }
                let structured = |branch: &&Value| branch.get("properties").is_some() || branch.get("items").is_some();
                real.iter().filter(structured).for_each(|branch| merge_schema(out, branch, false));
                out.insert(name.into(), real.into());
            }
            if null {
                let whole = nullable(Value::Object(std::mem::take(out)));
                *out = whole.as_object().cloned().unwrap_or_default();
            }
        }
    }
}

/// Adds the entries of `part` that `out` does not have.
fn merge_schema(out: &mut Map<String, Value>, part: &Value, all: bool) {
    let Some(part) = part.as_object() else { return };
    for (name, value) in part {
        match (name.as_str(), value) {
            ("properties", Value::Object(more)) => {
                let slot = out.entry("properties").or_insert_with(|| json!({}));
                if let Some(properties) = slot.as_object_mut() {
                    for (name, schema) in more {
                        properties.entry(name.clone()).or_insert_with(|| schema.clone());
                    }
                }
            }
            ("required", Value::Array(more)) if all => merge_required(out, more),
            ("required", _) => {}
            (name, value) if all || name == "items" => {
                out.entry(name.to_string()).or_insert_with(|| value.clone());
            }
            _ => {}
        }
    }
}

/// The types of all branches together. Returns `None` if a branch does not have a type.
fn union_of_types(branches: &[Value]) -> Option<Value> {
    let mut names = Vec::new();
    for branch in branches {
        match &branch["type"] {
            Value::String(name) => names.push(name.clone()),
            Value::Array(list) => names.extend(list.iter().filter_map(Value::as_str).map(str::to_string)),
            _ => return None,
        }
    }
    type_value(names)
}

fn merge_required(out: &mut Map<String, Value>, more: &[Value]) {
    let mut names: Vec<String> = out
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .chain(more)
        .filter_map(Value::as_str)
        .map(str::to_string)
        .collect();
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        out.insert("required".into(), names.into());
    }
}

fn shallow(node: Node<'_>) -> Value {
    let mut out = Map::new();
    if let Some(schema_type) = schema_type(node) {
        out.insert("type".into(), schema_type);
    }
    out.insert("x-aam-truncated".into(), true.into());
    out.into()
}

/// The `type` as one name or a sorted list. If it is missing, it is inferred from other keywords.
fn schema_type(node: Node<'_>) -> Option<Value> {
    let names: Vec<&str> = match node.value.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ if node.value.get("properties").is_some() || node.value.get("additionalProperties").is_some_and(Value::is_object) => {
            vec!["object"]
        }
        _ if node.value.get("items").is_some() => vec!["array"],
        _ => Vec::new(),
    };
    type_value(names.into_iter().map(str::to_string).collect())
}

fn type_value(mut names: Vec<String>) -> Option<Value> {
    names.sort_unstable();
    names.dedup();
    match names.len() {
        0 => None,
        1 => names.pop().map(Value::String),
        _ => Some(names.into()),
    }
}

/// Adds `null` to the types of a schema, if it has any.
fn nullable(mut schema: Value) -> Value {
    let names: Vec<String> = match &schema["type"] {
        Value::String(name) => vec![name.clone(), "null".into()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_string).chain(["null".to_string()]).collect(),
        _ => return schema,
    };
    if let (Some(schema_type), Some(object)) = (type_value(names), schema.as_object_mut()) {
        object.insert("type".into(), schema_type);
    }
    schema
}

/// The number of bytes that a value takes as JSON.
#[must_use]
pub fn json_bytes(value: &Value) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

/// Whether a normalised schema allows values of the type `name`. A schema without a type allows every type.
#[must_use]
pub fn allows(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(list) => list.iter().any(|one| one == name),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use url::Url;

    fn expand(components: Value, schema: Value) -> Value {
        let root = json!({"components": {"schemas": components}, "s": schema});
        let documents = DocumentSet::new(Url::parse("https://a.example/openapi.json").unwrap(), root);
        let node = documents.root().get("s").unwrap();
        Expander::new(&documents).expand(node)
    }

    #[test]
    fn all_ways_to_allow_null_agree() {
        let old = expand(json!({}), json!({"type": "string", "nullable": true}));
        let new = expand(json!({}), json!({"type": ["string", "null"]}));
        let any = expand(json!({}), json!({"anyOf": [{"type": "string"}, {"type": "null"}]}));
        assert_eq!(old, json!({"type": ["null", "string"]}));
        assert_eq!((&new, &any), (&old, &old));
    }

    #[test]
    fn one_of_has_the_types_of_all_branches() {
        let either =
            json!({"oneOf": [{"type": "object", "properties": {"e": {}}}, {"type": "array", "items": {"type": "string"}}]});
        let schema_value = expand(json!({}), either);
        assert_eq!(schema_value["type"], json!(["array", "object"]));
        assert_eq!((&schema_value["properties"], &schema_value["items"]), (&json!({"e": {}}), &json!({"type": "string"})));
        let open = expand(json!({}), json!({"anyOf": [{"type": "object", "properties": {"e": {}}}, {}]}));
        assert_eq!(open.get("type"), None);
        let objects = json!({"oneOf": [{"type": "object", "properties": {"a": {}}}, {"properties": {"b": {}}}]});
        assert_eq!(expand(json!({}), objects)["type"], "object");
    }

    #[test]
    fn all_of_is_merged_and_descriptions_are_dropped() {
        let schema_value = expand(
            json!({"Base": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer", "description": "x", "example": 7}}}}),
            json!({"allOf": [{"$ref": "#/components/schemas/Base"}, {"properties": {"name": {"type": "string"}}, "required": ["name"]}]}),
        );
        assert_eq!(
            schema_value,
            json!({"type": "object", "required": ["id", "name"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}})
        );
    }

    #[test]
    fn cycles_are_cut_with_a_marker() {
        let schema_value = expand(
            json!({"Tree": {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}}}}),
            json!({"$ref": "#/components/schemas/Tree"}),
        );
        assert_eq!(schema_value["properties"]["children"], json!({"type": "array", "items": {"x-aam-cycle": true}}));
    }

    #[test]
    fn a_bomb_keeps_its_columns_and_is_cut_below() {
        let mut schemas = Map::new();
        for level in 0..30 {
            let next = json!({"$ref": format!("#/components/schemas/L{}", level + 1)});
            let properties: Map<String, Value> = (0..10).map(|i| (format!("p{i}"), next.clone())).collect();
            schemas.insert(format!("L{level}"), json!({"type": "object", "properties": properties}));
        }
        schemas.insert("L30".into(), json!({"type": "string"}));
        let schema_value = expand(schemas.into(), json!({"$ref": "#/components/schemas/L0"}));
        let columns = schema_value["properties"].as_object().unwrap();
        assert_eq!(columns.len(), 10);
        assert!(columns.values().all(|column| column["type"] == "object"), "{schema_value}");
        assert!(schema_value.to_string().len() < 200_000);
        assert!(schema_value.to_string().contains("x-aam-truncated"));
    }

    #[test]
    fn a_chain_of_all_of_ends() {
        let mut schemas = Map::new();
        for level in 0..5000 {
            schemas.insert(format!("L{level}"), json!({"allOf": [{"$ref": format!("#/components/schemas/L{}", level + 1)}]}));
        }
        assert_eq!(expand(schemas.into(), json!({"$ref": "#/components/schemas/L0"})), json!({"x-aam-truncated": true}));
    }
}
