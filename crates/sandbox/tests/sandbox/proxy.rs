//! The ways in: the proxy, and plain HTTP for one host.

use crate::support::{Running, VENDOR, start, start_all};
use sandbox::sandbox::RunOptions;
use sandbox::server::{Entry, MAX_BODY_BYTES, serve};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn raw(running: &Running, request: &str) -> String {
    let mut stream = TcpStream::connect(&running.proxy).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = vec![0; 4096];
    let read = stream.read(&mut text).await.unwrap();
    String::from_utf8_lossy(&text[..read]).into_owned()
}

#[tokio::test]
async fn the_proxy_has_the_vendors_hosts_and_no_other() {
    let running = start().await;
    let refused = raw(&running, "CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
    assert!(refused.contains("no vendor of the sandbox has the host example.org"), "{refused}");
    let accepted = raw(&running, "CONNECT acme.vendor.test:443 HTTP/1.1\r\nhost: acme.vendor.test:443\r\n\r\n").await;
    assert!(accepted.starts_with("HTTP/1.1 200 "), "{accepted}");
    // The absolute form is understood too.
    let plain = running.send(running.request("GET", "http://acme.vendor.test/v1/org")).await;
    assert_eq!(plain.json["name"], "acme");
    let elsewhere = running.send(running.request("GET", "http://example.org/")).await;
    assert_eq!(elsewhere.status, 502);
    assert_eq!(running.send(running.request("GET", "http://sandbox.invalid/other")).await.status, 404);
}

#[tokio::test]
async fn a_client_that_does_not_know_the_authority_is_not_connected() {
    let running = start().await;
    let client = reqwest::Client::builder()
        .proxy(reqwest::Proxy::all(format!("http://{}", running.proxy)).unwrap())
        .tls_certs_only([])
        .build()
        .unwrap();
    assert!(client.get("https://acme.vendor.test/v1/org").send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_plain_address_stands_for_its_host() {
    let running = start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    running.sandbox.add_origin("acme.vendor.test", &address);
    tokio::spawn(serve(listener, Arc::clone(&running.sandbox), Entry::Host("acme.vendor.test".to_owned())));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |url: &str| client.get(url).bearer_auth("reader-token").send().await.unwrap();
    let first = get(&format!("http://{address}/v1/users?limit=7")).await;
    assert_eq!(first.status(), 200);
    // Links stay at the address that the caller knows.
    let link = first.headers()["link"].to_str().unwrap().to_owned();
    assert!(link.starts_with(&format!("<http://{address}/v1/users?limit=7&after=")), "{link}");
    // The proxy's callers know the vendor's own name.
    let through_proxy = running.get("https://acme.vendor.test/v1/text", "").await;
    assert_eq!(through_proxy.text, "<p>acme.vendor.test https://acme.vendor.test/x</p>");
    let next = link.trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(get(next).await.status(), 200);
    let text = get(&format!("http://{address}/v1/text")).await.text().await.unwrap();
    assert_eq!(text, format!("<p>acme.vendor.test http://{address}/x</p>"));
    // An assertion may name the token endpoint as its client knows it.
    let claims = crate::support::claims("app", serde_json::json!({"aud": format!("http://{address}/oauth/token")}));
    let form = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", &crate::support::sign("client", &claims)),
    ];
    let token = client.post(format!("http://{address}/oauth/token")).form(&form).send().await.unwrap();
    assert_eq!(token.status(), 200);
    assert_eq!(running.calls().await.last().unwrap()["host"], "acme.vendor.test");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let running = start().await;
    let search = async |bytes: usize| {
        let body = format!("{{\"filter\": \"{}\"}}", "x".repeat(bytes));
        let request = running.request("POST", "https://acme.vendor.test/v1/search").bearer_auth("reader-token");
        running.send(request.body(body)).await.status
    };
    assert_eq!(search(1000).await, 404);
    assert_eq!(search(MAX_BODY_BYTES).await, 413);
}

#[tokio::test]
async fn vendors_share_a_host() {
    let first = VENDOR;
    let second = "family: second
sources: [x]
checked_by: [x]
hosts: [api.vendor.test, '{account}.vendor.test']
accounts: {acme: {}}
schemes: {bearer: {header: authorization, prefix: 'Bearer '}}
credentials: [{name: own, kind: bearer, value: second-token, account: acme}]
clients: [{id: second-app, secret: second-secret, account: acme}]
tokens:
  - path: /oauth/token
    grants: [client_credentials]
    client_authentication: [post]
    issue: {kind: bearer}
    answer: {access_token: '{{ token.value }}', by: second}
routes: [{path: /v1/users, answer: second}, {path: /v2/users, answer: second}]
";
    let running = start_all(&[first, second], RunOptions::default()).await;
    let family = async |url: &str, token: &str| {
        running.get(url, token).await;
        running.calls().await.last().unwrap()["family"].as_str().unwrap().to_owned()
    };
    assert_eq!(family("https://api.vendor.test/v1/users", "reader-token").await, "vendor");
    assert_eq!(family("https://api.vendor.test/v1/users", "second-token").await, "second");
    assert_eq!(family("https://api.vendor.test/v2/users", "reader-token").await, "second");
    // Choosing the vendor does not use up what can be used once.
    let assertion = crate::support::sign("client", &crate::support::claims("app", serde_json::json!({})));
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.as_str())];
    assert_eq!(running.token(&form).await.status, 200);
    let form = [("grant_type", "client_credentials"), ("client_id", "second-app"), ("client_secret", "second-secret")];
    assert_eq!(running.token(&form).await.json["by"], "second");
}
