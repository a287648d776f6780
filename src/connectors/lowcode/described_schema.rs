//! The fields of a stream that the vendor describes in another response, for example the attributes that a company added.

use super::address;
use super::family_spec::DescribedSchema;
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
            match self.probe(&rule.from, 1).await {
                Ok((records, _)) => records.iter().for_each(|record| add(&named, &json(record), schema, columns)),
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

/// Adds the fields of `record` to the object of `schema` that `rule` names.
fn add(rule: &DescribedSchema, record: &Value, schema: &mut Value, columns: usize) {
    let Some(Value::Object(into)) = schema.pointer_mut(&rule.into) else { return };
    let fields = rule.fields.iter().filter_map(|pointer| record.pointer(pointer)?.as_object());
    for (name, described) in fields.flatten().take(columns) {
        if !into.contains_key(name) {
            into.insert(name.clone(), field(described));
        }
    }
}

/// Returns the type, the title and the type of the items of a field. Everything else that a vendor says of it is left out.
fn field(described: &Value) -> Value {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    let mut field = Map::new();
    match described["type"].as_str().filter(|name| TYPES.contains(name)) {
        Some(name) => field.insert("type".to_string(), json_of!([name, "null"])),
        None => None,
    };
    for name in ["title", "format"] {
        if let Some(text) = described[name].as_str() {
            field.insert(name.to_string(), text.chars().filter(|c| !c.is_control()).take(100).collect::<String>().into());
        }
    }
    if let Some(items) = described["items"]["type"].as_str().filter(|name| TYPES.contains(name)) {
        field.insert("items".to_string(), json_of!({"type": items}));
    }
    Value::Object(field)
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
        add(&rule, &record, &mut schema, 3);
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
            add(&rule, &record, &mut same, 3);
            assert_eq!(same, schema);
        }
    }
}
