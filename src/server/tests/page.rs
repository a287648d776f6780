//! Tests that the dashboard shows correct data, escapes it, and does not load anything from other origins.

use super::*;
use crate::model::{FilePlace, Problem};
use crate::policy::Rejected;

async fn full() -> TestServer {
    let server = TestServer::new().await;
    let mut hostile = document("jdbc", "<script>alert(1)</script>");
    hostile["owner"]["user"] = "\"><img src=x onerror=alert(2)>".into();
    hostile["<b>extra</b>"] = 1.into();
    let ids = server.accept(&[hostile, document("s3", "bucket"), document("fax", "x"), document("s3", "late")]).await;
    let denied = Failure::new(Class::PermissionDenied, "no right to list <i>objects</i>", "allow s3:ListBucket on the bucket")
        .detail("AccessDenied: </code><script>alert(3)</script>");
    server.attempt(ids[0], passed("")).await;
    server.attempt(ids[1], failed(Step::Discover, denied)).await;
    server.attempt(ids[2], by_type("fax")).await;
    let policy = server.handle.policy();
    server.handle.registry.accept_policy(policy.digest, policy_text(), Vec::new()).await.expect("recorded");
    server
}

#[tokio::test]
async fn hostile_text_is_inert() {
    let server = full().await;
    let page = server.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for evil in ["<script>alert", "<img", "<i>objects", "<b>extra"] {
        assert!(!page.body.contains(evil), "{evil}");
    }
    for shown in ["&lt;script&gt;alert(1)", "&quot;&gt;&lt;img src=x", "&lt;i&gt;objects"] {
        assert!(page.body.contains(shown), "{shown}");
    }
    assert_eq!(page.body.matches("<script").count(), 1);
    for foreign in ["http://", "https://", "url(", "@import"] {
        assert!(!page.body.contains(foreign), "{foreign}");
    }
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
    assert_eq!((&data["data_source"], &data["total"], &data["problems_total"]), (&json!("database"), &json!(4), &json!(1)));
    assert_eq!(data["policy"]["accepted_at"], Timestamp(START).rfc3339());
    assert_eq!(data["funnel"], server.get("/metrics/funnel").await.json());
    let digest = server.handle.policy().digest.to_string();
    let start = page.find("<body>").unwrap_or(0);
    let end = page.find("<script>").unwrap_or(page.len());
    let body = page[start..end].replace(&digest, "[digest]").replace('>', ">\n").replace("</", "\n</");
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("dashboard_page", body);
    });
}

#[tokio::test]
async fn the_hashes_of_the_policy_are_those_of_the_page() {
    let server = TestServer::new().await;
    let page = server.get("/").await;
    let between = |open: &str, close: &str| {
        page.body.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map_or("", |(text, _)| text)
    };
    use base64::Engine as _;
    let hash =
        |text: &str| format!("'sha256-{}'", base64::prelude::BASE64_STANDARD.encode(Digest::from_bytes(text.as_bytes()).0));
    let policy = page.header("content-security-policy");
    let (style, script) = (between("<style>", "</style>"), between("<script>", "</script>"));
    assert!(style.len() > 500 && script.len() > 200);
    assert!(policy.contains(&hash(style)) && policy.contains(&hash(script)));
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
    assert!(server.get("/").await.body.contains("The 200 most urgent of 203"));
}
