//! Tests of the list of connections: search, filters, order, pages, past, CSV and size.

use super::*;
use std::collections::BTreeSet;
use std::time::Instant;

/// A document with an owner and a risk.
fn owned(source_type: &str, resource: &str, owner: &str, risk: &str) -> Value {
    let mut document = document(source_type, resource);
    document["owner"]["user"] = owner.into();
    document["risk_level"] = risk.into();
    document["credential_locator"] = format!("env:{}_TOKEN", source_type.to_uppercase()).into();
    document
}

fn warned() -> Outcome {
    let mut outcome = passed("");
    for report in outcome.steps.iter_mut().filter(|report| report.step == Step::Credential) {
        let failure = Failure::new(Class::OverPrivileged, "the credential can write", "grant less");
        report.status = StepStatus::Warned { failure };
    }
    outcome
}

/// A server with five connections: ACTIVE, ACTIVE with a warning, NETWORK_BLOCKED, UNSUPPORTED and PENDING.
async fn five() -> (TestServer, Vec<String>) {
    let server = TestServer::new().await;
    let mut ids = Vec::new();
    for document in [
        owned("jdbc", "jdbc:postgresql://db1.example/shop", "Ann Lee", "low"),
        owned("s3", "bucket-a", "Bob", "med"),
        owned("s3", "bucket-b", "Ann Lee", "high"),
        owned("fax", "+49 30 1234", "Smith, John", "low"),
        owned("jdbc", "jdbc:postgresql://db2.example/crm", "Bob", "low"),
    ] {
        ids.extend(server.accept(&[document]).await);
        server.later(60_000);
    }
    server.attempt(ids[0], passed("")).await;
    server.attempt(ids[1], warned()).await;
    server.attempt(ids[2], failed(Step::Upsert, Failure::new(Class::Network, "Connection refused by storage", "start it"))).await;
    server.attempt(ids[3], by_type("fax")).await;
    (server, ids.iter().map(ToString::to_string).collect())
}

async fn body(server: &TestServer, query: &str) -> String {
    let reply = server.get(&format!("/ui/connections?{query}")).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/html; charset=utf-8"), "{query}: {}", reply.body);
    reply.body
}

fn ids_of(body: &str) -> Vec<String> {
    body.split("<tr data-key=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_string).collect()
}

/// The ids that a list shows, in its order.
async fn listed(server: &TestServer, query: &str) -> Vec<String> {
    ids_of(&body(server, query).await)
}

/// Asserts that the list holds exactly the connections with these numbers, in any order.
async fn assert_listed(server: &TestServer, ids: &[String], query: &str, numbers: &[usize]) {
    let found: BTreeSet<String> = listed(server, query).await.into_iter().collect();
    let expected: BTreeSet<String> = numbers.iter().map(|number| ids[*number].clone()).collect();
    assert_eq!(found, expected, "{query}");
}

#[tokio::test]
async fn a_search_finds_every_text_of_a_connection() {
    let (server, ids) = five().await;
    let prefix = format!("q={}", &ids[4][..9]);
    for (query, numbers) in [
        ("", &[0, 1, 2, 3, 4][..]),
        ("q=ann", &[0, 2]),
        ("q=BUCKET", &[1, 2]),
        ("q=ann+bucket", &[2]),
        ("q=refused+STORAGE", &[2]),
        ("q=env:jdbc_token", &[0, 4]),
        ("q=jdbc", &[0, 4]),
        ("q=serves+fax", &[3]),
        (prefix.as_str(), &[4]),
        ("q=ann+nothing", &[]),
    ] {
        assert_listed(&server, &ids, query, numbers).await;
    }
    assert!(body(&server, "q=nothing").await.contains("None of the 5 connections matches"));
}

#[tokio::test]
async fn filters_combine_and_their_chips_lead_to_the_lists() {
    let (server, ids) = five().await;
    for (query, numbers) in [
        ("state=active", &[0, 1][..]),
        ("state=ACTIVE,NETWORK_BLOCKED", &[0, 1, 2]),
        ("family=s3", &[1, 2]),
        ("family=s3&state=ACTIVE", &[1]),
        ("owner=Ann+Lee", &[0, 2]),
        ("owner=Smith%252C+John", &[3]),
        ("risk=high,med", &[1, 2]),
        ("warning=over_privileged", &[1]),
        ("warning=over_privileged&owner=Ann+Lee", &[]),
        ("stage=eligible", &[0, 1, 2]),
        ("stage=reachable", &[0, 1]),
        ("stage=pending,unsupported_type", &[3, 4]),
        ("q=bucket&owner=Bob,Ann+Lee&risk=high", &[2]),
    ] {
        assert_listed(&server, &ids, query, numbers).await;
    }
    let page = body(&server, "owner=Ann+Lee&sort=-age").await;
    let hrefs: Vec<String> = page
        .split("class=\"chip\" href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|href| href.replace("&amp;", "&"))
        .collect();
    let smith = hrefs.iter().find(|href| href.contains("Smith")).expect("the chip of an owner with a comma");
    let both = listed(&server, smith.split_once('?').map_or("", |(_, query)| query)).await;
    assert_eq!(both, [&ids[0], &ids[2], &ids[3]].map(Clone::clone), "the oldest first, as before");
    for href in &hrefs {
        assert_eq!(server.get(href).await.status, 200, "{href}");
    }
}

#[tokio::test]
async fn a_cause_is_a_filter_and_its_title_is_said() {
    let (server, ids) = five().await;
    let key = {
        let snapshot = server.handle.registry.snapshot();
        let id = ConnectionId::parse(&ids[2]).expect("an id");
        crate::funnel::causes::key_of(&snapshot.connections[&id]).expect("a cause")
    };
    assert_listed(&server, &ids, &format!("cause={key}"), &[2]).await;
    let page = body(&server, &format!("cause={key}")).await;
    assert!(page.contains("aria-current=\"true\">Connection refused by storage"), "the filter can be removed");
    assert_listed(&server, &ids, "cause=unknown", &[]).await;
}

#[tokio::test]
async fn the_order_is_that_of_the_address() {
    let (server, ids) = five().await;
    let order = async |query: &str| {
        let found = listed(&server, query).await;
        found.iter().map(|id| ids.iter().position(|known| known == id).expect("known")).collect::<Vec<_>>()
    };
    assert_eq!(order("").await, [2, 3, 4, 0, 1], "blocked, unsupported, pending, active");
    assert_eq!(order("sort=-urgency").await, [1, 0, 4, 3, 2]);
    assert_eq!(order("sort=age").await, [4, 3, 2, 1, 0]);
    assert_eq!(order("sort=-age").await, [0, 1, 2, 3, 4]);
    assert_eq!(order("sort=resource").await, [3, 1, 2, 0, 4]);
    assert_eq!(order("sort=owner&family=s3").await, [2, 1]);
    assert_eq!(order("sort=-family&family=s3,fax").await, [1, 2, 3]);
}

#[tokio::test]
async fn invalid_values_are_explained_and_unknown_pages_are_the_last() {
    let (server, _) = five().await;
    for (query, part) in [("state=BROKEN", "NETWORK_BLOCKED"), ("sort=size", "urgency"), ("risk=none", "low"), ("page=0", "page")]
    {
        let reply = server.get(&format!("/ui/connections?{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.body.contains(part), "{query}: {}", reply.body);
    }
    let reply = server.get(&format!("/ui/connections?q={}", "x".repeat(300))).await;
    assert!(reply.status == 400 && reply.body.contains("300 characters"), "{reply:?}");
    assert_eq!(listed(&server, "page=99").await.len(), 5);
}

#[tokio::test]
async fn retired_connections_are_listed_only_on_demand_and_a_page_of_the_past_shows_the_past() {
    let (server, ids) = five().await;
    let before = server.handle.clock.now();
    assert_listed(&server, &ids, "", &[0, 1, 2, 3, 4]).await;
    server.later(1000);
    let id = ConnectionId::parse(&ids[0]).expect("an id");
    server.handle.registry.withdraw(vec![(id, Origin::folder("a.json"))], "removed").await.expect("withdrawn");
    let mut moved = owned("s3", "bucket-a", "Eve", "low");
    moved["risk_level"] = "high".into();
    server.accept(&[moved]).await;
    server.attempt(ConnectionId::parse(&ids[2]).expect("an id"), passed("")).await;
    server.later(1000);
    assert_listed(&server, &ids, "", &[1, 2, 3, 4]).await;
    assert_listed(&server, &ids, "state=RETIRED", &[0]).await;
    assert_listed(&server, &ids, "state=RETIRED,ACTIVE", &[0, 1, 2]).await;
    assert_listed(&server, &ids, "owner=Eve&risk=high", &[1]).await;
    assert_listed(&server, &ids, "owner=Bob", &[4]).await;
    let at = format!("at={}", before.rfc3339());
    assert_listed(&server, &ids, &at, &[0, 1, 2, 3, 4]).await;
    assert_listed(&server, &ids, &format!("owner=Bob&{at}"), &[1, 4]).await;
    assert_listed(&server, &ids, &format!("owner=Eve&{at}"), &[]).await;
    assert_listed(&server, &ids, &format!("state=NETWORK_BLOCKED&{at}"), &[2]).await;
    let page = body(&server, &at).await;
    assert!(page.contains("You see the past") && page.contains("&amp;at=2026-"), "links keep the instant");
}

#[tokio::test]
async fn the_steps_of_the_latest_attempt_have_titles() {
    let (server, ids) = five().await;
    let page = body(&server, "family=s3&state=NETWORK_BLOCKED").await;
    for title in ["credential: passed, 2 ms", "upsert: failed, 2 ms", "health: skipped", "registry: passed, 2 ms"] {
        assert!(page.contains(&format!("title=\"{title}\"")), "{title}");
    }
    assert!(page.contains(&format!("<a data-row href=\"/ui/connections/{}\">bucket-b</a>", ids[2])), "{page}");
    let page = body(&server, "state=PENDING").await;
    assert!(page.contains("not run yet") && !page.contains("<i title="), "{page}");
}

#[tokio::test]
async fn hostile_texts_are_inert() {
    let server = TestServer::new().await;
    let mut hostile = owned("jdbc", "<script>alert(1)</script>", "\"><img src=x onerror=alert(2)>", "low");
    hostile["credential_locator"] = "env:A".into();
    let ids = server.accept(&[hostile]).await;
    let denied = Failure::new(Class::PermissionDenied, "no right to list <i>objects</i>\u{202e}", "<b>allow it</b>");
    server.attempt(ids[0], failed(Step::Discover, denied)).await;
    let page = body(&server, "q=%3Cscript%3E&owner=%22%3E%3Cimg+src%3Dx+onerror%3Dalert(2)%3E").await;
    for evil in ["<script>alert", "<img", "<i>objects", "\u{202e}"] {
        assert!(!page.contains(evil), "{evil}");
    }
    for shown in ["&lt;script&gt;alert(1)", "&quot;&gt;&lt;img src=x", "&lt;i&gt;objects"] {
        assert!(page.contains(shown), "{shown}");
    }
    assert_eq!(page.matches("<script").count(), 1);
}

#[tokio::test]
async fn a_reader_sees_only_their_namespaces() {
    let (server, ids) = five().await;
    let as_other = [("Authorization", bearer(OTHER))];
    let headers: Vec<(&str, &str)> = as_other.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for path in ["/ui/connections", "/ui/connections.csv"] {
        assert_eq!(server.send("GET", path, &headers, None).await.status, 403, "{path}");
        let own = server.send("GET", &format!("{path}?namespace=other"), &headers, None).await;
        assert_eq!(own.status, 200, "{path}");
        assert!(ids.iter().all(|id| !own.body.contains(id.as_str())), "{path}");
        assert_eq!(server.send("GET", path, &[], None).await.status, 401, "{path}");
        let browser = server.send("GET", &format!("{path}?state=ERROR"), &[("Accept", "text/html")], None).await;
        assert_eq!(browser.status, 303, "{path}");
        assert!(browser.header("location").starts_with("/ui/sign-in?next="), "{browser:?}");
    }
    let mut theirs = owned("s3", "theirs", "Zoe", "low");
    theirs["namespace"] = "other".into();
    let id = server.accept(&[theirs]).await[0].to_string();
    let own = server.send("GET", "/ui/connections?namespace=other", &headers, None).await;
    assert_eq!(ids_of(&own.body), std::slice::from_ref(&id));
    assert!(own.body.contains(&format!("/ui/connections/{id}?namespace=other")), "links keep the namespace");
    assert!(!body(&server, "q=theirs").await.contains(&id));
}

/// Sends an HTTP/1.0 request, whose response is not divided into chunks.
async fn csv_of(server: &TestServer, query: &str) -> (HttpReply, Vec<csv::StringRecord>) {
    let head = format!("GET /ui/connections.csv?{query} HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: {}\r\n\r\n", bearer(FULL));
    let reply = server.raw(head.as_bytes()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let records =
        csv::Reader::from_reader(reply.body.as_bytes()).into_records().map(|record| record.expect("a record")).collect();
    (reply, records)
}

#[tokio::test]
async fn the_download_holds_the_whole_list_and_no_formula() {
    let (server, ids) = five().await;
    let (reply, records) = csv_of(&server, "sort=-age").await;
    assert_eq!(reply.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert!(reply.header("content-disposition").starts_with("attachment"), "{reply:?}");
    assert!(reply.body.starts_with("id,state,family,resources,owner,risk,credential,cause,fix,warnings,created,checked\r\n"));
    let column = |index: usize| records.iter().map(|record| record[index].to_string()).collect::<Vec<_>>();
    assert_eq!(column(0), ids);
    assert_eq!(column(1), ["ACTIVE", "ACTIVE", "NETWORK_BLOCKED", "UNSUPPORTED", "PENDING"]);
    assert_eq!(column(3)[3], "'+49 30 1234", "a spreadsheet would take it as a formula");
    assert_eq!(column(4), ["Ann Lee", "Bob", "Ann Lee", "Smith, John", "Bob"]);
    assert_eq!(
        (column(6)[0].as_str(), column(7)[2].as_str(), column(8)[2].as_str()),
        ("env:JDBC_TOKEN", "Connection refused by storage", "start it")
    );
    assert_eq!(column(9)[1], "over_privileged");
    let (_, records) = csv_of(&server, "family=s3&state=ACTIVE").await;
    assert_eq!(records.len(), 1);
    let (_, records) = csv_of(&server, "q=nothing").await;
    assert!(records.is_empty());
}

/// The size and the time of the page with many connections. `AAM_PAGE_CONNECTIONS=100000` changes their number; the times are
/// printed.
#[tokio::test]
async fn the_page_of_ten_thousand_connections_is_small_and_fast() {
    let count = std::env::var("AAM_PAGE_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000_usize);
    let server = TestServer::new().await;
    let families = ["jdbc", "s3", "slack", "github", "hubspot"];
    let documents: Vec<Value> = (0..count)
        .map(|n| {
            let resource = format!("jdbc:postgresql://db-{n:06}.internal.acme.example:5432/warehouse");
            owned(families[n % 5], &resource, &format!("first.last{}@acme.example", n % 400), ["low", "med", "high"][n % 3])
        })
        .collect();
    let mut ids = Vec::new();
    for some in documents.chunks(2000) {
        ids.extend(server.accept(some).await);
    }
    for (n, id) in ids.iter().take(150).enumerate() {
        let title =
            format!("the policy does not allow the private address 10.4.{}.{} of the host that the intent names", n / 50, n % 50);
        server.attempt(*id, failed(Step::Upsert, Failure::new(Class::EgressRefused, title, "allow 10.4.0.0/16"))).await;
    }
    let mut times = Vec::new();
    for query in [
        "",
        "",
        "q=db-0000+acme&sort=owner",
        "page=150&sort=-resource",
        "state=NETWORK_BLOCKED",
        "family=s3&owner=first.last1@acme.example",
    ] {
        let started = Instant::now();
        let page = body(&server, query).await;
        times.push((query, started.elapsed(), page.len()));
        assert!(page.len() < 100_000, "{query}: {} bytes", page.len());
        assert!(ids_of(&page).len() > 5, "{query}");
    }
    println!("{count} connections: {times:?}");
    // The first one builds the index.
    for (query, time, _) in &times[1..] {
        assert!(*time < Duration::from_secs(3), "{query}: {time:?}");
    }
    let blocked = body(&server, "state=NETWORK_BLOCKED").await;
    assert!(blocked.contains("150 of ") && blocked.contains("page=3"), "three pages");
    let all: BTreeSet<String> = {
        let mut all = BTreeSet::new();
        for page in 1..=3 {
            all.extend(listed(&server, &format!("state=NETWORK_BLOCKED&page={page}")).await);
        }
        all
    };
    assert_eq!(all, ids.iter().take(150).map(ToString::to_string).collect::<BTreeSet<String>>());
}
