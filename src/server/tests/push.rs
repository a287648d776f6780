//! Tests of onboarding and healing.

use super::*;

#[tokio::test]
async fn a_first_push_is_201_and_a_repeated_one_200_and_appends_nothing() {
    let server = TestServer::new().await;
    let worker = server.answer_wakes(by_type);
    let mut intent = document("jdbc", "jdbc:sqlite:orders.db");
    intent["team"] = "data".into();
    let first = server.post("/connections/onboard", &intent).await;
    assert_eq!(first.status, 201, "{first:?}");
    let body = first.json();
    assert_eq!(first.header("location"), format!("/connections/{}", body["connection_id"].as_str().unwrap_or("")));
    assert_eq!((&body["status"], &body["first_sync_rows"], &body["latency_ms"]), (&json!("ACTIVE"), &json!(20), &json!(12)));
    assert_eq!((&body["version"], &body["catalog_version"], &body["error"]), (&json!(1), &json!(1), &Value::Null));
    assert_eq!(body["steps"].as_array().map(Vec::len), Some(7));
    assert_eq!(body["warnings"][0]["pointer"], "/team");
    let seq = server.handle.registry.snapshot().seq;
    let again = server.post("/connections/onboard", &intent).await;
    assert_eq!((again.status, again.json()["connection_id"].clone()), (200, body["connection_id"].clone()));
    assert_eq!(server.handle.registry.snapshot().seq, seq, "a repeated push appends nothing");
    intent["risk_level"] = "med".into();
    let changed = server.post("/connections/onboard", &intent).await;
    assert_eq!((changed.status, changed.json()["version"].clone()), (200, json!(2)));
    worker.abort();
}

#[tokio::test]
async fn a_caller_that_will_not_wait_gets_202_and_a_location() {
    let server = TestServer::new().await;
    let intent = document("jdbc", "jdbc:sqlite:a.db");
    let reply = server.post_with("/connections/onboard", &intent, &[("Prefer", "respond-async")]).await;
    assert_eq!((reply.status, reply.header("preference-applied")), (202, "respond-async"));
    assert_eq!(reply.json()["status"], "PENDING");
    let worker = server.answer_wakes(by_type);
    server.handle.wake();
    let reply = server.post_with("/connections/onboard", &intent, &[("Prefer", "wait=20")]).await;
    assert_eq!((reply.status, reply.header("preference-applied")), (200, "wait=20"));
    assert_eq!(server.get(reply.header("location")).await.json()["status"], "ACTIVE");
    worker.abort();
}

#[tokio::test]
async fn an_unsupported_type_is_409_recorded_and_counted() {
    let server = TestServer::new().await;
    let worker = server.answer_wakes(by_type);
    let reply = server.post("/connections/onboard", &document("fax_machine", "a")).await;
    assert_eq!((reply.status, reply.code().as_str()), (409, "UNSUPPORTED"));
    assert_eq!(reply.json()["result"]["status"], "UNSUPPORTED");
    assert!(
        reply.json()["detail"].as_str().is_some_and(|detail| detail.contains("fax_machine") && detail.contains("aam families"))
    );
    assert_eq!(server.get("/metrics/funnel").await.json()["unsupported_type"], 1);
    worker.abort();
}

#[tokio::test]
async fn what_cannot_be_taken_says_why_and_records_nothing() {
    let server = TestServer::new().await;
    let send = async |body: &str, kind: &str| {
        let token = bearer(FULL);
        server.send("POST", "/connections/onboard", &[("Authorization", &token), ("Content-Type", kind)], Some(body)).await
    };
    let good = document("jdbc", "a");
    let mut writing = good.clone();
    writing["scopes_mode"] = "admin".into();
    let (good, writing) = (good.to_string(), writing.to_string());
    let large = format!("\"{}\"", "x".repeat(crate::server::onboard::MAX_BODY_BYTES));
    for (body, kind, status, code) in [
        ("{", "application/json", 400, "NOT_JSON"),
        ("", "application/json", 400, "NOT_JSON"),
        (good.as_str(), "text/plain", 415, "NOT_JSON_TYPE"),
        ("[]", "application/json", 422, "INVALID_INTENT"),
        ("{}", "application/json; charset=utf-8", 422, "INVALID_INTENT"),
        (writing.as_str(), "application/json", 403, "UNSAFE_SCOPES_MODE"),
        (large.as_str(), "application/json", 413, "TOO_LARGE"),
    ] {
        let reply = send(body, kind).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{reply:?}");
    }
    let reply = send("{\"source_type\":\"jdbc\",\"resource_ids\":[]}", "application/json").await;
    let mut pointers: Vec<String> =
        reply.json()["problems"].as_array().into_iter().flatten().map(|p| p["pointer"].to_string()).collect();
    pointers.sort();
    assert_eq!(pointers, ["\"/evidence\"", "\"/owner\"", "\"/resource_ids\"", "\"/risk_level\""]);
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_json_snapshot!("server_problem_invalid_intent", reply.json());
    });
    assert_eq!(server.handle.registry.snapshot().seq, 0);
}

#[tokio::test]
async fn a_bad_item_of_a_batch_never_fails_the_others() {
    let server = TestServer::new().await;
    let worker = server.answer_wakes(by_type);
    let mut foreign = document("jdbc", "c");
    foreign["namespace"] = "other".into();
    let body = json!({"intents": [document("jdbc", "a"), {"source_type": 7}, document("fax", "b"), foreign, document("s3", "d"), document("jdbc", "a")]});
    let reply = server.post("/connections/onboard/batch", &body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let body = reply.json();
    assert_eq!((&body["total"], &body["succeeded"], &body["failed"]), (&json!(6), &json!(3), &json!(3)));
    let statuses: Vec<(Value, Value)> = body["results"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| (item["http_status"].clone(), item["status"].clone()))
        .collect();
    let expected =
        [(201, "ACTIVE"), (422, "INVALID"), (409, "UNSUPPORTED"), (403, "FORBIDDEN"), (201, "ACTIVE"), (200, "ACTIVE")];
    assert_eq!(statuses, expected.map(|(code, word)| (json!(code), json!(word))));
    assert_eq!(body["results"][1]["problems"][0]["pointer"], "/intents/1/evidence");
    assert_eq!((&body["funnel"]["received"], &body["funnel"]["active"]), (&json!(3), &json!(2)));
    worker.abort();
    for (body, status, code) in [(json!({"intent": []}), 422, "INVALID_INTENT"), (json!({"intents": {}}), 422, "INVALID_INTENT")]
    {
        let reply = server.post("/connections/onboard/batch", &body).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code));
    }
    for empty in [json!({"intents": []}), json!([])] {
        assert_eq!(server.post("/connections/onboard/batch", &empty).await.json()["total"], 0);
    }
}

#[tokio::test]
async fn heal_asks_for_proof_and_promotes_nothing_by_itself() {
    let server = TestServer::new().await;
    let ids = server.accept(&[document("jdbc", "a"), document("s3", "b")]).await;
    let refused = Failure::new(Class::CredentialMissing, "NAME is not set", "export NAME=…");
    server.attempt(ids[0], failed(Step::Credential, refused)).await;
    server.attempt(ids[1], passed("s3")).await;
    server.later(1000);
    let path = format!("/connections/{}/heal", ids[0]);
    let reply = server.post_with(&path, &json!({}), &[("Prefer", "respond-async")]).await;
    assert_eq!((reply.status, reply.json()["status"].clone()), (202, json!("AWAITING_CREDENTIALS")));
    let worker = server.answer_wakes(by_type);
    server.handle.wake();
    let reply = server.post("/connections/heal", &json!({})).await;
    assert_eq!(reply.status, 200);
    let (total, settled, active) =
        (reply.json()["total"].clone(), reply.json()["settled"].clone(), reply.json()["active"].clone());
    assert!(
        (total == json!(1) && settled == json!(1) && active == json!(1)) || total == json!(0),
        "the one that waited is ACTIVE now or was before: {reply:?}"
    );
    assert_eq!(server.get(&format!("/connections/{}", ids[0])).await.json()["status"], "ACTIVE");
    let reply = server.send("POST", "/connections/heal", &[("Authorization", &bearer(FULL))], None).await;
    assert_eq!((reply.status, reply.json()["total"].clone()), (200, json!(0)), "nothing is left to heal");
    worker.abort();
    for (body, code) in [
        (json!({"stat": "x"}), "INVALID_REQUEST"),
        (json!({"state": "fine"}), "INVALID_REQUEST"),
        (json!({"state": "RETIRED"}), "INVALID_REQUEST"),
    ] {
        assert_eq!(server.post("/connections/heal", &body).await.code(), code);
    }
    server.handle.registry.withdraw(vec![(ids[0], Origin::folder("a.json"))], "gone").await.expect("withdrawn");
    assert_eq!(server.post(&path, &json!({})).await.code(), "RETIRED");
}

#[tokio::test]
async fn a_registry_that_has_ended_is_503_and_says_so() {
    let server = TestServer::new().await;
    server.handle.registry.close().await;
    let reply = server.post("/connections/onboard", &document("jdbc", "a")).await;
    assert_eq!((reply.status, reply.code().as_str(), reply.header("retry-after")), (503, "REGISTRY_UNAVAILABLE", "5"));
}

#[tokio::test]
async fn two_hundred_pushes_of_one_intent_make_one_connection() {
    let server = TestServer::new().await;
    let worker = server.answer_wakes(by_type);
    let intent = document("jdbc", "jdbc:sqlite:one.db");
    let pushes = (0..200).map(|_| server.post("/connections/onboard", &intent));
    let replies = futures_util::future::join_all(pushes).await;
    let created = replies.iter().filter(|reply| reply.status == 201).count();
    let repeated = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!((created, repeated), (1, 199));
    let snapshot = server.handle.registry.snapshot();
    let generations: Vec<u32> = snapshot.connections.values().map(|known| known.generation).collect();
    assert_eq!(generations, [1]);
    worker.abort();
}

#[tokio::test]
async fn a_registry_that_ran_out_of_room_is_told_as_it_is() {
    let problem = crate::server::problem::ApiProblem::from(crate::registry::RegistryError::Full);
    assert_eq!((problem.status, problem.code.as_str()), (503, "REGISTRY_FULL"));
    assert!(problem.detail.contains("the disk is full"), "{}", problem.detail);
}
