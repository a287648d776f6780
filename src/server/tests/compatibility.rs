//! Tests of what clients of the predecessor call and read.

use super::*;

#[tokio::test]
async fn every_path_is_served_below_the_prefix_and_with_a_slash_at_the_end() {
    let server = TestServer::new().await;
    let id = server.accept(&[document("jdbc", "a")]).await[0];
    for path in ["/connections", "/metrics/funnel", "/dashboard.json", "/healthz", &format!("/connections/{id}")] {
        let plain = server.get(path).await;
        for other in [format!("/api/v1/aam{path}"), format!("{path}/"), format!("/api/v1/aam{path}//?namespace=autonomy")] {
            let reply = server.get(&other).await;
            assert_eq!((reply.status, &reply.body), (200, &plain.body), "{other}");
        }
    }
    assert_eq!(server.get("/api/v1/aam").await.header("content-type"), "text/html; charset=utf-8");
    let missing = server.get("/api/v1/aam/nothing").await;
    assert_eq!((missing.code().as_str(), &missing.json()["instance"]), ("NOT_FOUND", &json!("/api/v1/aam/nothing")));
    let worker = server.answer_wakes(by_type);
    let pushed = server.post("/api/v1/aam/connections/onboard/", &document("jdbc", "b")).await;
    assert_eq!(pushed.status, 201);
    let location = pushed.header("location");
    assert!(location.starts_with("/api/v1/aam/connections/") && server.get(location).await.status == 200, "{location}");
    worker.abort();
}

/// Checks the fields that clients of the predecessor read from every object about a connection.
fn assert_fields(object: &Value, id: ConnectionId) {
    let id = id.to_string();
    assert_eq!((&object["id"], &object["connection_id"]), (&json!(id), &json!(id)), "{object}");
    assert_eq!(object["name"], "jdbc a", "{object}");
    for field in ["created_at", "updated_at", "last_health_check"] {
        assert!(object[field].as_str().is_some_and(|at| at.ends_with('Z')), "{field} of {object}");
    }
    assert_eq!(object["error_message"].is_string(), object["error"].is_object(), "{object}");
}

#[tokio::test]
async fn every_object_about_a_connection_has_the_fields_of_the_predecessor() {
    let server = TestServer::new().await;
    let id = server.accept(&[document("jdbc", "a")]).await[0];
    assert_eq!(server.get(&format!("/connections/{id}")).await.json()["last_health_check"], Value::Null);
    server.attempt(id, passed("")).await;
    server.later(60_000);
    let denied = Failure::new(Class::PermissionDenied, "no right to read orders", "GRANT SELECT ON orders TO reader");
    server.attempt(id, failed(Step::TinySync, denied)).await;
    let one = server.get(&format!("/connections/{id}")).await.json();
    assert_eq!(one["error_message"], "no right to read orders. Fix: GRANT SELECT ON orders TO reader");
    assert_eq!((&one["created_at"], &one["updated_at"]), (&json!("2026-11-08T18:00:00.000Z"), &one["last_health_check"]));
    let mut objects = vec![one];
    for path in [&format!("/connections/{id}/health"), &format!("/connections/health/{id}")] {
        let health = server.get(path).await.json();
        assert_eq!((&health["status"], &health["health_status"]), (&json!("HEALING"), &json!("degraded")), "{health}");
        assert_eq!((&health["first_sync_rows"], &health["connection_status"]), (&json!(20), &json!("HEALING")), "{health}");
        assert_eq!((&health["risk_level"], &health["response_time_ms"]), (&json!("low"), &json!(2)), "{health}");
        objects.push(health);
    }
    let listed = server.get("/connections/health?namespace=autonomy").await.json();
    assert_eq!((&listed["total"], &listed["healthy"]), (&json!(1), &json!(1)), "{listed}");
    objects.push(listed["connections"][0].clone());
    objects.push(server.get("/connections").await.json()["connections"][0].clone());
    objects.push(server.get("/dashboard.json").await.json()["connections"][0].clone());
    let worker = server.answer_wakes(by_type);
    let checked = server.post(&format!("/connections/{id}/health-check"), &json!({})).await;
    assert_eq!((checked.status, &checked.json()["health_status"]), (200, &json!("healthy")), "{checked:?}");
    objects.push(checked.json());
    objects.push(server.post(&format!("/connections/{id}/heal"), &json!({})).await.json());
    objects.push(server.post("/connections/heal", &json!({"state": "active"})).await.json()["results"][0].clone());
    objects.push(server.post("/connections/onboard", &document("jdbc", "a")).await.json());
    let batch = server.post("/connections/onboard/batch", &json!({"intents": [document("jdbc", "a")]})).await.json();
    assert_eq!((&batch["succeeded"], &batch["active"], &batch["unsettled"]), (&json!(1), &json!(1), &json!(0)), "{batch}");
    assert_eq!(batch["results"][0]["location"], format!("/connections/{id}"));
    objects.push(batch["results"][0].clone());
    worker.abort();
    for object in &objects {
        assert_fields(object, id);
    }
}

#[tokio::test]
async fn a_token_without_registry_read_sees_the_state_only() {
    let healer = "token-that-only-heals";
    let digest = Digest::from_bytes(healer.as_bytes());
    let entry = format!("    - {{name: healer, sha256: \"{digest}\", scopes: [\"ops:heal\"], namespaces: [autonomy]}}\n");
    let server = TestServer::with(&format!("{}{entry}", policy_text()), ServerLimits::default()).await;
    let id = server.accept(&[document("jdbc", "a")]).await[0];
    server.attempt(id, passed("")).await;
    let headers = [("Authorization", bearer(healer)), ("Prefer", "respond-async".to_string())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let reply = server.send("POST", &format!("/connections/{id}/health-check"), &headers, Some("")).await;
    let body = reply.json();
    assert_eq!((reply.status, &body["status"], &body["name"]), (202, &json!("ACTIVE"), &json!("")), "{reply:?}");
    for hidden in ["step", "last_tiny_sync", "first_sync_rows", "risk_level", "error"] {
        assert_eq!(body[hidden], Value::Null, "{hidden}");
    }
}

#[tokio::test]
async fn unknown_query_parameters_are_ignored_with_a_warning() {
    let server = TestServer::new().await;
    server.accept(&[document("jdbc", "a")]).await;
    let reply = server.get("/connections?tenant_id=7&status=pending&page=2").await;
    assert_eq!((reply.status, &reply.json()["total"]), (200, &json!(1)));
    assert_eq!(
        reply.header("warning"),
        "299 aam \"query parameters tenant_id, page are ignored; this endpoint accepts namespace, state, status, source_type, updated_since, limit, cursor\""
    );
    assert_eq!(server.get("/connections?status=Active").await.json()["total"], 0);
    assert_eq!(server.get("/connections?state=PENDING").await.header("warning"), "");
    let reply = server.get("/version?x=1").await;
    assert_eq!((reply.status, reply.header("warning").is_empty()), (200, false));
    let refused = server.get("/connections?x=1&limit=0").await;
    assert_eq!((refused.status, refused.header("warning").is_empty()), (400, false), "a refusal names it too");
    let token = format!("aam_{}", "t".repeat(43));
    let reply = server.get(&format!("/metrics/funnel?{token}=1")).await;
    assert!(reply.status == 200 && !reply.header("warning").contains(&token), "{reply:?}");
}

#[tokio::test]
async fn the_funnel_is_503_below_the_target_for_callers_that_ask_for_it() {
    let server = TestServer::new().await;
    let ids = server.accept(&[document("jdbc", "a"), document("s3", "b")]).await;
    server.attempt(ids[0], passed("")).await;
    let unreachable = Failure::new(Class::Network, "connection refused", "start it");
    server.attempt(ids[1], failed(Step::Health, unreachable)).await;
    let plain = server.get("/metrics/funnel").await;
    assert_eq!((plain.status, plain.header("x-slo-coverage")), (200, "0.5"));
    let enforced = server.get("/metrics/funnel?enforce=SLO").await;
    assert_eq!((enforced.status, enforced.header("x-slo-coverage")), (503, "0.5"));
    assert_eq!((enforced.header("content-type"), &enforced.body), ("application/json", &plain.body));
    server.attempt(ids[1], passed("")).await;
    assert_eq!(server.get("/metrics/funnel?enforce=slo").await.status, 200);
    let past = server.get("/metrics/funnel?enforce=slo&at=2026-11-08T17:00:00Z").await;
    assert_eq!((past.status, past.header("x-slo-coverage")), (503, "0"), "nothing was eligible");
    assert_eq!(server.get("/metrics/funnel?enforce=maybe").await.code(), "BAD_REQUEST");
    let always = policy_text().replace("api:\n", "api:\n  enforce_slo: true\n");
    let server = TestServer::with(&always, ServerLimits::default()).await;
    assert_eq!(server.get("/metrics/funnel").await.status, 503);
    assert_eq!(server.get("/metrics/funnel?enforce=none").await.status, 200);
}

#[tokio::test]
async fn lists_can_begin_at_an_instant_or_at_an_entry_of_the_ledger() {
    let server = TestServer::new().await;
    let ids = server.accept(&[document("jdbc", "a"), document("s3", "b")]).await;
    let all = server.get("/connections").await.json();
    let since = |text: String| {
        let server = &server;
        async move {
            let page = server.get(&format!("/connections?updated_since={text}")).await.json();
            let ids = page["connections"].as_array().cloned().unwrap_or_default();
            ids.iter().map(|one| one["id"].as_str().unwrap_or_default().to_string()).collect::<Vec<_>>()
        }
    };
    let seq = all["registry_seq"].to_string();
    assert_eq!(since(seq.clone()).await, Vec::<String>::new());
    server.later(60_000);
    server.attempt(ids[1], passed("")).await;
    let changed = vec![ids[1].to_string()];
    assert_eq!(since(seq).await, changed);
    assert_eq!(since("2026-11-08T18:01:00Z".to_string()).await, changed);
    assert_eq!(since("2026-11-08T19:01:00+01:00".to_string()).await, changed, "a + that is not encoded");
    assert_eq!(since("2026-11-08T18:00:00Z".to_string()).await.len(), 2);
    assert_eq!(since("2026-11-08T18:01:00.001Z".to_string()).await.len(), 0);
    assert_eq!(server.get("/connections/health?updated_since=0").await.json()["total"], 2);
    let other_registry = server.get("/connections?updated_since=99999").await;
    assert_eq!(other_registry.status, 400);
    let detail = other_registry.json()["detail"].as_str().unwrap_or_default().to_string();
    assert!(detail.contains("Read all connections again, without it."), "{detail}");
}
