//! Tests that the home page and its data are correct, that they escape what sources and callers send, and that the page does
//! not load anything from other origins.

use super::*;
use crate::model::{FilePlace, Problem, State};
use crate::policy::Rejected;

/// Connections in five states. The first one has hostile names, and its failure has a hostile text.
async fn full() -> TestServer {
    let server = TestServer::new().await;
    let mut hostile = document("jdbc", "<script>alert(1)</script>");
    hostile["owner"]["user"] = "\"><img src=x onerror=alert(2)>".into();
    hostile["<b>extra</b>"] = 1.into();
    let documents = [hostile, document("s3", "bucket"), document("fax", "x"), document("s3", "late"), document("jdbc", "active")];
    let ids = server.accept(&documents).await;
    let unreachable = Failure::new(Class::Network, "could not connect to <i>db</i>", "start </code><script>alert(3)</script>");
    let denied = Failure::new(Class::PermissionDenied, "no right to list objects", "allow s3:ListBucket on the bucket");
    server.attempt(ids[0], failed(Step::Health, unreachable)).await;
    server.attempt(ids[1], failed(Step::Discover, denied)).await;
    server.attempt(ids[2], by_type("fax")).await;
    server.attempt(ids[4], passed("")).await;
    let policy = server.handle.policy();
    server.handle.registry.accept_policy(policy.digest, policy_text(), Vec::new()).await.expect("recorded");
    server
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    text.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map_or("", |(text, _)| text)
}

#[tokio::test]
async fn hostile_text_is_inert() {
    let server = full().await;
    let page = server.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for evil in ["<script>alert", "<img", "<i>db", "<b>extra"] {
        assert!(!page.body.contains(evil), "{evil}");
    }
    for shown in ["&lt;script&gt;alert(1)", "&quot;&gt;&lt;img src=x", "&lt;i&gt;db", "&lt;script&gt;alert(3)"] {
        assert!(page.body.contains(shown), "{shown}");
    }
    assert_eq!(page.body.matches("<script").count(), 1);
    // Parts of a drawing may refer to each other.
    let body = page.body.replace("url(#", "");
    for foreign in ["http://", "https://", "url(", "@import", " style=\"", " onclick="] {
        assert!(!body.contains(foreign), "{foreign}");
    }
}

#[tokio::test]
async fn the_numbers_are_those_of_the_funnel() {
    let server = full().await;
    let page = server.get("/").await.body;
    let funnel = server.get("/metrics/funnel").await.json();
    for (stage, label) in [("received", "Received"), ("eligible", "Eligible"), ("reachable", "Reachable"), ("active", "Active")] {
        let count = funnel[stage].as_u64().expect("a number");
        let (_, after) = page.split_once(&format!("y=\"16\">{label}</text>")).expect("a stage");
        let (number, _) = after.split_once("</text>").expect("a number");
        assert!(number.ends_with(&format!(">{count}")), "{stage} {count}: {number}");
    }
    for (stage, state, name) in [
        ("network_blocked", State::NetworkBlocked, "blocked"),
        ("awaiting_credentials", State::AwaitingCredentials, "awaiting"),
        ("unsupported_type", State::Unsupported, "unsupported"),
        ("pending", State::Pending, "pending"),
    ] {
        assert_eq!(funnel[stage], 1);
        let (_, after) =
            page.split_once(&format!("href=\"/ui/connections?state={state}\"><rect class=\"slice\"")).expect("a link");
        let (label, _) = after.split_once("</text>").expect("a label");
        assert!(label.ends_with(&format!(" 1 {name}")), "{label}");
    }
    for absent in ["rejected", "healing", "error"] {
        assert!(!page.contains(&format!("{absent}</text>")), "{absent}");
    }
    assert!(page.contains("50 % connected · target 90 % · 1 more connection needed"));
    assert!(page.contains("<title>50 % connected"));
}

#[tokio::test]
async fn what_gains_most_comes_first_and_what_gains_nothing_last() {
    let server = full().await;
    let page = server.get("/").await.body;
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is not on the page"));
    let order = [
        place("could not connect to &lt;i&gt;db"),
        place("+50 points"),
        place("+16 points"),
        place("These do not raise coverage"),
        place("No attempt has finished yet"),
        place("id=\"trend\""),
    ];
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn the_page_shows_what_the_database_says() {
    let server = full().await;
    let problem = Problem::new("/risk_level", "the required field risk_level is missing")
        .hint("low, med or high")
        .in_file("b.json")
        .at(FilePlace { line: 3, column: 1 });
    server.handle.problems.store(Arc::new(vec![problem.clone()]));
    server.handle.trouble.store(Arc::new("the disk is full".to_string()));
    let rejected = Rejected { at: Timestamp(START), problems: vec![problem] };
    let active = ActivePolicy::new(server.handle.loaded(), Some(rejected));
    server.handle.policy.store(Arc::new(active));
    let page = server.get("/").await.body;
    let data = server.get("/dashboard.json").await.json();
    assert_eq!((&data["data_source"], &data["total"], &data["problems_total"]), (&json!("database"), &json!(5), &json!(1)));
    assert_eq!(data["policy"]["accepted_at"], Timestamp(START).rfc3339());
    assert_eq!(data["funnel"], server.get("/metrics/funnel").await.json());
    for (anchor, label) in
        [("files", "broken intent files"), ("policy", "policy file rejected"), ("registry", "registry in trouble")]
    {
        let number = format!("href=\"/ui/problems#{anchor}\"><strong class=\"bad\">1</strong><span>{label}</span>");
        assert!(page.contains(&number), "{number}");
    }
    let main = between(&page, "<main", "</main>").replace('>', ">\n").replace("</", "\n</");
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("home_page", main);
    });
}

#[tokio::test]
async fn the_hashes_of_the_policy_are_those_of_the_page() {
    let server = TestServer::new().await;
    let page = server.get("/").await;
    use base64::Engine as _;
    let hash =
        |text: &str| format!("'sha256-{}'", base64::prelude::BASE64_STANDARD.encode(Digest::from_bytes(text.as_bytes()).0));
    let policy = page.header("content-security-policy");
    let (style, script) = (between(&page.body, "<style>", "</style>"), between(&page.body, "<script>", "</script>"));
    assert!(style.len() > 500 && script.len() > 200);
    assert!(policy.contains(&hash(style)) && policy.contains(&hash(script)));
}

#[tokio::test]
async fn an_empty_installation_is_not_in_trouble_and_gets_a_first_intent() {
    let server = TestServer::new().await;
    let page = server.get("/").await.body;
    let main = between(&page, "<main", "</main>");
    for shown in ["No connection was received yet", "cat &gt; ", "&quot;source_type&quot;: &quot;jdbc&quot;", "aam status"] {
        assert!(main.contains(shown), "{shown} is not in {main}");
    }
    for bad in ["\"bad\"", "\"warn\"", "✕", "role=\"alert\"", "needed"] {
        assert!(!main.contains(bad), "{bad} is in {main}");
    }
    // A reader of another namespace does not learn where the intents folder is.
    let other = server.send("GET", "/?namespace=other", &[("Authorization", &bearer(OTHER))], None).await.body;
    assert!(other.contains("POST /connections/onboard") && !other.contains("cat &gt; "));
}

#[tokio::test]
async fn a_page_of_the_past_leaves_out_what_is_not_recorded() {
    let server = full().await;
    server.later(60_000);
    let at = |ms: i64| format!("/?at={}", Timestamp(START + ms).rfc3339());
    let now = server.get("/").await.body;
    let past = server.get(&at(1000)).await.body;
    assert!(past.contains("You see the past") && past.contains("50 % connected"));
    assert!(now.contains("broken intent files") && !past.contains("broken intent files"));
    let before = server.get(&at(-1000)).await.body;
    assert!(before.contains("No connection was received yet"), "{before}");
}

#[tokio::test]
async fn the_csv_has_every_connection_that_is_not_active() {
    let server = TestServer::new().await;
    let mut formula = document("jdbc", "=HYPERLINK(\"x\")");
    formula["owner"]["user"] = "@owner".into();
    let ids = server.accept(&[formula, document("s3", "late")]).await;
    let broken = Failure::new(Class::Remote, "it said \"no\", twice", "ask them");
    server.attempt(ids[0], failed(Step::Health, broken)).await;
    let all = server.get("/ui/attention.csv").await;
    assert_eq!(all.status, 200);
    assert!(all.header("content-type").starts_with("text/csv"), "{all:?}");
    assert!(all.header("content-disposition").contains("attachment"), "{all:?}");
    let lines: Vec<&str> = all.body.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 3, "{}", all.body);
    let line = lines.iter().find(|line| line.contains(&ids[0].to_string())).copied().unwrap_or_default();
    for cell in ["\"it said \"\"no\"\", twice\"", ",100.00,", ",\"'=HYPERLINK(\"\"x\"\")\",", ",'@owner,", ",ask them,"] {
        assert!(line.contains(cell), "{cell} is not in {line}");
    }
    let key = line.split("twice\",").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
    let one = server.get(&format!("/ui/attention.csv?cause={key}")).await.body;
    assert_eq!(one.lines().count(), 2, "{one}");
    assert_eq!(server.send("GET", "/ui/attention.csv", &[], None).await.status, 401);
    assert_eq!(server.get("/ui/attention.csv?namespace=other").await.status, 403);
}

#[tokio::test]
async fn more_than_the_page_holds_is_said() {
    let server = TestServer::new().await;
    let documents: Vec<Value> = (0..203).map(|n| document("jdbc", &format!("r{n}"))).collect();
    let ids = server.accept(&documents).await;
    let broken = Failure::new(Class::Remote, "cut", "look");
    server.attempt(ids[7], failed(Step::Health, broken)).await;
    let data = server.get("/dashboard.json").await.json();
    assert_eq!(data["connections"].as_array().map(Vec::len), Some(200));
    assert_eq!(data["connections"][0]["connection_id"], ids[7].to_string(), "what needs a person comes first");
    let page = server.get("/").await.body;
    assert!(page.contains("Copy the names of the first 50") && page.contains("Open the list of 202 connections"));
    assert_eq!(page.matches("id=\"blocked-").count(), 51);
}

#[tokio::test]
async fn the_form_for_another_time_sends_what_the_page_accepts() {
    let server = full().await;
    let page = server.get("/").await.body;
    let (_, after) = page.split_once("name=\"at\" value=\"").expect("the field");
    let (value, _) = after.split_once('"').expect("its value");
    assert_eq!((value.len(), server.get(&format!("/?at={value}")).await.status), (16, 200), "{value}");
    let past = server.get("/?at=2026-11-08T17%3A59").await;
    assert!(past.status == 200 && past.body.contains("You see the past"), "{}", past.status);
    assert_eq!(server.get("/?at=yesterday").await.status, 400);
}

/// A page of the past is judged by the target of its time.
#[tokio::test]
async fn the_past_has_the_target_of_its_policy() {
    let server = full().await;
    let registry = &server.handle.registry;
    let earlier = format!("{}slo: {{coverage: 0.4}}\n", policy_text());
    registry.accept_policy(Digest::from_bytes(earlier.as_bytes()), earlier, Vec::new()).await.expect("recorded");
    server.later(60_000);
    let digest = server.handle.policy().digest;
    registry.accept_policy(digest, policy_text(), Vec::new()).await.expect("recorded");
    server.later(60_000);
    let now = server.get("/").await.body;
    assert!(now.contains("50 % connected · target 90 % · 1 more connection needed"), "{now}");
    let past = server.get(&format!("/?at={}", Timestamp(START + 30_000).rfc3339())).await.body;
    assert!(past.contains("50 % connected · target 40 % · target met"), "{past}");
}

#[tokio::test]
async fn the_form_for_another_time_and_the_way_back_keep_the_filters() {
    let server = full().await;
    server.later(60_000);
    let list = server.get("/ui/connections?state=ERROR&sort=-age&page=1&q=shop").await.body;
    let form = between(&list, "id=\"instant\"", "</form>");
    for (name, value) in [("state", "ERROR"), ("sort", "-age"), ("q", "shop")] {
        assert!(form.contains(&format!("name=\"{name}\" value=\"{value}\"")), "{name}: {form}");
    }
    assert!(!form.contains("name=\"page\""), "another time may not have as many pages: {form}");
    let past = server.get(&format!("/ui/connections?state=ERROR&q=shop&at={}", Timestamp(START + 1000).rfc3339())).await.body;
    assert!(past.contains("href=\"/ui/connections?q=shop&amp;state=ERROR\">Back to now"), "{past}");
    let home = server.get("/?range=7d").await.body;
    assert!(between(&home, "id=\"instant\"", "</form>").contains("name=\"range\" value=\"7d\""));
}

#[tokio::test]
async fn a_reader_of_another_namespace_sees_that_one() {
    let server = full().await;
    let reply = server.send("GET", "/", &[("Authorization", &bearer(OTHER))], None).await;
    assert!(reply.status == 200 && reply.body.contains("<title>") && reply.body.contains("other"), "{}", reply.status);
    let refused = server.send("GET", "/?namespace=autonomy", &[("Authorization", &bearer(OTHER))], None).await;
    assert_eq!(refused.status, 403);
}
