use super::doubles::{Act, PLANTED, Script, env, fail, job, policy};
use super::*;
use crate::credentials::Secret;
use crate::model::Class;
use serde_json::json;

fn credential(text: &str) -> Credential {
    Credential::read(Secret::new(text.to_string()))
}

#[tokio::test]
async fn the_steps_upsert_and_health_run_and_the_identity_is_returned() {
    let script = Script { evidence: json!({"tenant": "acme"}).as_object().unwrap().clone(), ..Script::default() };
    let evidence = prove(&env(&script), &job(&["a"]), credential("a-token")).await.unwrap();
    assert_eq!(script.called(), ["open a", "health a"]);
    assert_eq!(evidence["tenant"], "acme");
}

#[tokio::test]
async fn a_credential_that_the_source_rejects_or_does_not_need_proves_nothing() {
    let script = Script { health: fail(Class::CredentialRejected), ..Script::default() };
    assert_eq!(prove(&env(&script), &job(&["a"]), credential("t")).await.unwrap_err().class, Class::CredentialRejected);
    let script = Script { public: true, ..Script::default() };
    let failure = prove(&env(&script), &job(&["a"]), credential("t")).await.unwrap_err();
    assert!(failure.class == Class::Misconfigured && failure.title.contains("needs a credential"), "{failure:?}");
}

#[tokio::test]
async fn a_failure_is_returned_without_the_secret() {
    let failure = Failure::new(Class::WrongService, "it answers as 31337", "no").detail("planted-canary-77\nsecond line");
    let script = Script { open: Act::Fail(failure), ..Script::default() };
    let failure = prove(&env(&script), &job(&["a", "b"]), credential(PLANTED)).await.unwrap_err();
    assert_eq!(failure.class, Class::WrongService);
    let text = format!("{failure:?}");
    assert!(!text.contains("planted-canary-77") && !text.contains("31337") && text.contains("[redacted]"), "{text}");
    assert!(!failure.detail.contains('\n'), "{failure:?}");
}

#[tokio::test]
async fn an_intent_that_may_not_run_and_a_source_that_hangs_prove_nothing() {
    let script = Script::default();
    let mut refused = job(&["a"]);
    refused.intent.evidence.status = "Shadow".to_string();
    assert_eq!(prove(&env(&script), &refused, credential("t")).await.unwrap_err().class, Class::NotEligible);
    assert_eq!(script.called(), [""; 0], "no call is made");
    for (open, class) in [(Act::Hang, Class::Network), (Act::Panic, Class::Bug), (fail(Class::Remote), Class::Remote)] {
        let script = Script { open, ..Script::default() };
        let mut job = job(&["a"]);
        job.policy = policy("safe_mode: {step_timeout: 50ms, attempt_timeout: 1s}");
        assert_eq!(prove(&env(&script), &job, credential("t")).await.unwrap_err().class, class);
    }
}
