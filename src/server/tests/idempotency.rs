//! Tests of `Idempotency-Key`.

use super::*;

async fn push(server: &TestServer, token: &str, key: &str, path: &str, body: &Value) -> HttpReply {
    let token = bearer(token);
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", key)];
    server.send("POST", path, &headers, Some(&body.to_string())).await
}

#[tokio::test]
async fn the_same_request_with_the_same_key_gets_the_same_answer() {
    let server = TestServer::new().await;
    let worker = server.answer_wakes(by_type);
    let first = push(&server, FULL, "k1", "/connections/onboard", &document("jdbc", "a")).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""));
    let again = push(&server, FULL, "\"k1\"", "/api/v1/aam/connections/onboard/", &document("jdbc", "a")).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
    assert_eq!((&again.body, again.header("location")), (&first.body, first.header("location")));
    assert_eq!(again.header("content-type"), "application/json");
    let other = push(&server, FULL, "k1", "/connections/onboard", &document("jdbc", "b")).await;
    assert_eq!((other.status, other.code().as_str()), (422, "IDEMPOTENCY_KEY_REUSED"));
    let batch = json!({"intents": [document("jdbc", "a")]});
    assert_eq!(push(&server, FULL, "k1", "/connections/onboard/batch", &batch).await.status, 422, "another path");
    assert_eq!(server.get("/connections").await.json()["total"], 1, "nothing was done for the refused ones");
    let without = server.post("/connections/onboard", &document("jdbc", "a")).await;
    assert_eq!(without.status, 200, "a push without the key is one of its own");
    for (path, body) in [("/connections/onboard/batch", batch), ("/connections/heal", json!({"state": "ACTIVE"}))] {
        let first = push(&server, FULL, path, path, &body).await;
        let again = push(&server, FULL, path, path, &body).await;
        assert_eq!((first.status, again.status, &first.body), (200, 200, &again.body), "{path}");
        assert_eq!(again.header("idempotency-replayed"), "true", "{path}");
    }
    let unsupported = push(&server, FULL, "k2", "/connections/onboard", &document("fax", "a")).await;
    let again = push(&server, FULL, "k2", "/connections/onboard", &document("fax", "a")).await;
    assert_eq!((unsupported.status, again.status, &unsupported.body), (409, 409, &again.body), "recorded, so it is an answer");
    worker.abort();
}

#[tokio::test]
async fn a_key_belongs_to_one_token_with_its_rights_and_for_a_day() {
    let writer = "token-of-another-writer";
    let digest = Digest::from_bytes(writer.as_bytes());
    let scopes = "\"intents:write\", \"registry:read\"";
    let entry = format!("    - {{name: writer, sha256: \"{digest}\", scopes: [{scopes}], namespaces: [autonomy]}}\n");
    let server = TestServer::with(&format!("{}{entry}", policy_text()), ServerLimits::default()).await;
    let worker = server.answer_wakes(by_type);
    let intent = document("jdbc", "a");
    assert_eq!(push(&server, FULL, "k", "/connections/onboard", &intent).await.status, 201);
    let foreign = push(&server, writer, "k", "/connections/onboard", &intent).await;
    assert_eq!((foreign.status, foreign.header("idempotency-replayed")), (200, ""), "the answer of another token is not seen");
    assert_eq!(push(&server, READER, "k", "/connections/onboard", &intent).await.status, 403);
    assert_eq!(push(&server, FULL, "k", "/connections/onboard", &intent).await.status, 201);
    server.later(24 * 3600 * 1000);
    assert_eq!(push(&server, FULL, "k", "/connections/onboard", &intent).await.status, 200, "the key has ended");
    let fewer = policy_text().replacen("namespaces: [autonomy]", "namespaces: [autonomy, more]", 1);
    let policy = crate::policy::parse::parse(&fewer, "policy.yaml").expect("a policy");
    server.handle.policy.store(Arc::new(ActivePolicy::new(LoadedPolicy::new(policy), None)));
    let changed = push(&server, FULL, "k", "/connections/onboard", &intent).await;
    assert_eq!((changed.status, changed.header("idempotency-replayed")), (200, ""), "its rights changed");
    worker.abort();
}

#[tokio::test]
async fn what_changed_nothing_may_be_corrected_and_bad_keys_are_refused() {
    let server = TestServer::new().await;
    let worker = server.answer_wakes(by_type);
    assert_eq!(push(&server, FULL, "k", "/connections/onboard", &json!({})).await.code(), "INVALID_INTENT");
    assert_eq!(push(&server, FULL, "k", "/connections/onboard", &document("jdbc", "a")).await.status, 201);
    for bad in ["", "\"\"", "ä", &"k".repeat(300)] {
        let reply = push(&server, FULL, bad, "/connections/onboard", &document("jdbc", "b")).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "BAD_REQUEST"), "{bad}");
    }
    let headers = [("Authorization", bearer(FULL)), ("Idempotency-Key", "a".to_string()), ("Idempotency-Key", "b".to_string())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(server.send("POST", "/connections/heal", &headers, Some("")).await.status, 400);
    assert_eq!(server.send("GET", "/connections", &headers, None).await.status, 200, "reads have no key");
    worker.abort();
}

#[tokio::test]
async fn the_answer_is_there_for_a_client_that_gave_up_and_a_repetition_meanwhile_is_409() {
    let server = TestServer::new().await;
    let stream = waiting_push(&server, "a", "Idempotency-Key: k\r\n").await;
    let meanwhile = push(&server, FULL, "k", "/connections/onboard", &document("jdbc", "a")).await;
    assert_eq!((meanwhile.status, meanwhile.code().as_str()), (409, "IDEMPOTENCY_KEY_IN_PROGRESS"));
    assert_eq!(meanwhile.header("retry-after"), "2");
    let other = push(&server, FULL, "k", "/connections/onboard", &document("jdbc", "b")).await;
    assert_eq!(other.code(), "IDEMPOTENCY_KEY_REUSED");
    drop(stream);
    let worker = server.answer_wakes(by_type);
    server.handle.wake();
    let answer = tokio::time::timeout(TIMEOUT, async {
        loop {
            let reply = push(&server, FULL, "k", "/connections/onboard", &document("jdbc", "a")).await;
            if reply.status != 409 {
                return reply;
            }
            tokio::task::yield_now().await;
        }
    });
    let answer = answer.await.expect("the first request ends");
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (201, "true"), "{answer:?}");
    worker.abort();
}
