//! Mutated manifests, templates and response bodies. None of them may panic, take longer than [`MAX_TIME`] or make
//! more than the bounds allow.
//!
//! The inputs come from seeds and a seeded generator: the same seed makes the same inputs. `AAM_FUZZ_SECONDS` sets how
//! long the three targets run together (without it, a fixed number of inputs); `AAM_FUZZ_SEED` sets the seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

use lowcode::bounds::Bounds;
use lowcode::config::Config;
use lowcode::decode::Decoder;
use lowcode::host::{Host, HostError, HostRequest, HostResponse};
use lowcode::interpolation::{InterpolatedString, Scope};
use lowcode::load::load;
use lowcode::response::Response;
use lowcode::value::Value;
use lowcode::yaml;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Inputs of each target if `AAM_FUZZ_SECONDS` is not set.
const INPUTS: usize = 2_000;
/// The longest time that one input may take. Unoptimised code on a busy machine needs some room.
const MAX_TIME: Duration = Duration::from_secs(5);
/// The largest input, in bytes.
const MAX_INPUT_BYTES: usize = 16 << 10;

const MANIFESTS: [&str; 3] = [
    include_str!("fuzz/manifest.yaml"),
    "a: &x [1, 2.5e3, 0x1F, ~, yes, 2024-01-01]\nb: *x\nc: {<<: {d: 1}, e: 'it''s'}\nf: |\n  text\n   more\ng: >-\n  folded\n",
    r##"{"type": "DeclarativeSource", "definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"c": ["#/definitions/a"]}}}"##,
];
const TEMPLATES: [&str; 8] = [
    "{{ config['start_date'] or now_utc().strftime('%Y-%m-%d') }}",
    "{% for item in record['list'] if item > 1 %}{{ loop.index }}:{{ item ** 2 }}{% else %}none{% endfor %}",
    "{{ record.text | regex_search('^(a+)+b') | default('x') | upper ~ \"-%05d\" % (record.id) }}",
    "{{ format_datetime(day_delta(-3, '%Y-%m-%dT%H:%M:%SZ'), '%s') | int + max(1, 2) }}",
    "{% set n = namespace(x=1) %}{% if n.x is defined and not none %}{{ {'a': [1, (2, 3)]}['a'][-1][::-1] }}{% endif %}",
    "{{ 'abc'[1:] * 3 if record.id in [1, 2] else 'x'.join(config.keys() | list | sort(reverse=true)) }}",
    "{{ timestamp('2024-02-29T00:00:00Z') - duration('P1M') }} {{ record.list | map('string') | join(',') | hash('md5') }}",
    "{{ '%s %r' % ('a', 1.5e300) }}{{ range(10) | batch(3) | list | tojson }}",
];
const BODIES: [&[u8]; 6] = [
    br#"{"data": [{"id": 1, "n": 1e400, "t": "\ud83d\ude00"}, {"id": null}], "next": "abc"}"#,
    b"{\"id\": 1}\n\n{\"id\": [[[]]]}\r\nnot json\n",
    b"id,name\n1,\"quoted, \"\"twice\"\"\"\n2,plain\n\xff,x\n",
    b"<?xml version=\"1.0\"?><a b=\"c\"><d>1</d><d>&lt;&#x41;</d><![CDATA[x]]></a>",
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c\x4a\x06\x00\xc2\x41\x24\x35\x03\x00\x00\x00",
    b"PK\x03\x04\x14\x00\x00\x00\x00\x00\x00\x00\x21\x00\x00\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00a[]",
];
const DECODERS: [&str; 7] = [
    r#"{"type": "JsonDecoder"}"#,
    r#"{"type": "JsonlDecoder"}"#,
    r#"{"type": "IterableDecoder"}"#,
    r#"{"type": "CsvDecoder"}"#,
    r#"{"type": "XmlDecoder"}"#,
    r#"{"type": "GzipDecoder", "decoder": {"type": "JsonlDecoder"}}"#,
    r#"{"type": "ZipfileDecoder", "decoder": {"type": "JsonDecoder"}}"#,
];
/// Pieces that mean something to one of the parsers.
const PIECES: [&str; 32] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "|",
    ":",
    "- ",
    "\n  ",
    "'",
    "\"",
    "\\",
    "&a ",
    "*a",
    "<<: ",
    "$ref",
    "#/definitions/a",
    "$parameters",
    "%s",
    " ** ",
    "9999999999999999999",
    "e308",
    "\u{0}",
    "\u{fffd}",
    "<a>",
    "\t",
];

/// Sends nothing; its clock stands still.
struct NoHost;

type Pinned<'a, T> = Pin<Box<dyn Future<Output = Result<T, HostError>> + Send + 'a>>;

impl Host for NoHost {
    fn send(&self, _request: HostRequest) -> Pinned<'_, HostResponse> {
        Box::pin(ready(Err(HostError::refused("nothing is sent"))))
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::UNIX_EPOCH
    }

    fn pause(&self, _wait: Duration) -> Pinned<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn uuid(&self) -> String {
        "00000000-0000-4000-8000-000000000000".to_string()
    }
}

/// Small bounds, so that an input that gets around one of them shows.
fn bounds() -> Bounds {
    Bounds { manifest_values: 50_000, body_bytes: 1 << 20, template_bytes: 1 << 16, ..Bounds::default() }
}

fn manifest(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let bounds = bounds();
    let _ = yaml::parse(&text, &bounds, true);
    if let Err(problems) = load(&text, "fuzz.yaml", &bounds) {
        assert!(!problems.is_empty(), "a manifest is refused without a reason");
    }
}

fn template(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (bounds, host) = (bounds(), NoHost);
    let config: Value = serde_json::json!({"start_date": "2024-02-29", "key": "k", "list": [1, 2]}).into();
    let record: Value = serde_json::json!({"id": 1, "text": "aaaaaaaaaaaaaaaaaaaaaaaa", "list": [3, 1, 2]}).into();
    let vars = vec![("record", &record)];
    let scope = Scope { config: Config::new(&config), parameters: &Value::None, vars, host: &host, bounds: &bounds };
    if let Ok(rendered) = InterpolatedString::new(&text, &Value::None).eval_str(&scope) {
        let most = text.len() + bounds.template_bytes;
        assert!(rendered.len() <= most * 4, "a template of {} bytes makes {} bytes", text.len(), rendered.len());
    }
}

fn body(input: &[u8]) {
    let bounds = bounds();
    for node in DECODERS {
        let node: Value = serde_json::from_str(node).unwrap();
        let decoder = Decoder::build(Some(&node)).unwrap();
        for encoding in ["identity", "gzip", "deflate"] {
            let headers = [("Content-Encoding".to_string(), encoding.to_string())].into();
            let response = HostResponse { status: 200, headers, body: input.to_vec().into(), url: String::new() };
            if let Ok(response) = Response::new(Arc::new(response), &bounds) {
                assert!(response.content().len() <= bounds.body_bytes);
                let _ = decoder.decode(&response, &bounds);
            }
        }
    }
}

/// One to eight changes of a seed.
fn mutated(seeds: &[&[u8]], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seeds[random.usize(..seeds.len())].to_vec();
    for _ in 0..random.usize(1..=8) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..=40)).min(bytes.len());
        match random.u8(..7) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                let times = random.usize(1..=20);
                bytes.splice(at..at, copy.repeat(times));
            }
            3 => {
                let other = seeds[random.usize(..seeds.len())];
                let from = random.usize(..=other.len());
                bytes.splice(at..at, other[from..(from + 60).min(other.len())].to_vec());
            }
            4 => bytes.truncate(at.max(1)),
            5 => {
                let piece = PIECES[random.usize(..PIECES.len())];
                bytes.splice(at..at, piece.repeat(random.usize(1..=120)).into_bytes());
            }
            _ => drop(bytes.splice(at..at, PIECES[random.usize(..PIECES.len())].bytes())),
        }
    }
    bytes.truncate(MAX_INPUT_BYTES);
    bytes
}

fn run(name: &str, seeds: &[&[u8]], target: fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("AAM_FUZZ_SEED").unwrap_or(1);
    let until = number("AAM_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_millis(seconds * 1000 / 3));
    let mut random = fastrand::Rng::with_seed(seed);
    seeds.iter().for_each(|seed| target(seed));
    let mut count = 0;
    while until.map_or(count < INPUTS, |until| Instant::now() < until) {
        count += 1;
        let input = mutated(seeds, &mut random);
        let began = Instant::now();
        let result = std::panic::catch_unwind(|| target(&input));
        let shown = || String::from_utf8_lossy(&input).into_owned();
        assert!(result.is_ok(), "{name}: input {count} of seed {seed} panics:\n{:?}", shown());
        let took = began.elapsed();
        assert!(took < MAX_TIME, "{name}: input {count} of seed {seed} takes {took:?}:\n{:?}", shown());
    }
    println!("{name}: {count} inputs of seed {seed}");
}

#[test]
fn mutated_manifests_are_loaded_or_refused() {
    run("manifests", &MANIFESTS.map(str::as_bytes), manifest);
}

#[test]
fn mutated_templates_are_rendered_or_refused() {
    run("templates", &TEMPLATES.map(str::as_bytes), template);
}

#[test]
fn mutated_bodies_are_decoded_or_refused() {
    run("bodies", &BODIES, body);
}
