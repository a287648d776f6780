//! The credentials of instances (IMDSv2) and containers, from servers that are as strict as AWS documents.

use crate::support::aws::{Fake, KEY_ID, Received, Reply, Rig, SECRET, SESSION, document, field, imds};
use aam::model::Class;
use aam::providers::Reading;

const ONE_HOUR: &str = "2026-11-29T13:00:00Z";

async fn instance(role: Option<&'static str>, credentials: String) -> (Fake, Rig) {
    let fake = Fake::start(move |request| imds(request, role, &credentials)).await;
    let rig = Rig::new(&format!("{{kind: aws, source: instance, metadata_url: \"{}\"}}", fake.url));
    (fake, rig)
}

#[tokio::test]
async fn an_instance_gives_its_credentials_by_version_2_only() {
    let (fake, rig) = instance(Some("aam-reader"), document(Some("Success"), ONE_HOUR)).await;
    let provided = rig.provide(Reading::Cached).await.unwrap();
    let fields = ["access_key_id", "secret_access_key", "session_token"].map(|name| field(&provided, name));
    assert_eq!(fields, [KEY_ID, SECRET, SESSION]);
    assert_eq!(provided.facts.valid_until.map(|at| at.rfc3339()).as_deref(), Some("2026-11-29T13:00:00.000Z"));
    assert_eq!(provided.facts.evidence["instance_role"], "aam-reader");
    assert!(!provided.credential.is_read_only(), "nothing limits the role of an instance");
    let path = "/latest/meta-data/iam/security-credentials/";
    assert_eq!(fake.calls(), ["PUT /latest/api/token".to_string(), format!("GET {path}"), format!("GET {path}aam-reader")]);
    rig.provide(Reading::Cached).await.unwrap();
    assert_eq!(fake.calls().len(), 3, "the second connection uses the cached credentials");
    rig.clock.forward(3600);
    assert_eq!(rig.failure().await.class, Class::Remote, "the service gives credentials that have ended");
    assert_eq!(fake.calls().len(), 6);
}

#[tokio::test]
async fn what_an_instance_refuses_has_its_own_fix() {
    let (_, rig) = instance(None, String::new()).await;
    let failure = rig.failure().await;
    assert_eq!((failure.class, failure.title.as_str()), (Class::CredentialMissing, "this instance does not have a role"));
    assert!(failure.fix.contains("aws ec2 associate-iam-instance-profile"), "{failure:?}");

    let (_, rig) = instance(Some("r"), document(Some("AssumeRoleUnauthorizedAccess"), ONE_HOUR)).await;
    let failure = rig.failure().await;
    assert_eq!(failure.class, Class::PermissionDenied);
    assert!(failure.fix.contains(r#"{"Service":"ec2.amazonaws.com"}"#), "{failure:?}");

    // A role name is a part of the next URL.
    let (fake, rig) = instance(Some("../../api/token?x"), String::new()).await;
    assert_eq!(rig.failure().await.class, Class::WrongService);
    assert_eq!(fake.calls().len(), 2);

    for (status, class, fix) in [
        (403, Class::PermissionDenied, "--http-endpoint enabled"),
        (404, Class::WrongService, "does not use version 1"),
        (400, Class::WrongService, "check what answers"),
        (500, Class::Remote, "tries again"),
    ] {
        let fake = Fake::start(move |_| Reply::Answer(status, "canary-body".replace("canary", "text"))).await;
        let rig = Rig::new(&format!("{{kind: aws, source: instance, metadata_url: \"{}\"}}", fake.url));
        let failure = rig.failure().await;
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.fix.contains(fix), "{failure:?}");
        assert!(fake.calls().iter().all(|call| call == "PUT /latest/api/token"), "{:?}", fake.calls());
    }

    // The token is accepted by one service, and another one answers the GET.
    let other = Fake::start(|request| match request.method.as_str() {
        "PUT" => Reply::Answer(200, "another-token".to_string()),
        _ => imds(request, Some("r"), ""),
    })
    .await;
    let rig = Rig::new(&format!("{{kind: aws, source: instance, metadata_url: \"{}\"}}", other.url));
    let failure = rig.failure().await;
    assert!(failure.class == Class::Remote && failure.title.contains("does not accept the token"), "{failure:?}");
}

#[tokio::test]
async fn a_token_that_never_arrives_is_explained_by_the_hop_limit() {
    let fake = Fake::start(|_| Reply::Silence).await;
    let rig = Rig::new(&format!("{{kind: aws, source: instance, metadata_url: \"{}\"}}", fake.url));
    let failure = rig.failure().await;
    assert_eq!(failure.class, Class::Network);
    assert!(failure.title.contains("did not answer the request for a token"), "{failure:?}");
    assert!(failure.fix.contains("--http-put-response-hop-limit 2"), "{failure:?}");
    assert_eq!(fake.calls(), ["PUT /latest/api/token"], "version 1 is never tried");
}

#[tokio::test]
async fn redirects_of_a_metadata_service_are_not_followed() {
    let target = Fake::start(|_| Reply::Answer(200, "stolen".to_string())).await;
    let to = format!("{}/latest/api/token", target.url);
    let fake = Fake::start(move |_| Reply::With(302, ("location", to.clone()), String::new())).await;
    let rig = Rig::new(&format!("{{kind: aws, source: instance, metadata_url: \"{}\"}}", fake.url));
    assert_eq!(rig.failure().await.class, Class::WrongService);
    assert!(target.calls().is_empty());
}

/// The container endpoint: it knows one path, and asks for the token that the runtime mounts.
fn container(request: &Received, token: Option<&str>) -> Reply {
    let sent = request.headers.get("authorization").map(String::as_str);
    match (request.method.as_str(), request.target.as_str()) {
        ("GET", "/v2/credentials/task") if sent == token => Reply::Answer(200, document(None, ONE_HOUR)),
        ("GET", "/v2/credentials/task") => Reply::Answer(403, "forbidden".to_string()),
        _ => Reply::Answer(404, r#"{"code":"NoIdInRequest","message":"CredentialsV2Request: No Credential ID"}"#.to_string()),
    }
}

#[tokio::test]
async fn a_container_gives_its_credentials() {
    let fake = Fake::start(|request| container(request, None)).await;
    let rig = Rig::new(&format!("{{kind: aws, source: container, metadata_url: \"{}\"}}", fake.url));
    let failure = rig.failure().await;
    assert_eq!(failure.class, Class::CredentialMissing, "{failure:?}");
    assert!(failure.title.contains("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), "{failure:?}");
    // The variables are read at each mint.
    rig.set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/gone");
    let failure = rig.failure().await;
    assert!(failure.class == Class::CredentialMissing && failure.title.contains("does not know"), "{failure:?}");
    rig.set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/task");
    let provided = rig.provide(Reading::Cached).await.unwrap();
    assert_eq!((field(&provided, "access_key_id").as_str(), field(&provided, "secret_access_key").as_str()), (KEY_ID, SECRET));
}

#[tokio::test]
async fn the_authorization_token_is_read_anew_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let fake = Fake::start(|request| container(request, Some("canary-authorization-2"))).await;
    let rig = Rig::new("{kind: aws, source: container}");
    rig.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v2/credentials/task", fake.url));
    rig.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file.display().to_string());
    rig.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-never-used");
    let failure = rig.failure().await;
    assert!(failure.class == Class::CredentialMissing && failure.title.contains("could not read"), "{failure:?}");
    std::fs::write(&file, "canary-authorization-1").unwrap();
    let failure = rig.failure().await;
    assert_eq!(failure.class, Class::PermissionDenied, "{failure:?}");
    assert!(failure.fix.contains("pods.eks.amazonaws.com"), "{failure:?}");
    std::fs::write(&file, "canary-authorization-2\n").unwrap();
    rig.provide(Reading::Cached).await.unwrap();
    std::fs::write(&file, "a\nb").unwrap();
    let failure = rig.provide(Reading::Anew).await.err().unwrap();
    assert!(failure.title.contains("line break"), "{failure:?}");
    assert_eq!(fake.calls().len(), 2);
}

#[tokio::test]
async fn loopback_needs_the_policy_and_other_hosts_need_https() {
    let fake = Fake::start(|request| container(request, None)).await;
    let rig = Rig::with_network("{kind: aws, source: container}", "allow_private: []");
    rig.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v2/credentials/task", fake.url));
    assert_eq!(rig.failure().await.class, Class::EgressRefused);
    rig.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/v2/credentials/task");
    assert_eq!(rig.failure().await.class, Class::Misconfigured);
    assert!(fake.calls().is_empty());
}
