//! The export of catalogs, schema changes and the plan.

use super::*;

/// Sends an HTTP/1.0 request, whose response is not divided into chunks.
async fn export(server: &TestServer, target: &str, token: &str) -> HttpReply {
    let head = format!("GET {target} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: {}\r\n\r\n", bearer(token));
    server.raw(head.as_bytes()).await
}

fn lines(reply: &HttpReply) -> Vec<Value> {
    reply.body.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// An outcome with `count` streams, whose names hold a character that reorders text.
fn with_streams(count: usize) -> Outcome {
    let mut outcome = passed("");
    let stream = outcome.catalog.as_mut().expect("a catalog").streams.remove(0);
    let streams = (0..count).map(|n| Stream { name: format!("s\u{202e}{n:04}"), ..stream.clone() }).collect();
    outcome.catalog = Some(Catalog { streams, ..Catalog::default() });
    outcome
}

#[tokio::test]
async fn the_export_holds_every_stream_of_every_active_connection_once() {
    let server = TestServer::new().await;
    let documents: Vec<Value> = (0..40).map(|n| document(if n % 2 == 0 { "jdbc" } else { "s3" }, &format!("r{n}"))).collect();
    let ids = server.accept(&documents).await;
    for id in &ids[1..] {
        server.attempt(*id, with_streams(30)).await;
    }
    let failure = Failure::new(Class::Network, "connection refused", "start it");
    server.attempt(ids[0], failed(Step::Upsert, failure)).await;
    let reply = export(&server, "/catalogs", FULL).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/x-ndjson; catalog=v1"));
    assert!(!reply.body.contains('\u{202e}') && reply.body.contains("\\u202e"), "hidden characters are escaped");
    let all = lines(&reply);
    assert_eq!(all.len(), 39 * 30);
    let seen: std::collections::BTreeSet<String> =
        all.iter().map(|line| format!("{}{}", line["connection_id"], line["stream"])).collect();
    assert_eq!(seen.len(), all.len());
    assert!(!all.iter().any(|line| line["connection_id"] == ids[0].to_string()), "only ACTIVE connections");
    let openapi = crate::server::openapi::document();
    let reference = json!({"$ref": "#/components/schemas/CatalogLine"});
    for line in &all[..2] {
        assert_eq!(examples::schema_errors(&openapi, &reference, line), Vec::<String>::new());
    }
    let line = all.iter().find(|line| line["source_type"] == "jdbc").expect("a line");
    assert_eq!(line["fields"], json!([{"name": "id", "types": ["integer"], "nullable": false, "format": null}]));
    assert_eq!((&line["primary_key"], &line["transport"]), (&json!([["id"]]), &json!("database")));
    assert_eq!((&line["health"]["status"], &line["last_sync"]["rows"]), (&json!("ACTIVE"), &json!(20)));
    assert_eq!(line["owner"]["user"], "owner@acme.example");
    assert_eq!(lines(&export(&server, "/catalogs?source_type=s3", FULL).await).len(), 20 * 30);
    assert_eq!(export(&server, "/catalogs?source_type=github", FULL).await.body, "");
    assert_eq!(export(&server, "/catalogs?namespace=other", FULL).await.code(), "NAMESPACE_NOT_ALLOWED");
    assert_eq!(lines(&export(&server, "/catalogs?namespace=other", OTHER).await).len(), 0);
}

#[tokio::test]
async fn few_exports_run_at_once_and_a_client_that_goes_away_ends_its_export() {
    let server = TestServer::new().await;
    let ids = server.accept(&(0..8).map(|n| document("jdbc", &format!("r{n}"))).collect::<Vec<_>>()).await;
    for id in ids {
        // Far more than the buffers of a socket hold, so that an export waits for its client.
        server.attempt(id, with_streams(8000)).await;
    }
    let mut clients = Vec::new();
    for _ in 0..crate::server::catalogs::MAX_EXPORTS {
        let mut client = server.connect().await;
        let head = format!("GET /catalogs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {}\r\n\r\n", bearer(FULL));
        client.write_all(head.as_bytes()).await.expect("sent");
        client.read_exact(&mut [0; 15]).await.expect("it has begun");
        clients.push(client);
    }
    let busy = export(&server, "/catalogs", FULL).await;
    assert_eq!((busy.status, busy.code().as_str()), (503, "BUSY"));
    assert!(busy.body.contains("4 exports of catalogs are running"), "{}", busy.body);
    drop(clients);
    let started = std::time::Instant::now();
    while export(&server, "/catalogs?source_type=s3", FULL).await.status != 200 {
        assert!(started.elapsed() < TIMEOUT, "the exports have not ended");
    }
}

#[tokio::test]
async fn drift_lists_what_changed_between_two_versions() {
    let server = TestServer::new().await;
    let ids = server.accept(&[document("jdbc", "a")]).await;
    let target = format!("/connections/{}/drift", ids[0]);
    assert_eq!(server.get(&target).await.code(), "NOT_FOUND");
    server.attempt(ids[0], with_streams(3)).await;
    let first = server.get(&target).await.json();
    assert_eq!((&first["catalog_version"], &first["previous_version"]), (&json!(1), &json!(null)));
    server.attempt(ids[0], with_streams(2)).await;
    server.attempt(ids[0], with_streams(4)).await;
    let third = server.get(&target).await.json();
    assert_eq!((&third["catalog_version"], &third["previous_version"]), (&json!(3), &json!(2)), "{third}");
    assert_eq!((&third["additive_total"], &third["breaking_total"]), (&json!(2), &json!(0)), "{third}");
    let second = server.get(&format!("{target}?version=2")).await.json();
    assert_eq!((&second["additive_total"], &second["breaking_total"]), (&json!(0), &json!(1)), "{second}");
    assert_eq!(server.get(&format!("{target}?version=9")).await.status, 404);
}

#[tokio::test]
async fn the_plan_says_what_is_due_and_why() {
    let server = TestServer::new().await;
    let ids = server.accept(&[document("jdbc", "a"), document("fax", "b")]).await;
    server.attempt(ids[0], passed("")).await;
    let plan = server.get("/plan").await.json();
    // The attempt of the fixture ran under another policy, so both are due.
    assert_eq!((&plan["due"], &plan["waiting"]), (&json!(2), &json!(0)), "{plan}");
    let check =
        |id: ConnectionId| plan["checks"].as_array().unwrap().iter().find(|check| check["connection_id"] == id.to_string());
    assert_eq!(check(ids[0]).unwrap()["why"], "policy_changed");
    let due = check(ids[1]).unwrap();
    assert_eq!((&due["why"], &due["scope"]), (&json!("new"), &json!("full")));
    assert!(due["blocked"].as_str().is_some_and(|why| why.contains("fax")), "{due}");
    assert_eq!(server.get("/plan?limit=1").await.json()["checks"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("/plan?namespace=other").await.code(), "NAMESPACE_NOT_ALLOWED");
}
