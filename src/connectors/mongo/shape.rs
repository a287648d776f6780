//! The aggregation expression by which a server describes documents: the names and types of their fields, without any value.
//!
//! For each document the server returns `f`, a list with one entry for each field: `k` (its name), `t` (its type as `$type` names
//! it), and for a nested document or array `o` or `a`, which are lists of the same form. The operators exist since MongoDB 3.4.4
//! (manual, "$objectToArray"); for a server without them, AAM reads the documents and keeps the same facts.

use super::fields::{Budget, Field, Fields, MAX_DEPTH, MAX_ITEMS, MAX_NAMES};
use bson::raw::{RawArrayBuf, RawDocumentBuf, cstr};
use bson::{RawArray, RawBson, RawDocument, rawdoc};

/// The expression for the field `f` of a `$project` stage.
#[must_use]
pub fn expression() -> RawDocumentBuf {
    object("$$ROOT", 0)
}

/// The fields of the document that `source` is.
fn object(source: &str, depth: usize) -> RawDocumentBuf {
    let variable = format!("e{depth}");
    let entry = format!("$${variable}");
    let mut limited = RawArrayBuf::new();
    limited.push(rawdoc! { "$objectToArray": source });
    limited.push(i32::try_from(MAX_NAMES + 1).unwrap_or(i32::MAX));
    let described = value(&format!("{entry}.v"), Some(&format!("{entry}.k")), depth);
    rawdoc! { "$map": { "input": { "$slice": limited }, "as": variable.as_str(), "in": described } }
}

/// One entry: the type of `source`, and what is inside it.
fn value(source: &str, name: Option<&str>, depth: usize) -> RawDocumentBuf {
    let mut entry = RawDocumentBuf::new();
    if let Some(name) = name {
        entry.append(cstr!("k"), name);
    }
    entry.append(cstr!("t"), rawdoc! { "$type": source });
    if depth + 1 < MAX_DEPTH {
        entry.append(cstr!("o"), if_type(source, "object", object(source, depth + 1)));
        let variable = format!("i{depth}");
        let mut limited = RawArrayBuf::new();
        limited.push(source);
        limited.push(i32::try_from(MAX_ITEMS).unwrap_or(i32::MAX));
        let item = value(&format!("$${variable}"), None, depth + 1);
        let items = rawdoc! { "$map": { "input": { "$slice": limited }, "as": variable.as_str(), "in": item } };
        entry.append(cstr!("a"), if_type(source, "array", items));
    }
    entry
}

/// `then` if `source` has the type `name`, otherwise null.
fn if_type(source: &str, name: &str, then: RawDocumentBuf) -> RawDocumentBuf {
    let mut compared = RawArrayBuf::new();
    compared.push(rawdoc! { "$type": source });
    compared.push(name);
    let mut parts = RawArrayBuf::new();
    parts.push(rawdoc! { "$eq": compared });
    parts.push(then);
    parts.push(RawBson::Null);
    rawdoc! { "$cond": parts }
}

/// Adds the description of one document. Returns `None` if it does not have the form of [`expression`], as from a server that
/// ignores operators which it does not know.
#[must_use]
pub fn add(fields: &mut Fields, described: &RawDocument, budget: &mut Budget) -> Option<()> {
    let entries = described.get_array("f").ok()?;
    add_entries(fields, entries, 0, budget)
}

fn add_entries(fields: &mut Fields, entries: &RawArray, depth: usize, budget: &mut Budget) -> Option<()> {
    for entry in entries.into_iter().take(MAX_NAMES + 1) {
        let entry = entry.ok()?.as_document()?;
        let name = entry.get_str("k").ok()?;
        if let Some(field) = fields.field(name, depth, budget) {
            add_entry(field, entry, depth, budget)?;
        }
    }
    Some(())
}

fn add_entry(field: &mut Field, entry: &RawDocument, depth: usize, budget: &mut Budget) -> Option<()> {
    field.add_type(entry.get_str("t").ok()?)?;
    if depth + 1 >= MAX_DEPTH {
        return Some(());
    }
    if let Ok(inside) = entry.get_array("o") {
        add_entries(field.fields(), inside, depth + 1, budget)?;
    }
    if let Ok(items) = entry.get_array("a") {
        for item in items.into_iter().take(MAX_ITEMS) {
            add_entry(field.items(), item.ok()?.as_document()?, depth + 1, budget)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What MongoDB returns for `{_id: ObjectId(), tags: ["a", 1], address: {city: null}}`.
    fn described() -> RawDocumentBuf {
        rawdoc! { "f": [
            { "k": "_id", "t": "objectId", "o": null, "a": null },
            { "k": "tags", "t": "array", "o": null, "a": [
                { "t": "string", "o": null, "a": null }, { "t": "int", "o": null, "a": null } ] },
            { "k": "address", "t": "object", "o": [ { "k": "city", "t": "null", "o": null, "a": null } ], "a": null },
        ] }
    }

    #[test]
    fn a_description_and_the_document_itself_yield_the_same_fields() {
        let (mut from_server, mut from_document) = (Fields::default(), Fields::default());
        add(&mut from_server, &described(), &mut Budget::new(500)).unwrap();
        let document = rawdoc! { "_id": bson::oid::ObjectId::from_bytes([0; 12]), "tags": ["a", 1], "address": { "city": null } };
        from_document.add_document(&document, &mut Budget::new(500)).unwrap();
        assert_eq!(from_server.properties(), from_document.properties());
        let schema = serde_json::Value::Object(from_server.properties());
        assert_eq!(schema["address"]["properties"]["city"]["type"], json!(["null"]));
        assert_eq!(schema["tags"]["items"]["x-native-type"], json!("int, string"));
    }

    #[test]
    fn a_server_that_ignores_the_operators_is_noticed() {
        for other in [
            rawdoc! {},
            rawdoc! { "f": { "$map": {} } },
            rawdoc! { "f": [ { "k": "a" } ] },
            rawdoc! { "f": [ { "k": "a", "t": { "$type": "$$e0.v" } } ] },
            rawdoc! { "f": [ { "k": "a", "t": "$$e0.v" } ] },
        ] {
            assert!(add(&mut Fields::default(), &other, &mut Budget::new(500)).is_none(), "{other:?}");
        }
    }

    #[test]
    fn the_expression_is_small_and_bounded() {
        let expression = expression();
        assert!(expression.as_bytes().len() < 16 << 10, "{}", expression.as_bytes().len());
        let has = |operator: &[u8]| expression.as_bytes().windows(operator.len()).any(|part| part == operator);
        assert!(has(b"$objectToArray\0") && has(b"$type\0") && has(b"$slice\0"));
    }
}
