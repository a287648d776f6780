//! Tests of lists, single connections, and the current and past funnel.

use super::*;
use crate::funnel::funnel;
use std::collections::BTreeSet;

#[tokio::test]
async fn pages_hold_every_connection_once() {
    let server = TestServer::new().await;
    let documents: Vec<Value> = (0..250).map(|n| document(if n % 5 == 0 { "s3" } else { "jdbc" }, &format!("r{n}"))).collect();
    let ids: BTreeSet<String> = server.accept(&documents).await.iter().map(ToString::to_string).collect();
    let (mut seen, mut target, mut pages) = (Vec::new(), "/connections?namespace=autonomy".to_string(), 0);
    loop {
        let page = server.get(&target).await.json();
        assert_eq!((&page["data_source"], &page["total"]), (&json!("database"), &json!(250)));
        seen.extend(
            page["connections"].as_array().into_iter().flatten().map(|c| c["connection_id"].as_str().unwrap_or("").to_string()),
        );
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(cursor) => target = format!("/connections?namespace=autonomy&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 250));
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), ids);
    let filtered = server.get("/connections?source_type=s3&state=pending&limit=1000").await.json();
    assert_eq!((&filtered["total"], &filtered["next_cursor"]), (&json!(50), &Value::Null));
    assert!(filtered["connections"][0]["resource_ids"][0].as_str().is_some_and(|id| id.starts_with('r')));
    assert!(filtered["connections"][0].get("steps").is_none());
    assert_eq!(server.get("/connections?state=ACTIVE").await.json()["total"], 0);
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "state=FINE",
        "cursor=!",
        "limit=1&limit=2",
        "updated_since=yesterday",
        "state=ACTIVE&status=ERROR",
    ] {
        let reply = server.get(&format!("/connections?{bad}")).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "BAD_REQUEST"), "{bad}");
    }
}

#[tokio::test]
async fn one_connection_tells_its_whole_story() {
    let server = TestServer::new().await;
    let id = server.accept(&[document("jdbc", "jdbc:sqlite:a.db")]).await[0];
    let path = |rest: &str| format!("/connections/{id}{rest}");
    assert_eq!(server.get(&path("/catalog")).await.code(), "NOT_FOUND");
    assert_eq!(server.get(&path("")).await.json()["message"], "Accepted; the first attempt has not finished yet.");
    server.attempt(id, passed("")).await;
    server.later(60_000);
    let denied = Failure::new(Class::PermissionDenied, "no right to read orders", "GRANT SELECT ON orders TO reader")
        .detail("42501: permission denied for table orders");
    server.attempt(id, failed(Step::TinySync, denied)).await;
    let body = server.get(&path("")).await.json();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_json_snapshot!("server_connection_healing", body);
    });
    let health = server.get(&path("/health")).await.json();
    assert_eq!(
        (&health["healthy"], &health["step"]["status"], &health["last_tiny_sync"]["rows"], &health["failures_in_a_row"]),
        (&json!(true), &json!("passed"), &json!(20), &json!(1))
    );
    let catalog = server.get(&path("/catalog?version=1")).await.json();
    assert_eq!(catalog["catalog"]["streams"][0]["name"], "orders");
    assert_eq!(server.get(&path("/catalog?version=2")).await.code(), "NOT_FOUND");
    let (mut kinds, mut target) = (Vec::new(), path("/versions?limit=2"));
    loop {
        let page = server.get(&target).await.json();
        kinds.extend(page["versions"].as_array().into_iter().flatten().map(|v| v["kind"].as_str().unwrap_or("").to_string()));
        match page["next_cursor"].as_str() {
            Some(cursor) => target = path(&format!("/versions?limit=2&cursor={cursor}")),
            None => break,
        }
    }
    assert_eq!(kinds.last().map(String::as_str), Some("intent_accepted"));
    assert_eq!(kinds.iter().filter(|kind| *kind == "attempt_finished").count(), 2);
    for missing in ["/connections/none", "/connections/8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e"] {
        assert_eq!(server.get(missing).await.code(), "NOT_FOUND");
    }
}

#[tokio::test]
async fn the_funnel_is_the_fold_and_at_folds_the_past() {
    let server = TestServer::new().await;
    let ids = server.accept(&[document("jdbc", "a"), document("s3", "b")]).await;
    server.attempt(ids[0], passed("")).await;
    let then = server.get("/metrics/funnel").await.json();
    server.later(60_000);
    server.attempt(ids[1], passed("")).await;
    let now = server.get("/metrics/funnel?namespace=autonomy").await.json();
    let folded =
        funnel(&server.handle.registry.snapshot(), "autonomy", server.handle.policy().slo.coverage, server.handle.clock.now());
    assert_eq!(now, serde_json::to_value(&folded).expect("JSON"));
    assert_eq!((&now["active"], &then["active"]), (&json!(2), &json!(1)));
    let past = server.get("/metrics/funnel?at=2026-11-08T18:00:30Z").await.json();
    assert_eq!((&past["active"], &past["summary"]), (&then["active"], &then["summary"]));
    assert_eq!(past["as_of"], "2026-11-08T18:00:30.000Z");
    assert_eq!(server.get("/metrics/funnel?at=2026-11-08T17:00:00%2B00:00").await.json()["received"], 0);
    assert_eq!(
        server.get("/metrics/funnel?at=2099-01-01T00:00:00Z").await.json()["as_of"],
        now["as_of"],
        "the future is not known"
    );
    assert_eq!(server.get("/metrics/funnel?at=yesterday").await.code(), "BAD_REQUEST");
}

#[tokio::test]
async fn a_kept_answer_is_never_older_than_a_commit() {
    let server = TestServer::new().await;
    for n in 0..20 {
        server.accept(&[document("jdbc", &format!("r{n}"))]).await;
        assert_eq!(server.get("/connections").await.json()["total"], n + 1);
        assert_eq!(server.get("/metrics/funnel").await.json()["received"], n + 1);
    }
}

#[tokio::test]
async fn prometheus_reads_the_same_numbers() {
    let server = TestServer::new().await;
    let ids = server.accept(&[document("jdbc", "a"), document("s3", "b")]).await;
    server.attempt(ids[0], passed("")).await;
    server.handle.trouble.store(Arc::new("the disk is full".to_string()));
    let reply = server.get("/metrics").await;
    assert_eq!(reply.header("content-type"), crate::server::meta::METRICS);
    for line in [
        "aam_connections{namespace=\"autonomy\",stage=\"active\"} 1",
        "aam_connections{namespace=\"autonomy\",stage=\"pending\"} 1",
        "aam_registry_trouble 1",
        "aam_coverage_ratio{namespace=\"autonomy\"} 1.0",
        "# EOF",
    ] {
        assert!(reply.body.contains(line), "{line} is not in\n{}", reply.body);
    }
}

#[tokio::test]
async fn readiness_follows_the_scan_and_the_registry() {
    let server = TestServer::new().await;
    assert_eq!(server.get("/readyz").await.json()["status"], "ready");
    server.handle.trouble.store(Arc::new("the disk is full".to_string()));
    let reply = server.get("/readyz").await;
    assert_eq!(
        (reply.status, reply.code().as_str(), reply.json()["detail"].as_str()),
        (503, "NOT_READY", Some("the disk is full"))
    );
    server.handle.trouble.store(Arc::default());
    server.handle.ready.send_replace(false);
    assert_eq!(server.get("/readyz").await.status, 503);
    assert_eq!(server.get("/healthz").await.status, 200);
}
