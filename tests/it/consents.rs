//! Consents against a strict vendor: links, the callback, refresh, and the messages when something is missing.

use crate::support::consents::{Consents, proof, proven};
use crate::support::daemon::until;
use crate::support::oauth_vendor::{OnRefresh, REDIRECT};
use aam::model::{Class, Failure};
use aam::providers::consent::{ConsentCode, LinkCode, LinkState, ProvedAccount};
use serde_json::json;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// The address in a fix.
fn link_in(failure: &Failure) -> String {
    let at = failure.fix.find("http").unwrap_or_else(|| panic!("{failure:?}"));
    failure.fix[at..].to_string()
}

#[tokio::test]
async fn an_attempt_without_a_grant_names_the_owner_and_always_the_same_link() {
    let consents = Consents::new().await;
    let first = consents.provide().await.expect_err("no grant");
    assert_eq!(first.class, Class::CredentialMissing);
    assert!(first.title.contains("owner@acme.example") && first.title.contains("consent:things"), "{first:?}");
    let origin = REDIRECT.trim_end_matches("/callback");
    assert!(link_in(&first).starts_with(&format!("{origin}/")), "{first:?}");
    consents.clock.advance(Duration::from_secs(300));
    assert_eq!(consents.provide().await.expect_err("no grant"), first);
    assert_eq!(consents.restarted().provide().await.expect_err("no grant"), first, "a restart keeps the link");
    assert_eq!(consents.vendor.state().token_requests, 0);
    let view = consents.providers.consents().view(&consents.context(), &consents.link_id().await).await.expect("a page");
    assert_eq!((view.state, view.owner.as_str()), (LinkState::Open, "owner@acme.example"));
    assert_eq!(view.scopes.iter().map(|scope| scope.name.as_str()).collect::<Vec<_>>(), ["things.read", "offline"]);
}

#[tokio::test]
async fn a_link_ends_after_seven_days_and_a_new_one_takes_its_place() {
    let consents = Consents::new().await;
    let old = consents.link_id().await;
    consents.clock.advance(7 * 24 * HOUR - Duration::from_millis(1));
    assert_eq!(consents.link_id().await, old);
    consents.clock.advance(Duration::from_millis(1));
    assert_ne!(consents.link_id().await, old);
    let provider = consents.providers.consents();
    assert_eq!(provider.view(&consents.context(), &old).await.expect("a page").state, LinkState::Expired);
    assert_eq!(provider.begin(&consents.context(), &old).await.expect_err("refused").code, LinkCode::Gone);
}

#[tokio::test]
async fn a_link_that_was_made_up_or_changed_is_not_found() {
    let consents = Consents::new().await;
    let id = consents.link_id().await;
    let provider = consents.providers.consents();
    let code = async |id: &str| provider.begin(&consents.context(), id).await.err().map(|problem| problem.code);
    let forged = format!("{}AAAAAA", &id[..id.len() - 6]);
    assert_eq!(code(&forged).await, Some(LinkCode::NotFound));
    assert_eq!(code("").await, Some(LinkCode::NotFound));
    // A link whose connection was changed in the file has another signature.
    let text = std::fs::read_to_string(consents.store()).expect("a file");
    consents.replace_store(text.replace("owner@acme.example", "other@acme.example").as_bytes());
    assert_eq!(code(&id).await, Some(LinkCode::NotFound));
}

#[tokio::test]
async fn a_grant_is_used_until_shortly_before_its_end_and_each_refresh_token_once() {
    let consents = Consents::new().await;
    let given = consents.give().await;
    assert_eq!((given.consent.as_str(), given.scopes.len()), ("things", 2));
    let provided = consents.provide().await.expect("a token");
    assert_eq!(provided.facts.provider, "consent");
    assert_eq!(provided.facts.evidence["scopes"], json!(["things.read", "offline"]));
    assert_eq!(consents.vendor.state().token_requests, 1, "the token of the exchange is used");
    for _ in 0..5 {
        assert_eq!(consents.call().await.expect("a token"), 200);
        consents.clock.advance(HOUR - Duration::from_secs(91));
        assert_eq!(consents.call().await.expect("a token"), 200);
        consents.clock.advance(Duration::from_secs(2));
    }
    let sent = consents.vendor.state().sent.clone();
    assert!(sent.len() == 4 && sent.values().all(|count| *count == 1), "{sent:?}");
    consents.assert_no_misuse();
    // A restart has no access token, so it refreshes once.
    assert_eq!(consents.restarted().call().await.expect("a token"), 200);
    consents.assert_no_misuse();
}

#[tokio::test]
async fn the_callback_works_once_and_a_restart_in_between_changes_nothing() {
    let consents = Consents::new().await;
    let query = consents.click().await;
    let id = consents.link_id().await;
    let restarted = consents.restarted();
    let provider = restarted.providers.consents();
    assert_eq!(provider.view(&restarted.context(), &id).await.expect("a page").state, LinkState::InProgress);
    restarted.complete(&query, proven()).await.unwrap_or_else(|problem| panic!("{problem:?}"));
    let again = consents.complete(&query, proven()).await.expect_err("used before");
    assert_eq!(again.code, ConsentCode::UnknownState);
    let view = provider.view(&restarted.context(), &id).await.expect("a page");
    assert!(view.state == LinkState::Given && view.given_at.is_some(), "{view:?}");
    assert_eq!(provider.begin(&restarted.context(), &id).await.expect_err("used").code, LinkCode::Gone);
}

#[tokio::test]
async fn forged_answers_are_refused_and_the_link_stays_usable() {
    let consents = Consents::new().await;
    let refused = async |change: &dyn Fn(String) -> String| {
        let query = change(consents.click().await);
        consents.complete(&query, proven()).await.err().map(|problem| (problem.code, problem.link_id.is_some()))
    };
    assert_eq!(refused(&|query: String| query.replace("state=", "state=x")).await, Some((ConsentCode::UnknownState, false)));
    assert_eq!(refused(&|query: String| query.replace("state=", "s=")).await, Some((ConsentCode::BadRequest, false)));
    assert_eq!(refused(&|query: String| format!("{query}&code=other")).await, Some((ConsentCode::BadRequest, false)));
    let evil = |query: String| query.replace("iss=http", "iss=https");
    assert_eq!(refused(&evil).await, Some((ConsentCode::WrongIssuer, true)));
    assert_eq!(refused(&|query: String| query.replace("code=", "code=x")).await, Some((ConsentCode::Refused, true)));
    assert_eq!(
        refused(&|query: String| query.replace("code=", "error=access_denied&c=")).await,
        Some((ConsentCode::Denied, true))
    );
    assert_eq!(
        refused(&|query: String| query.replace("code=", "error=server_error&c=")).await,
        Some((ConsentCode::Vendor, true))
    );
    let administrator = |query: String| query.replace("code=", "error=consent_required&c=");
    assert_eq!(refused(&administrator).await, Some((ConsentCode::Denied, true)));
    let late = consents.click().await;
    consents.clock.advance(HOUR);
    assert_eq!(consents.complete(&late, proven()).await.err().map(|problem| problem.code), Some(ConsentCode::UnknownState));
    assert_eq!(consents.stored()["grants"], json!([]));
    consents.give().await;
}

#[tokio::test]
async fn the_wrong_account_is_refused_by_name_and_its_tokens_are_revoked() {
    let consents = Consents::new().await;
    let query = consents.click().await;
    let wrong = |_| {
        let title = "the credential is of the account other.example, not of acme.example";
        Err(Failure::new(Class::WrongService, title, "use another credential"))
    };
    let problem = consents.complete(&query, proof(wrong)).await.expect_err("refused");
    assert_eq!(problem.code, ConsentCode::WrongAccount);
    assert!(problem.title.contains("other.example") && problem.detail.contains("revoked"), "{problem:?}");
    assert_eq!((problem.connection, problem.link_id), (Some(consents.request.connection), Some(consents.link_id().await)));
    assert_eq!(consents.stored()["grants"], json!([]));
    assert_eq!(consents.vendor.state().revoked.len(), 1);
    assert_eq!(consents.provide().await.expect_err("no grant").class, Class::CredentialMissing);
}

#[tokio::test]
async fn the_proof_gets_the_new_token_and_nothing_is_stored_before_it_passed() {
    let consents = Consents::new().await;
    let query = consents.click().await;
    let check = |proof: aam::providers::consent::Proof| {
        assert_eq!(proof.connection, consents.request.connection);
        assert!(proof.credential.plain().is_some_and(|token| token.expose().starts_with("access-")));
        assert_eq!(consents.stored()["grants"], json!([]));
        Ok(ProvedAccount::default())
    };
    consents.complete(&query, proof(check)).await.unwrap_or_else(|problem| panic!("{problem:?}"));
    assert_eq!(consents.stored()["grants"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_attempt_that_gives_up_does_not_cancel_the_refresh() {
    let consents = Consents::new().await;
    consents.give().await;
    consents.clock.advance(HOUR);
    tokio::select! {
        biased;
        provided = consents.provide() => panic!("{}", provided.is_ok()),
        () = std::future::ready(()) => {}
    }
    until("the refresh is stored", || async {
        let stored = consents.stored();
        (stored["grants"][0]["facts"]["rotates"] == true, stored.to_string())
    })
    .await;
    assert_eq!(consents.call().await.expect("a token"), 200);
    assert_eq!(consents.vendor.state().token_requests, 2, "the token of the abandoned attempt is used");
    consents.assert_no_misuse();
}

#[tokio::test]
async fn many_attempts_and_several_processes_refresh_one_after_the_other() {
    let consents = Consents::new().await;
    consents.give().await;
    consents.clock.advance(HOUR);
    let others = [consents.restarted(), consents.restarted()];
    let attempts = (0..10).flat_map(|_| [&consents, &others[0], &others[1]]).map(|process| process.call());
    let results = futures_util::future::join_all(attempts).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|status| *status == 200)), "{results:?}");
    let state = consents.vendor.state();
    assert_eq!(state.sent.len(), 3, "one refresh for each process: {:?}", state.sent);
    assert!(state.sent.values().all(|count| *count == 1), "{:?}", state.sent);
}

#[tokio::test]
async fn a_refused_refresh_token_leads_to_a_new_link() {
    let consents = Consents::new().await;
    consents.give().await;
    consents.clock.advance(HOUR);
    consents.vendor.end_all_grants();
    let failure = consents.provide().await.expect_err("ended");
    assert_eq!(failure.class, Class::CredentialMissing);
    assert!(failure.title.contains("does not accept the grant"), "{failure:?}");
    assert!(failure.detail.contains("the vendor says: \"invalid_grant\""), "{failure:?}");
    let link = link_in(&failure);
    let next = consents.provide().await.expect_err("ended");
    assert_eq!(
        (link_in(&next), &next.title, &next.detail),
        (link.clone(), &failure.title, &failure.detail),
        "the reason is kept"
    );
    assert_eq!(consents.stored()["grants"], json!([]));
    let id = link.rsplit('/').next().expect("an id");
    let url = consents.providers.consents().begin(&consents.context(), id).await.expect("a URL");
    let query = consents.vendor.consent(url.as_str()).await;
    consents.complete(&query, proven()).await.unwrap_or_else(|problem| panic!("{problem:?}"));
    assert_eq!(consents.call().await.expect("a token"), 200);
}

#[tokio::test]
async fn a_vendor_that_is_down_costs_no_grant() {
    let consents = Consents::new().await;
    consents.give().await;
    consents.clock.advance(HOUR);
    consents.vendor.state().on_refresh = OnRefresh::Unavailable;
    for _ in 0..3 {
        let failure = consents.provide().await.expect_err("down");
        assert_eq!(failure.class, Class::Remote, "{failure:?}");
    }
    consents.vendor.state().on_refresh = OnRefresh::Answer;
    assert_eq!(consents.call().await.expect("a token"), 200);
    consents.assert_no_misuse();
}

#[tokio::test]
async fn a_refresh_token_whose_response_was_lost_is_not_sent_again() {
    let consents = Consents::new().await;
    consents.give().await;
    consents.clock.advance(HOUR);
    consents.vendor.state().on_refresh = OnRefresh::UseAndLose;
    assert!(consents.provide().await.is_err());
    consents.vendor.state().on_refresh = OnRefresh::Answer;
    let failure = consents.restarted().provide().await.expect_err("lost");
    assert_eq!(failure.class, Class::CredentialMissing);
    assert!(failure.title.contains("was lost at") && failure.fix.contains("/consent/"), "{failure:?}");
    let next = consents.provide().await.expect_err("lost");
    assert_eq!(next.title, failure.title, "the reason is kept");
    assert_eq!(consents.vendor.state().sent.values().sum::<usize>(), 1);
    consents.assert_no_misuse();
}

#[tokio::test]
async fn a_vendor_that_keeps_refresh_tokens_gets_them_again_after_a_lost_response() {
    let consents = Consents::new().await;
    consents.vendor.state().rotates = false;
    consents.give().await;
    consents.clock.advance(HOUR);
    assert_eq!(consents.call().await.expect("a token"), 200);
    consents.clock.advance(HOUR);
    consents.vendor.state().on_refresh = OnRefresh::UseAndLose;
    assert!(consents.provide().await.is_err());
    consents.vendor.state().on_refresh = OnRefresh::Answer;
    assert_eq!(consents.restarted().call().await.expect("a token"), 200);
}

#[tokio::test]
async fn a_store_that_cannot_be_written_loses_no_refresh_token() {
    let consents = Consents::new().await;
    consents.give().await;
    consents.clock.advance(HOUR);
    let lock = consents.store().with_extension("json.lock");
    let in_the_way = lock.clone();
    consents.vendor.state().hook = Some(Box::new(move || {
        let _ = std::fs::remove_file(&in_the_way);
        std::fs::create_dir(&in_the_way).expect("a folder in place of the lock file");
    }));
    let failure = consents.provide().await.expect_err("not written");
    assert!(failure.title.contains("could not lock the consent store"), "{failure:?}");
    let again = consents.provide().await.expect_err("not written");
    assert_eq!(again.title, failure.title);
    assert_eq!(consents.vendor.state().sent.values().sum::<usize>(), 1, "nothing is sent while the store cannot be written");
    consents.vendor.state().hook = None;
    std::fs::remove_dir(&lock).expect("removed");
    assert_eq!(consents.call().await.expect("a token"), 200);
    assert_eq!(consents.restarted().call().await.expect("a token"), 200);
    consents.assert_no_misuse();
}

#[tokio::test]
async fn fewer_rights_are_named_and_more_rights_are_over_privilege() {
    let consents = Consents::new().await;
    consents.vendor.state().grants = Some("offline".to_string());
    let query = consents.click().await;
    let denied = |_| Err(Failure::new(Class::PermissionDenied, "things may not be read", "ask"));
    let problem = consents.complete(&query, proof(denied)).await.expect_err("refused");
    assert_eq!(problem.code, ConsentCode::TooFewScopes);
    assert!(problem.title.contains("was not granted: things.read"), "{problem:?}");
    let given = consents.give().await;
    assert!(given.warning.is_some_and(|warning| warning.title.contains("things.read")));
    let warning = consents.provide().await.expect("a token").facts.warning.expect("a warning");
    assert_eq!(warning.class, Class::PermissionDenied);

    let more = Consents::new().await;
    more.vendor.state().grants = Some("things.read things.write offline".to_string());
    more.give().await;
    let warning = more.provide().await.expect("a token").facts.warning.expect("a warning");
    assert!(warning.class == Class::OverPrivileged && warning.title.contains("things.write"), "{warning:?}");
}

#[tokio::test]
async fn the_end_of_a_grant_is_known_unless_refreshes_move_it() {
    let days = |days: u64| json!({"refresh_token_expires_in": days * 24 * 3600});
    let consents = Consents::new().await;
    consents.vendor.state().more = days(90);
    consents.give().await;
    let ends = async |consents: &Consents| consents.provide().await.expect("a token").facts.ends_at;
    let fixed = ends(&consents).await.expect("an end");
    consents.clock.advance(24 * HOUR);
    consents.vendor.state().more = days(89);
    assert_eq!(ends(&consents).await.map(|end| end.0), Some(fixed.0), "the end stays where it was");
    consents.clock.advance(24 * HOUR);
    consents.vendor.state().more = days(89);
    assert_eq!(ends(&consents).await, None, "the refresh moved the end");
}

#[tokio::test]
async fn a_grant_that_each_refresh_extends_is_kept_alive_between_attempts() {
    let consents = Consents::new().await;
    consents.vendor.state().more = json!({"refresh_expires_in": 1800});
    consents.vendor.state().expires_in = Some(300);
    consents.give().await;
    assert_eq!(consents.call().await.expect("a token"), 200);
    let renew = || consents.providers.consents().renew_due(&consents.providers);
    for _ in 0..12 {
        let before = consents.vendor.state().sent.len();
        consents.clock.advance(Duration::from_secs(1199));
        renew().await;
        assert_eq!(consents.vendor.state().sent.len(), before, "two thirds of the time have not passed");
        consents.clock.advance(Duration::from_secs(1));
        renew().await;
        assert_eq!(consents.vendor.state().sent.len(), before + 1);
    }
    assert_eq!(consents.provide().await.expect("a token").facts.ends_at, None, "no person has to act");
    consents.assert_no_misuse();
}

#[tokio::test]
async fn a_token_without_an_end_is_the_grant_and_one_that_ends_needs_a_refresh_token() {
    let consents = Consents::new().await;
    consents.vendor.state().issues_refresh_tokens = false;
    let query = consents.click().await;
    let problem = consents.complete(&query, proven()).await.expect_err("refused");
    assert!(problem.code == ConsentCode::TooFewScopes && problem.title.contains("no refresh token"), "{problem:?}");
    consents.vendor.state().expires_in = None;
    consents.give().await;
    let requests = consents.vendor.state().token_requests;
    consents.clock.advance(24 * HOUR);
    assert_eq!(consents.restarted().call().await.expect("a token"), 200);
    assert_eq!(consents.vendor.state().token_requests, requests);
}

#[tokio::test]
async fn a_grant_is_not_sent_to_another_client_or_server() {
    let consents = Consents::new().await;
    consents.give().await;
    let other = consents.changed(crate::support::consents::KEY, |text| text.replace("client_id: aam-client", "client_id: other"));
    let failure = other.provide().await.expect_err("another client");
    assert!(failure.title.contains("another OAuth client"), "{failure:?}");
    assert_eq!(consents.vendor.state().sent.len(), 0);
}

#[tokio::test]
async fn a_revoked_grant_is_deleted_here_and_at_the_vendor_and_other_processes_notice() {
    let consents = Consents::new().await;
    consents.give().await;
    assert_eq!(consents.call().await.expect("a token"), 200);
    let other = consents.restarted();
    let revoked = other.providers.consents().revoke(&other.context(), consents.request.connection).await.expect("revoked");
    assert!(matches!(revoked[0].at_vendor, aam::providers::consent::RevokedAtVendor::Revoked), "{revoked:?}");
    let failure = consents.provide().await.expect_err("revoked");
    assert!(failure.class == Class::CredentialMissing && failure.fix.contains("/consent/"), "{failure:?}");
}
