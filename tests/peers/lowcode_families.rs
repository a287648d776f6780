//! Every call of the GitHub and Slack families, checked against the API descriptions that the vendors publish.
//!
//! prism answers with the examples of the descriptions and refuses calls that they do not describe: unknown paths and
//! parameters, and for Slack also a missing token. It keeps no state and does not check tokens.

use crate::harness::{http_client, variable};
use crate::support::lowcode_families::{EngineFixture, policy, remaining_steps, stream_names};
use aam::model::Class;
use serde_json::json;

peer_tests! {
    [Prism]: all_calls_of_github_fit_its_api_description, all_calls_of_slack_fit_its_api_description,
        prism_refuses_calls_that_are_not_described;
}

async fn all_calls_of_github_fit_its_api_description() {
    let fixture = EngineFixture::at("github", &variable("PRISM", "GITHUB"));
    let opened = fixture.open("github", "github", Some("a-token-of-the-test")).await.unwrap();
    assert_eq!(opened.identity["matched"], "login is github");
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["members", "repositories", "teams"]);
    assert_eq!(discovery.catalog.skipped, []);
    // The description has one example for each list.
    assert_eq!(sample.evidence["streams"], json!({"repositories": 1, "teams": 1, "members": 1}));
    let one = fixture.open("github", "octocat/Hello-World", Some("a-token-of-the-test")).await.unwrap();
    let (discovery, sample) = remaining_steps(&one).await.unwrap();
    assert_eq!(stream_names(&discovery), ["contributors", "repository", "tags"]);
    assert_eq!(sample.rows, 3);
}

async fn all_calls_of_slack_fit_its_api_description() {
    let fixture = EngineFixture::at("slack", &variable("PRISM", "SLACK"));
    let opened = fixture.open("slack", "T12345678", Some("a-token-of-the-test")).await.unwrap();
    assert_eq!(
        (&opened.identity["matched"], &opened.identity["team"]),
        (&json!("team_id is T12345678"), &json!("Subarachnoid Workspace"))
    );
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!(stream_names(&discovery), ["channels", "team", "users"]);
    // The example always names a next cursor, so the read ends at the limit of 20 rows.
    assert_eq!((sample.rows, &sample.evidence["streams"]), (20, &json!({"channels": 20})));
}

async fn prism_refuses_calls_that_are_not_described() {
    let status = |url: String| async move { http_client().get(url).send().await.unwrap().status().as_u16() };
    let github = variable("PRISM", "GITHUB");
    assert_eq!(status(format!("{github}/orgs/github/repos?per_page=many")).await, 422);
    assert_eq!(status(format!("{github}/orgs/github/repositories")).await, 404);
    let fixture = EngineFixture::new(policy(&format!("families: {{github: {{base_url: \"{github}/v9\"}}}}")));
    let failure = fixture.open("github", "github", Some("a-token-of-the-test")).await.err().unwrap();
    assert_eq!(failure.class, Class::NotFound, "{failure:?}");
}
