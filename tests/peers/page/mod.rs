//! The pages for people in Chromium: `scripts/peers/browser_check.js` goes through every page and action with 0, 5, 300 and
//! 10,000 connections. It looks for what axe-core finds, console messages, requests to other origins and parts that are too wide,
//! and it checks that what a reader does stays while a page updates itself.

mod fleet;

use crate::harness::variable;
use crate::support::daemon::{Daemon, Workspace};
use serde_json::json;
use std::process::{Command, Stdio};

peer_tests! {
    [Browser]: an_empty_installation_has_pages_without_defects, every_action_works_and_a_lost_daemon_is_noticed,
        three_hundred_connections_are_answered_without_scrolling, ten_thousand_connections_have_small_pages,
        a_blocked_script_appears_in_the_console;
}

/// Runs these parts of the script on the pages of the daemon. It prints what it measured.
fn check(workspace: &Workspace, daemon: &Daemon, size: usize, parts: &[&str]) {
    let settings = json!({
        "url": daemon.url("").trim_end_matches('/'),
        "token": fleet::ACTOR,
        "reader": fleet::READER,
        "size": size,
        "pid": daemon.pid(),
        "parts": parts,
        "csv": workspace.csv("pushed.csv", 3),
    });
    let output = Command::new(variable("BROWSER", "NODE"))
        .arg(variable("BROWSER", "SCRIPT"))
        .arg(settings.to_string())
        .env("NODE_MODULES", variable("BROWSER", "NODE_MODULES"))
        .env("BIN", variable("BROWSER", "BIN"))
        .stdin(Stdio::null())
        .output()
        .expect("node runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    print!("{stdout}");
    assert!(output.status.success(), "{stdout}\n{stderr}\nthe log of the daemon:\n{}", daemon.log());
}

async fn an_empty_installation_has_pages_without_defects() {
    let workspace = fleet::workspace();
    let daemon = fleet::serve(&workspace, &[]).await;
    check(&workspace, &daemon, 0, &["pages"]);
}

async fn every_action_works_and_a_lost_daemon_is_noticed() {
    let workspace = fleet::workspace();
    let documents = fleet::five(&workspace);
    std::fs::write(workspace.path("intents/<i>bad.json"), "[").expect("written");
    let daemon = fleet::serve(&workspace, &documents).await;
    check(&workspace, &daemon, documents.len(), &["pages", "keyboard", "copying", "acting", "outage"]);
}

async fn three_hundred_connections_are_answered_without_scrolling() {
    let workspace = fleet::workspace();
    let documents = fleet::mixed(&workspace, 300);
    let daemon = fleet::serve(&workspace, &documents).await;
    fleet::change_sources(&daemon).await;
    check(&workspace, &daemon, documents.len(), &["answer", "pages"]);
}

async fn ten_thousand_connections_have_small_pages() {
    let workspace = fleet::workspace();
    let documents = fleet::mixed(&workspace, 10_000);
    let daemon = fleet::serve(&workspace, &documents).await;
    fleet::change_sources(&daemon).await;
    check(&workspace, &daemon, documents.len(), &["answer", "speed", "pages"]);
}

/// The other tests rely on the console: it must show a script that the policy of a page refuses.
async fn a_blocked_script_appears_in_the_console() {
    let profile = tempfile::tempdir().expect("a folder");
    let page = "<!doctype html><title>x</title><script>console.error('ran')</script>";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let headers = [("content-type", "text/html"), ("content-security-policy", "default-src 'none'")];
    let app = axum::Router::new().fallback(move || std::future::ready((headers, page)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let output = Command::new(variable("BROWSER", "BIN"))
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=12000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("Chromium starts");
    let log = String::from_utf8_lossy(&output.stderr);
    let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.join("\n").contains("Content Security Policy"), "{log}");
}
