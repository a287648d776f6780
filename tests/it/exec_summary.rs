//! `scripts/exec_summary.py` prints the summary of the API, character for character.

use crate::support::network::closed_port;
use aam::funnel::summary;
use aam::funnel::{Blocker, Funnel};
use aam::server::proof::ListenerKey;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

fn script() -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/exec_summary.py"));
    // Settings for another daemon on this machine must not reach the script.
    for name in ["PORT", "AAM_TOKEN", "AAM_REGISTRY"] {
        command.env_remove(name);
    }
    // A terminal without UTF-8 must not break the summary.
    command.env("LC_ALL", "C").env("PYTHONUTF8", "0").env("PYTHONCOERCECLOCALE", "0");
    command
}

fn empty(target: f64) -> Funnel {
    Funnel {
        namespace: "autonomy".to_string(),
        as_of: "2026-11-08T18:00:00Z".to_string(),
        data_source: "database".to_string(),
        received: 0,
        rejected: 0,
        unsupported_type: 0,
        awaiting_credentials: 0,
        eligible: 0,
        reachable: 0,
        active: 0,
        pending: 0,
        network_blocked: 0,
        healing: 0,
        error: 0,
        coverage: 0.0,
        target,
        slo_met: false,
        over_privileged: 0,
        partly_readable: 0,
        credentials_ending: 0,
        first_credential_end_seconds: None,
        auto_created: 0,
        first_sync_p95_ms: 0,
        blockers: Vec::new(),
        summary: Vec::new(),
    }
}

/// Derives eligible, coverage and the SLO from the counts, as the funnel of the product does.
fn derived(mut funnel: Funnel) -> Funnel {
    funnel.eligible = funnel.active + funnel.network_blocked + funnel.healing + funnel.error;
    if funnel.eligible > 0 {
        funnel.coverage = funnel.active as f64 / funnel.eligible as f64;
        funnel.slo_met = funnel.coverage >= funnel.target;
    }
    funnel.summary = summary::lines(&funnel);
    funnel
}

fn blocker() -> impl Strategy<Value = Blocker> {
    let fix = prop_oneof![Just(String::new()), "[a-zA-Z ,:é→{}%\"']{1,40}".prop_map(String::from)];
    ("[A-Z_]{2,12} [a-z_0-9]{1,10}: [a-z \\\\\"ü✓]{0,20}", 1..5000u64, fix).prop_map(|(name, count, fix)| Blocker {
        name,
        count,
        fix,
    })
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0u64), 1..12u64, 0..200_000u64]
}

fn target() -> impl Strategy<Value = f64> {
    // Eighths are exactly halfway between two printed values, so they show how a value is rounded.
    prop_oneof![Just(0.9), Just(0.0), Just(1.0), Just(0.125), Just(0.375), Just(0.625), 0.0..=1.0f64]
}

fn any_funnel() -> impl Strategy<Value = Funnel> {
    let outcomes = (count(), count(), count(), count());
    let others = (count(), count(), count(), count(), count());
    (outcomes, others, target(), 0..90_000u64, prop::collection::vec(blocker(), 0..14)).prop_map(
        |(
            (active, network_blocked, healing, error),
            (awaiting_credentials, unsupported_type, rejected, pending, auto_created),
            target,
            first_sync_p95_ms,
            blockers,
        )| {
            derived(Funnel {
                active,
                reachable: active + healing / 2,
                network_blocked,
                healing,
                error,
                awaiting_credentials,
                unsupported_type,
                rejected,
                pending,
                auto_created,
                first_sync_p95_ms,
                blockers,
                ..empty(target)
            })
        },
    )
}

/// Funnels for which the wording of the summary changes, and one next to each.
fn boundary_funnels() -> Vec<Funnel> {
    let at = |active, error, target| derived(Funnel { active, error, ..empty(target) });
    let mut all = vec![derived(empty(0.9)), at(5, 0, 0.9), at(0, 5, 0.9), at(0, 5, 0.0), at(896, 104, 0.9), at(900, 100, 0.9)];
    all.push(derived(Funnel { pending: 3, ..empty(0.9) }));
    all
}

#[test]
fn the_script_prints_the_summary_of_the_api() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("aam.db.admin-token");
    std::fs::write(&token_file, "a-token\n").unwrap();
    let mut runner = TestRunner::deterministic();
    let strategy = any_funnel();
    let drawn = (0..20).map(|_| strategy.new_tree(&mut runner).unwrap().current());
    for funnel in boundary_funnels().into_iter().chain(drawn) {
        let (port, served) = serve_once(&token_file, "200 OK", serde_json::to_string(&funnel).unwrap());
        let output = run_against(port, &token_file);
        served.join().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), summary::lines(&funnel).join("\n") + "\n", "{funnel:?}");
        assert_eq!(output.status.code(), Some(if funnel.slo_met { 0 } else { 2 }), "{funnel:?}");
    }
}

/// Proves that it holds the registry of `token_file`, and answers one request on the same connection with `status` and
/// `body`; returns the port and a handle that yields the request.
fn serve_once(token_file: &Path, status: &'static str, body: String) -> (u16, std::thread::JoinHandle<String>) {
    let key = ListenerKey::create(&token_file.with_extension("")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let first = head(&mut stream);
        assert!(!first.to_ascii_lowercase().contains("authorization"), "a token before the proof: {first}");
        let challenge = first.split("aam-challenge: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
        let proof = key.prove(challenge, address).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\naam-proof: {proof}\r\ncontent-length: 2\r\n\r\n{{}}").unwrap();
        let request = head(&mut stream);
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        request
    });
    (address.port(), served)
}

/// Reads the head of a request.
fn head(stream: &mut TcpStream) -> String {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the request ended early");
        request.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(request).unwrap()
}

fn run_against(port: u16, token_file: &Path) -> Output {
    script().args(["--port", &port.to_string(), "--token-file"]).arg(token_file).output().unwrap()
}

#[test]
fn the_exit_code_says_whether_the_slo_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("aam.db.admin-token");
    std::fs::write(&token_file, "a-token\n").unwrap();
    for (active, error, code) in [(9, 1, 0), (8, 2, 2)] {
        let funnel = derived(Funnel { active, error, ..empty(0.9) });
        let (port, served) = serve_once(&token_file, "200 OK", serde_json::to_string(&funnel).unwrap());
        let output = run_against(port, &token_file);
        let request = served.join().unwrap();
        assert!(request.starts_with("GET /metrics/funnel?namespace=autonomy&enforce=none HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("Bearer a-token\r\n"), "{request}");
        assert_eq!(output.status.code(), Some(code));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed, summary::lines(&funnel).join("\n") + "\n");
    }
}

#[test]
fn every_error_exits_with_1_and_names_its_fix() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("aam.db.admin-token");
    let stderr = |output: &Output| {
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr.clone()).unwrap()
    };
    let output = run_against(1, &token_file);
    assert!(stderr(&output).contains("set AAM_TOKEN"), "{output:?}");
    std::fs::write(&token_file, "a-token\n").unwrap();
    let (_socket, closed) = closed_port();
    let output = run_against(closed, &token_file);
    assert!(stderr(&output).contains("make autonomy-mode"), "{output:?}");
    let simulated = Funnel { data_source: "memory".to_string(), ..empty(0.9) };
    for (status, body, expected) in [
        ("200 OK", "<html>".to_string(), "is not an AAM"),
        (
            "401 Unauthorized",
            r#"{"title":"Unauthorized","detail":"This token is not in the policy in force."}"#.to_string(),
            "401: This token is not in the policy in force.",
        ),
        ("200 OK", serde_json::to_string(&simulated).unwrap(), "come from the database"),
        ("200 OK", r#"{"data_source":"database"}"#.to_string(), "is not valid"),
    ] {
        let (port, served) = serve_once(&token_file, status, body);
        let output = run_against(port, &token_file);
        served.join().unwrap();
        assert!(stderr(&output).contains(expected), "{expected}: {output:?}");
    }
}
