use super::*;
use std::borrow::Cow;

fn described(stream: &str, cursor: Option<CursorField>) -> String {
    let stream: Value = serde_json::from_str(stream).unwrap();
    serde_json::to_string(&describe(&stream, Cow::Owned(Value::None), cursor).unwrap()).unwrap()
}

#[test]
fn a_stream_is_described_as_the_cdk_does() {
    assert_eq!(
        described(r#"{"name": "users", "primary_key": "id"}"#, None),
        r#"{"name":"users","json_schema":null,"supported_sync_modes":["full_refresh"],"source_defined_primary_key":[["id"]],"is_resumable":false,"is_file_based":false}"#
    );
    assert_eq!(
        described("{}", Some(CursorField { name: "at".into(), user_may_choose: true })),
        r#"{"name":"","json_schema":null,"supported_sync_modes":["full_refresh","incremental"],"source_defined_cursor":false,"default_cursor_field":["at"],"is_resumable":true,"is_file_based":false}"#
    );
}

#[test]
fn keys_are_flat() {
    let key = |text: &str| primary_key(Some(&serde_json::from_str(text).unwrap())).map_err(|failed| failed.message.clone());
    assert_eq!(key(r#"["a", "b"]"#), Ok(vec!["a".into(), "b".into()]));
    assert_eq!(key(r#"[["a"], ["b"]]"#), Ok(vec!["a".into(), "b".into()]));
    assert_eq!(key(r#"[["a", "b"]]"#), Err("Nested primary keys are not supported. Found [['a', 'b']]".into()));
    assert_eq!(key("[]"), Ok(vec![]));
}
