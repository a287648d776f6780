//! Tests of the page of a connection.

use super::*;
use crate::model::{CallPurpose, CallTarget, RecordedCall, RecordedCalls};

/// The text of a page for people: without tags, and with one space between the parts.
pub fn text(html: &str) -> String {
    let body = html.split_once("<main").map_or(html, |(_, rest)| rest);
    let mut text = String::new();
    for part in body.split('<') {
        text.push(' ');
        text.push_str(part.split_once('>').map_or("", |(_, text)| text));
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The part of a page from the element with this id on, up to the next section.
pub fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let start = page.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}: {page}"));
    let rest = &page[start..];
    &rest[..rest.find("</section>").unwrap_or(rest.len())]
}

fn evidence(value: Value) -> serde_json::Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

/// An outcome with evidence, whose credential can do more than read.
fn over_privileged() -> Outcome {
    let mut outcome = passed("");
    for report in &mut outcome.steps {
        report.duration_ms = if report.step == Step::Discover { 400 } else { 100 };
        report.evidence = match report.step {
            Step::Credential => evidence(json!({
                "locator": "env:SHOP_READER", "provider": "env", "read_from": "environment variable",
                "scopes": ["read_api"], "ends_at": "2026-11-12T18:00:00Z",
            })),
            Step::Upsert => evidence(json!({
                "user": "aam", "version": "15.3",
                "privilege": {"verdict": "over", "grants": ["CREATEDB"], "statements": ["ALTER ROLE \"aam\" NOCREATEDB;"]},
            })),
            _ => serde_json::Map::new(),
        };
    }
    outcome
}

/// The same with another structure: a type changed, and a stream is new.
fn changed() -> Outcome {
    let mut outcome = over_privileged();
    let catalog = outcome.catalog.as_mut().expect("a catalog");
    let mut customers = catalog.streams[0].clone();
    customers.name = "customers".to_string();
    catalog.streams[0].json_schema = json!({"properties": {"id": {"type": "string"}}});
    catalog.streams.insert(0, customers);
    outcome
}

fn refused() -> Outcome {
    let failure = Failure::new(Class::Network, "could not connect to db.acme.example", "open port 5432")
        .detail("FATAL: no route <to> host");
    failed(Step::Health, failure)
}

/// Records an attempt with `count` calls.
async fn attempt_with_calls(server: &TestServer, id: ConnectionId, outcome: &Outcome, count: u64) {
    let at = server.handle.clock.now();
    let call = |number: u64| RecordedCall {
        at,
        target: CallTarget {
            purpose: CallPurpose::Source,
            method: "GET".to_string(),
            host: "api.acme.example".to_string(),
            path: format!("/items/{number}"),
            statement: String::new(),
            rule: "GET and HEAD only read".to_string(),
        },
        status: Some(200),
        sent: None,
        bytes: 7000 + number,
        ms: 12_345,
        error: String::new(),
    };
    let calls = RecordedCalls { calls: (0..count).map(call).collect(), cut: 0 };
    let context = AttemptContext {
        begun_at: at,
        generation: 1,
        scope: Scope::Full,
        why: Why::Retry,
        policy: Digest::default(),
        slice: Digest::default(),
    };
    let ticket = server.handle.registry.begin(id, context).await.expect("begun");
    server.handle.registry.finish_with_calls(&ticket, outcome, &calls).await.expect("finished");
}

/// A connection that was accepted, ACTIVE, ACTIVE with another structure, and NETWORK_BLOCKED, one minute each.
pub async fn lived() -> (TestServer, ConnectionId) {
    let server = TestServer::new().await;
    let mut document = document("jdbc", "jdbc:postgresql://db.acme.example/shop");
    document["credential_locator"] = "env:SHOP_READER".into();
    let id = server.accept(&[document]).await[0];
    server.later(60_000);
    server.attempt(id, over_privileged()).await;
    server.later(60_000);
    attempt_with_calls(&server, id, &changed(), 60).await;
    server.later(60_000);
    server.attempt(id, refused()).await;
    server.later(60_000);
    (server, id)
}

/// Follows the first link of a page whose address contains `part`.
async fn follow(server: &TestServer, page: &str, part: &str) -> HttpReply {
    let address = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).find(|href| href.contains(part));
    let address = address.unwrap_or_else(|| panic!("no link with {part}")).replace("&amp;", "&");
    server.get(address.split('#').next().unwrap_or_default()).await
}

#[tokio::test]
async fn the_state_says_what_happened_quotes_the_source_and_names_the_fix_and_the_next_try() {
    let (server, id) = lived().await;
    let reply = server.get(&format!("/ui/connections/{id}")).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/html; charset=utf-8"));
    let state = text(section(&reply.body, "state"));
    for said in [
        "network blocked since",
        "could not connect to db.acme.example",
        "open port 5432",
        "Quoted from Database (JDBC address)",
        "FATAL: no route &lt;to&gt; host",
        "Next check:",
        "owner@acme.example",
    ] {
        assert!(state.contains(said), "{said}: {state}");
    }
    for id in ["state", "steps", "timeline", "catalog", "calls", "privilege", "credential", "intent"] {
        assert_eq!(reply.body.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        assert_eq!(reply.body.matches(&format!("href=\"#{id}\"")).count(), usize::from(id != "state"), "{id}");
    }
    assert_eq!(reply.body.matches("<script").count(), 1);
    let main = reply.body.split_once("<main").map_or("", |(_, rest)| rest.split("</main>").next().unwrap_or(""));
    assert!(main.len() > 1000 && !main.contains(" style="), "the policy of the page forbids it");
}

#[tokio::test]
async fn steps_show_durations_and_evidence_of_the_latest_and_of_any_other_attempt() {
    let (server, id) = lived().await;
    let page = server.get(&format!("/ui/connections/{id}")).await.body;
    let steps = section(&page, "steps");
    assert_eq!(steps.matches("<li id=\"step-").count(), 7);
    assert!(text(steps).contains("health failed 2 ms") && text(steps).contains("Skipped: health failed"), "{}", text(steps));
    assert!(!steps.contains("15.3"));
    let seq = server.handle.registry.snapshot().connections[&id].proven.as_ref().map(|attempt| attempt.seq);
    let seq = seq.expect("an attempt that passed");
    let earlier = follow(&server, &page, &format!("attempt={seq}")).await;
    let steps = section(&earlier.body, "steps");
    assert!(
        text(steps).contains("An earlier attempt, all steps, passed,") && text(steps).contains("version 15.3"),
        "{}",
        text(steps)
    );
    assert!(steps.contains("class=\"good-bar\" x=\"0\" y=\"0\" width=\"1000\"") && steps.contains("width=\"250\""), "{steps}");
    for missing in [1, 999_999] {
        let reply = server.get(&format!("/ui/connections/{id}?attempt={missing}")).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "NOT_FOUND"), "{missing}");
    }
    assert_eq!(server.get(&format!("/ui/connections/{id}?attempt=x")).await.status, 400);
}

#[tokio::test]
async fn the_timeline_names_every_change_of_the_state() {
    let (server, id) = lived().await;
    let page = server.get(&format!("/ui/connections/{id}")).await.body;
    let timeline = text(section(&page, "timeline"));
    let at = |part: &str| timeline.find(part).unwrap_or_else(|| panic!("no {part}: {timeline}"));
    let (blocked, active, accepted) =
        (at("✓ active → to ⊘ network blocked"), at("… pending → to ✓ active"), at("new → to … pending"));
    assert!(blocked < active && active < accepted, "newest first: {timeline}");
    assert!(timeline.contains("generation 1") && timeline.contains("intent accepted from folder:a.json"), "{timeline}");
    assert!(timeline.contains("because: retry after a failure"), "{timeline}");
    assert!(!timeline.contains("Show more"), "all of it is on the page");
}

#[tokio::test]
async fn a_long_history_has_pages() {
    let (server, id) = lived().await;
    for _ in 0..30 {
        server.later(1000);
        server.attempt(id, over_privileged()).await;
        server.later(1000);
        server.attempt(id, refused()).await;
    }
    let first = server.get(&format!("/ui/connections/{id}")).await.body;
    assert_eq!(section(&first, "timeline").matches("<li id=\"entry-").count(), 50);
    assert!(!text(section(&first, "timeline")).contains("intent accepted"));
    let second = follow(&server, &first, "before=").await.body;
    let timeline = section(&second, "timeline");
    assert!(text(timeline).contains("intent accepted") && text(timeline).contains("Back to the newest entries"));
    let ids = |page: &str| -> Vec<String> {
        let items = section(page, "timeline").split("<li id=\"entry-").skip(1);
        items.filter_map(|rest| rest.split('"').next().map(str::to_string)).collect()
    };
    assert!(ids(&first).iter().all(|seq| !ids(&second).contains(seq)), "no entry is on both pages");
    assert!(text(section(&second, "state")).contains("network blocked since"), "the state is that of now");
}

#[tokio::test]
async fn the_catalog_is_a_tree_with_what_changed() {
    let (server, id) = lived().await;
    let page = server.get(&format!("/ui/connections/{id}")).await.body;
    let catalog = text(section(&page, "catalog"));
    for said in [
        "Catalog version 2",
        "From version 1 to 2: 1 breaking, 1 additive",
        "column orders.id changed from",
        "stream customers is new",
        "2 streams",
        "changed; it was &quot;integer&quot;",
        "Primary key: id",
    ] {
        assert!(catalog.contains(said), "{said}: {catalog}");
    }
    let first = server.get(&format!("/ui/connections/{id}?version=1")).await.body;
    let first = text(section(&first, "catalog"));
    assert!(first.contains("Catalog version 1") && first.contains("1 stream ") && !first.contains("customers"), "{first}");
    let only = server.get(&format!("/ui/connections/{id}?stream=CUST")).await.body;
    let only = text(section(&only, "catalog"));
    assert!(only.contains("1 with “CUST”") && !only.contains("orders 1 field"), "{only}");
    let missing = server.get(&format!("/ui/connections/{id}?version=9")).await;
    assert!(missing.status == 200 && text(&missing.body).contains("does not have catalog version 9"));
}

#[tokio::test]
async fn calls_privilege_credential_and_intent_are_shown() {
    let (server, id) = lived().await;
    let page = server.get(&format!("/ui/connections/{id}")).await.body;
    let calls = section(&page, "calls");
    assert_eq!(calls.matches("/items/").count(), 50);
    let row = text(calls);
    assert!(row.contains("GET api.acme.example /items/59 200 7059 12 s GET and HEAD only read"), "{row}");
    let older = follow(&server, &page, "calls=").await.body;
    assert_eq!(section(&older, "calls").matches("/items/").count(), 10);
    let privilege = text(section(&page, "privilege"));
    for said in ["It can do more than read.", "CREATEDB", "ALTER ROLE &quot;aam&quot; NOCREATEDB;", "What AAM needs at least:"] {
        assert!(privilege.contains(said), "{said}: {privilege}");
    }
    let credential = text(section(&page, "credential"));
    for said in ["Stored at env:SHOP_READER", "(env)", "read_api", "environment variable", "never its value"] {
        assert!(credential.contains(said), "{said}: {credential}");
    }
    let intent = text(section(&page, "intent"));
    for said in ["generation 1", "file a.json in force", "&quot;source_type&quot;: &quot;jdbc&quot;", "2026-11-08 18:00:00"] {
        assert!(intent.contains(said), "{said}: {intent}");
    }
}

#[tokio::test]
async fn a_due_consent_is_a_link_and_no_other_text_is() {
    let server = TestServer::new().await;
    let mut waiting = document("jdbc", "a");
    waiting["credential_locator"] = "consent:shop".into();
    let mut other = document("jdbc", "b");
    other["credential_locator"] = "env:SHOP".into();
    let ids = server.accept(&[waiting, other]).await;
    let fix =
        "send this link to owner@acme.example, before it ends at 2026-12-01T00:00:00Z: https://aam.acme.example/consent/abc";
    for id in &ids {
        let failure = Failure::new(Class::CredentialMissing, "the owner has not given consent:shop yet", fix);
        server.attempt(*id, failed(Step::Credential, failure)).await;
    }
    let link = "href=\"https://aam.acme.example/consent/abc\"";
    assert!(server.get(&format!("/ui/connections/{}", ids[0])).await.body.contains(link));
    assert!(!server.get(&format!("/ui/connections/{}", ids[1])).await.body.contains(link), "not a consent");
}

#[tokio::test]
async fn hostile_text_is_inert_in_every_section() {
    let server = TestServer::new().await;
    let mut hostile = document("jdbc", "<script>alert(1)</script>");
    hostile["owner"]["user"] = "\"><img src=x onerror=alert(2)>".into();
    hostile["<b>extra</b>"] = "<b>more</b>".into();
    let id = server.accept(&[hostile]).await[0];
    let mut outcome = over_privileged();
    for report in &mut outcome.steps {
        report.evidence.insert("<b>key</b>".to_string(), json!(["<b>value</b>", {"in": "<b>deep</b>\u{202e}"}]));
    }
    let stream = &mut outcome.catalog.as_mut().expect("a catalog").streams[0];
    stream.name = "<b>stream</b>".to_string();
    stream.json_schema = json!({"properties": {"<b>field</b>": {"type": "<b>type</b>"}}});
    server.attempt(id, outcome).await;
    let denied =
        Failure::new(Class::PermissionDenied, "no right <i>here</i>", "allow <i>it</i>").detail("</blockquote><script>alert(3)");
    server.later(1000);
    server.attempt(id, failed(Step::Discover, denied)).await;
    for query in ["", "?stream=%3Cb%3E", "?version=1&from=1", "?done=%3Cscript%3E"] {
        let page = server.get(&format!("/ui/connections/{id}{query}")).await;
        assert_eq!(page.status, 200, "{query}");
        for evil in ["<script>alert", "<img", "<b>", "<i>", "</blockquote><script", "\u{202e}"] {
            assert!(!page.body.contains(evil), "{query} {evil}");
        }
        assert_eq!(page.body.matches("<script").count(), 1);
    }
}

#[tokio::test]
async fn a_page_of_the_past_shows_what_was_and_nothing_can_be_done_there() {
    let (server, id) = lived().await;
    let page = server.get(&format!("/ui/connections/{id}?at=2026-11-08T18:01:30Z")).await;
    assert_eq!(page.status, 200);
    let state = text(section(&page.body, "state"));
    assert!(state.contains("✓ active") && !state.contains("could not connect"), "{state}");
    assert!(state.contains("not shown for the past"), "{state}");
    let catalog = text(section(&page.body, "catalog"));
    assert!(catalog.contains("Catalog version 1") && !catalog.contains("customers"), "{catalog}");
    assert!(!text(section(&page.body, "timeline")).contains("network blocked"));
    assert!(!section(&page.body, "calls").contains("/items/"), "these calls were made later");
    assert!(!page.body.contains("method=\"post\""), "no form");
    assert!(page.body.contains("at=2026-11-08T18%3A01%3A30.000Z"), "links keep the instant");
    let later = server.get(&format!("/ui/connections/{id}?at=2026-11-08T18:01:30Z&version=2")).await;
    assert!(text(&later.body).contains("does not have catalog version 2"));
    let before = server.get(&format!("/ui/connections/{id}?at=2026-11-08T17:00:00Z")).await;
    assert_eq!((before.status, before.code().as_str()), (404, "NOT_FOUND"));
}

#[tokio::test]
async fn an_unknown_connection_and_one_of_another_namespace_are_the_same_404() {
    let (server, id) = lived().await;
    let other = bearer(OTHER);
    for target in [format!("/ui/connections/{id}"), format!("/ui/connections/{id}?namespace=other")] {
        let reply = server.send("GET", &target, &[("Authorization", &other)], None).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "NOT_FOUND"), "{target}");
        assert!(!reply.body.contains("autonomy"), "{}", reply.body);
    }
    let unknown = server.get("/ui/connections/8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "NOT_FOUND"));
    let token = bearer(FULL);
    let browser = [("Authorization", token.as_str()), ("Accept", "text/html")];
    let page = server.send("GET", "/ui/connections/nothing", &browser, None).await;
    assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"));
}

#[tokio::test]
async fn an_address_without_the_namespace_leads_to_the_one_with_it() {
    let server = TestServer::new().await;
    let mut elsewhere = document("jdbc", "a");
    elsewhere["namespace"] = "other".into();
    let id = server.accept(&[elsewhere]).await[0];
    let other = bearer(OTHER);
    let other = [("Authorization", other.as_str())];
    let reply = server.send("GET", &format!("/ui/connections/{id}?version=1"), &other, None).await;
    let expected = format!("/ui/connections/{id}?version=1&namespace=other");
    assert_eq!((reply.status, reply.header("location")), (303, expected.as_str()));
    let page = server.send("GET", &format!("/ui/connections/{id}?namespace=other"), &other, None).await;
    assert!(page.status == 200 && page.body.contains("/verify?namespace=other\""), "the forms keep it");
}
