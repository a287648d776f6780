//! Commands that fail.

use crate::{progress, run, trouble};
use airbyte_protocol::{Command, Kind, Limits, Origin, Progress, Reader};
use serde_json::{Value, json};

fn trace(error: &Value) -> String {
    format!("{}\n", json!({"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1.5, "error": error}}))
}

const FAILED: &str = "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"FAILED\",\"message\":\"wrong key\"}}\n";
const PASSED: &str = "{\"type\":\"CONNECTION_STATUS\",\"connectionStatus\":{\"status\":\"SUCCEEDED\"}}\n";

#[test]
fn a_trace_names_the_kind_and_the_first_one_counts() {
    let first =
        trace(&json!({"message": "The key was refused", "internal_message": "401", "stack_trace": "Traceback\n  a\nE: 401\n",
        "failure_type": "config_error", "stream_descriptor": {"name": "users"}}));
    let summary = trace(&json!({"message": "1 stream failed", "failure_type": "system_error"}));
    let found = trouble(Command::Read, &(first + &summary), 1);
    assert_eq!((found.kind, found.origin), (Kind::Config, Origin::Trace));
    assert_eq!(found.message, "The key was refused");
    assert_eq!(found.internal_message.as_deref(), Some("401"));
    assert_eq!(found.stream.as_deref(), Some("users"));
    assert_eq!(found.stack_excerpt(2, |text| text.replace("401", "***")).as_deref(), Some("  a\nE: ***"));

    let kind =
        |failure_type: Value| trouble(Command::Discover, &trace(&json!({"message": "m", "failure_type": failure_type})), 1).kind;
    assert_eq!(kind(json!("transient_error")), Kind::Transient);
    assert_eq!(kind(json!("system_error")), Kind::System);
    assert_eq!(kind(json!("new_error")), Kind::System);
    assert_eq!(kind(Value::Null), Kind::System);
}

#[test]
fn a_trace_with_unexpected_fields_is_still_a_failure() {
    let found =
        trouble(Command::Check, &trace(&json!({"message": {"code": 7}, "failure_type": 3, "stream_descriptor": "users"})), 0);
    assert_eq!((found.kind, found.message.as_str()), (Kind::System, r#"{"code":7}"#));
    let without = trouble(Command::Check, &trace(&json!({"message": " ", "internal_message": null})), 0);
    assert_eq!(without.message, "The connector reports a failure without a message");
    assert_eq!(trouble(Command::Check, &trace(&json!({"internal_message": "boom"})), 0).message, "boom");
}

#[test]
fn a_failed_check_is_a_failure_whatever_else_is_said() {
    for output in [FAILED.to_owned(), [FAILED, PASSED].concat(), [PASSED, FAILED].concat()] {
        let found = trouble(Command::Check, &output, 0);
        assert_eq!((found.kind, found.origin, found.message.as_str()), (Kind::Config, Origin::Status, "wrong key"));
    }
    // A trace has a kind, so it is preferred.
    let found =
        trouble(Command::Check, &[FAILED, &trace(&json!({"message": "busy", "failure_type": "transient_error"}))].concat(), 1);
    assert_eq!((found.kind, found.message.as_str()), (Kind::Transient, "busy"));
    // An answer of another command does not make this one fail.
    assert_eq!(trouble(Command::Discover, FAILED, 0).kind, Kind::Silent);
}

#[test]
fn an_answer_followed_by_a_failure_is_not_an_answer() {
    let output = [PASSED, &trace(&json!({"message": "the vendor closed", "failure_type": "transient_error"}))].concat();
    assert_eq!(trouble(Command::Check, &output, 1).kind, Kind::Transient);
}

#[test]
fn a_failure_is_known_before_the_process_ends() {
    let failures = [FAILED.to_owned(), trace(&json!({"message": "refused"}))];
    for failure in failures {
        assert_eq!(progress(Command::Check, Limits::for_command(Command::Check), &failure), [Progress::Answered]);
    }
}

#[test]
fn a_failed_check_keeps_its_new_configuration() {
    let control = r#"{"type":"CONTROL","control":{"type":"CONNECTOR_CONFIG","connectorConfig":{"config":{"token":"new"}}}}"#;
    let (answer, mut reader) = run(Command::Check, &format!("{control}\n{FAILED}"), 0);
    assert!(answer.is_err());
    assert_eq!(reader.take_config().unwrap().parse().unwrap(), json!({"token": "new"}));
}

#[test]
fn the_end_of_the_process_says_what_the_connector_does_not() {
    let end = |command, exit, signal| Reader::new(command, Limits::for_command(command)).finish(exit, signal).unwrap_err();
    let kinds = [
        (Some(137), None, Kind::Memory),
        (None, Some(9), Kind::Memory),
        (None, Some(24), Kind::Killed),
        (None, Some(11), Kind::Killed),
        (Some(143), None, Kind::Killed),
        (Some(1), None, Kind::System),
        (Some(255), None, Kind::System),
        (Some(0), None, Kind::Silent),
        (None, None, Kind::Silent),
    ];
    for (exit, signal, kind) in kinds {
        let found = end(Command::Discover, exit, signal);
        assert_eq!(found.kind, kind, "{found:?}");
        assert_eq!(found.origin, if kind == Kind::Silent { Origin::Output } else { Origin::Exit });
        // A read without records that ended with success is an empty stream; the others are failures here too.
        if exit != Some(0) {
            assert_eq!(end(Command::Read, exit, signal).kind, kind);
        }
    }
    assert_eq!(end(Command::Check, Some(0), None).message, "The connector ended check without an answer");
    assert_eq!(end(Command::Check, Some(3), None).message, "The connector ended check with exit code 3");
    assert_eq!(
        end(Command::Discover, Some(137), None).message,
        "The connector has no answer for discover: it was killed (signal 9), as the system does when memory runs out"
    );
}

#[test]
fn an_answer_before_the_end_of_the_process_is_an_answer() {
    // Airbyte's platform accepts it as well, and AAM itself ends processes that do not end.
    for (exit, signal) in [(Some(1), None), (None, Some(15)), (None, None)] {
        let mut reader = Reader::new(Command::Check, Limits::for_command(Command::Check));
        reader.push(PASSED.as_bytes());
        assert!(reader.finish(exit, signal).is_ok());
    }
}

#[test]
fn records_before_a_crash_are_not_a_tiny_sync() {
    let record = "{\"type\":\"RECORD\",\"record\":{\"stream\":\"a\",\"data\":{}}}\n";
    assert_eq!(trouble(Command::Read, record, 1).kind, Kind::System);
    assert_eq!(trouble(Command::Read, record, 137).kind, Kind::Memory);
}

#[test]
fn the_last_error_of_the_log_explains_an_exit_code() {
    let log = |level: &str, message: &str| format!("{}\n", json!({"type": "LOG", "log": {"level": level, "message": message}}));
    let output = [log("ERROR", "first"), log("FATAL", "no such option"), log("INFO", "bye")].concat();
    let found = trouble(Command::Check, &output, 1);
    assert_eq!((found.kind, found.origin, found.message.as_str()), (Kind::System, Origin::Log, "no such option"));
    // Without an exit code the log is not a failure.
    assert_eq!(trouble(Command::Check, &output, 0).kind, Kind::Silent);
}

#[test]
fn exhausted_memory_is_recognized_in_python_and_java() {
    let python = json!({"message": "Something went wrong", "internal_message": "", "stack_trace": "Traceback\n  File x\nMemoryError\n", "failure_type": "system_error"});
    assert_eq!(trouble(Command::Discover, &trace(&python), 1).kind, Kind::Memory);
    let java = json!({"message": "failed", "internal_message": "java.lang.OutOfMemoryError: Java heap space"});
    assert_eq!(trouble(Command::Discover, &trace(&java), 1).kind, Kind::Memory);
    let numpy =
        json!({"message": "m", "stack_trace": "Traceback\nnumpy.core._exceptions._ArrayMemoryError: Unable to allocate 2 GiB"});
    assert_eq!(trouble(Command::Discover, &trace(&numpy), 1).kind, Kind::Memory);
    // A vendor's text about memory is not one.
    let vendor =
        json!({"message": "m", "internal_message": "HTTP 500: MemoryError in worker", "failure_type": "transient_error"});
    assert_eq!(trouble(Command::Discover, &trace(&vendor), 1).kind, Kind::Transient);
}

#[test]
fn a_lost_answer_says_what_came_instead() {
    let output = "{\"type\":\"CATALOG\",\"catalog\":{\"streams\":7}}\nplain\ntext\n";
    let found = trouble(Command::Discover, output, 0);
    assert_eq!(
        found.message,
        "The connector ended discover without an answer; 1 line was not in the form of the protocol; 2 lines were not messages"
    );
    let lost = trouble(Command::Read, "{\"type\":\"RECORD\",\"record\":{\"data\":{}}}\n", 0);
    assert_eq!((lost.kind, lost.origin), (Kind::Silent, Origin::Output));
}
