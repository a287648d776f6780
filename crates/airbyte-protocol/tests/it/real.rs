//! Facts about connectors of the package registry, observed with airbyte-source-faker 7.2.1 (airbyte-cdk 6.61.6). The lines are
//! shortened and have other texts; the forms are the observed ones.

use crate::{answer, trouble};
use airbyte_protocol::{Answer, Command, Kind, Origin};

/// `check` with a configuration that its specification refuses: exit code 0, no LOG, no TRACE. The message contains the
/// refused value, which may be a secret in a wrong field.
#[test]
fn a_refused_configuration_fails_the_check_with_exit_code_0() {
    let line = r#"{"type":"CONNECTION_STATUS","connectionStatus":{"status":"FAILED","message":"Config validation error: 'k-1' is not of type 'integer'"}}"#;
    let found = trouble(Command::Check, line, 0);
    assert_eq!((found.kind, found.origin), (Kind::Config, Origin::Status));
    assert!(found.message.contains("'k-1'"));
}

/// `read` with the same configuration: exit code 1, first a LOG of level FATAL with the whole traceback in its message, then a
/// TRACE. The time of a TRACE is a number with a fraction.
#[test]
fn a_refused_configuration_fails_a_read_with_log_and_trace() {
    let output = concat!(
        r#"{"type":"LOG","log":{"level":"FATAL","message":"'k-1' is not of type 'integer'\nTraceback (most recent call last):\n  File \"x.py\", line 1"}}"#,
        "\n",
        r#"{"type":"TRACE","trace":{"type":"ERROR","emitted_at":1795992445446.172,"error":{"message":"Config validation error: 'k-1' is not of type 'integer'","internal_message":"'k-1' is not of type 'integer'","stack_trace":"Traceback (most recent call last):\n  File \"x.py\", line 1\nairbyte_cdk.utils.traced_exception.AirbyteTracedException\n","failure_type":"config_error"}}}"#,
        "\n",
    );
    let found = trouble(Command::Read, output, 1);
    assert_eq!((found.kind, found.origin), (Kind::Config, Origin::Trace));
    assert_eq!(
        found.stack_excerpt(1, str::to_owned).as_deref(),
        Some("airbyte_cdk.utils.traced_exception.AirbyteTracedException")
    );
}

/// The usage message of a wrong command line goes to standard error, so standard output is empty and the exit code is 2.
#[test]
fn a_wrong_command_line_ends_with_exit_code_2() {
    let found = trouble(Command::Check, "", 2);
    assert_eq!((found.kind, found.message.as_str()), (Kind::System, "The connector ended check with exit code 2"));
}

/// A read writes LOG, STREAM_STATUS and ESTIMATE around its records, and a STATE after each slice.
#[test]
fn a_whole_read_is_complete() {
    let output = r#"{"type":"LOG","log":{"level":"INFO","message":"Starting"}}
{"type":"TRACE","trace":{"type":"STREAM_STATUS","emitted_at":1.5,"stream_status":{"stream_descriptor":{"name":"users"},"status":"STARTED"}}}
{"type":"TRACE","trace":{"type":"ESTIMATE","emitted_at":1795992445448,"estimate":{"name":"users","type":"STREAM","row_estimate":1,"byte_estimate":450}}}
{"type":"RECORD","record":{"stream":"users","data":{"id":1},"emitted_at":1795992445570}}
{"type":"STATE","state":{"type":"STREAM","stream":{"stream_descriptor":{"name":"users"},"stream_state":{"seed":7}},"sourceStats":{"recordCount":1.0}}}
{"type":"TRACE","trace":{"type":"STREAM_STATUS","emitted_at":1.5,"stream_status":{"stream_descriptor":{"name":"users"},"status":"COMPLETE"}}}
"#;
    let Answer::Read(records) = answer(Command::Read, output) else { panic!("records") };
    assert_eq!((records.records.len(), records.complete), (1, true));
}
