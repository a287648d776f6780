//! `s3` and `s3_compat` against moto in auth mode, which verifies every signature and IAM policy, and against nanio, which
//! verifies signatures with an independent implementation and checks the time.

use crate::harness::variable;
use crate::support::object_store::{OffsetClock, credential, discover, open_at, recording_session, refused};
use aam::connectors::object::ObjectEngine;
use aam::connectors::{Bounds, Opened};
use aam::credentials::Credential;
use aam::model::{Catalog, Class, Privilege};
use aam::policy::FamilyPolicy;
use std::sync::Arc;

peer_tests! {
    [Moto]: the_least_privilege_opens_discovers_and_samples, both_families_open_the_same_bucket_through_the_policys_base_url,
        a_prefix_with_special_characters_is_signed_and_bounds_the_listing, temporary_keys_need_their_session_token,
        a_wrong_secret_and_an_unknown_key_are_rejected, a_missing_permission_is_named_with_its_fix,
        missing_empty_dotted_and_large_buckets_are_handled;
    [Nanio]: a_second_independent_server_leads_to_the_same_results, the_error_names_the_offset_of_a_wrong_clock;
}

fn moto(name: &str) -> String {
    variable("MOTO", name)
}

fn endpoint() -> String {
    moto("ENDPOINT")
}

/// The key of one of the seed's users.
fn key_of(user: &str) -> Credential {
    credential(&format!("{}:{}", moto(&format!("{user}_KEY_ID")), moto(&format!("{user}_SECRET"))))
}

async fn opened(bucket: &str, key: &Credential) -> Opened {
    match open_at(&endpoint(), bucket, key).await.1 {
        Ok(opened) => opened,
        Err(failure) => panic!("{bucket}: {failure:?}"),
    }
}

fn names(catalog: &Catalog) -> Vec<&str> {
    catalog.streams.iter().map(|stream| stream.name.as_str()).collect()
}

async fn the_least_privilege_opens_discovers_and_samples() {
    let (session, result) = open_at(&endpoint(), "aam-landing", &key_of("LISTER")).await;
    let opened = result.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(opened.identity["bucket"], "aam-landing");
    assert_eq!(opened.identity["addressing"], "path");
    assert!(matches!(opened.privilege, Privilege::Unknown { .. }));

    let catalog = discover(&opened, Bounds::default()).await;
    assert_eq!(names(&catalog), ["events/", "objects", "orders/", "räume/"]);
    let top = catalog.streams.iter().find(|stream| stream.name == "objects").expect("the stream of the top folder");
    assert_eq!((top.row_estimate, top.namespace.as_deref()), (Some(2), Some("aam-landing")));
    assert!(top.json_schema["properties"].get("etag").is_some());

    let health = opened.connector.health().await.expect("healthy");
    assert_eq!(health["status"], 200);
    let sample = opened.connector.tiny_sync(&catalog, 20).await.expect("a sample");
    assert_eq!((sample.rows, &sample.evidence["metadata_only"], &sample.evidence["more"]), (20, &true.into(), &true.into()));
    assert_eq!(opened.connector.tiny_sync(&catalog, 3).await.expect("a sample").rows, 3);

    let sent = session.sent.lock().expect("unpoisoned");
    let secret = moto("LISTER_SECRET");
    assert_eq!(opened.connector.traffic().calls, sent.len() as u64);
    for call in sent.iter() {
        let line = call.lines().next().unwrap_or_default();
        assert!(line.starts_with("HEAD ") || line.contains("/aam-landing?list-type=2&"), "a call that is not a listing: {line}");
        assert!(!call.contains(&secret) && !line.contains("Signature"), "{line}");
    }
}

async fn both_families_open_the_same_bucket_through_the_policys_base_url() {
    let policy = FamilyPolicy { base_url: Some(endpoint()), ..FamilyPolicy::default() };
    for (engine, id) in [
        (ObjectEngine::new(Arc::new(OffsetClock(0))), "arn:aws:s3:::aam-landing"),
        (ObjectEngine::new(Arc::new(OffsetClock(0))), "s3://aam-landing/orders"),
        (ObjectEngine::compatible(Arc::new(OffsetClock(0))), "aam-landing"),
    ] {
        let opened = engine.open_on(recording_session("s3_compat"), id, Some(&key_of("LISTER")), &policy).await;
        assert_eq!(
            opened.map(|opened| opened.identity["bucket"].clone()).unwrap_or_else(|failure| panic!("{id}: {failure:?}")),
            "aam-landing"
        );
    }
}

async fn a_prefix_with_special_characters_is_signed_and_bounds_the_listing() {
    let key = key_of("LISTER");
    let orders = opened("aam-landing/orders", &key).await;
    let catalog = discover(&orders, Bounds::default()).await;
    assert_eq!(names(&catalog), ["orders/2026/", "orders/objects"]);
    assert_eq!(orders.connector.tiny_sync(&catalog, 20).await.expect("a sample").rows, 12);
    let special = opened("aam-landing/r%C3%A4ume", &key).await;
    assert_eq!(special.connector.tiny_sync(&Catalog::default(), 20).await.expect("a sample").rows, 1);
    // A prefix matches whole folder names only, and a folder without keys does not exist.
    let failure = refused(&endpoint(), "aam-landing/order", &key).await;
    assert_eq!(failure.class, Class::NotFound, "{failure:?}");
}

async fn temporary_keys_need_their_session_token() {
    let (id, secret, token) = (moto("SESSION_KEY_ID"), moto("SESSION_SECRET"), moto("SESSION_TOKEN"));
    let json = |token: &str| {
        credential(&serde_json::json!({"access_key_id": id, "secret_access_key": secret, "session_token": token}).to_string())
    };
    assert_eq!(opened("aam-landing", &json(&token)).await.identity["bucket"], "aam-landing");
    let failure = refused(&endpoint(), "aam-landing", &json("another")).await;
    assert_eq!(failure.class, Class::CredentialRejected, "{failure:?}");
}

async fn a_wrong_secret_and_an_unknown_key_are_rejected() {
    let wrong = credential(&format!("{}:not-the-secret", moto("LISTER_KEY_ID")));
    let failure = refused(&endpoint(), "aam-landing", &wrong).await;
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(failure.detail.starts_with("the store said: \"SignatureDoesNotMatch: "), "{failure:?}");
    let failure = refused(&endpoint(), "aam-landing", &credential("unknown-key-id:not-the-secret")).await;
    assert_eq!(failure.class, Class::CredentialRejected);
    assert!(failure.detail.starts_with("the store said: \"InvalidAccessKeyId: "), "{failure:?}");
}

async fn a_missing_permission_is_named_with_its_fix() {
    for (user, bucket) in [("UNPRIVILEGED", "aam-landing"), ("LISTER", "empty-bucket")] {
        let failure = refused(&endpoint(), bucket, &key_of(user)).await;
        assert_eq!(failure.class, Class::PermissionDenied, "{failure:?}");
        assert!(
            failure.title.contains("s3:ListBucket") && failure.title.contains(&format!("arn:aws:s3:::{bucket}")),
            "{failure:?}"
        );
        assert!(
            failure.fix.contains(r#""Action":["s3:ListBucket"]"#)
                && failure.detail.starts_with("the store said: \"AccessDenied: "),
            "{failure:?}"
        );
    }
}

async fn missing_empty_dotted_and_large_buckets_are_handled() {
    let key = key_of("AUDITOR");
    let failure = refused(&endpoint(), "no-such-bucket", &key).await;
    assert_eq!(failure.class, Class::NotFound, "{failure:?}");

    let empty = opened("empty-bucket", &key).await;
    let catalog = discover(&empty, Bounds::default()).await;
    let sample = empty.connector.tiny_sync(&catalog, 20).await.expect("a sample");
    assert_eq!((names(&catalog), sample.rows, &sample.evidence["note"]), (vec!["objects"], 0, &"empty".into()));

    let dotted = opened("dotted.bucket.name", &key).await;
    assert_eq!(dotted.connector.tiny_sync(&Catalog::default(), 20).await.expect("a sample").rows, 1);

    let other_region = opened("aam-frankfurt", &key).await;
    assert_eq!(other_region.identity["head_status"], 200);
    assert_eq!(other_region.identity["bucket_region"], "eu-central-1");
    let health = other_region.connector.health().await.expect("healthy");
    assert_eq!(health["probe"], "HEAD bucket");

    let many = opened("many-folders", &key).await;
    let whole = discover(&many, Bounds { streams: 5000, ..Bounds::default() }).await;
    assert_eq!((whole.streams.len(), whole.truncated), (1101, false));
    let bounded = discover(&many, Bounds { streams: 100, ..Bounds::default() }).await;
    assert_eq!((bounded.streams.len(), bounded.truncated), (100, true));
}

async fn a_second_independent_server_leads_to_the_same_results() {
    let (at, id) = (variable("NANIO", "ENDPOINT"), variable("NANIO", "KEY_ID"));
    let key = credential(&format!("{id}:{}", variable("NANIO", "SECRET")));
    let opened = open_at(&at, "landing", &key).await.1.unwrap_or_else(|failure| panic!("{failure:?}"));
    let catalog = discover(&opened, Bounds::default()).await;
    assert_eq!(names(&catalog), ["events/", "objects", "orders/"]);
    assert_eq!(opened.connector.health().await.expect("healthy")["status"], 200);
    assert_eq!(opened.connector.tiny_sync(&catalog, 20).await.expect("a sample").rows, 20);
    // The HEAD response of nanio does not contain a header that only object stores send, so the health check lists.
    let health = opened.connector.health().await.expect("healthy");
    assert_eq!(health["probe"], "ListObjectsV2 max-keys=1");
    let special = open_at(&at, "landing/events/a%20b", &key).await.1.unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(special.connector.tiny_sync(&catalog, 20).await.expect("a sample").rows, 1);

    let refusals = [
        ("no-such-bucket", key, Class::NotFound, "NoSuchBucket"),
        ("landing", credential(&format!("{id}:not-the-secret")), Class::CredentialRejected, "SignatureDoesNotMatch"),
        ("landing", credential("unknown-key-id:not-the-secret"), Class::CredentialRejected, "InvalidAccessKeyId"),
    ];
    for (bucket, key, class, code) in refusals {
        let failure = refused(&at, bucket, &key).await;
        assert_eq!(failure.class, class, "{failure:?}");
        assert!(failure.detail.starts_with(&format!("the store said: \"{code}: ")), "{failure:?}");
    }
}

async fn the_error_names_the_offset_of_a_wrong_clock() {
    let at = variable("NANIO", "ENDPOINT");
    let key = credential(&format!("{}:{}", variable("NANIO", "KEY_ID"), variable("NANIO", "SECRET")));
    let engine = ObjectEngine::compatible(Arc::new(OffsetClock(-3_630_000)));
    let result =
        engine.open_on(recording_session("s3_compat"), &format!("{at}/landing"), Some(&key), &FamilyPolicy::default()).await;
    let failure = result.err().expect("refused");
    assert_eq!(failure.class, Class::Remote, "{failure:?}");
    assert!(failure.title.contains("clock is 36") && failure.title.contains("behind"), "{failure:?}");
    assert!(failure.detail.starts_with("the store said: \"RequestTimeTooSkewed: "), "{failure:?}");
}
