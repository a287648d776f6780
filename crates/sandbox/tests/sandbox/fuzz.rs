//! No request stops the sandbox.

use crate::support::VENDOR;
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use sandbox::config::parse;
use sandbox::request::Request;
use sandbox::sandbox::{RunOptions, Sandbox};
use std::sync::LazyLock;

static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    Sandbox::new(vec![parse("vendor.yaml", VENDOR).unwrap()], RunOptions { faults: 0.1, ..RunOptions::default() })
});

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "(slow-|many-|empty-|cut-|limited-|busy500-|hanging-|strayed-){0,4}(acme|other|stranger)\\.vendor\\.test",
        "(api|login|[a-z]{0,8})\\.vendor\\.test",
        "\\PC{0,30}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "/v1/users",
        "/v1/pages",
        "/v1/offsets",
        "/v1/users/1001",
        "/v1/kinds",
        "/v1/search",
        "/v1/accounts/acme/name",
        "/v1/files/%2F/meta('%')",
        "/v1/broken",
        "/v1/text",
        "/oauth/token",
        "/oauth/authorize",
        "/acme/short",
        "/acme/single",
        "/mint",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "/[a-z0-9%/{}'()._-]{0,40}"]
}

fn query() -> impl Strategy<Value = String> {
    prop_oneof![
        "((limit|after|page|size|start|fields|client_id|redirect_uri|scope|state)=[a-zA-Z0-9%:/.+-]{0,20}&?){0,4}",
        "[!-~&&[^#\"<>`{}|^\\\\]]{0,60}",
    ]
}

fn authorization() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "Bearer reader-token",
        "Bearer slow-token",
        "Basic bWU6eA==",
        "DPoP x",
        "Bearer e30.e30.e30",
        "Basic",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "[ -~]{0,40}"]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let form = "((grant_type|client_id|client_secret|client_assertion|assertion|code|refresh_token|scope|dpop)=(client_credentials|authorization_code|refresh_token|app|bound|app%20secret%2B|e30\\.e30\\.e30|[a-z%.+]{0,12})&?){0,6}";
    prop_oneof![
        form.prop_map(String::into_bytes),
        "\\{\"filter\": ?(\"all\"|[0-9]{1,30}|\\[\\]), ?\"limit\": ?-?[0-9]{1,25}\\}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_answered(
        method in prop_oneof!["GET|POST|HEAD|PUT", "[A-Z]{1,12}"],
        host in host(),
        path in path(),
        query in query(),
        authorization in authorization(),
        dpop in prop::option::of("[ -~]{0,40}"),
        content_type in prop::sample::select(vec!["application/json", "application/x-www-form-urlencoded", "", "text/xml; charset=x"]),
        body in body(),
    ) {
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let Ok(uri) = target.parse::<hyper::Uri>() else { return Ok(()) };
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", Some(authorization)), ("content-type", Some(content_type.to_owned())), ("dpop", dpop), ("x-token-type", Some("SIGNED".to_owned()))] {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        let request = Request::new(&method, &host, &uri, headers, &Bytes::from(body));
        let reply = SANDBOX.answer(&request);
        prop_assert!((200..=599).contains(&reply.status));
    }
}

proptest! {
    // A file takes longer than a request.
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_file_is_loaded_or_refused(at in 0..VENDOR.len(), change in "[ -~\n]{0,6}", length in 0..12_usize) {
        let begin = (0..=at).rev().find(|at| VENDOR.is_char_boundary(*at)).unwrap();
        let end = (begin + length..).find(|at| *at >= VENDOR.len() || VENDOR.is_char_boundary(*at)).unwrap().min(VENDOR.len());
        let text = format!("{}{change}{}", &VENDOR[..begin], &VENDOR[end..]);
        if let Err(problems) = parse("vendor.yaml", &text) {
            prop_assert!(!problems.is_empty());
        }
    }
}
