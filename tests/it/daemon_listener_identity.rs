//! A token is sent only to the AAM that holds the registry, never to another program that listens on the port.

use crate::support::daemon::{Daemon, Workspace, stderr, stdout};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a fake AAM answers to a challenge.
#[derive(Clone)]
enum FakeProof {
    Absent,
    Invented,
    /// Passes the challenge on to the real daemon on this port, and returns its answer.
    Relayed(u16),
}

/// A program that pretends to be an AAM and records everything that it receives.
struct FakeAam {
    port: u16,
    received: Arc<Mutex<Vec<u8>>>,
}

impl FakeAam {
    fn start(registry: String, proof: FakeProof) -> FakeAam {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&received);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, registry, proof) = (Arc::clone(&record), registry.clone(), proof.clone());
                std::thread::spawn(move || answer(stream, port, &record, &registry, &proof));
            }
        });
        FakeAam { port, received }
    }

    fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().expect("no panic")).into_owned()
    }
}

/// Answers every request of a connection with a version document, which is valid JSON for any client.
fn answer(mut stream: TcpStream, port: u16, record: &Mutex<Vec<u8>>, registry: &str, proof: &FakeProof) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut buffer = [0; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        record.lock().expect("no panic").extend_from_slice(&buffer[..read]);
        let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
        let challenge = header(&request, "aam-challenge");
        let proof = match (proof, challenge) {
            (FakeProof::Invented, _) => format!("aam-proof: {}\r\n", "ab".repeat(32)),
            (FakeProof::Relayed(real), Some(challenge)) => format!("aam-proof: {}\r\n", relay(*real, &challenge)),
            _ => String::new(),
        };
        let body = format!(
            "{{\"service\":\"aam\",\"version\":\"0.1.0\",\"pid\":1,\"registry\":\"{registry}\",\"started\":\"2026-11-08T18:00:00Z\",\"port\":{port},\"status\":\"ready\"}}"
        );
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{proof}content-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all((head + &body).as_bytes());
    }
}

fn header(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn relay(port: u16, challenge: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the real daemon");
    write!(stream, "GET /version HTTP/1.1\r\nHost: localhost:{port}\r\naam-challenge: {challenge}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    header(&answer, "aam-proof").expect("the real daemon proves itself")
}

fn script(workspace: &Workspace, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command
        .arg(format!("{}/scripts/{name}", env!("CARGO_MANIFEST_DIR")))
        .args(arguments)
        .current_dir(workspace.dir.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("AAM_INTENTS", workspace.path("intents"))
        .env("AAM_POLICY", workspace.path("policy/policy.yaml"))
        .env("AAM_REGISTRY", workspace.path("var/aam.db"))
        .stdin(Stdio::null());
    command
}

/// Every client of this product that has a token, with the port that it is told to use.
fn clients(workspace: &Workspace, port: u16) -> Vec<(&'static str, Command)> {
    let port = port.to_string();
    vec![
        ("aam heal", workspace.command(&["heal", "--port", &port])),
        ("aam heal ID", workspace.command(&["heal", "8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e", "--port", &port])),
        ("exec_summary.py", script(workspace, "exec_summary.py", &["--port", &port])),
        ("autonomy_mode.py", script(workspace, "autonomy_mode.py", &["--port", &port, "--aam", env!("CARGO_BIN_EXE_aam")])),
    ]
}

fn run(mut command: Command) -> Output {
    command.output().expect("it runs")
}

fn assert_no_token(workspace: &Workspace, daemon: &Daemon, fake: &FakeAam, what: &str) {
    for (name, mut command) in clients(workspace, fake.port) {
        for token in [None, Some("a-token-of-the-environment")] {
            if let Some(token) = token {
                command.env("AAM_TOKEN", token);
            }
            let output = command.output().expect("it runs");
            assert_eq!(output.status.code(), Some(1), "{name}, {what}: {} {}", stdout(&output), stderr(&output));
            let received = fake.received();
            assert!(received.contains("GET /version"), "{name} did not ask for the version");
            for secret in ["uthorization", "Bearer", "a-token-of-the-environment", daemon.token.expose()] {
                assert!(!received.contains(secret), "{name} sent {secret} to {what}: {received}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_pretends_to_be_aam_gets_no_token() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let registry = workspace.path("var/aam.db").display().to_string();
    for (what, proof) in [
        ("a program without a proof", FakeProof::Absent),
        ("a program with an invented proof", FakeProof::Invented),
        ("a program that relays the challenge to the real daemon", FakeProof::Relayed(daemon.port)),
    ] {
        assert_no_token(&workspace, &daemon, &FakeAam::start(registry.clone(), proof), what);
    }
    // A registry that the attacker controls, with a token that the victim can read.
    let theirs = workspace.path("theirs.db").display().to_string();
    std::fs::write(workspace.path("theirs.db.admin-token"), "a-token-that-is-not-meant-for-them-0123456789").expect("written");
    let fake = FakeAam::start(theirs, FakeProof::Absent);
    assert_no_token(&workspace, &daemon, &fake, "a program that names another registry");
    assert!(!fake.received().contains("a-token-that-is-not-meant"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_that_holds_the_registry_gets_the_token() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let port = daemon.port.to_string();
    let healed = workspace.run(&["heal", "--port", &port]);
    assert_eq!(healed.status.code(), Some(0), "{}", stderr(&healed));
    let summary = run(script(&workspace, "exec_summary.py", &["--port", &port]));
    assert_eq!(summary.status.code(), Some(2), "{}", stderr(&summary));
    assert!(stdout(&summary).starts_with("Eligible: 0"), "{}", stdout(&summary));
    let token_file = workspace.path("var/aam.db.admin-token").display().to_string();
    let mut named = script(&workspace, "exec_summary.py", &["--port", &port, "--token-file", &token_file]);
    named.env_remove("AAM_REGISTRY");
    let named = run(named);
    assert_eq!(named.status.code(), Some(2), "the token file names the registry: {}", stderr(&named));
    // Of another registry: the message says what to pass, and with it the command works.
    let other = Workspace::new();
    let refused = other.run(&["heal", "--port", &port]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no token was sent") && stderr(&refused).contains("--registry"), "{}", stderr(&refused));
    let registry = workspace.path("var/aam.db").display().to_string();
    let healed = other.run(&["heal", "--port", &port, "--registry", &registry]);
    assert_eq!(healed.status.code(), Some(0), "{}", stderr(&healed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_does_not_believe_a_program_that_pretends_to_be_aam() {
    let workspace = Workspace::new();
    let ours = workspace.path("var/aam.db").display().to_string();
    for registry in [ours, "/nowhere/aam.db".to_string()] {
        let fake = FakeAam::start(registry.clone(), FakeProof::Invented);
        let output = workspace.run(&["serve", "--port", &fake.port.to_string()]);
        assert_eq!(output.status.code(), Some(1), "{registry}: {}", stdout(&output));
        assert!(stderr(&output).contains("did not prove"), "{}", stderr(&output));
    }
}

/// The permissions of a file or folder.
fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

#[tokio::test]
async fn the_files_of_the_registry_are_readable_by_their_owner_only() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    assert_eq!(mode(&workspace.path("var")), 0o700);
    let names: Vec<_> = std::fs::read_dir(workspace.path("var")).expect("folder").flatten().map(|entry| entry.path()).collect();
    assert!(names.len() >= 4, "{names:?}");
    for path in &names {
        assert_eq!(mode(path), 0o600, "{}", path.display());
    }
    assert!(!daemon.log().contains("can read the registry"));
    daemon.stop().await;
    // A registry of an earlier version: the warning names the fix, which works.
    std::fs::set_permissions(workspace.path("var/aam.db"), std::fs::Permissions::from_mode(0o644)).expect("changed");
    let daemon = workspace.serve().await;
    let log = daemon.log();
    let fix = log.split("fix: ").nth(1).and_then(|rest| rest.split(".lock").next()).expect("a fix");
    let fixed = Command::new("sh").arg("-c").arg(format!("{fix}.lock")).output().expect("it runs");
    assert!(fixed.status.success(), "{fix}: {}", stderr(&fixed));
    assert_eq!(mode(&workspace.path("var/aam.db")) & 0o007, 0);
    daemon.stop().await;
    let daemon = workspace.serve().await;
    assert_eq!(daemon.log().matches("can read the registry").count(), 1, "the second start does not warn");
}
