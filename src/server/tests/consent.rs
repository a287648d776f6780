//! Tests of the pages of consent links: a snapshot for each state, and the rules of the listener.

use super::*;
use crate::providers::consent::{ConsentScope, ConsentView, LinkState};
use crate::server::consent_page::{
    Progress, Request, Trouble, closed, content_security_policy, not_possible, progress, request, trouble,
};

fn view(state: LinkState) -> ConsentView {
    let scope = |name: &str, about: Option<&str>| ConsentScope { name: name.to_string(), about: about.map(str::to_string) };
    ConsentView {
        link_id: "4f1c.Zm9v".to_string(),
        connection: ConnectionId::parse("8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e").expect("an id"),
        namespace: "autonomy".to_string(),
        family: "github".to_string(),
        family_title: "GitHub".to_string(),
        resource_ids: vec!["acme".to_string()],
        owner: "owner@acme.example".to_string(),
        consent: "gh".to_string(),
        scopes: vec![scope("read:org", Some("lists the members and teams of the organisation")), scope("offline_access", None)],
        vendor_host: "github.com".to_string(),
        given_by: None,
        ends: Timestamp(START + 86_400_000),
        state,
        given_at: (state == LinkState::Given).then_some(Timestamp(START)),
    }
}

fn asked(view: &ConsentView) -> String {
    request(&Request { view, requested_by: &["the people who run AAM (file acme.json)".to_string()], max_items: 20 })
}

/// The body of a page without its style and script, one element a line.
fn body(page: &str) -> String {
    let start = page.find("<body>").unwrap_or(0);
    let end = page.find("<script>").unwrap_or(page.len());
    page[start..end].replace('>', ">\n").replace("</", "\n</")
}

fn snapshot(name: &str, page: &str) {
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, body(page));
    });
}

#[test]
fn each_state_of_a_link_has_its_page() {
    snapshot("consent_open", &asked(&view(LinkState::Open)));
    let administrator = ConsentView {
        given_by: Some("an administrator of the tenant acme.example".to_string()),
        scopes: Vec::new(),
        resource_ids: vec!["acme.example".to_string(), "acme.onmicrosoft.com".to_string()],
        ..view(LinkState::InProgress)
    };
    snapshot("consent_in_progress", &asked(&administrator));
    snapshot("consent_expired", &closed(&view(LinkState::Expired)));
    snapshot("consent_replaced", &closed(&view(LinkState::Replaced)));
    let given = view(LinkState::Given);
    let at = Timestamp(START + 3000).rfc3339();
    let after = |state, checking, error| progress(&given, &Progress { state, checking, checked_at: Some(&at), error });
    snapshot("consent_checking", &after("AWAITING_CREDENTIALS", true, None));
    snapshot("consent_active", &after("ACTIVE", false, None));
    let failed = Some(("GitHub does not let the credential list members", "give the application read:org"));
    snapshot("consent_not_active", &after("AWAITING_CREDENTIALS", false, failed));
    let refused = Trouble {
        heading: "The permission was not given",
        title: "consent was not given: github.com reports that it was refused",
        fix: "open the link again and agree",
        detail: "the vendor says: \"access_denied\", \"The user has denied your application access.\"",
        nothing_stored: true,
        link_id: Some("4f1c.Zm9v"),
    };
    snapshot("consent_refused", &trouble(&refused));
    let failure = Failure::new(Class::Misconfigured, "no call of crm proves whose data a credential reads", "name one");
    snapshot("consent_not_set_up", &not_possible(&failure));
}

#[test]
fn only_a_page_that_waits_polls_and_it_polls_without_a_script_too() {
    let given = view(LinkState::Given);
    let page = |state, checking| progress(&given, &Progress { state, checking, checked_at: None, error: None });
    let waiting = page("PENDING", true);
    assert!(waiting.contains("<noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript>"), "{waiting}");
    assert!(waiting.contains("data-poll=\"2\"") && waiting.matches("<script").count() == 1, "{waiting}");
    assert!(page("ERROR", false).contains("data-poll=\"15\""));
    for still in [page("ACTIVE", false), asked(&view(LinkState::Open)), closed(&view(LinkState::Expired))] {
        assert!(!still.contains("<script") && !still.contains("refresh") && !still.contains("data-poll"), "{still}");
    }
}

#[test]
fn hostile_texts_are_inert_and_nothing_is_loaded_from_elsewhere() {
    let evil = "<script>alert(1)</script>\u{202e}";
    let mut hostile = view(LinkState::Open);
    hostile.family_title = evil.to_string();
    hostile.resource_ids = vec![evil.to_string()];
    hostile.owner = "\"><img src=x>".to_string();
    hostile.scopes = vec![ConsentScope { name: evil.to_string(), about: Some(evil.to_string()) }];
    hostile.vendor_host = "vendor.example; script-src *".to_string();
    let problem = Trouble { heading: evil, title: evil, fix: evil, detail: evil, nothing_stored: false, link_id: None };
    for page in [asked(&hostile), closed(&hostile), trouble(&problem)] {
        assert!(!page.contains("<script>alert") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
        for foreign in ["http://", "https://", "url(", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
    let policy = content_security_policy(Some(&hostile.vendor_host));
    assert!(policy.ends_with("form-action 'self' https: vendor.examplescript-src"), "{policy}");
    assert!(content_security_policy(None).ends_with("form-action 'none'"));
}

#[tokio::test]
async fn the_hashes_of_the_policy_are_those_of_the_page() {
    use base64::Engine as _;
    let given = view(LinkState::Given);
    let page = progress(&given, &Progress { state: "PENDING", checking: true, checked_at: None, error: None });
    let policy = content_security_policy(None);
    for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
        let (text, _) = page.split_once(open).expect("an element").1.split_once(close).expect("its end");
        let hash = base64::prelude::BASE64_STANDARD.encode(Digest::from_bytes(text.as_bytes()).0);
        assert!(text.len() > 200 && policy.contains(&format!("'sha256-{hash}'")), "{open}");
    }
}

#[tokio::test]
async fn a_made_up_link_is_not_found_and_every_answer_is_a_page() {
    let server = TestServer::new().await;
    let ids = ["x", "4f1c.Zm9v", "..", "%2e%2e", "8d5b2ab0-3a0f-5d2c-9d5c-3f0f3b1c2d4e", &"a".repeat(4000)];
    let first = server.send("GET", "/consent/nothing", &[], None).await;
    for id in ids {
        for method in ["GET", "POST"] {
            let reply = server.send(method, &format!("/consent/{id}"), &[], None).await;
            assert_eq!((reply.status, &reply.body), (404, &first.body), "{method} {id}");
            assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
            assert_eq!(reply.header("cache-control"), "no-store");
            assert!(reply.header("content-security-policy").contains("frame-ancestors 'none'"));
        }
    }
    for query in ["", "?state=x&code=y", "?state=x&state=y", "?error=access_denied&session_state=z&anything=1"] {
        let reply = server.send("GET", &format!("/consent/callback{query}"), &[], None).await;
        assert_eq!((reply.status, reply.header("content-type")), (400, "text/html; charset=utf-8"), "{query}");
        assert!(reply.body.contains("<dt>What AAM stored</dt><dd>nothing</dd>"), "{}", reply.body);
    }
    let head = server.send("HEAD", "/consent/callback?state=x&code=y", &[], None).await;
    assert_eq!((head.status, head.body.as_str()), (200, ""), "a program that looks first uses up no code");
}

#[tokio::test]
async fn another_site_cannot_press_the_button_and_one_address_cannot_guess_without_end() {
    let server = TestServer::new().await;
    let own = format!("http://127.0.0.1:{}", server.port);
    for (name, value, status) in [
        ("Origin", own.as_str(), 404),
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Sec-Fetch-Site", "cross-site", 403),
    ] {
        assert_eq!(server.send("POST", "/consent/x", &[(name, value)], None).await.status, status, "{name}: {value}");
    }
    // A vendor sends the browser back from another site.
    let back = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    assert_eq!(server.send("GET", "/consent/callback?state=x", &back, None).await.status, 400);
    let mut last = 404;
    for _ in 0..2000 {
        let reply = server.send("GET", "/consent/x", &[], None).await;
        last = reply.status;
        if last != 404 {
            assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
            assert!(!reply.header("retry-after").is_empty());
            break;
        }
    }
    assert_eq!(last, 429);
}
