//! Tests of the pages of policy, families, problems, ledger and process.

use super::*;
use crate::model::{FilePlace, Problem};
use crate::plan::departures::{Departure, DepartureKind, Hold, Holds};
use crate::policy::Rejected;
use crate::reconcile::handle::WebhookStatus;

const PAGES: [&str; 6] = ["/ui/policy", "/ui/families", "/ui/families/jdbc", "/ui/problems", "/ui/ledger", "/ui/about"];

/// The main part of a page, without the frame around it.
fn main_of(reply: &HttpReply) -> String {
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/html; charset=utf-8"), "{reply:?}");
    let (_, rest) = reply.body.split_once("<main").expect("a main part");
    rest.split_once("</main>").expect("its end").0.to_string()
}

async fn main(server: &TestServer, target: &str) -> String {
    main_of(&server.get(target).await)
}

/// Records a policy as if it came into force now.
async fn accept_policy(server: &TestServer, text: &str) -> Digest {
    let digest = Digest::from_bytes(text.as_bytes());
    server.handle.registry.accept_policy(digest, text.to_string(), Vec::new()).await.expect("recorded");
    digest
}

/// A server whose policy allowed only `jdbc` until one minute ago. The policies are the entries 1 and 2.
async fn changed_policy() -> (TestServer, Digest, Digest) {
    let server = TestServer::new().await;
    let earlier = accept_policy(&server, &policy_text().replace("[jdbc, s3]", "[jdbc]")).await;
    server.later(60_000);
    let later = accept_policy(&server, &policy_text()).await;
    server.later(60_000);
    (server, earlier, later)
}

fn problem() -> Problem {
    Problem::new("/risk_level", "<script>alert(1)</script> is not a risk")
        .hint("low, med or <i>high</i>")
        .in_file("<img src=x>.json")
        .at(FilePlace { line: 3, column: 14 })
}

/// Puts something wrong into every part that the page of problems shows.
fn break_everything(server: &TestServer, held: ConnectionId) -> Digest {
    let handle = &server.handle;
    handle.problems.store(Arc::new(vec![problem()]));
    let rejected = Rejected { at: Timestamp(START), problems: vec![Problem::new("/allowlist", "the allowlist is missing")] };
    handle.policy.store(Arc::new(ActivePolicy::new(handle.loaded(), Some(rejected))));
    handle.trouble.store(Arc::new("the disk is full".to_string()));
    let webhook = WebhookStatus {
        name: "on-call".to_string(),
        host: "hooks.acme.example".to_string(),
        problem: "status 500 <b>from</b> the receiver".to_string(),
        fix: "look at its log".to_string(),
        tries: 3,
        next_at: Some(Timestamp(START + 90_000)),
        delivered: 0,
        failed: 3,
        up_to: 0,
    };
    handle.webhooks.store(Arc::new(vec![webhook]));
    let digest = Digest::from_bytes(b"a change");
    let departure = Departure {
        kind: DepartureKind::Withdrawn,
        cause: digest,
        at: Timestamp(START),
        reason: "a.json was removed".to_string(),
        checkable: true,
    };
    let hold = Hold {
        namespace: "autonomy".to_string(),
        digest,
        departures: BTreeMap::from([(held, departure)]),
        recent: 0,
        desired: 1,
        confirmed_by_policy: false,
    };
    handle.holds.store(Arc::new(Holds { holds: vec![hold], seq: 0 }));
    digest
}

#[tokio::test]
async fn the_policy_is_shown_with_what_it_allows_and_what_changed() {
    let (server, earlier, later) = changed_policy().await;
    let page = main(&server, "/ui/policy").await;
    let data = server.get("/dashboard.json").await.json();
    assert_eq!(data["policy"]["digest"], later.to_string());
    for shown in [
        later.to_string().as_str(),
        data["policy"]["accepted_at"].as_str().expect("recorded"),
        data["policy"]["file"].as_str().expect("a path"),
        "href=\"/ui/families/s3\"",
        "id=\"token-reader\"",
        "allowlist: [jdbc, s3]",
        "s3 added to the allowlist (wider); affects 0 connections",
        "▲ Wider",
        earlier.to_string().as_str(),
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let back = main(&server, "/ui/policy?from=2&to=1").await;
    assert!(back.contains("s3 removed from the allowlist") && back.contains("▼ Not wider"), "{back}");
    let history = main(&server, "/ui/policy?before=2").await;
    assert!(history.contains("id=\"policy-1\"") && !history.contains("id=\"policy-2\""), "{history}");
    for (query, status) in [("from=9", 404), ("from=x", 400), ("to=0", 400), ("before=-1", 400)] {
        assert_eq!(server.get(&format!("/ui/policy?{query}")).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn at_shows_the_policy_of_then() {
    let (server, earlier, later) = changed_policy().await;
    let page = main(&server, "/ui/policy?at=2026-11-08T18:00:30Z").await;
    assert!(
        page.contains("In force then") && page.contains(&earlier.to_string()) && page.contains("allowlist: [jdbc]"),
        "{page}"
    );
    assert!(!page.contains(&later.to_string()) && !page.contains("/ui/families/s3"), "{page}");
    let families = main(&server, "/ui/families?at=2026-11-08T18:00:30Z").await;
    let row = |id: &str| {
        let (_, rest) = families.split_once(&format!("id=\"family-{id}\"")).expect("a row");
        rest.split_once("</tr>").expect("its end").0.to_string()
    };
    assert!(row("jdbc").contains("✓ allowed") && row("s3").contains("not allowed"), "{families}");
    assert!(families.contains("does not record the budgets"), "{families}");
    let before = main(&server, "/ui/policy?at=2026-11-08T17:00:00Z").await;
    assert!(before.contains("No policy was in force"), "{before}");
    assert_eq!(server.get("/ui/policy?to=2&at=2026-11-08T18:00:30Z").await.status, 404, "that policy was not accepted yet");
}

#[tokio::test]
async fn families_show_the_numbers_of_the_api() {
    let server = TestServer::new().await;
    let ids = server.accept(&[document("jdbc", "a"), document("jdbc", "b"), document("fax", "c")]).await;
    server.attempt(ids[0], passed("")).await;
    let day = Timestamp(START).day();
    for (account, calls) in [("jdbc|db.example", 30), ("jdbc|other.example", 7), ("vault|vault.example", 2)] {
        let budget: &dyn crate::egress::DayBudget = &*server.handle.registry;
        assert_eq!(budget.take(account, day, calls, 100).await, Ok(calls));
    }
    let (page, list) = (main(&server, "/ui/families").await, server.get("/families").await.json());
    for family in list["families"].as_array().expect("families") {
        let id = family["id"].as_str().expect("an id");
        let (_, rest) = page.split_once(&format!("id=\"family-{id}\"")).unwrap_or_else(|| panic!("{id} is not listed"));
        let row = rest.split_once("</tr>").expect("its end").0;
        assert_eq!(row.contains("✓ allowed"), family["allowed"] == true, "{id}: {row}");
        assert_eq!(row.contains("✓ connects"), family["connects"] == true, "{id}: {row}");
        if id == "jdbc" {
            let per_day = &family["cap_in_force"]["per_day"];
            let budget = format!("30 of {per_day} calls");
            for shown in [budget.as_str(), "the most of 2 accounts", "</span> 1 active", "</span> 1 pending"] {
                assert!(row.contains(shown), "{shown}: {row}");
            }
        }
    }
    assert!(page.contains("Source types that AAM does not know") && page.contains("<code>fax</code>"), "{page}");
    assert!(page.contains("2 of 100000 calls"), "the vault: {page}");
    let one = main(&server, "/ui/families/jdbc").await;
    assert!(one.contains("db.example") && one.contains("other.example") && !one.contains("vault.example"), "{one}");
}

#[tokio::test]
async fn a_family_shows_what_its_guide_says_and_an_unknown_one_is_not_found() {
    let server = TestServer::new().await;
    let (page, guide) = (main(&server, "/ui/families/github").await, server.get("/families/github").await.json());
    let escaped = |text: &str| maud::html! { (text) }.into_string();
    for path in
        ["/resource_ids", "/least_privilege", "/examples/0", "/login/0/json", "/locators/0/examples/0/locator", "/sources/cap"]
    {
        let text = guide.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}"));
        assert!(page.contains(&escaped(text)), "{path}: {text}");
    }
    assert!(page.contains("data-copy=\"acme/website\"") && page.contains("data-copy=\"allowlist:"), "{page}");
    let intent =
        page.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>")).expect("an intent").0.replace("&quot;", "\"");
    let parsed = intent_of(&serde_json::from_str::<Value>(&intent).expect("JSON"));
    assert_eq!(parsed.source_type, "github");
    let missing = server.get("/ui/families/githb").await;
    assert_eq!((missing.status, missing.code().as_str()), (404, "NOT_FOUND"));
    assert!(missing.body.contains("Did you mean github?"), "{}", missing.body);
    let browser = [("Authorization", bearer(FULL)), ("Accept", "text/html".to_string())];
    let browser: Vec<(&str, &str)> = browser.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let missing = server.send("GET", "/ui/families/nothing", &browser, None).await;
    assert_eq!((missing.status, missing.header("content-type")), (404, "text/html; charset=utf-8"));
}

/// A reader of the namespace of the policy sees budgets, but not which hosts and tenants other namespaces use.
#[tokio::test]
async fn accounts_of_other_namespaces_have_no_names() {
    let server = TestServer::new().await;
    server.accept(&[document("jdbc", "a")]).await;
    let budget: &dyn crate::egress::DayBudget = &*server.handle.registry;
    assert_eq!(budget.take("jdbc|secret-host.example", Timestamp(START).day(), 30, 100).await, Ok(30));
    let own = main(&server, "/ui/families/jdbc").await;
    assert!(own.contains("secret-host.example") && !own.contains("Accounts have numbers here"), "{own}");
    let mut elsewhere = document("jdbc", "b");
    elsewhere["namespace"] = "other".into();
    server.accept(&[elsewhere]).await;
    let page = main(&server, "/ui/families/jdbc").await;
    assert!(!page.contains("secret-host.example"), "{page}");
    assert!(page.contains("account 1") && page.contains("30 of ") && page.contains("because aod may not read"), "{page}");
}

#[tokio::test]
async fn problems_are_shown_with_their_places_and_fixes() {
    let server = TestServer::new().await;
    let id = server.accept(&[document("jdbc", "a")]).await[0];
    let clear = main(&server, "/ui/problems").await;
    assert!(clear.contains("✓ Nothing is wrong."), "{clear}");
    let digest = break_everything(&server, id);
    let page = main(&server, "/ui/problems").await;
    assert!(!page.contains("Nothing is wrong"), "{page}");
    for part in ["holds", "registry", "policy", "files", "webhooks"] {
        assert!(page.contains(&format!("id=\"{part}\"")), "{part}: {page}");
    }
    let held = server.get("/holds").await.json();
    let command = format!("data-copy=\"aam confirm {}\"", digest.short());
    for shown in [
        "the disk is full",
        "the allowlist is missing",
        ":3:14",
        "line 3, column 14",
        "/risk_level",
        "&lt;script&gt;alert(1)&lt;/script&gt; is not a risk",
        "status 500 &lt;b&gt;from",
        "3 failed tries",
        held["holds"][0]["message"].as_str().expect("a hold"),
        command.as_str(),
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    server.later(60_000);
    let past = main(&server, "/ui/problems?at=2026-11-08T18:00:30Z").await;
    assert!(past.contains("so they are left out") && !past.contains("the disk is full"), "{past}");
}

#[tokio::test]
async fn the_ledger_shows_its_head_and_claims_only_what_was_checked() {
    let server = TestServer::new().await;
    accept_policy(&server, &policy_text()).await;
    let ids = server.accept(&[document("jdbc", "first"), document("s3", "second")]).await;
    server.attempt(ids[0], passed("")).await;
    let head = server.handle.registry.reader().head().expect("a head");
    let page = main(&server, "/ui/ledger").await;
    for shown in [
        head.hash.to_string(),
        format!("The entries 1 to {} match their hashes", head.seq),
        "the file itself were not checked".to_string(),
        format!("data-copy=\"aam verify --expect {}:{}\"", head.seq, head.hash),
        "data-copy=\"aam evidence --since 30d --out evidence-2026-11-08\"".to_string(),
        format!("href=\"/ui/connections/{}\"", ids[0]),
        "jdbc first".to_string(),
        "attempt passed: 20 rows in 12 ms".to_string(),
        "came into force".to_string(),
    ] {
        assert!(page.contains(&shown), "{shown}: {page}");
    }
    let versions = server.get(&format!("/connections/{}/versions", ids[0])).await.json();
    for version in versions["versions"].as_array().expect("versions") {
        assert!(page.contains(&format!("id=\"entry-{}\"", version["seq"])), "{version}");
    }
    let earlier = main(&server, "/ui/ledger?before=3").await;
    assert!(earlier.contains("id=\"entry-2\"") && !earlier.contains("id=\"entry-3\""), "{earlier}");
    server.later(60_000);
    server.accept(&[document("jdbc", "third")]).await;
    let past = main(&server, "/ui/ledger?at=2026-11-08T18:00:30Z").await;
    assert!(past.contains(&head.hash.to_string()) && !past.contains("third"), "{past}");
    for bad in ["before=x", "before=0", "all=maybe"] {
        assert_eq!(server.get(&format!("/ui/ledger?{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn about_shows_the_process_as_the_api_does() {
    let server = TestServer::new().await;
    let page = main(&server, "/ui/about").await;
    let version = server.get("/version").await.json();
    for key in ["version", "registry", "started"] {
        assert!(page.contains(version[key].as_str().expect("a text")), "{key}: {page}");
    }
    assert!(page.contains("✓ Ready") && page.contains("512, and 32 more"), "{page}");
    assert!(page.contains("href=\"/openapi.json\""), "{page}");
    server.handle.ready.send_replace(false);
    let page = main(&server, "/ui/about").await;
    let reason = server.get("/readyz").await.json()["detail"].as_str().expect("a reason").to_string();
    assert!(!page.contains("✓ Ready") && page.contains(&reason), "{reason}: {page}");
}

#[tokio::test]
async fn a_token_of_another_namespace_sees_none_of_what_concerns_all() {
    let (server, earlier, _) = changed_policy().await;
    let id = server.accept(&[document("jdbc", "resource-of-autonomy")]).await[0];
    let budget: &dyn crate::egress::DayBudget = &*server.handle.registry;
    let day = server.handle.clock.now().day();
    assert_eq!(budget.take("jdbc|account-of-all", day, 5, 100).await, Ok(5));
    break_everything(&server, id);
    let head = server.handle.registry.reader().head().expect("a head").hash.to_string();
    let (id, earlier) = (id.to_string(), earlier.to_string());
    let parts = [
        "token-reader",
        "policy/policy.yaml",
        "allowlist: [jdbc",
        earlier.as_str(),
        "account-of-all",
        "src=x&gt;.json",
        "the allowlist is missing",
        "hooks.acme.example",
        "aam confirm",
        "resource-of-autonomy",
        id.as_str(),
        head.as_str(),
        "var/aam.db",
    ];
    let mut seen = String::new();
    for path in PAGES {
        seen.push_str(&main(&server, path).await);
        let reply = server.send("GET", &format!("{path}?namespace=other"), &[("Authorization", &bearer(OTHER))], None).await;
        let page = main_of(&reply);
        for part in parts {
            assert!(!page.contains(part), "{path} shows {part}: {page}");
        }
        let own = server.send("GET", path, &[("Authorization", &bearer(OTHER))], None).await;
        assert_eq!(main_of(&own), page, "without a namespace, it is the one of the token");
        let refused = server.send("GET", &format!("{path}?namespace=autonomy"), &[("Authorization", &bearer(OTHER))], None).await;
        assert_eq!(refused.status, 403, "{path}");
    }
    for part in parts {
        assert!(seen.contains(part), "{part} is shown to a reader of the policy's namespace");
    }
}

#[tokio::test]
async fn hostile_texts_are_inert_on_every_page() {
    let evil = "# <script>alert(2)</script>\n";
    let server = TestServer::new().await;
    accept_policy(&server, &policy_text()).await;
    let hostile = intent_of(&document("jdbc", "<script>alert(3)</script>"));
    let mut unknown = intent_of(&document("fax", "x"));
    unknown.source_type = "<i>fax</i>".to_string();
    let documents = [hostile, unknown].map(|intent| (intent, Origin::folder("<b>a</b>.json")));
    let ids: Vec<ConnectionId> = server
        .handle
        .registry
        .accept(documents.into())
        .await
        .expect("accepted")
        .into_iter()
        .map(|taken| taken.connection)
        .collect();
    break_everything(&server, ids[0]);
    let text = format!("{evil}{}", policy_text());
    let active = crate::policy::parse::parse(&text, "policy.yaml").expect("a policy");
    accept_policy(&server, &text).await;
    server.handle.policy.store(Arc::new(ActivePolicy::new(LoadedPolicy::new(active), None)));
    let mut seen = String::new();
    for path in PAGES {
        let page = main(&server, path).await;
        for evil in ["<script", "<img", "<i>", "<b>", " style=\""] {
            assert!(!page.contains(evil), "{path}: {evil}");
        }
        seen.push_str(&page);
    }
    for shown in [
        "&lt;script&gt;alert(1)",
        "&lt;script&gt;alert(2)",
        "&lt;script&gt;alert(3)",
        "&lt;b&gt;a&lt;/b&gt;.json",
        "&lt;i&gt;fax",
    ] {
        assert!(seen.contains(shown), "{shown}");
    }
}

#[tokio::test]
async fn a_sealed_namespace_says_so_on_its_pages() {
    let server = TestServer::with(
        &policy_text().replace("namespaces: [autonomy]", "namespaces: [autonomy, demo]"),
        ServerLimits::default(),
    )
    .await;
    let mut sample = intent_of(&document("jdbc", "sample-row"));
    sample.namespace = "demo".to_string();
    server.later(60_000);
    let origin = Origin("seed:a.json".into());
    assert!(server.handle.registry.seal("demo", vec![(sample, origin)]).await.expect("sealed"));
    server.accept(&[document("jdbc", "own-row")]).await;
    server.later(60_000);
    for path in PAGES {
        let page = main(&server, &format!("{path}?namespace=demo")).await;
        assert!(page.contains("Namespace demo is sealed") && page.contains("it accepts no intents"), "{path}: {page}");
        assert!(page.contains("2026-11-08T18:01:00.000Z"), "{path}: since when");
        assert!(!main(&server, path).await.contains("is sealed</strong>"), "{path}");
        let before = main(&server, &format!("{path}?namespace=demo&at=2026-11-08T18:00:30Z")).await;
        assert!(!before.contains("is sealed</strong>"), "{path}: it was not sealed yet");
    }
    let ledger = main(&server, "/ui/ledger?namespace=demo").await;
    assert!(
        ledger.contains("sample-row") && ledger.contains("namespace sealed after 1 intent") && !ledger.contains("own-row"),
        "{ledger}"
    );
    let all = main(&server, "/ui/ledger?all=true").await;
    assert!(all.contains("sample-row") && all.contains("own-row"), "{all}");
}
