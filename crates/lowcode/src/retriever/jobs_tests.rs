use crate::bounds::Bounds;
use crate::context::Limits;
use crate::error::Failed;
use crate::script::{Turns, read};
use crate::value::Value;

/// A stream whose records are prepared in a job.
fn stream(more: &str) -> String {
    format!(
        r#"{{"type": "DeclarativeStream", "name": "s", "retriever": {{"type": "AsyncRetriever",
            "record_selector": {{"type": "RecordSelector", "extractor": {{"type": "DpathExtractor", "field_path": []}},
                "record_filter": {{"type": "RecordFilter", "condition": "{{{{ record['id'] != '9' }}}}"}}}},
            "status_extractor": {{"type": "DpathExtractor", "field_path": ["status"]}},
            "status_mapping": {{"running": ["busy"], "completed": ["done"], "failed": ["error"], "timeout": [], "skipped": ["empty"]}},
            "creation_requester": {{"type": "HttpRequester", "url_base": "https://h.example", "path": "/jobs", "http_method": "POST",
                "request_body_json": {{"of": "{{{{ stream_partition.get('kind') }}}}"}}}},
            "polling_requester": {{"type": "HttpRequester", "url_base": "https://h.example",
                "path": "/jobs/{{{{ creation_response['id'] }}}}"}},
            "download_requester": {{"type": "HttpRequester", "url_base": "https://h.example",
                "path": "/files/{{{{ polling_response['file'] }}}}{{{{ download_target }}}}"}}
            {more}}}}}"#
    )
}

const CSV: &str = r#", "download_decoder": {"type": "CsvDecoder"}"#;
const MADE: &str = r#"{"id": 7}"#;
const BUSY: &str = r#"{"status": "busy"}"#;
const DONE: &str = r#"{"status": "done", "file": "f", "parts": ["-1", "-2"]}"#;
const ERROR: &str = r#"{"status": "error"}"#;
const ROWS: &str = "id\n1\n9\n2\n";

fn outcome(host: &Turns, more: &str) -> (Vec<String>, Result<(), Failed>) {
    let bounds = Bounds { time: std::time::Duration::from_secs(3600), ..Bounds::default() };
    let (records, result) = read(&[stream(more)], "s", host, &bounds, Limits::default());
    (records.iter().map(Value::repr).collect(), result)
}

#[test]
fn a_job_is_polled_until_it_is_complete_and_then_downloaded() {
    let host = Turns::new(&[
        ("POST /jobs", &[(201, vec![], MADE)]),
        ("/jobs/7", &[(200, vec![], BUSY), (200, vec![], BUSY), (200, vec![], DONE)]),
        ("/files/f", &[(200, vec![], ROWS)]),
    ]);
    let (records, result) = outcome(&host, CSV);
    assert!(result.is_ok());
    assert_eq!(records, ["{'id': '1'}", "{'id': '2'}"]);
    assert_eq!(host.calls(), ["POST /jobs", "GET /jobs/7", "GET /jobs/7", "GET /jobs/7", "GET /files/f"]);
    assert_eq!(host.waited(), [5.0, 5.0]);
    assert_eq!(host.repeated(), host.calls()[..4], "a host must not answer them with what it knows");
}

#[test]
fn each_partition_has_a_job_and_each_job_has_targets() {
    let more = format!(
        r#"{CSV}, "download_target_extractor": {{"type": "DpathExtractor", "field_path": ["parts"]}},
            "partition_router": {{"type": "ListPartitionRouter", "cursor_field": "kind", "values": ["a", "b"]}}"#
    );
    let host = Turns::new(&[
        ("POST /jobs", &[(201, vec![], MADE)]),
        ("/jobs/7", &[(200, vec![], DONE)]),
        ("/files/f", &[(200, vec![], ROWS)]),
    ]);
    let (records, result) = outcome(&host, &more);
    assert!(result.is_ok());
    assert_eq!(records.len(), 8);
    assert_eq!(host.calls()[..4], [r#"POST /jobs {"of": "a"}"#, "GET /jobs/7", "GET /files/f-1", "GET /files/f-2"]);
    let limits = Limits { slices: Some(1), ..Limits::default() };
    let host = Turns::new(&[
        ("POST /jobs", &[(201, vec![], MADE)]),
        ("/jobs/7", &[(200, vec![], DONE)]),
        ("/files/f", &[(200, vec![], ROWS)]),
    ]);
    let (records, _) = read(&[stream(&more)], "s", &host, &Bounds::default(), limits);
    assert_eq!((records.len(), host.calls().len()), (4, 4), "a sample makes no job that it does not read");
}

#[test]
fn a_job_that_fails_is_made_three_times() {
    let host = Turns::new(&[("POST /jobs", &[(201, vec![], MADE)]), ("/jobs/7", &[(200, vec![], ERROR)])]);
    let (_, result) = outcome(&host, CSV);
    let failed = result.unwrap_err();
    assert_eq!(failed.message, "One or more async jobs failed after exhausting all retry attempts.");
    assert!(failed.internal.as_ref().unwrap().contains("<AsyncJobStatus.FAILED: ('FAILED', True)>"), "{:?}", failed.internal);
    assert_eq!(host.calls().iter().filter(|call| call.starts_with("POST")).count(), 3);
    let host = Turns::new(&[
        ("POST /jobs", &[(201, vec![], MADE)]),
        ("/jobs/7", &[(200, vec![], ERROR), (200, vec![], DONE)]),
        ("/files/f", &[(200, vec![], ROWS)]),
    ]);
    let (records, result) = outcome(&host, &format!(r#"{CSV}, "failed_retry_wait_time_in_seconds": 60"#));
    assert!(result.is_ok() && records.len() == 2);
    assert_eq!(host.waited(), [5.0, 60.0]);
}

#[test]
fn a_job_that_takes_too_long_is_stopped() {
    let abort = r#", "polling_job_timeout": 1, "abort_requester": {"type": "HttpRequester", "url_base": "https://h.example",
        "path": "/stop/{{ creation_response['id'] }}", "http_method": "POST"}"#;
    let host = Turns::new(&[("POST /jobs", &[(201, vec![], MADE)]), ("/jobs/7", &[(200, vec![], BUSY)])]);
    let bounds = Bounds { time: std::time::Duration::from_secs(3600), calls: 1000, ..Bounds::default() };
    let (_, result) = read(&[stream(abort)], "s", &host, &bounds, Limits::default());
    assert!(result.unwrap_err().internal.as_ref().unwrap().contains("TIMED_OUT"));
    assert_eq!(host.calls().iter().filter(|call| call.starts_with("POST /stop/7")).count(), 3, "although the host refuses it");
}

/// Making a job is mostly a POST. A host that does not send it says why, and nothing is tried again.
#[test]
fn a_host_that_only_reads_ends_the_stream_with_its_reason() {
    let host = Turns::new(&[("/jobs/7", &[(200, vec![], DONE)])]);
    let (records, result) = outcome(&host, CSV);
    let failed = result.unwrap_err();
    assert_eq!((failed.class, failed.message.as_str()), ("Refused", "not allowed: POST /jobs"));
    assert_eq!((records.len(), host.calls().len(), host.waited().len()), (0, 1, 0));
}

#[test]
fn a_job_is_deleted_after_the_read_unless_the_host_only_reads() {
    let delete = format!(
        r#"{CSV}, "delete_requester": {{"type": "HttpRequester", "url_base": "https://h.example", "http_method": "POST",
            "path": "/drop/{{{{ creation_response['id'] }}}}"}}"#
    );
    for (drops, succeeds) in [(Some(200), true), (Some(404), false), (None, true)] {
        let reply = drops.map(|status| (status, vec![], "{}"));
        let replies: Vec<_> = reply.into_iter().collect();
        let mut routes: Vec<(&'static str, &[crate::script::Reply])> = Vec::new();
        if !replies.is_empty() {
            routes.push(("/drop", &replies));
        }
        let made = [(201, vec![], MADE)];
        let (done, rows) = ([(200, vec![], DONE)], [(200, vec![], ROWS)]);
        routes.extend([("POST /jobs", &made[..]), ("/jobs/7", &done[..]), ("/files/f", &rows[..])]);
        let host = Turns::new(&routes);
        let (records, result) = outcome(&host, &delete);
        assert_eq!((records.len(), result.is_ok()), (2, succeeds), "{drops:?}");
        assert_eq!(host.calls().last().map(String::as_str), Some("POST /drop/7"));
    }
}

#[test]
fn what_the_source_has_nothing_for_is_skipped_and_an_unknown_status_fails() {
    let polled = |body| Turns::new(&[("POST /jobs", &[(201, vec![], MADE)]), ("/jobs/7", &[(200, vec![], body)])]);
    let (records, result) = outcome(&polled(r#"{"status": "empty"}"#), CSV);
    assert!(records.is_empty() && result.is_ok());
    let (_, result) = outcome(&polled(r#"{"status": "odd"}"#), CSV);
    let message = "API status `odd` is unknown. Contact the connector developer to make sure this status is supported.";
    assert_eq!(result.unwrap_err().message, message);
}
