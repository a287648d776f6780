use super::super::catalog::{AirbyteCatalog, describe};
use super::super::protocol::{Control, Level, Record, State};
use super::*;
use crate::error::Failed;
use crate::json::parse;
use std::borrow::Cow;

const MARK: &str = "[redacted]";

/// Redacts the message with these secrets, and returns its line.
fn redacted(secrets: &[&str], mut message: Message<'_>) -> String {
    let (short, long): (Vec<&str>, Vec<&str>) = secrets.iter().partition(|secret| secret.len() < MIN_SUBSTRING_BYTES);
    let replace = |text: &str, least: usize| {
        let long = long.iter().filter(|secret| secret.len() >= least);
        let clean = long.fold(text.to_string(), |text, secret| text.replace(secret, MARK));
        (clean != text).then_some(clean)
    };
    let redactor = Redactor {
        short: &short.into_iter().map(str::to_string).collect(),
        remove: &|text| replace(text, 0),
        remove_from_name: &|name| replace(name, 16),
        mark: MARK,
    };
    redactor.message(&mut message);
    message.line()
}

fn value(json: &str) -> Value {
    parse(json, 20).unwrap()
}

fn record(json: &str) -> Message<'static> {
    Message::Record(Record { stream: "records".into(), data: value(json), emitted_at: 5 })
}

#[test]
fn a_secret_is_removed_from_every_value_of_a_record() {
    let line = redacted(
        &["real-secret-1", "1234", "987654321"],
        record(
            r#"{"a": ["Bearer real-secret-1!", {"b": "real-secret-1"}], "n": 987654321, "c": "1234", "d": "x1234", "m": 1234567}"#,
        ),
    );
    assert_eq!(
        line,
        r#"{"type":"RECORD","record":{"stream":"records","data":{"a":["Bearer [redacted]!",{"b":"[redacted]"}],"n":"[redacted]","c":"[redacted]","d":"x1234","m":1234567},"emitted_at":5}}"#
    );
}

#[test]
fn keys_and_the_frame_stay() {
    let secrets = ["record", "RECORD", "emitted_at", "data", "common", "password", "created_at"];
    let line = redacted(&secrets, record(r#"{"common": 1, "password": {"created_at": "the uncommon"}, "x": "common"}"#));
    assert_eq!(
        line,
        r#"{"type":"RECORD","record":{"stream":"records","data":{"common":1,"password":{"created_at":"the uncommon"},"x":"[redacted]"},"emitted_at":5}}"#
    );
    let line = redacted(&["token-0123456789-abcdef"], record(r#"{"by": {"token-0123456789-abcdef": 1}}"#));
    assert!(line.contains(r#""data":{"by":{"[redacted]":1}}"#), "a token as a key is not a structure: {line}");
}

#[test]
fn a_secret_does_not_break_the_catalog() {
    let stream = value(r#"{"name": "sync", "primary_key": "resumable_id"}"#);
    let schema = value(
        r#"{"type": "object", "$schema": "http://json-schema.org/schema#", "properties": {
            "description": {"type": ["null", "string"], "format": "date-time", "description": "as in real-secret-1"},
            "resumable_id": {"type": "string", "enum": ["real-secret-1", "sync"]}}}"#,
    );
    let catalog = |schema: &Value| {
        let stream = describe(&stream, Cow::Owned(schema.clone()), None).unwrap();
        Message::Catalog(AirbyteCatalog { streams: vec![stream] })
    };
    let before = catalog(&schema).line();
    let structural =
        ["sync", "string", "object", "date-time", "properties", "full_refresh", "supported_sync_modes", "resumable_id"];
    assert_eq!(redacted(&structural, catalog(&schema)), before);
    let after = redacted(&["real-secret-1"], catalog(&schema));
    assert_eq!(after, before.replace("real-secret-1", MARK), "what a schema says is searched");
}

#[test]
fn what_is_said_is_searched_in_every_other_message() {
    let secrets = ["real-secret-1", "4711"];
    let failed = Failed::config("E", "no real-secret-1").with(|it| it.internal = Some("inner real-secret-1".into()));
    let messages = [
        Message::log(Level::Error, "body: {\"a\": \"real-secret-1\"}"),
        Message::ConnectionStatus(ConnectionStatus::Failed("'real-secret-1' is not valid".into())),
        Message::error(&failed, Some("s"), 2),
        Message::State(State { stream: "s".into(), state: value(r#"{"at": "real-secret-1", "pin": "4711"}"#), records: 1 }),
        Message::Control(Control { config: value(r#"{"key": "real-secret-1", "pin": 4711}"#), emitted_at: 2 }),
    ];
    for message in messages {
        let before = message.line();
        let after = redacted(&secrets, message);
        assert!(before.contains("real-secret-1") && !after.contains("real-secret-1") && !after.contains("4711"), "{after}");
        assert_eq!(value(&after).get("type"), value(&before).get("type"));
    }
    let spec = Message::Spec(value(r#"{"connectionSpecification": {"description": "a real-secret-1"}}"#));
    assert_eq!(redacted(&secrets, spec.clone()), spec.line());
}
