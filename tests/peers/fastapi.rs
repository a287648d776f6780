//! The `openapi` engine against a FastAPI service, which generates its own description.

use crate::harness::{get_json, variable};
use crate::support::openapi::{OpenApiRun, failure};
use crate::support::snapshot::assert_snapshot;
use aam::model::{Class, Privilege};
use aam::policy::FamilyPolicy;

peer_tests! {
    [Fastapi]: every_step_passes_and_only_gets_are_sent, wrong_missing_and_weak_credentials_are_distinguished,
        an_api_key_is_chosen_by_the_name_of_its_scheme;
}

/// The base URL and the token of the service.
fn service() -> (String, String) {
    (variable("FASTAPI", "URL"), variable("FASTAPI", "TOKEN"))
}

fn plain() -> FamilyPolicy {
    FamilyPolicy::default()
}

async fn every_step_passes_and_only_gets_are_sent() {
    let (url, token) = service();
    let run = OpenApiRun::open(&url, Some(&token), plain()).await;
    let opened = run.opened.as_ref().unwrap();
    assert_eq!(opened.identity["title"], "Library");
    assert_eq!(opened.identity["version"], "2.4.1");
    assert!(opened.identity["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(
        matches!(&opened.privilege, Privilege::Unknown { reason } if reason.contains("1 writing operation ")),
        "{:?}",
        opened.privilege
    );
    let discovery = run.discover().await.unwrap();
    let catalog = serde_json::to_value(&discovery.catalog).unwrap();
    assert_snapshot("openapi_fastapi_catalog", &serde_json::to_string_pretty(&catalog).unwrap(), &[]);
    let health = run.health().await.unwrap();
    assert_eq!((&health["operation"], &health["security"]), (&"listBooks".into(), &"HTTPBearer".into()));
    let sample = run.tiny(20).await.unwrap();
    assert_eq!((sample.rows, &sample.evidence["operation"]), (20, &"listBooks".into()));
    assert_eq!(sample.evidence.get("more_available"), None, "the limit was not sent");
    let calls = run.calls();
    assert_eq!(
        calls,
        [format!("GET {url}/openapi.json"), format!("GET {url}/books?limit=1"), format!("GET {url}/books?limit=20")]
    );
    let counted = get_json(&format!("{url}/calls")).await;
    assert_eq!(counted.get("POST"), None, "the service counted a POST: {counted}");
    let texts = format!("{:?} {health:?} {:?} {calls:?}", opened.identity, sample.evidence);
    assert!(!texts.contains(&token), "the token appears outside of the header");
}

async fn wrong_missing_and_weak_credentials_are_distinguished() {
    let (url, token) = service();
    let wrong = failure(&url, Some("wrong"), plain()).await;
    assert_eq!(wrong.class, Class::CredentialRejected, "{wrong:?}");
    assert!(wrong.detail.contains("unknown token"), "{wrong:?}");
    let weak = failure(&url, Some(&format!("{token}-unprivileged")), plain()).await;
    assert_eq!(weak.class, Class::PermissionDenied);
    assert!(weak.detail.contains("this token may not read books") && !format!("{weak:?}").contains(&token), "{weak:?}");
    // Without a credential only the operation that does not require one can be read.
    let open = OpenApiRun::open(&url, None, plain()).await.health().await.unwrap();
    assert_eq!(open["operation"], "countCalls");
    let denied = FamilyPolicy { deny_operations: vec!["countCalls".into()], ..plain() };
    let missing = failure(&url, None, denied).await;
    assert_eq!(missing.class, Class::CredentialMissing);
    assert!(missing.fix.contains("X-Api-Key") || missing.fix.contains("bearer"), "{missing:?}");
}

async fn an_api_key_is_chosen_by_the_name_of_its_scheme() {
    let (url, _) = service();
    let key = format!("{{\"APIKeyHeader\": \"{}\"}}", variable("FASTAPI", "KEY"));
    let run = OpenApiRun::open(&url, Some(&key), plain()).await;
    assert_eq!(run.health().await.unwrap()["security"], "APIKeyHeader");
    // This operation does not have a limit: it returns 300 records, of which AAM counts 20.
    let sample = run.tiny(20).await.unwrap();
    assert_eq!((sample.rows, &sample.evidence["more_available"]), (20, &true.into()));
    let denied = FamilyPolicy { deny_operations: vec!["/authors".into()], ..plain() };
    let run = OpenApiRun::open(&url, Some(&key), denied).await;
    let _ = run.tiny(20).await;
    assert!(!run.calls().iter().any(|call| call.contains("/authors")), "{:?}", run.calls());
}
