use super::*;
use bson::raw::RawDocumentBuf;
use bson::{RawBson, rawdoc};
use proptest::prelude::*;

fn schema(documents: &[RawDocumentBuf]) -> Value {
    let (mut fields, mut budget) = (Fields::default(), Budget::new(500));
    for document in documents {
        fields.add_document(document, &mut budget).unwrap();
    }
    Value::Object(fields.properties())
}

#[test]
fn paths_and_types_are_kept_and_values_are_not() {
    let found = schema(&[
        rawdoc! {"_id": bson::oid::ObjectId::from_bytes([7; 12]), "name": "hunter2", "total": 1, "at": bson::DateTime::from_millis(0)},
        rawdoc! {"_id": 3, "total": 2.5, "lines": [{"sku": "hunter2", "count": 2_i64}, {"sku": 1}], "deep": {"a": {"b": {"c": 1}}}},
    ]);
    assert!(!found.to_string().contains("hunter2"));
    assert_eq!(found["_id"], json!({"type": ["integer", "string"], "x-native-type": "int, objectId"}));
    assert_eq!(found["total"], json!({"type": ["null", "number"], "x-native-type": "double, int"}));
    assert_eq!(found["at"]["format"], json!("date-time"));
    assert_eq!(found["lines"]["items"]["properties"]["sku"]["x-native-type"], json!("int, string"));
    assert_eq!(found["deep"]["properties"]["a"]["properties"]["b"]["properties"]["c"]["type"], json!(["null", "integer"]));
}

#[test]
fn names_that_are_data_are_not_kept() {
    let found = schema(&[rawdoc! {
        "by_user": {"joe@acme.example": 1, "ann@acme.example": 2},
        "by_id": {"507f1f77bcf86cd799439011": {"a": 1}},
        "by_day": {"20261129": 1},
        "joe@acme.example": 1,
        "plain": {"a": 1},
    }]);
    let text = found.to_string();
    assert!(!text.contains("acme.example") && !text.contains("507f1f77") && !text.contains("2026"), "{text}");
    assert_eq!(found["by_user"]["additionalProperties"], json!(true));
    assert!(found["plain"]["properties"]["a"].is_object());
    let mut many = RawDocumentBuf::new();
    for number in 0..150 {
        many.append(bson::raw::CString::try_from(format!("key_{number}_x")).unwrap(), number);
    }
    let mut document = RawDocumentBuf::new();
    document.append(bson::raw::cstr!("map"), many);
    assert_eq!(schema(&[document])["map"]["additionalProperties"], json!(true));
}

#[test]
fn limits_are_noticed() {
    let mut wide = RawDocumentBuf::new();
    for number in 0..40 {
        wide.append(bson::raw::CString::try_from(format!("field_{number}")).unwrap(), number);
    }
    let (mut fields, mut budget) = (Fields::default(), Budget::new(10));
    fields.add_document(&wide, &mut budget).unwrap();
    assert!(budget.truncated && fields.properties().len() == 10);
}

/// Documents nested as deeply as the bytes allow.
#[test]
fn deep_nesting_costs_neither_stack_nor_memory() {
    let mut document = rawdoc! {};
    for _ in 0..3_000 {
        let mut outer = RawDocumentBuf::new();
        outer.append(bson::raw::cstr!("a"), RawBson::Document(document));
        document = outer;
    }
    assert!(schema(&[document]).to_string().len() < 2000);
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        bytes.push(0);
        let length = i32::try_from(bytes.len() + 4).unwrap();
        let all = [&length.to_le_bytes()[..], &bytes].concat();
        if let Ok(document) = RawDocument::from_bytes(&all) {
            let mut fields = Fields::default();
            let _ = fields.add_document(document, &mut Budget::new(500));
            let _ = fields.properties();
        }
    }

    /// Changed bytes of a real document.
    #[test]
    fn no_change_of_a_document_makes_the_parser_panic(at in 4_usize..120, byte: u8) {
        let document = rawdoc! {"_id": 3, "total": 2.5, "lines": [{"sku": "a", "count": 2_i64}], "deep": {"a": {"b": {"c": [1, [2]]}}}, "x": null};
        let mut bytes = document.into_bytes();
        let at = at.min(bytes.len() - 2);
        bytes[at] = byte;
        if let Ok(changed) = RawDocument::from_bytes(&bytes) {
            let _ = Fields::default().add_document(changed, &mut Budget::new(500));
        }
    }
}
