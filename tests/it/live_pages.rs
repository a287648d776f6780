//! `GET /ui/live` and the tags of pages: how an open page learns that it is outdated, and when it has to be sent again.

use crate::support::daemon::{Daemon, Workspace, intent, until};
use crate::support::sse::{EventReader, ReceivedEvent, open};
use aam::model::Digest;
use reqwest::header::{COOKIE, ETAG, IF_NONE_MATCH, SET_COOKIE};
use serde_json::Value;
use std::time::{Duration, Instant};

const LIVE: &str = "/ui/live";

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

/// A policy with the tokens `one-token` for the policy's own namespace and `other-token` for another one.
fn policy(names: &[&str]) -> String {
    let token = |name: &&str| {
        let sha256 = Digest::from_bytes(format!("{name}-token").as_bytes());
        let namespace = if *name == "one" { "autonomy" } else { "other" };
        format!("    - {{name: {name}, sha256: \"{sha256}\", scopes: [\"registry:read\"], namespaces: [{namespace}]}}\n")
    };
    format!("api:\n  tokens:\n{}", names.iter().map(token).collect::<String>())
}

/// The version that an event says is the current one.
fn version(event: &ReceivedEvent) -> &str {
    event.data["version"].as_str().expect("a version")
}

/// The version for which the page was rendered.
fn version_of(page: &str) -> String {
    let rest = page.split(" data-version=\"").nth(1).unwrap_or_else(|| panic!("the page names its version: {page}"));
    rest.split('"').next().unwrap_or_default().to_string()
}

async fn page(daemon: &Daemon, tag: Option<&str>) -> (u16, String, String) {
    let mut request = client().get(daemon.url("/ui/connections")).bearer_auth(daemon.token.expose());
    if let Some(tag) = tag {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let response = request.send().await.expect("a response");
    let status = response.status().as_u16();
    let tag = response.headers().get(ETAG).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string();
    (status, tag, response.text().await.expect("a text"))
}

#[tokio::test]
async fn a_change_is_announced_and_the_page_is_then_current_again() {
    let workspace = Workspace::new();
    workspace.write_policy("reconcile: {concurrency: 16, resync: 1h}\n");
    let daemon = workspace.serve().await;
    let mut reader = EventReader::new(&daemon, LIVE, None).await;
    let first = reader.next().await.expect("an event");
    assert_eq!(first.kind, "contact", "a page that is outdated already learns it at once");
    assert!(first.data["at"].as_str().is_some_and(|at| at.ends_with('Z')) && first.data["seq"].is_u64(), "{first:?}");
    let (_, _, before) = page(&daemon, None).await;

    let csv = workspace.csv("people.csv", 3);
    let pushed = daemon.push(&intent("filesource", &csv)).await;
    assert_eq!(pushed.status, 201, "{}", pushed.body);
    let events = reader.until("a change", |event| event.kind == "changed").await;
    let changed = events.last().expect("an event");
    assert_ne!(version(changed), version_of(&before));
    assert!(changed.data["seq"].as_u64() > first.data["seq"].as_u64(), "{changed:?}");
    let mut agrees = false;
    for _ in 0..10 {
        let event = reader.next().await.expect("an event");
        agrees = version(&event) == version_of(&page(&daemon, None).await.2);
        if agrees {
            break;
        }
    }
    assert!(agrees, "the page and the stream name the same version in the end");
    let events = reader.until("a contact", |event| event.kind == "contact").await;
    assert!(events.iter().filter(|event| event.kind == "changed").count() <= 4, "at most one change a second: {events:#?}");
    assert!(daemon.stop().await == Some(0), "an open page does not keep the daemon from stopping");
    let last = reader.until_end().await;
    assert!(last.iter().all(|event| event.kind == "contact" || event.kind == "changed"), "{last:#?}");
}

#[tokio::test]
async fn a_page_is_sent_again_only_if_its_content_changed() {
    let workspace = Workspace::new();
    workspace.write_policy("reconcile: {concurrency: 16, resync: 1h}\n");
    let daemon = workspace.serve().await;
    daemon.push(&intent("slak", "acme")).await;
    let (status, tag, text) = page(&daemon, None).await;
    assert!(status == 200 && tag.starts_with("W/\"") && text.contains("<time class=\"as-of\""), "{status} {tag}");
    let second =
        |page: &str| page.split("<time class=\"as-of\" datetime=\"").nth(1).and_then(|rest| rest.get(..19)).map(str::to_string);
    until("the time of the page is another one", || async {
        let (_, _, now) = page(&daemon, None).await;
        (second(&now) != second(&text), String::new())
    })
    .await;
    let (status, again, body) = page(&daemon, Some(&tag)).await;
    assert_eq!((status, again.as_str(), body.as_str()), (304, tag.as_str(), ""));
    daemon.push(&intent("slak", "other")).await;
    let (status, other, _) = page(&daemon, Some(&tag)).await;
    assert!(status == 200 && other != tag, "{status} {other}");
}

#[tokio::test]
async fn the_stream_ends_with_the_token_the_session_or_the_right_to_see_the_namespace() {
    let workspace = Workspace::new();
    workspace.write_policy(&policy(&["one", "other"]));
    let daemon = workspace.serve().await;
    assert_eq!(open(&daemon, LIVE, "", None).await.status(), 401);
    assert_eq!(open(&daemon, LIVE, "other-token", None).await.status(), 403, "the policy's namespace is meant");
    assert_eq!(open(&daemon, &format!("{LIVE}?namespace=autonomy&namespace=other"), "one-token", None).await.status(), 400);

    // The session of a person who signed in.
    let form = "token=one-token&next=%2F";
    let sign_in = client().post(daemon.url("/ui/sign-in")).header("content-type", "application/x-www-form-urlencoded").body(form);
    let answer = sign_in.send().await.expect("a response");
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()[SET_COOKIE].to_str().expect("text").split(';').next().unwrap_or_default().to_string();
    let session = client().get(daemon.url(LIVE)).header(COOKIE, &cookie).send().await.expect("a response");
    assert_eq!(session.status(), 200);
    let mut by_session = EventReader::from_response(session);
    let mut by_token = EventReader::with_token(&daemon, LIVE, "one-token", None).await;
    let mut other = EventReader::with_token(&daemon, &format!("{LIVE}?namespace=other"), "other-token", None).await;
    for reader in [&mut by_session, &mut by_token, &mut other] {
        assert_eq!(reader.next().await.expect("an event").kind, "contact");
    }
    let home =
        client().get(daemon.url("/")).header(COOKIE, &cookie).send().await.expect("a response").text().await.expect("a page");
    let csrf = home.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form");
    let sign_out = client().post(daemon.url("/ui/sign-out")).header(COOKIE, &cookie);
    let sign_out = sign_out.header("content-type", "application/x-www-form-urlencoded").body(format!("csrf={csrf}"));
    assert_eq!(sign_out.send().await.expect("a response").status(), 303);
    by_session.until_end().await;

    // The token is removed from the policy.
    workspace.write_policy(&policy(&["other"]));
    by_token.until_end().await;
    assert_eq!(open(&daemon, LIVE, "one-token", None).await.status(), 401);
    let goes_on = other.until("the change of the policy", |event| event.kind == "changed").await;
    assert!(!goes_on.is_empty());
}

#[tokio::test]
async fn open_pages_are_bounded_and_take_no_place_of_readers_of_events() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let mut pages = Vec::new();
    for _ in 0..16 {
        pages.push(open(&daemon, LIVE, daemon.token.expose(), None).await);
    }
    assert!(pages.iter().all(|response| response.status() == 200));
    let refused = open(&daemon, LIVE, daemon.token.expose(), None).await;
    assert_eq!(refused.status(), 503);
    let body: Value = refused.json().await.expect("JSON");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("16 connections")), "{body}");
    assert_eq!(open(&daemon, "/events", daemon.token.expose(), None).await.status(), 200);
    let begun = Instant::now();
    let mut reader = EventReader::from_response(pages.pop().expect("a response"));
    reader.until("the second contact", |event| event.kind == "contact").await;
    reader.until("the second contact", |event| event.kind == "contact").await;
    assert!(begun.elapsed() < Duration::from_secs(20), "a page that hears nothing for 10 s says so");
    drop((pages, reader));
    until("a place is free again", || async {
        let status = open(&daemon, LIVE, daemon.token.expose(), None).await.status();
        (status == 200, status.to_string())
    })
    .await;
}
