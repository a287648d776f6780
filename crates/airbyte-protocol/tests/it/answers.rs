//! Commands that succeed.

use crate::{answer, progress, run};
use airbyte_protocol::{Answer, Catalog, CheckPassed, Command, Level, Limits, Progress, Reader, Records};
use airbyte_protocol::{Stream, SyncMode, configured_catalog};
use serde_json::{Value, json};

fn catalog(output: &str) -> Catalog {
    match answer(Command::Discover, output) {
        Answer::Discover(catalog) => catalog,
        other => panic!("{other:?}"),
    }
}

fn records(output: &str) -> Records {
    match answer(Command::Read, output) {
        Answer::Read(records) => records,
        other => panic!("{other:?}"),
    }
}

fn record(stream: &str, id: usize) -> String {
    format!("{}\n", json!({"type": "RECORD", "record": {"stream": stream, "data": {"id": id}, "emitted_at": 1}}))
}

#[test]
fn a_check_passes_between_noise_and_unknown_messages() {
    let output = concat!(
        "Loading plugins from a=1\r\n",
        "\n",
        "{\"rows\": 3}\n",
        "{\"type\": \"TELEMETRY\", \"telemetry\": {\"x\": [1]}}\n",
        "{\"type\":\"TRACE\",\"trace\":{\"type\":\"HEARTBEAT\",\"emitted_at\":1.5}}\n",
        "{\"type\":\"LOG\",\"log\":{\"level\":\"WARN\",\"message\":\"slow\"}}\n",
        // The last line has no line feed.
        "  {\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"SUCCEEDED\",\"message\":\"3 streams\"}}  ",
    );
    let (answer, reader) = run(Command::Check, output, 0);
    assert_eq!(answer, Ok(Answer::Check(CheckPassed { message: Some("3 streams".to_owned()) })));
    let counts = reader.counts();
    assert_eq!((counts.noise_lines, counts.unknown_messages, counts.log_messages), (2, 2, 1));
    assert_eq!(counts.bytes, output.len() as u64);
    let [log] = reader.logs() else { panic!("{:?}", reader.logs()) };
    assert_eq!((log.level, log.message.as_str()), (Level::Warn, "slow"));
}

#[test]
fn a_catalog_keeps_what_the_engine_needs() {
    let catalog = catalog(
        r#"{"type":"CATALOG","catalog":{"streams":[
{"name":"invoices","namespace":"billing","json_schema":{"type":"object","properties":{"id":{"type":"integer"}}},
"supported_sync_modes":["full_refresh","incremental","hourly"],"source_defined_cursor":true,"default_cursor_field":["changed","at"],
"source_defined_primary_key":[["id"],["line","no"]],"is_resumable":true,"future":{"x":1}},
{"name":"loose","json_schema":null,"supported_sync_modes":null,"default_cursor_field":"changed","source_defined_primary_key":["id","no"]},
{"json_schema":{}}]}}"#
            .replace('\n', "")
            .as_str(),
    );
    let [strict, loose] = catalog.streams.as_slice() else { panic!("{catalog:?}") };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    assert_eq!((strict.name.as_str(), strict.namespace.as_deref()), ("invoices", Some("billing")));
    assert_eq!(strict.json_schema.parse().unwrap()["properties"]["id"]["type"], "integer");
    assert_eq!(strict.primary_key, [texts(&["id"]), texts(&["line", "no"])]);
    assert_eq!(strict.cursor_field, texts(&["changed", "at"]));
    assert_eq!(strict.sync_modes, [SyncMode::FullRefresh, SyncMode::Incremental]);
    assert!(strict.source_defined_cursor);
    // Names instead of paths are read as paths of one name, and what is missing or null is empty.
    assert_eq!(loose.primary_key, [texts(&["id"]), texts(&["no"])]);
    assert_eq!(loose.cursor_field, texts(&["changed"]));
    assert_eq!((loose.json_schema.as_str(), loose.sync_modes.len(), loose.source_defined_cursor), ("{}", 0, false));
    // The stream without a name.
    assert_eq!(catalog.left_out, 1);
}

#[test]
fn a_configured_catalog_is_read_in_full_where_possible() {
    let stream = |sync_modes: Vec<SyncMode>| Stream {
        name: "invoices".to_owned(),
        namespace: None,
        json_schema: catalog(r#"{"type":"CATALOG","catalog":{"streams":[{"name":"x","json_schema":{"a":1e400}}]}}"#)
            .streams
            .remove(0)
            .json_schema,
        primary_key: vec![vec!["id".to_owned()]],
        cursor_field: vec!["at".to_owned()],
        source_defined_cursor: true,
        sync_modes,
    };
    let mode = |stream: Stream| {
        let text = configured_catalog(&[&stream]);
        // A number that does not fit into a double is passed on as it was written.
        let parsed: Value = serde_json::from_str(&text.replace("1e400", "7")).unwrap();
        assert_eq!(parsed["streams"][0]["stream"]["json_schema"], json!({"a": 7}));
        assert_eq!(parsed["streams"][0]["destination_sync_mode"], "overwrite");
        assert_eq!(parsed["streams"][0]["cursor_field"], json!(["at"]));
        assert_eq!(parsed["streams"][0]["primary_key"], json!([["id"]]));
        let first = parsed["streams"][0].clone();
        (first["sync_mode"].as_str().unwrap().to_owned(), first["stream"]["supported_sync_modes"].clone())
    };
    assert_eq!(mode(stream(vec![SyncMode::Incremental])), ("incremental".to_owned(), json!(["incremental"])));
    let both = vec![SyncMode::Incremental, SyncMode::FullRefresh];
    assert_eq!(mode(stream(both)), ("full_refresh".to_owned(), json!(["incremental", "full_refresh"])));
    assert_eq!(mode(stream(Vec::new())), ("full_refresh".to_owned(), json!(["full_refresh"])));
}

#[test]
fn a_read_is_enough_at_the_limit_whatever_follows() {
    let limits = Limits { records: 2, ..Limits::for_command(Command::Read) };
    let output = format!(
        "{}{}{}{}",
        r#"{"type":"RECORD","record":{"stream":"a","namespace":"n","data":{"id":0,"ratio":NaN,"note":"NaN"}}}"#.to_owned() + "\n",
        record("a", 1),
        record("a", 2),
        r#"{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"late"}}}"#,
    );
    assert_eq!(progress(Command::Read, limits, &output), [Progress::More, Progress::Enough, Progress::Enough, Progress::Enough]);
    let mut reader = Reader::new(Command::Read, limits);
    reader.push(output.as_bytes());
    // The caller ended it with a signal.
    let Ok(Answer::Read(records)) = reader.finish(None, Some(15)) else { panic!("the records") };
    assert!(!records.complete);
    let [first, second] = records.records.as_slice() else { panic!("{records:?}") };
    assert_eq!(first.namespace.as_deref(), Some("n"));
    // Python's NaN is not JSON; Airbyte's own library writes null for it.
    assert_eq!(first.data.parse().unwrap(), json!({"id": 0, "ratio": null, "note": "NaN"}));
    assert_eq!(second.data.as_str(), r#"{"id":1}"#);
}

#[test]
fn a_read_is_complete_only_if_the_connector_says_nothing_else() {
    let state = r#"{"type":"STATE","state":{"type":"STREAM","stream":{}}}"#;
    let (answer, reader) = run(Command::Read, &format!("{}{state}\n", record("a", 1)), 0);
    assert_eq!(reader.counts().state_messages, 1);
    let Ok(Answer::Read(all)) = answer else { panic!("{answer:?}") };
    assert_eq!((all.records.len(), all.complete), (1, true));
    assert_eq!(records(""), Records { records: Vec::new(), complete: true });

    let status = |status: &str| {
        format!(
            r#"{{"type":"TRACE","trace":{{"type":"STREAM_STATUS","stream_status":{{"stream_descriptor":{{"name":"a"}},"status":"{status}"}}}}}}"#
        )
    };
    assert!(records(&format!("{}{}", record("a", 1), status("COMPLETE"))).complete);
    assert!(!records(&format!("{}{}", record("a", 1), status("INCOMPLETE"))).complete);
    // A record without data is lost.
    assert!(!records(&format!("{}{}", record("a", 1), r#"{"type":"RECORD","record":{"stream":"a","data":[1]}}"#)).complete);
    // The caller ended it before the limit: what came is the answer.
    let mut reader = Reader::new(Command::Read, Limits::for_command(Command::Read));
    reader.push(record("a", 1).as_bytes());
    let Ok(Answer::Read(some)) = reader.finish(None, None) else { panic!("the records") };
    assert_eq!((some.records.len(), some.complete), (1, false));
}

#[test]
fn a_new_configuration_is_available_at_once_and_the_last_one_wins() {
    let control = |token: &str| {
        format!(
            "{}\n",
            json!({"type": "CONTROL", "control": {"type": "CONNECTOR_CONFIG", "emitted_at": 1, "connectorConfig": {"config": {"token": token}}}})
        )
    };
    let passed = "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"SUCCEEDED\"}}\n";
    let mut reader = Reader::new(Command::Check, Limits::for_command(Command::Check));
    assert_eq!(reader.push((control("one") + &control("two")).as_bytes()), Progress::More);
    assert_eq!(reader.take_config().unwrap().as_str(), r#"{"token":"two"}"#);
    assert!(reader.take_config().is_none());
    // Connectors write queued messages after the answer too, so the answer alone does not end the command.
    assert_eq!(reader.push(passed.as_bytes()), Progress::Answered);
    assert_eq!(reader.push(control("three").as_bytes()), Progress::Answered);
    assert!(reader.finish(Some(0), None).is_ok());
    assert_eq!(reader.take_config().unwrap().as_str(), r#"{"token":"three"}"#);
    assert_eq!(reader.counts().control_messages, 3);
}

#[test]
fn the_first_answer_counts_and_those_of_other_commands_do_not() {
    let list =
        |name: &str| format!("{}\n", json!({"type": "CATALOG", "catalog": {"streams": [{"name": name, "json_schema": {}}]}}));
    let passed = "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"SUCCEEDED\"}}\n";
    let spec = "{\"type\":\"SPEC\",\"spec\":{\"connectionSpecification\":{}}}\n";
    let output = [passed, spec, &record("a", 1), &list("first"), &list("second")].concat();
    let (answer, reader) = run(Command::Discover, &output, 0);
    let Ok(Answer::Discover(catalog)) = answer else { panic!("{answer:?}") };
    assert_eq!(catalog.streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(), ["first"]);
    assert_eq!(reader.counts().unexpected_messages, 4);
}
