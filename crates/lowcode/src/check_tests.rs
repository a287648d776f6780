use super::*;
use crate::bounds::Bounds;
use crate::script::{Script, json, stream};
use futures_util::future::FutureExt;

fn checked(check: &str, streams: &[String], more: &str, host: &Script) -> Result<Result<(), String>, Failed> {
    let manifest = json(&format!(r#"{{"check": {check}, "streams": [{}] {more}}}"#, streams.join(",")));
    let (config, bounds) = (json(r#"{"accounts": [{"id": "x"}, {"id": "y"}]}"#), Bounds::default());
    let ctx = Context::new(&manifest, &config, host, &bounds);
    super::check(&ctx, &Run::new(&ctx)).now_or_never().unwrap()
}

#[test]
fn no_record_is_well_and_no_slice_is_not() {
    let host = Script::new(&[("/a", r#"{"r": []}"#)]);
    let one = r#"{"type": "CheckStream", "stream_names": ["s"]}"#;
    assert_eq!(checked(one, &[stream("s", "/a", "", "")], "", &host).unwrap(), Ok(()));
    let none = r#", "partition_router": {"type": "ListPartitionRouter", "cursor_field": "a", "values": []}"#;
    assert_eq!(
        checked(one, &[stream("s", "/a", none, "")], "", &host).unwrap(),
        Err("Stream s is not available: Cannot attempt to connect to stream s - no stream slices were found".to_owned())
    );
}

#[test]
fn a_stream_that_is_not_there_is_no_answer() {
    let host = Script::new(&[("/a", r#"{"r": []}"#)]);
    let other = r#"{"type": "CheckStream", "stream_names": ["other"]}"#;
    let failed = checked(other, &[stream("s", "/a", "", "")], "", &host).unwrap_err();
    assert_eq!(failed.message, "other is not part of the catalog. Expected one of ['s'].");
}

#[test]
fn a_refusing_server_is_named() {
    let host = Script::new(&[("/a", r#"!{"error": "no such token"}"#)]);
    let one = r#"{"type": "CheckStream", "stream_names": ["s"]}"#;
    let reason = checked(one, &[stream("s", "/a", "", "")], "", &host).unwrap().unwrap_err();
    assert!(reason.starts_with("Stream s is not available: "), "{reason}");
    assert!(reason.contains("401"), "{reason}");
}

#[test]
fn only_the_first_record_is_asked_for_and_only_of_named_streams() {
    let host = Script::new(&[("/a", r#"{"r": [{"i": 1}]}"#)]);
    let broken = r#", "incremental_sync": {"type": "DatetimeBasedCursor", "cursor_field": "u", "datetime_format": "%Y",
        "start_datetime": "wrong"}"#;
    let streams = [stream("s", "/a", "", ""), stream("broken", "/b", "", broken)];
    let one = r#"{"type": "CheckStream", "stream_names": ["s"]}"#;
    assert_eq!(checked(one, &streams, "", &host).unwrap(), Ok(()));
    assert_eq!(host.urls(), ["https://h.example/a"]);
    let both = r#"{"type": "CheckStream", "stream_names": ["s", "broken"]}"#;
    let reason = checked(both, &streams, "", &host).unwrap().unwrap_err();
    assert!(reason.starts_with("Encountered an error while discovering streams. Error: time data"), "{reason}");
}

#[test]
fn streams_of_a_config_are_made_and_checked() {
    let host = Script::new(&[("/x", r#"{"r": []}"#), ("/y", r#"!{}"#)]);
    let more = format!(
        r#", "dynamic_streams": [{{"type": "DynamicDeclarativeStream", "name": "per account", "stream_template": {},
            "components_resolver": {{"type": "ConfigComponentsResolver", "stream_config": {{"type": "StreamConfig",
            "configs_pointer": ["accounts"]}}, "components_mapping": [
            {{"type": "ComponentMappingDefinition", "field_path": ["name"], "value": "of {{{{ components_values.id }}}}"}},
            {{"type": "ComponentMappingDefinition", "field_path": ["retriever", "requester", "path"],
              "value": "/{{{{ components_values['id'] }}}}"}}]}}}}]"#,
        stream("template", "/t", "", "")
    );
    let all = r#"{"type": "CheckStream", "dynamic_streams_check_configs": [{"dynamic_stream_name": "per account"}]}"#;
    let reason = checked(all, &[], &more, &host).unwrap().unwrap_err();
    assert!(reason.starts_with("Dynamic Stream of y is not available: "), "{reason}");
    assert_eq!(host.urls(), ["https://h.example/x", "https://h.example/y"]);
    let first = r#"{"type": "CheckDynamicStream", "stream_count": 1}"#;
    assert_eq!(checked(first, &[], &more, &host).unwrap(), Ok(()));
}

/// The CDK checks a stream with a counter like any other, and refuses one whose start is not a number.
#[test]
fn a_counter_is_checked_from_its_start() {
    let host = Script::new(&[("/a", r#"{"r": [{"id": 1}]}"#)]);
    let one = r#"{"type": "CheckStream", "stream_names": ["s"]}"#;
    let counted = |start: &str| {
        let sync = format!(
            r#", "incremental_sync": {{"type": "IncrementingCountCursor", "cursor_field": "id" {start}, "start_value_option":
                {{"type": "RequestOption", "inject_into": "request_parameter", "field_name": "since"}}}}"#
        );
        checked(one, &[stream("s", "/a", "", &sync)], "", &host).unwrap()
    };
    for start in ["", r#", "start_value": 2"#, r#", "start_value": "{{ 3 }}""#] {
        assert_eq!(counted(start), Ok(()), "{start}");
    }
    assert_eq!(host.urls(), ["https://h.example/a?since=0", "https://h.example/a?since=2", "https://h.example/a?since=3"]);
    assert_eq!(
        counted(r#", "start_value": "x""#),
        Err("Encountered an error while discovering streams. Error: invalid literal for int() with base 10: 'x'".into())
    );
}
