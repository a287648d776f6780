//! Tests of what can be done on the page of a connection.

use super::connection_page::{lived, section, text};
use super::*;
use crate::model::State;

/// Sends a form of the page as `token`.
async fn submit(server: &TestServer, id: ConnectionId, action: &str, token: &str, body: &str) -> HttpReply {
    let token = bearer(token);
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    server.send("POST", &format!("/ui/connections/{id}/{action}"), &headers, Some(body)).await
}

/// The hidden value of the forms.
fn csrf(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").expect("a form");
    format!("csrf={}", rest.split('"').next().unwrap_or_default())
}

#[tokio::test]
async fn verify_now_requests_an_attempt() {
    let (server, id) = lived().await;
    let page = server.get(&format!("/ui/connections/{id}")).await.body;
    assert!(page.contains(&format!("action=\"/ui/connections/{id}/verify\"")));
    assert!(server.handle.in_flight.heals().is_empty());
    let reply = submit(&server, id, "verify", FULL, &csrf(&page)).await;
    let address = format!("/ui/connections/{id}?done=verify");
    assert_eq!((reply.status, reply.header("location")), (303, address.as_str()), "{reply:?}");
    assert!(server.handle.in_flight.heals().contains(&id));
    let page = server.get(&address).await.body;
    assert!(
        text(&page).contains("A check was requested.") && text(&page).contains("due now (heal requested)"),
        "{}",
        text(&page)
    );
    server.later(1000);
    server.attempt(id, passed("")).await;
    let page = server.get(&format!("/ui/connections/{id}")).await.body;
    assert!(text(section(&page, "state")).contains("✓ active since"), "the attempt was the requested one");
    assert!(server.handle.in_flight.heals().is_empty());
    // The address may be kept: it says that the check has ended, and after a minute nothing.
    let said = |page: HttpReply| {
        page.body.split_once("class=\"done\"").map(|(_, rest)| text(rest.split("</p>").next().unwrap_or_default()))
    };
    let ended = said(server.get(&address).await).unwrap_or_default();
    assert!(ended.contains("The check has ended."), "{ended}");
    server.later(60_000);
    assert_eq!(said(server.get(&address).await), None);
    assert_eq!(said(server.get(&format!("/ui/connections/{id}?done=withdraw")).await), None, "it was not withdrawn");
}

#[tokio::test]
async fn withdraw_retires_what_was_pushed_and_says_before_what_it_will_do() {
    let server = TestServer::new().await;
    let pushed = vec![(intent_of(&document("jdbc", "pushed")), Origin::api("aod"))];
    let id = server.handle.registry.accept(pushed).await.expect("accepted")[0].connection;
    let page = server.get(&format!("/ui/connections/{id}")).await.body;
    let form = section(&page, "withdraw");
    assert!(text(form).contains("Nothing is deleted or changed at the source"), "{}", text(form));
    assert!(text(section(&page, "intent")).contains("API token aod in force"));
    let reply = submit(&server, id, "withdraw", FULL, &csrf(&page)).await;
    let address = format!("/ui/connections/{id}?done=withdraw");
    assert_eq!((reply.status, reply.header("location")), (303, address.as_str()), "{reply:?}");
    assert_eq!(server.handle.registry.snapshot().connections[&id].state(), State::Retired);
    let page = text(&server.get(&address).await.body);
    assert!(page.contains("The intents of this connection were withdrawn.") && page.contains("– retired"), "{page}");
    assert!(page.contains("withdrawn on the page by token aod") && page.contains("It is withdrawn already."), "{page}");
    let again = server.get(&format!("/ui/connections/{id}")).await.body;
    assert!(!again.contains("method=\"post\""), "nothing is left to do");
    server.later(60_000);
    let kept = server.get(&address).await.body;
    assert!(!kept.contains("The intents of this connection were withdrawn."), "an address that was kept");
}

#[tokio::test]
async fn what_a_file_asks_for_is_not_withdrawn() {
    let (server, id) = lived().await;
    let page = server.get(&format!("/ui/connections/{id}")).await.body;
    assert!(text(&page).contains("because the intents folder asks for it: a.json"), "{}", text(&page));
    assert!(!page.contains("/withdraw\""), "no form");
    let reply = submit(&server, id, "withdraw", FULL, &csrf(&page)).await;
    assert_eq!((reply.status, reply.code().as_str()), (409, "DESIRED_BY_FOLDER"));
    assert_eq!(server.handle.registry.snapshot().connections[&id].state(), State::NetworkBlocked);
}

#[tokio::test]
async fn a_reader_without_the_scope_sees_which_is_missing_and_cannot_act() {
    let (server, id) = lived().await;
    let reader = bearer(READER);
    let reply = server.send("GET", &format!("/ui/connections/{id}"), &[("Authorization", &reader)], None).await;
    assert_eq!(reply.status, 200);
    assert!(!reply.body.contains("method=\"post\""), "no form");
    for scope in ["ops:heal", "intents:write"] {
        assert!(text(&reply.body).contains(&format!("needs the scope {scope}, which reader does not have")), "{scope}");
    }
    let full = server.get(&format!("/ui/connections/{id}")).await.body;
    for action in ["verify", "withdraw"] {
        let reply = submit(&server, id, action, READER, &csrf(&full)).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "SCOPE_MISSING"), "{action}");
    }
    assert!(server.handle.in_flight.heals().is_empty());
}

#[tokio::test]
async fn a_form_of_another_page_changes_nothing() {
    let server = TestServer::new().await;
    let pushed = vec![(intent_of(&document("jdbc", "pushed")), Origin::api("aod"))];
    let id = server.handle.registry.accept(pushed).await.expect("accepted")[0].connection;
    let seq = server.handle.registry.snapshot().seq;
    for body in ["", "csrf=", "csrf=guess", "other=1"] {
        for action in ["verify", "withdraw"] {
            let reply = submit(&server, id, action, FULL, body).await;
            assert_eq!((reply.status, reply.code().as_str()), (403, "FORM_OUTDATED"), "{action} {body}");
        }
    }
    assert!(server.handle.in_flight.heals().is_empty());
    assert_eq!(server.handle.registry.snapshot().seq, seq, "nothing was recorded");
}

#[tokio::test]
async fn a_connection_of_another_namespace_cannot_be_acted_on() {
    let (server, id) = lived().await;
    let mut elsewhere = document("jdbc", "a");
    elsewhere["namespace"] = "other".into();
    let own = server.accept(&[elsewhere]).await[0];
    let other = bearer(OTHER);
    let target = format!("/ui/connections/{own}?namespace=other");
    let page = server.send("GET", &target, &[("Authorization", &other)], None).await.body;
    for action in ["verify", "withdraw"] {
        let reply = submit(&server, id, action, OTHER, &csrf(&page)).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "NOT_FOUND"), "{action}");
    }
    assert!(server.handle.in_flight.heals().is_empty());
}
