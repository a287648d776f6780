//! The kind `okta` against recorded answers of Okta, which its Python package ships. They are replayed strictly: a request
//! must be the recorded one in method, path, query, form and authentication, and in the recorded order. The recordings have
//! no real signatures; `tests/it` verifies those.

use crate::harness::variable;
use crate::support::lowcode_families::{MockVendor, ReceivedRequest};
use crate::support::minting::Minting;
use crate::support::openapi::MockResponse;
use crate::support::vendors::{form, vendor_key};
use aam::egress::{HttpRequest, Method, Signing};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use url::Url;

peer_tests! {
    [Okta]: a_bound_token_is_minted_and_used_as_recorded, dpop_begins_when_okta_asks_for_it;
}

fn recording(name: &str) -> Vec<Value> {
    let path = format!("{}/{name}.json", variable("OKTA", "RECORDINGS"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// A vendor that replays the interactions, and what differed from them.
async fn replay(interactions: Vec<Value>) -> (MockVendor, Arc<Mutex<Vec<String>>>, Arc<Mutex<usize>>) {
    let (differences, turn): (Arc<Mutex<Vec<String>>>, Arc<Mutex<usize>>) = Default::default();
    let (noted, next) = (Arc::clone(&differences), Arc::clone(&turn));
    let vendor = MockVendor::start(move |_, request| {
        let mut turn = next.lock().unwrap();
        let Some(interaction) = interactions.get(*turn) else {
            noted.lock().unwrap().push(format!("one request too many: {}", request.call));
            return (500, vec![], String::new());
        };
        *turn += 1;
        if let Err(difference) = same(&interaction["request"], request) {
            noted.lock().unwrap().push(format!("request {}: {difference}", *turn));
            return (500, vec![], String::new());
        }
        response(&interaction["response"])
    })
    .await;
    (vendor, differences, turn)
}

/// A recorded header, which is a text or a list of texts.
fn header(recorded: &Value, name: &str) -> Option<String> {
    let value = &recorded["headers"][name];
    value.as_str().or(value[0].as_str()).map(str::to_string)
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap_or_default();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap_or_default()).unwrap_or_default()
}

fn same(recorded: &Value, sent: &ReceivedRequest) -> Result<(), String> {
    let url = Url::parse(recorded["uri"].as_str().unwrap()).unwrap();
    let call = format!("{} {}", recorded["method"].as_str().unwrap(), &url[url::Position::BeforePath..]);
    if call != sent.call {
        return Err(format!("{} instead of {call}", sent.call));
    }
    let recorded_header = |name: &str| header(recorded, name);
    if recorded_header("DPoP").is_some() != sent.header("dpop").is_some() {
        return Err("a proof is there that was not recorded, or the other way round".to_string());
    }
    let scheme = |value: Option<&str>| value.and_then(|value| value.split(' ').next().map(str::to_string));
    if scheme(recorded_header("Authorization").as_deref()) != scheme(sent.header("authorization")) {
        return Err(format!("the scheme is {:?}", scheme(sent.header("authorization"))));
    }
    if recorded_header("Accept").as_deref() != sent.header("accept") {
        return Err(format!("accept: {:?}", sent.header("accept")));
    }
    let form = form(sent);
    if names(&recorded["body"]) != form.keys().cloned().collect() {
        return Err(format!("the form has {:?}", form.keys()));
    }
    for (name, value) in form {
        let wanted = recorded["body"][&name].as_str().unwrap_or_default();
        if name == "client_assertion" {
            if names(&claims(wanted)) != names(&claims(&value)) {
                return Err(format!("the claims are {:?}", names(&claims(&value))));
            }
        } else if value != wanted {
            return Err(format!("{name} is {value} instead of {wanted}"));
        }
    }
    Ok(())
}

fn response(recorded: &Value) -> MockResponse {
    let status = u16::try_from(recorded["status"]["code"].as_u64().unwrap()).unwrap();
    let mut headers = Vec::new();
    for name in ["dpop-nonce", "x-rate-limit-limit", "x-rate-limit-remaining"] {
        headers.extend(header(recorded, name).map(|value| (name, value)));
    }
    headers.push(("content-type", header(recorded, "Content-Type").unwrap()));
    (status, headers, recorded["body"]["string"].as_str().unwrap().to_string())
}

fn minting(vendor: &MockVendor, more: &str) -> Minting {
    let principal = format!(
        "{{kind: okta, org: \"{}\", client_id: 0oa_sanitized_client_id, key: env:K, scopes: [okta.users.read, okta.apps.read, okta.groups.read]{more}}}",
        vendor.base
    );
    Minting::new(&principal, &[("K", &vendor_key())])
}

/// Calls the API once for each recorded call of it.
async fn users(minting: &Minting, vendor: &MockVendor, count: usize) {
    let provided = minting.mint().await.unwrap_or_else(|failure| panic!("{failure:?}"));
    let signing = provided.credential.signer().cloned().map(Signing::new);
    let session = crate::support::session::session("openapi", Arc::clone(&minting.request.policy)).with_signing(signing);
    for _ in 0..count {
        let request = HttpRequest {
            method: Method::Get,
            url: Url::parse(&format!("{}/api/v1/users?limit=1", vendor.base)).unwrap(),
            headers: vec![("accept".to_string(), aam::credentials::Secret::new("application/json".to_string()))],
            max_bytes: 1 << 20,
            follow_redirects: false,
        };
        let answer = session.http(request).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"[]"[..]));
    }
}

async fn a_bound_token_is_minted_and_used_as_recorded() {
    let interactions = recording("test_dpop_multiple_requests");
    // The recording has several runs; the first ends before the second request for a token without nonce.
    let is_token = |interaction: &Value| interaction["request"]["method"] == "POST";
    let calls = interactions.iter().skip(2).take_while(|interaction| !is_token(interaction)).count();
    assert!(calls >= 3, "{calls}");
    let (vendor, differences, turn) = replay(interactions.into_iter().take(2 + calls).collect()).await;
    users(&minting(&vendor, ", dpop: true"), &vendor, calls).await;
    assert_eq!(*differences.lock().unwrap(), Vec::<String>::new());
    assert_eq!(*turn.lock().unwrap(), 2 + calls, "every recorded request was made");
}

async fn dpop_begins_when_okta_asks_for_it() {
    let mut interactions = recording("test_private_key_auth_without_dpop");
    assert!(interactions[0]["response"]["body"]["string"].as_str().unwrap().contains("invalid_dpop_proof"));
    interactions.extend(recording("test_dpop_api_request").into_iter().take(3));
    let (vendor, differences, turn) = replay(interactions).await;
    users(&minting(&vendor, ""), &vendor, 1).await;
    assert_eq!(*differences.lock().unwrap(), Vec::<String>::new());
    assert_eq!(*turn.lock().unwrap(), 4);
}
