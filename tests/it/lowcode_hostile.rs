//! Malicious manifests and servers: each run of `aam lowcode` ends within a bounded time, with an exit code, a message
//! and bounded output.

use crate::support::daemon::Workspace;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// How long a run may take, in a debug build on a busy machine.
const MAX_RUN: Duration = Duration::from_secs(30);
/// How much a run may print.
const MAX_OUTPUT_BYTES: usize = 2_000_000;

/// A manifest with one stream on `base`; `paginator`, `path` and `more` are inserted verbatim.
fn manifest(base: &str, paginator: &str, path: &str, more: &str) -> String {
    format!(
        r#"version: 6.48.15
type: DeclarativeSource
check: {{type: CheckStream, stream_names: [things]}}
streams:
  - type: DeclarativeStream
    name: things
    primary_key: [id]
    retriever:
      type: SimpleRetriever
      requester: {{type: HttpRequester, url_base: "{base}", path: "{path}", http_method: GET}}
      record_selector: {{type: RecordSelector, extractor: {{type: DpathExtractor, field_path: [data]}}}}
      {paginator}
    schema_loader: {{type: InlineSchemaLoader, schema: {{type: object}}}}
{more}
spec:
  type: Spec
  connection_specification: {{type: object, properties: {{}}}}
"#
    )
}

/// The exit code, and stdout and stderr together.
fn run(command: &str, manifest: &str) -> (i32, String) {
    let workspace = Workspace::new();
    workspace.write_policy("caps: {default: {per_second: 1000, burst: 1000, per_day: 100000, concurrency: 4}}\n");
    workspace.replace("manifest.yaml", manifest.as_bytes());
    workspace.replace("config.json", b"{}");
    let started = Instant::now();
    let output = match command {
        "explain" => workspace.run(&["lowcode", "explain", "manifest.yaml"]),
        command => workspace.run(&["lowcode", command, "--manifest", "manifest.yaml", "--config", "config.json"]),
    };
    let took = started.elapsed();
    assert!(took < MAX_RUN, "the run took {took:?}");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.len() < MAX_OUTPUT_BYTES, "{} bytes of output", text.len());
    (output.status.code().expect("an exit code"), text)
}

/// Runs `command` and checks its exit code and that its output contains `expected`.
fn assert_ends(command: &str, manifest: &str, code: i32, expected: &str) {
    let (exit, output) = run(command, manifest);
    let cut: String = output.chars().take(2000).collect();
    assert_eq!(exit, code, "{cut}");
    assert!(output.contains(expected), "no {expected:?} in: {cut}");
}

/// A server that answers every request with `head` and then up to `times` copies of `body`.
fn server(head: &'static str, body: Vec<u8>, times: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let body = body.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 16384];
                while socket.read(&mut buffer).is_ok_and(|read| read > 0) {
                    if socket.write_all(head.as_bytes()).is_err() || (0..times).any(|_| socket.write_all(&body).is_err()) {
                        return;
                    }
                }
            });
        }
    });
    base
}

/// A server that answers with the same page and always names a next page.
fn endless(records: &str) -> String {
    let body = format!("{{\"data\": {records}, \"next\": \"more\"}}");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    server(Box::leak(head.into_boxed_str()), body.into_bytes(), 1)
}

const CURSOR: &str = r#"paginator: {type: DefaultPaginator, page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}, pagination_strategy: {type: CursorPagination, cursor_value: "{{ response.next }}"}}"#;

#[test]
fn a_manifest_of_nine_megabytes_is_refused() {
    let mut text = manifest("http://127.0.0.1:9", "", "things", "");
    let _ = writeln!(text, "metadata: {{note: \"{}\"}}", "x".repeat(9 << 20));
    assert_ends("explain", &text, 78, "it is larger than 8 MiB");
    assert_ends("check", &text, 1, "it is larger than 8 MiB");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = writeln!(text, "a{level}: &a{level} [{below}]");
    }
    let (exit, output) = run("explain", &text);
    assert_eq!(exit, 78, "{output}");
    assert!(output.contains("error:"), "{output}");
}

#[test]
fn references_that_multiply_are_refused() {
    let mut more = "definitions:\n  a0: {type: object, note: [x, x, x, x, x, x, x, x, x, x]}\n".to_string();
    for level in 1..12 {
        let below = vec![format!("\"#/definitions/a{}\"", level - 1); 10].join(", ");
        let _ = writeln!(more, "  a{level}: [{below}]");
    }
    let _ = writeln!(more, "schemas: {{}}\nmetadata: {{}}\nthe_rest: \"#/definitions/a11\"");
    let (exit, output) = run("explain", &manifest("http://127.0.0.1:9", "", "things", &more));
    assert_eq!(exit, 78, "{output}");
    assert!(output.contains("error:"), "{output}");
}

#[test]
fn circular_references_are_refused() {
    let more =
        "definitions: {a: {$ref: \"#/definitions/b\"}, b: {$ref: \"#/definitions/a\"}}\ncircle: {$ref: \"#/definitions/a\"}";
    let (exit, output) = run("explain", &manifest("http://127.0.0.1:9", "", "things", more));
    assert_eq!(exit, 78, "{output}");
    assert!(output.contains("#/definitions/"), "{output}");
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{a: "] {
        let (exit, output) = run("explain", &open.repeat(100_000));
        assert_eq!(exit, 78, "{}", output.chars().take(500).collect::<String>());
    }
    let deep = manifest("http://127.0.0.1:9", "", &format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)), "");
    let (exit, _) = run("read", &deep);
    assert_eq!(exit, 1);
}

#[test]
fn endless_pages_are_bounded() {
    let base = endless("[{\"id\": 1}]");
    let (exit, output) = run("read", &manifest(&base, CURSOR, "things", ""));
    assert_eq!(exit, 0, "{output}");
    assert_eq!(output.matches("\"type\":\"RECORD\"").count(), 20);
    let base = endless("[]");
    let (exit, output) = run("read", &manifest(&base, CURSOR, "things", ""));
    assert!(output.matches("aam::egress").count() <= 20, "{output}");
    assert!(matches!(exit, 0 | 1), "{output}");
}

#[test]
fn expensive_templates_are_stopped() {
    for path in [
        "{% for a in config.l or 'xxxxxxxxxxxxxxxxxxxx' %}{% for b in 'x' * 100000 %}{% for c in 'x' * 100000 %}y{% endfor %}{% endfor %}{% endfor %}",
        "{{ 'x' * 999999999 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ (('x' * 1000) | list | join(('y' * 1000))) * 1000 }}",
        "{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' | regex_search('(a+)+$') }}",
    ] {
        let (exit, output) = run("read", &manifest("http://127.0.0.1:9", "", path, ""));
        assert_eq!(exit, 1, "{path}: {output}");
        assert!(output.contains("\"type\":\"TRACE\""), "{path}: {output}");
    }
}

#[test]
fn a_response_of_a_gigabyte_is_refused() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n";
    let base = server(head, vec![b' '; 1 << 20], 1024);
    assert_ends("read", &manifest(&base, "", "things", ""), 1, "is longer than 16777216 bytes");
}

#[test]
fn a_compressed_response_that_expands_is_refused() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let spaces = vec![b' '; 1 << 20];
    for _ in 0..256 {
        encoder.write_all(&spaces).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        bomb.len()
    );
    let base = server(Box::leak(head.into_boxed_str()), bomb.clone(), 1);
    assert_ends("read", &manifest(&base, "", "things", ""), 1, "is longer than 16777216 bytes");
    // The same if the manifest's decoder decompresses the response.
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
    let base = server(Box::leak(head.into_boxed_str()), bomb, 1);
    let decoder = "decoder: {type: GzipDecoder, decoder: {type: JsonDecoder}}";
    let (exit, output) = run("read", &manifest(&base, decoder, "things", ""));
    assert_eq!(exit, 1, "{output}");
    assert!(output.contains("bound"), "{output}");
}

#[test]
fn a_deeply_nested_response_is_refused() {
    let body = "[".repeat(1 << 20);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let base = server(Box::leak(head.into_boxed_str()), body.into_bytes(), 1);
    let (exit, output) = run("read", &manifest(&base, "", "things", ""));
    assert!(matches!(exit, 0 | 1), "{output}");
    assert!(output.contains("\"type\":\"TRACE\""), "{output}");
}
