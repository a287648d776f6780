//! Every call of the GitHub and Slack families, checked against the API descriptions that the vendors publish.
//!
//! prism answers with the examples of the descriptions and refuses calls that they do not describe: unknown paths and
//! parameters, bodies that do not fit, and calls without the header `Authorization: Bearer`. It keeps no state and does not
//! check tokens or the signature of a GitHub App.

use crate::harness::{http_client, variable};
use crate::support::github::app_credential;
use crate::support::lowcode_families::{EngineFixture, policy, remaining_steps, stream_names};
use aam::model::{Class, Privilege};
use serde_json::json;

peer_tests! {
    [Prism]: all_calls_of_github_fit_its_api_description, all_calls_of_a_github_app_fit_the_api_description,
        all_calls_of_slack_fit_its_api_description,
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

async fn all_calls_of_a_github_app_fit_the_api_description() {
    let fixture = EngineFixture::at("github", &variable("PRISM", "GITHUB"));
    let opened = fixture.open("github", "octocat/Hello-World", Some(&app_credential())).await.unwrap();
    assert_eq!(
        (&opened.identity["auth"], &opened.identity["matched"]),
        (&json!("app"), &json!("full_name is octocat/Hello-World"))
    );
    // The installation in the description's example may write checks.
    assert_eq!(opened.privilege, Privilege::Over { grants: vec!["checks=write".to_string()] });
    let (discovery, sample) = remaining_steps(&opened).await.unwrap();
    assert_eq!((stream_names(&discovery), sample.rows), (vec!["contributors", "repository", "tags"], 3));
    assert_eq!(discovery.catalog.skipped, []);
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
    let with = |path: &'static str, authorization: &'static str| {
        let request = http_client().get(format!("{github}{path}")).header("authorization", authorization);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(with("/orgs/github/repos?per_page=many", "Bearer a-token-of-the-test").await, 422);
    assert_eq!(status(format!("{github}/orgs/github/repositories")).await, 404);
    assert_eq!(with("/app/installations/1", "Bearer a.b.c").await, 200);
    assert_eq!(with("/app/installations/1", "a.b.c").await, 401, "the token of an app needs its scheme");
    let fixture = EngineFixture::new(policy(&format!("families: {{github: {{base_url: \"{github}/v9\"}}}}")));
    let failure = fixture.open("github", "github", Some("a-token-of-the-test")).await.err().unwrap();
    assert_eq!(failure.class, Class::WrongService, "{failure:?}");
    assert!(failure.fix.contains("families.github.base_url"), "{failure:?}");
}
