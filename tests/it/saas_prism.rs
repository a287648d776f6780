//! Every call of github and slack against the vendors' own API descriptions (`scripts/with_peers.sh prism -- ...`).
//!
//! prism answers with the examples of the descriptions and refuses what they do not describe: paths, parameters,
//! for Slack also a missing token. It keeps no state and checks no token.

use crate::saas_support::{World, names, policy, rest};
use aam::model::Class;
use serde_json::json;

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run through scripts/with_peers.sh prism -- ..."))
}

#[tokio::test]
async fn the_calls_of_github_are_those_of_its_description() {
    let world = World::at("github", &env("AAM_TEST_PRISM_GITHUB"));
    let opened = world.open("github", "github", Some("a-token-of-the-test")).await.unwrap();
    assert_eq!(opened.identity["matched"], "login is github");
    let (discovery, sample) = rest(&opened).await.unwrap();
    assert_eq!(names(&discovery), ["members", "repositories", "teams"]);
    assert_eq!(discovery.catalog.skipped, []);
    // One example for each list.
    assert_eq!(sample.evidence["streams"], json!({"repositories": 1, "teams": 1, "members": 1}));
    let one = world.open("github", "octocat/Hello-World", Some("a-token-of-the-test")).await.unwrap();
    let (discovery, sample) = rest(&one).await.unwrap();
    assert_eq!(names(&discovery), ["contributors", "repository", "tags"]);
    assert_eq!(sample.rows, 3);
}

#[tokio::test]
async fn the_calls_of_slack_are_those_of_its_description() {
    let world = World::at("slack", &env("AAM_TEST_PRISM_SLACK"));
    let opened = world.open("slack", "T12345678", Some("a-token-of-the-test")).await.unwrap();
    assert_eq!(
        (&opened.identity["matched"], &opened.identity["team"]),
        (&json!("team_id is T12345678"), &json!("Subarachnoid Workspace"))
    );
    let (discovery, sample) = rest(&opened).await.unwrap();
    assert_eq!(names(&discovery), ["channels", "team", "users"]);
    // The example's cursor never ends: twenty rows do.
    assert_eq!((sample.rows, &sample.evidence["streams"]), (20, &json!({"channels": 20})));
}

#[tokio::test]
async fn the_referee_does_refuse() {
    let client = || {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy().build().unwrap()
    };
    let status = |url: String| async move { client().get(url).send().await.unwrap().status().as_u16() };
    let github = env("AAM_TEST_PRISM_GITHUB");
    assert_eq!(status(format!("{github}/orgs/github/repos?per_page=many")).await, 422);
    assert_eq!(status(format!("{github}/orgs/github/repositories")).await, 404);
    let world = World::new(policy(&format!("families: {{github: {{base_url: \"{github}/v9\"}}}}")));
    let failure = world.open("github", "github", Some("a-token-of-the-test")).await.err().unwrap();
    assert_eq!(failure.class, Class::NotFound, "{failure:?}");
}
