//! The dashboard in Chromium: it shows the numbers and states, and no hostile text runs as a script.

use crate::harness::variable;
use crate::support::daemon::{Workspace, intent};
use std::process::{Command, Output, Stdio};

peer_tests! {
    [Chromium]: the_page_shows_the_numbers_and_runs_no_hostile_text, a_blocked_script_appears_in_the_console;
}

/// Opens `url` in a new browser for twelve seconds of virtual time. stdout is the DOM of the page as HTML, and stderr
/// contains its console.
fn browse(workspace: &Workspace, url: &str) -> Output {
    let profile = workspace.path("profile");
    Command::new(variable("CHROMIUM", "BIN"))
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--virtual-time-budget=12000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("Chromium starts")
}

/// The lines of the page's console.
fn console(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.contains("CONSOLE")).map(String::from).collect()
}

async fn the_page_shows_the_numbers_and_runs_no_hostile_text() {
    let workspace = Workspace::new();
    let path = workspace.csv("good.csv", 3);
    let hostile = workspace
        .path("data/<img src=x onerror=\"console.error('ran')\"><script>console.error('ran')</script>.csv")
        .display()
        .to_string();
    workspace.intent_file("good.json", &intent("filesource", &path));
    workspace.intent_file("hostile.json", &intent("filesource", &hostile));
    workspace.intent_file("unknown.json", &intent("slak", "<b>acme</b>"));
    std::fs::write(workspace.path("intents/<i>bad.json"), "[").expect("write");
    let daemon = workspace.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    daemon.until_state(&hostile, "ERROR").await;
    daemon.until_state("<b>acme</b>", "UNSUPPORTED").await;
    let funnel = daemon.funnel().await;
    let url = format!("http://browser:{}@127.0.0.1:{}/", daemon.token.expose(), daemon.port);
    let before = times_served(&daemon.log());
    let output = browse(&workspace, &url);
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    for (name, field) in [
        ("Received", "received"),
        ("Eligible", "eligible"),
        ("Active", "active"),
        ("Error", "error"),
        ("Unsupported Type", "unsupported_type"),
    ] {
        let number = format!("<dt>{name}</dt><dd>{}</dd>", funnel[field]);
        assert!(dom.contains(&number), "{number} is not on the page:\n{dom}");
    }
    for line in funnel["summary"].as_array().into_iter().flatten().filter_map(|line| line.as_str()).take(2) {
        assert!(dom.contains(line), "{line}");
    }
    for state in ["active", "error", "unsupported"] {
        assert!(dom.contains(&format!("</span>{state}</span>")), "{state} is not on the page:\n{dom}");
    }
    assert!(
        dom.contains("&lt;img src=x") && !dom.contains("<img") && !dom.contains("<b>acme") && !dom.contains("<i>bad"),
        "a hostile text was not escaped"
    );
    assert_eq!(dom.matches("<script").count(), 1, "there must be one script, that of the page itself");
    assert_eq!(console(&output), Vec::<String>::new(), "the console is not empty");
    assert!(times_served(&daemon.log()) > before + 1, "the page did not refresh itself");
}

/// The number of times that the page was served.
fn times_served(log: &str) -> usize {
    log.lines().filter(|line| line.contains("path=\"/\" status=200")).count()
}

async fn a_blocked_script_appears_in_the_console() {
    let workspace = Workspace::new();
    let page = "<!doctype html><title>x</title><script>console.error('ran')</script>";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let headers = [("content-type", "text/html"), ("content-security-policy", "default-src 'none'")];
    let app = axum::Router::new().fallback(move || std::future::ready((headers, page)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let lines = console(&browse(&workspace, &url)).join("\n");
    assert!(lines.contains("Content Security Policy"), "{lines}");
}
