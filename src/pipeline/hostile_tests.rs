//! Tests of connectors that report false numbers and of sources that echo secrets.

use super::doubles::{Act, Script, catalog, env, job, policy, skipped};
use super::*;
use crate::model::{Class, Locator, Privilege};

#[tokio::test]
async fn no_more_items_than_the_policy_allows_are_counted_whatever_a_connector_says() {
    let mut job = job(&["a", "b"]);
    job.policy = policy("safe_mode: {max_items: 7}");
    let script = Script { rows: 1000, ..Script::default() };
    let outcome = Attempt::new(&env(&script), &job).run().await;
    assert_eq!(outcome.rows, Some(7));
    assert_eq!(script.called().last().unwrap(), "tiny 7 a", "the second resource is not asked any more");
    assert_eq!(outcome.steps[5].evidence["rows"], 7);
}

/// Some of the secrets also occur as texts and numbers in the report itself, so scrubbing must not damage the JSON of
/// the report.
#[tokio::test]
async fn planted_secrets_are_in_no_part_of_an_outcome() {
    let text = "it said planted-canary-77, passed and 31337";
    let evidence: Evidence = serde_json::from_value(serde_json::json!({
        "said": text, "nested": {"planted-canary-77": [text, 31, true]}, "ms": 12
    }))
    .unwrap();
    let seen = || {
        let mut seen = skipped(catalog(&[("t-planted-canary-77", &["planted-canary-77", "id"])]), "planted-canary-77", text);
        seen.streams[0].namespace = Some(text.to_string());
        seen.streams[0].source_defined_primary_key = vec![vec!["planted-canary-77".to_string()]];
        seen
    };
    let failure = Failure::new(Class::Remote, text, text).detail(text);
    for tiny in [Act::Pass, Act::Fail(failure)] {
        let mut job = job(&["a"]);
        job.intent.credential_locator = Some(Locator::Env("PLANTED".to_string()));
        job.known = Some(catalog(&[("t", &["id"])]));
        let fails = matches!(tiny, Act::Fail(_));
        let script = Script {
            tiny,
            catalog: Arc::new(move |_| seen()),
            evidence: evidence.clone(),
            privilege: Privilege::Over { grants: vec![text.to_string()] },
            ..Script::default()
        };
        job.known = if fails { None } else { job.known };
        let outcome = Attempt::new(&env(&script), &job).run().await;
        let texts = format!("{:?} {:?} {:?}", outcome.steps, outcome.catalog, outcome.drift);
        assert!(!texts.contains("planted-canary-77") && !texts.contains("31337"), "{texts}");
        assert!(texts.contains("[redacted]"));
        assert_eq!(outcome.class(), Some(if fails { Class::Remote } else { Class::Drift }));
        let rows = serde_json::to_string(&outcome.steps).unwrap();
        let back: Vec<crate::model::StepReport> = serde_json::from_str(&rows).unwrap();
        assert_eq!(back, outcome.steps, "what is stored can be read again");
    }
}
