//! The binary: its files, its end and its check.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_aam-sandbox"))
}

fn vendors() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sandbox")
}

#[test]
fn the_state_is_complete_when_it_says_so_and_the_end_is_orderly() {
    let state = tempfile::tempdir().unwrap();
    let mut child = command()
        .arg("--vendors")
        .arg(vendors())
        .args([
            "--only",
            "github",
            "--proxy",
            "127.0.0.1:0",
            "--http",
            "api.github.com=127.0.0.1:0",
            "--until-stdin-closes",
            "--state",
        ])
        .arg(state.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("1 vendor behind the proxy http://127.0.0.1:"), "{line}");
    let read = |name: &str| std::fs::read_to_string(state.path().join(name)).unwrap();
    assert!(read("ca.pem").starts_with("-----BEGIN CERTIFICATE-----"));
    let addresses: Value = serde_json::from_str(&read("addresses.json")).unwrap();
    assert!(addresses["proxy"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(addresses["http"]["api.github.com"].as_str().unwrap().starts_with("127.0.0.1:"));
    let credentials: Value = serde_json::from_str(&read("credentials.json")).unwrap();
    assert_eq!(credentials["github"]["reader"]["value"], "github_pat_sandbox_reader");
    let app = &credentials["github"]["app"];
    assert!(app["private_key"].as_str().unwrap().contains("PRIVATE KEY"));
    assert!(app["certificate"].as_str().unwrap().contains("CERTIFICATE"));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_signal_ends_it_while_a_call_hangs() {
    let state = tempfile::tempdir().unwrap();
    let mut child = command()
        .arg("--vendors")
        .arg(vendors())
        .args(["--only", "github", "--http", "api.github.com=127.0.0.1:0", "--state"])
        .arg(state.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let text = std::fs::read_to_string(state.path().join("addresses.json")).unwrap();
    let addresses: Value = serde_json::from_str(&text).unwrap();
    let address = addresses["http"]["api.github.com"].as_str().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /orgs/hanging-acme HTTP/1.1\r\nhost: api.github.com\r\n\r\n").unwrap();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_check_names_every_place_and_ends_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("one.yaml", "family: one\ncolour: red\n");
    write("two.yaml", "family: [\n");
    write("notes.txt", "not a vendor");
    let output = command().arg("--check").arg("--vendors").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("one.yaml:2:1: unknown key \"colour\""), "{text}");
    assert!(text.contains("two.yaml:"), "{text}");
    assert!(!text.contains("notes.txt"), "{text}");

    let output = command().arg("--check").arg("--vendors").arg(vendors()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for arguments in [
        ["--latency", "400..80ms"],
        ["--latency", "fast"],
        ["--faults", "3"],
        ["--faults", "300%"],
        ["--http", "example.org=127.0.0.1:0"],
        ["--http", "api.github.com"],
    ] {
        let state = tempfile::tempdir().unwrap();
        let output = command().args(arguments).arg("--vendors").arg(vendors()).arg("--state").arg(state.path()).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
    }
}
