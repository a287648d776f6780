//! The dashboard as Chromium shows it (`scripts/peers/chromium.sh`): numbers, states, and nothing that runs.

use crate::daemon_support::{Place, intent};
use std::process::{Command, Output, Stdio};

/// Opens `url` in a browser of its own for some seconds of its time; answers the page's tree and the console.
fn browse(place: &Place, url: &str) -> Output {
    let chromium = std::env::var("AAM_TEST_CHROMIUM_BIN")
        .unwrap_or_else(|_| panic!("AAM_TEST_CHROMIUM_BIN is not set: run scripts/with_peers.sh chromium -- ..."));
    let profile = place.path("profile");
    Command::new(chromium)
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

/// Lines of the page's console.
fn console(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.contains("CONSOLE")).map(String::from).collect()
}

// The browser is waited for on this thread while servers of the test answer on the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_the_numbers_and_runs_nothing_hostile() {
    let place = Place::new();
    let path = place.csv("good.csv", 3);
    let hostile = place
        .path("data/<img src=x onerror=\"console.error('ran')\"><script>console.error('ran')</script>.csv")
        .display()
        .to_string();
    place.intent_file("good.json", &intent("filesource", &path));
    place.intent_file("hostile.json", &intent("filesource", &hostile));
    place.intent_file("unknown.json", &intent("slak", "<b>acme</b>"));
    std::fs::write(place.path("intents/<i>bad.json"), "[").expect("write");
    let daemon = place.serve().await;
    daemon.until_state(&path, "ACTIVE").await;
    daemon.until_state(&hostile, "ERROR").await;
    daemon.until_state("<b>acme</b>", "UNSUPPORTED").await;
    let funnel = daemon.funnel().await;
    let url = format!("http://browser:{}@127.0.0.1:{}/", daemon.token.expose(), daemon.port);
    let before = answered(&daemon.log());
    let output = browse(&place, &url);
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    for (name, field) in [
        ("Received", "received"),
        ("Eligible", "eligible"),
        ("Active", "active"),
        ("Error", "error"),
        ("Unsupported Type", "unsupported_type"),
    ] {
        let number = format!("<dt>{name}</dt><dd>{}</dd>", funnel[field]);
        assert!(tree.contains(&number), "{number} is on the page:\n{tree}");
    }
    for line in funnel["summary"].as_array().into_iter().flatten().filter_map(|line| line.as_str()).take(2) {
        assert!(tree.contains(line), "{line}");
    }
    for state in ["active", "error", "unsupported"] {
        assert!(tree.contains(&format!("</span>{state}</span>")), "{state} is on the page:\n{tree}");
    }
    assert!(
        tree.contains("&lt;img src=x") && !tree.contains("<img") && !tree.contains("<b>acme") && !tree.contains("<i>bad"),
        "hostile texts are texts"
    );
    assert_eq!(tree.matches("<script").count(), 1, "only the page's own script");
    assert_eq!(console(&output), Vec::<String>::new(), "the console stays empty");
    assert!(answered(&daemon.log()) > before + 1, "the page looked again by itself");
}

/// How often the page was answered.
fn answered(log: &str) -> usize {
    log.lines().filter(|line| line.contains("path=\"/\" status=200")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_violation_would_be_seen() {
    let place = Place::new();
    let page = "<!doctype html><title>x</title><script>console.error('ran')</script>";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let headers = [("content-type", "text/html"), ("content-security-policy", "default-src 'none'")];
    let app = axum::Router::new().fallback(move || std::future::ready((headers, page)));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let seen = console(&browse(&place, &url)).join("\n");
    assert!(seen.contains("Content Security Policy"), "{seen}");
}
