//! The fields of a stream that the vendor describes in another response, for example the attributes that a company added.

use super::address;
use super::family_spec::{DescribedSchema, FieldRecord};
use super::open::{Resource, json, skippable};
use crate::model::Failure;
use serde_json::{Map, Value, json as json_of};
use std::collections::BTreeMap;

impl Resource {
    /// Adds the fields of `stream` that the vendor describes to `schema`, at most `columns` of them.
    ///
    /// # Errors
    /// Returns a failure of the connection or the login. If only the description cannot be read, the schema stays as it is.
    pub(super) async fn describe(&self, stream: &str, schema: &mut Value, columns: usize) -> Result<(), Failure> {
        for rule in self.binding.schemas.iter().filter(|rule| rule.stream == stream || rule.stream == "*") {
            let named = rule.named(stream, &self.binding.parts);
            let records = if rule.each.is_some() { columns } else { 1 };
            match self.probe(&rule.from, records).await {
                Ok((records, _)) => {
                    let records: Vec<Value> = records.iter().map(json).collect();
                    add(&named, &records, schema, columns);
                }
                Err(failure) if skippable(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

impl DescribedSchema {
    /// Returns the rule with the pointers for `stream`: `{stream}` and the parts of the resource id are filled in, escaped as
    /// RFC 6901 says.
    fn named(&self, stream: &str, parts: &BTreeMap<String, String>) -> DescribedSchema {
        let escape = |text: &str| text.replace('~', "~0").replace('/', "~1");
        let mut names: BTreeMap<String, String> = parts.iter().map(|(name, part)| (name.clone(), escape(part))).collect();
        names.insert("stream".to_string(), escape(stream));
        let fields = self.fields.iter().map(|pointer| address::fill(pointer, &names).unwrap_or_else(|_| pointer.clone()));
        DescribedSchema { fields: fields.collect(), ..self.clone() }
    }
}

/// The types of JSON schema.
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Adds the fields that `records` describe to the object of `schema` that `rule` names.
fn add(rule: &DescribedSchema, records: &[Value], schema: &mut Value, columns: usize) {
    let Some(Value::Object(into)) = schema.pointer_mut(&rule.into) else { return };
    let fields: Vec<(String, Value)> = match &rule.each {
        Some(each) => records.iter().filter_map(|record| from_record(each, record)).collect(),
        None => records
            .iter()
            .flat_map(|record| rule.fields.iter().filter_map(|pointer| record.pointer(pointer)?.as_object()))
            .flatten()
            .map(|(name, described)| (name.clone(), field(described)))
            .collect(),
    };
    for (name, field) in fields.into_iter().take(columns) {
        into.entry(name).or_insert(field);
    }
}

/// Returns the type, the title and the type of the items of a field. Everything else that a vendor says of it is left out.
fn field(described: &Value) -> Value {
    let mut field = Map::new();
    if let Some(name) = described["type"].as_str().filter(|name| TYPES.contains(name)) {
        field.insert("type".to_string(), json_of!([name, "null"]));
    }
    for name in ["title", "format"] {
        if let Some(text) = described[name].as_str() {
            field.insert(name.to_string(), shortened(text).into());
        }
    }
    if let Some(items) = described["items"]["type"].as_str().filter(|name| TYPES.contains(name)) {
        field.insert("items".to_string(), json_of!({"type": items}));
    }
    Value::Object(field)
}

/// Returns the name of the field that `record` describes, with its type, its title and the type of its items.
fn from_record(each: &FieldRecord, record: &Value) -> Option<(String, Value)> {
    let text = |pointer: &str| record.pointer(pointer)?.as_str();
    let name = text(&each.name).filter(|name| !name.is_empty())?;
    let typed = |vendor: &str| match each.types.get(vendor) {
        Some(known) => known.clone(),
        None => json_of!({"type": vendor}),
    };
    let mut described = text(&each.r#type).map_or_else(|| json_of!({}), typed);
    if let Some(title) = each.title.as_deref().and_then(text) {
        described["title"] = title.into();
    }
    if let Some(items) = each.items.as_deref().and_then(text) {
        described["items"] = typed(items);
    }
    Some((shortened(name), field(&described)))
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_all_streams_is_filled_in() {
        let rule: DescribedSchema = serde_json::from_value(json_of!({
            "stream": "*", "from": "openapi", "fields": ["/definitions/{stream}/properties", "/{ref}"], "into": "/properties",
        }))
        .unwrap();
        let named = rule.named("a/b~c", &[("ref".to_string(), "x".to_string())].into());
        assert_eq!(named.fields, ["/definitions/a~1b~0c/properties", "/x"]);
    }

    #[test]
    fn described_fields_are_added_and_bounded() {
        let rule = DescribedSchema {
            stream: "users".to_string(),
            from: "user_schema".to_string(),
            fields: vec!["/definitions/base/properties".to_string(), "/definitions/custom/properties".to_string()],
            each: None,
            into: "/properties/profile/properties".to_string(),
        };
        // As Okta answers (recordings of its Python package), shortened.
        let record = json_of!({"definitions": {
            "base": {"properties": {"login": {"title": "Username", "type": "string", "required": true, "mutability": "READ_WRITE"}}},
            "custom": {"properties": {
                "badges": {"title": "Badges", "type": "array", "items": {"type": "string"}},
                "odd": {"title": "Odd\u{0007}", "type": "secret"},
                "late": {"type": "string"},
            }},
        }});
        let whole = json_of!({"properties": {"profile": {"type": "object", "properties": {"email": {"type": "string"}}}}});
        let mut schema = whole.clone();
        add(&rule, std::slice::from_ref(&record), &mut schema, 3);
        assert_eq!(
            schema["properties"]["profile"]["properties"],
            json_of!({
                "email": {"type": "string"},
                "login": {"type": ["string", "null"], "title": "Username"},
                "badges": {"type": ["array", "null"], "title": "Badges", "items": {"type": "string"}},
                "late": {"type": ["string", "null"]},
            })
        );
        for (record, schema) in [(json_of!(null), whole.clone()), (record, json_of!({"properties": {}}))] {
            let mut same = schema.clone();
            add(&rule, &[record], &mut same, 3);
            assert_eq!(same, schema);
        }
    }
    #[test]
    fn each_record_can_describe_one_field() {
        let rule: DescribedSchema = serde_json::from_value(json_of!({
            "stream": "issues", "from": "fields", "into": "/properties/fields/properties",
            "each": {"name": "/id", "title": "/name", "type": "/schema/type", "items": "/schema/items",
                "types": {"date": {"type": "string", "format": "date"}, "option": {"type": "object"}}},
        }))
        .unwrap();
        // As Jira's /rest/api/3/field answers, shortened.
        let records = [
            json_of!({"id": "summary", "name": "Summary", "schema": {"type": "string", "system": "summary"}}),
            json_of!({"id": "customfield_10010", "name": "Story Points", "custom": true, "schema": {"type": "number"}}),
            json_of!({"id": "customfield_10011", "name": "Teams", "custom": true, "schema": {"type": "array", "items": "option"}}),
            json_of!({"id": "customfield_10012", "name": "Go live", "custom": true, "schema": {"type": "date"}}),
            json_of!({"id": "customfield_10013", "name": "Odd", "custom": true, "schema": {"type": "any"}}),
            json_of!({"id": "thumbnail", "name": "Images"}),
            json_of!({"name": "no id"}),
            json_of!({"id": "late", "name": "beyond the bound"}),
        ];
        let mut schema = json_of!({"properties": {"fields": {"properties": {"summary": {"type": ["string", "null"]}}}}});
        add(&rule, &records, &mut schema, 6);
        assert_eq!(
            schema["properties"]["fields"]["properties"],
            json_of!({
                "summary": {"type": ["string", "null"]},
                "customfield_10010": {"type": ["number", "null"], "title": "Story Points"},
                "customfield_10011": {"type": ["array", "null"], "title": "Teams", "items": {"type": "object"}},
                "customfield_10012": {"type": ["string", "null"], "format": "date", "title": "Go live"},
                "customfield_10013": {"title": "Odd"},
                "thumbnail": {"title": "Images"},
            })
        );
    }
}
