//! What Python's own client and the package `requests` do through the proxy. Most connectors use one of them.

use crate::harness::{Proxy, header, is_there, ok, stdout, with};
use intercept::{Limits, Method, Reason, Response, StatusCode};
use std::process::Output;

/// Runs a script. Its first argument is the file with the authority's certificate.
async fn python(proxy: &Proxy, script: &str) -> Output {
    let ca = proxy.ca_file().to_string_lossy().into_owned();
    proxy.run("python3", &["-c", script, &ca]).await
}

fn has_python() -> bool {
    is_there("python3", &["--version"])
}

fn has_requests() -> bool {
    is_there("python3", &["-c", "import requests"])
}

#[tokio::test]
async fn urllib_gets_and_posts() {
    if !has_python() {
        return;
    }
    let proxy = Proxy::start_echo(Limits::default()).await;
    // The strict flag is the default from Python 3.13 on: it wants key identifiers and a critical CA extension.
    let script = "
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
context.verify_flags |= ssl.VERIFY_X509_STRICT
def call(url, data=None):
    request = urllib.request.Request(url, data=data, headers={'Authorization': 'Bearer t'})
    with urllib.request.urlopen(request, context=context, timeout=50) as response:
        print(response.status, response.read().decode())
call('https://a.example/x?y=%2F')
call('https://a.example:8443/x', b'body')
call('https://192.0.2.7/x')
call('http://a.example/plain', b'body')
";
    let output = python(&proxy, script).await;
    let expected = "200 GET https://a.example/x?y=%2F \n200 POST https://a.example:8443/x body\n\
                    200 GET https://192.0.2.7/x \n200 POST http://a.example/plain body\n";
    assert_eq!(stdout(&output), expected, "{output:?}");
    assert!(proxy.requests().iter().all(|request| header(request, "authorization") == Some("Bearer t")));
    assert!(proxy.refusals().is_empty(), "{:?}", proxy.refusals());
}

#[tokio::test]
async fn urllib_follows_a_redirect_through_the_proxy() {
    if !has_python() {
        return;
    }
    let proxy = Proxy::start(|request| match request.url.host_str() {
        Some("a.example") => {
            let mut response = with(ok(""), &[("location", "https://b.example/there")]);
            response.status = StatusCode::FOUND;
            response
        }
        _ => Response::text(StatusCode::FORBIDDEN, "b.example is not allowed"),
    })
    .await;
    let script = "
import ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
try:
    urllib.request.urlopen('https://a.example/', context=context, timeout=50)
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
";
    let output = python(&proxy, script).await;
    assert_eq!(stdout(&output), "403 b.example is not allowed\n\n", "{output:?}");
    let urls: Vec<String> = proxy.requests().iter().map(|request| request.url.to_string()).collect();
    assert_eq!(urls, ["https://a.example/", "https://b.example/there"]);
}

#[tokio::test]
async fn urllib_with_the_default_bundle_is_named() {
    if !has_python() {
        return;
    }
    let proxy = Proxy::start_echo(Limits::default()).await;
    let script = "
import urllib.error, urllib.request
try:
    urllib.request.urlopen('https://a.example/', timeout=50)
except urllib.error.URLError as error:
    print('CERTIFICATE_VERIFY_FAILED' in str(error))
";
    let output = python(&proxy, script).await;
    assert_eq!(stdout(&output), "True\n", "{output:?}");
    proxy.expect_refusal("a.example:443", Reason::UntrustedAuthority).await;
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn http_client_uploads_what_is_too_long_and_reads_the_answer() {
    if !has_python() {
        return;
    }
    let proxy = Proxy::start_echo(Limits { body_bytes: 200_000, ..Limits::default() }).await;
    // It sends its whole body before it looks for an answer.
    let script = "
import ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
for data in (b'x' * 1000000, iter([b'x' * 50000] * 20)):
    try:
        urllib.request.urlopen('https://a.example/', data=data, context=context, timeout=50)
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode().strip())
";
    let output = python(&proxy, script).await;
    let line = "413 refused by the proxy of AAM: a.example:443: the body of the request is longer than 200000 bytes\n";
    assert_eq!(stdout(&output), line.repeat(2), "{output:?}");
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn requests_uses_the_bundle_of_its_environment() {
    if !has_requests() {
        return;
    }
    let body = "x".repeat(5_000_000);
    let proxy = Proxy::start(move |request| match request.method {
        Method::GET => ok(body.clone()),
        _ => ok(request.body.clone()),
    })
    .await;
    // The CDK of Airbyte keeps one session per stream and reads several streams at a time.
    let script = "
import os, sys
os.environ['REQUESTS_CA_BUNDLE'] = sys.argv[1]
import requests
from concurrent.futures import ThreadPoolExecutor
session = requests.Session()
print(len(session.get('https://a.example/big', timeout=50).content))
print(session.post('https://a.example/echo', json={'a': 1}, timeout=50).json())
print(session.post('https://a.example/echo', data=iter([b'chunk', b'ed']), timeout=50).text)
print(session.head('https://a.example/', timeout=50).status_code)
def call(at):
    return requests.post(f'https://host{at % 5}.example/echo', data=str(at), timeout=50).text
with ThreadPoolExecutor(20) as pool:
    print(sorted(map(int, pool.map(call, range(100)))) == list(range(100)))
";
    let output = python(&proxy, script).await;
    assert_eq!(stdout(&output), "5000000\n{'a': 1}\nchunked\n200\nTrue\n", "{output:?}");
    assert_eq!(proxy.requests().len(), 104);
    assert!(proxy.refusals().is_empty(), "{:?}", proxy.refusals());
}

#[tokio::test]
async fn requests_with_the_bundle_of_certifi_is_named() {
    if !has_requests() {
        return;
    }
    let proxy = Proxy::start_echo(Limits::default()).await;
    let script = "
import requests
try:
    requests.get('https://a.example/', timeout=50)
except requests.exceptions.SSLError:
    print('refused')
";
    let output = python(&proxy, script).await;
    assert_eq!(stdout(&output), "refused\n", "{output:?}");
    proxy.expect_refusal("a.example:443", Reason::UntrustedAuthority).await;
    assert!(proxy.requests().is_empty());
}
