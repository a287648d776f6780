use crate::bounds::Bounds;
use crate::value::Value;

fn json(value: &Value, pointer: &str) -> String {
    serde_json::to_value(value).unwrap().pointer(pointer).unwrap().to_string()
}

/// Parts that several streams refer to are stored once, also those with a class.
#[test]
fn classes_in_shared_parts_are_replaced_everywhere() {
    let stream = |name: &str| {
        format!(
            "  - {{name: {name}, retriever: {{requester: {{url_base: https://h.example, authenticator: '#/definitions/auth'}}, \
            record_selector: {{extractor: {{field_path: []}}}}}}}}\n"
        )
    };
    let text = format!(
        "version: '1'\n# okta.com\ncheck: {{stream_names: [a]}}\ndefinitions:\n  key: {{type: CustomAuthenticator, \
        class_name: components.CustomBearerAuthenticator}}\n  auth: {{type: SelectiveAuthenticator, authenticator_selection_path: \
        [credentials, auth_type], authenticators: {{api_token: '#/definitions/key', other: '#/definitions/key'}}}}\nstreams:\n{}{}",
        stream("a"),
        stream("b")
    );
    let manifest = crate::load::load(&text, "m.yaml", &Bounds::default()).unwrap_or_else(|problems| panic!("{problems:?}"));
    for stream in manifest.root.get("streams").and_then(Value::as_list).unwrap() {
        let chosen = json(stream, "/retriever/requester/authenticator/authenticators");
        assert_eq!(chosen.matches("ApiKeyAuthenticator").count(), 2, "{chosen}");
        assert!(!chosen.contains("class_name"), "{chosen}");
    }
    assert_eq!(manifest.classes().len(), 4);
    // What would be copied is bounded.
    let small = Bounds { manifest_values: 60, ..Bounds::default() };
    assert!(crate::load::load(&text, "m.yaml", &small).is_err());
}
