//! Property tests of the parser.

use super::wire::{good, one, with};
use crate::intake::wire::{Limits, parse, parse_batch};
use crate::model::Intent;
use proptest::prelude::*;
use serde_json::{Value, json};

fn any_extra() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Invisible characters are refused.
        "[\\p{L}\\p{N}\\p{P}\\p{S} ]{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,4}", inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect()))
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, &Limits::default());
        let _ = parse_batch(&bytes, &Limits::default());
    }

    #[test]
    fn a_good_document_cut_or_changed_anywhere_never_panics(at in 0_usize..300, byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = json!([good(), with("/x", json!({"y": [1, "\\"]}))]).to_string().into_bytes();
        let at = at.min(bytes.len() - 1);
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(parsed) = parse(&bytes, &Limits::default()) {
            prop_assert!(parsed.problems().all(|problem| problem.place.is_some()));
        }
    }

    #[test]
    fn reading_the_canonical_form_changes_nothing(
        mut ids in proptest::collection::vec("[a-z0-9]{1,8}", 1..6), confidence in 0.0_f64..=1.0, extra in any_extra(), name in "x[a-z]{0,5}", rotate in 0_usize..6,
    ) {
        let mut document = with("/resource_ids", json!(ids));
        document["owner"]["confidence"] = json!(confidence);
        document["owner"][&name] = extra.clone();
        document[&name] = extra;
        let intent = one(&document).expect("a good document");
        let again = parse(intent.canonical().as_bytes(), &Limits::default()).expect("JSON");
        prop_assert_eq!(again.intents().next(), Some(&intent));
        prop_assert_eq!(again.intents().next().map(Intent::canonical), Some(intent.canonical()));
        let len = ids.len();
        ids.rotate_left(rotate % len);
        ids.push(ids[0].clone());
        document["resource_ids"] = json!(ids);
        let turned = one(&document).expect("a good document");
        prop_assert_eq!((turned.connection_id(), turned.digest()), (intent.connection_id(), intent.digest()));
    }

    #[test]
    fn the_order_of_keys_does_not_matter(seed in any::<u64>()) {
        let mut document = with("/tags", json!({"b": {"y": 1, "x": 2}, "a": 1}));
        document["owner"]["team"] = json!("data");
        let text = shuffled(&document, &mut fastrand::Rng::with_seed(seed));
        let parsed = parse(text.as_bytes(), &Limits::default()).expect("JSON");
        prop_assert_eq!(parsed.intents().next().map(Intent::canonical), Some(one(&document).expect("good").canonical()));
    }
}

/// The JSON text of `value` with the keys of every object in random order.
fn shuffled(value: &Value, random: &mut fastrand::Rng) -> String {
    let Value::Object(map) = value else {
        return value.to_string();
    };
    let mut fields: Vec<String> = map.iter().map(|(key, value)| format!("{}:{}", json!(key), shuffled(value, random))).collect();
    random.shuffle(&mut fields);
    format!("{{{}}}", fields.join(", "))
}
