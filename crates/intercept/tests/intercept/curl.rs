//! What curl does through the proxy.

use crate::harness::{Proxy, header, is_there, ok, stderr, stdout, with};
use bytes::Bytes;
use intercept::{Limits, Method, Reason, Response, StatusCode};
use std::process::Output;

fn has_curl() -> bool {
    is_there("curl", &["--version"])
}

async fn curl(proxy: &Proxy, arguments: &[&str]) -> Output {
    let ca = proxy.ca_file().to_string_lossy().into_owned();
    let mut all = vec!["--silent", "--show-error", "--max-time", "50", "--cacert", ca.as_str()];
    all.extend_from_slice(arguments);
    proxy.run("curl", &all).await
}

#[tokio::test]
async fn an_https_request_arrives_in_plain_text() {
    if !has_curl() {
        return;
    }
    let proxy = Proxy::start(|_| {
        let mut response =
            with(ok("{}"), &[("x-vendor", "1"), ("connection", "x-hop"), ("x-hop", "1"), ("content-length", "99")]);
        response.status = StatusCode::ACCEPTED;
        response
    })
    .await;
    let url = "https://Api.Example.com/v1/users?limit=1&q=a%20b#part";
    let output = curl(&proxy, &["-i", "-H", "Authorization: Bearer t", "-H", "Connection: x-once", "-H", "X-Once: 1", url]).await;
    let answer = stdout(&output).to_ascii_lowercase();
    let answer = answer.strip_prefix("http/1.1 200 ok\r\n\r\n").unwrap_or(&answer);
    assert!(answer.contains("http/1.1 202 accepted\r\n") && answer.ends_with("\r\n\r\n{}"), "{output:?}");
    assert!(answer.contains("x-vendor: 1\r\n") && answer.contains("content-length: 2\r\n"), "{answer}");
    assert!(!answer.contains("x-hop"), "{answer}");

    let request = proxy.only_request();
    assert_eq!((request.method.as_str(), request.url.as_str()), ("GET", "https://api.example.com/v1/users?limit=1&q=a%20b"));
    assert_eq!(header(&request, "authorization"), Some("Bearer t"));
    for name in ["x-once", "connection", "host", "proxy-connection"] {
        assert_eq!(header(&request, name), None, "{name}");
    }
    assert_eq!(request.body, Bytes::new());
    assert!(proxy.refusals().is_empty());
}

#[tokio::test]
async fn bodies_arrive_whole_however_they_are_sent() {
    if !has_curl() {
        return;
    }
    let proxy = Proxy::start(|request| ok(request.body.len().to_string())).await;
    let body: Vec<u8> = (0..300_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let file = format!("@{}", proxy.file("body", &body).display());
    let ways: [(&[&str], bool); 4] = [
        (&["-H", "Expect:"], false),
        (&["-H", "Expect: 100-continue"], true),
        (&["-H", "Transfer-Encoding: chunked", "-H", "Expect:"], false),
        (&["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"], true),
    ];
    for (way, continues) in ways {
        let mut arguments = vec!["-v", "--data-binary", file.as_str(), "https://a.example/upload"];
        arguments.extend_from_slice(way);
        let output = curl(&proxy, &arguments).await;
        assert_eq!(stdout(&output), "300000", "{way:?} {output:?}");
        assert_eq!(stderr(&output).contains("HTTP/1.1 100 Continue"), continues, "{way:?}");
        let request = proxy.requests().pop().unwrap();
        assert!(request.method == Method::POST && request.body == body, "{way:?}");
        for name in ["transfer-encoding", "content-length", "expect"] {
            assert_eq!(header(&request, name), None, "{way:?} {name}");
        }
    }
    assert_eq!(proxy.requests().len(), ways.len());
}

#[tokio::test]
async fn plain_http_arrives_with_its_port() {
    if !has_curl() {
        return;
    }
    let proxy = Proxy::start_echo(Limits::default()).await;
    for (url, seen) in [
        ("http://a.example/x?y=1", "GET http://a.example/x?y=1 "),
        ("http://a.example:8080", "GET http://a.example:8080/ "),
        ("https://a.example:8443/", "GET https://a.example:8443/ "),
        ("https://10.1.2.3/", "GET https://10.1.2.3/ "),
        ("https://[fd00::1]:444/", "GET https://[fd00::1]:444/ "),
        ("https://under_score.example/", "GET https://under_score.example/ "),
    ] {
        let output = curl(&proxy, &["-g", url]).await;
        assert_eq!(stdout(&output), seen, "{output:?}");
    }
    assert!(proxy.refusals().is_empty());
}

#[tokio::test]
async fn versions_and_methods_of_http() {
    if !has_curl() {
        return;
    }
    let proxy = Proxy::start(|request| match request.method {
        Method::HEAD => with(ok(""), &[("content-length", "1234")]),
        _ => ok(request.method.as_str().to_string()),
    })
    .await;
    let head = curl(&proxy, &["-I", "https://a.example/"]).await;
    assert!(stdout(&head).to_ascii_lowercase().contains("content-length: 1234\r\n"), "{head:?}");
    for (arguments, seen) in [
        // "1" is what curl prints for HTTP/1.0.
        (["--http1.0", "-w", "%{http_code} %{http_version}"], "GET200 1"),
        // What asks for HTTP/2 settles on HTTP/1.1, in TLS by ALPN and in plain text by leaving the offer out.
        (["--http2", "-w", "%{http_code} %{http_version}"], "GET200 1.1"),
        (["-X", "PROPFIND", "-s"], "PROPFIND"),
    ] {
        for url in ["https://a.example/", "http://a.example/"] {
            let output = curl(&proxy, &[&arguments[..], &[url]].concat()).await;
            assert_eq!(stdout(&output), seen, "{url} {output:?}");
        }
    }
    assert!(proxy.refusals().is_empty(), "{:?}", proxy.refusals());
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    if !has_curl() {
        return;
    }
    let proxy = Proxy::start_echo(Limits::default()).await;
    let urls = ["https://a.example/1", "https://a.example/2", "https://a.example/3"];
    let output = curl(&proxy, &[&["-w", " %{num_connects}\n"][..], &urls].concat()).await;
    let expected = "GET https://a.example/1  1\nGET https://a.example/2  0\nGET https://a.example/3  0\n";
    assert_eq!(stdout(&output), expected);
}

#[tokio::test]
async fn a_compressed_answer_is_passed_on_as_it_is() {
    if !has_curl() {
        return;
    }
    // gzip of "hello\n".
    let gzip: &[u8] =
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0xe7, 2, 0, 0x20, 0x30, 0x3a, 0x36, 6, 0, 0, 0];
    let proxy = Proxy::start(move |_| with(ok(gzip), &[("content-encoding", "gzip")])).await;
    let output = curl(&proxy, &["--compressed", "https://a.example/"]).await;
    assert_eq!(stdout(&output), "hello\n", "{output:?}");
}

#[tokio::test]
async fn what_the_upstream_refuses_is_refused_with_its_text() {
    if !has_curl() {
        return;
    }
    let proxy = Proxy::start(|_| Response::text(StatusCode::FORBIDDEN, "DELETE is not allowed: a.example/x")).await;
    let output = curl(&proxy, &["-X", "DELETE", "-w", "%{http_code}", "https://a.example/x"]).await;
    assert_eq!(stdout(&output), "DELETE is not allowed: a.example/x\n403");
}

#[tokio::test]
async fn another_host_in_a_tunnel_is_misdirected() {
    if !has_curl() {
        return;
    }
    let proxy = Proxy::start_echo(Limits::default()).await;
    let output = curl(&proxy, &["-w", "%{http_code}", "-H", "Host: b.example", "https://a.example/"]).await;
    assert!(stdout(&output).ends_with("421"), "{output:?}");
    assert!(stdout(&output).contains("the request is for b.example:443, but the connection was opened for another host"));
    proxy.expect_refusal("a.example:443", Reason::WrongHost("b.example:443".into())).await;
    // Two spellings of one host are the same host.
    let output = curl(&proxy, &["-H", "Host: A.EXAMPLE.:443", "https://a.example/"]).await;
    assert_eq!(stdout(&output), "GET https://a.example/ ", "{output:?}");
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn a_websocket_is_refused() {
    if !has_curl() {
        return;
    }
    for url in ["https://a.example/", "http://a.example/"] {
        let proxy = Proxy::start_echo(Limits::default()).await;
        let upgrade = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Key: eA=="];
        let output = curl(&proxy, &[&upgrade[..], &["-w", "%{http_code}", url]].concat()).await;
        assert!(stdout(&output).ends_with("501"), "{output:?}");
        let target = if url.starts_with("https") { "a.example:443" } else { "a.example:80" };
        proxy.expect_refusal(target, Reason::Upgrade("websocket".into())).await;
        assert!(proxy.requests().is_empty());
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_answered() {
    if !has_curl() {
        return;
    }
    for way in ["Expect:", "Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let proxy = Proxy::start_echo(Limits { body_bytes: 1000, ..Limits::default() }).await;
        let file = format!("@{}", proxy.file("body", &[b'x'; 6000]).display());
        let arguments = ["-v", "-w", "%{http_code}", "-H", way, "--data-binary", file.as_str(), "https://a.example/"];
        let output = curl(&proxy, &arguments).await;
        assert!(stdout(&output).ends_with("413"), "{way} {output:?}");
        assert!(!stderr(&output).contains("100 Continue"), "{way} {output:?}");
        proxy.expect_refusal("a.example:443", Reason::BodyTooLong(1000)).await;
        assert!(proxy.requests().is_empty());
    }
}

#[tokio::test]
async fn a_client_with_its_own_trust_store_is_named() {
    if !has_curl() {
        return;
    }
    let proxy = Proxy::start_echo(Limits::default()).await;
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let output = proxy.run("curl", &[&["--silent"][..], version, &["https://a.example/"]].concat()).await;
        assert_eq!(output.status.code(), Some(60), "{output:?}");
    }
    proxy.expect_refusal("a.example:443", Reason::UntrustedAuthority).await;
    assert!(proxy.refusals().iter().all(|refusal| refusal.reason == Reason::UntrustedAuthority), "{:?}", proxy.refusals());
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn the_authority_of_one_run_is_worth_nothing_in_another() {
    if !has_curl() {
        return;
    }
    let (first, second) = (Proxy::start_echo(Limits::default()).await, Proxy::start_echo(Limits::default()).await);
    let ca = first.ca_file().to_string_lossy().into_owned();
    let output = second.run("curl", &["--silent", "--cacert", &ca, "https://a.example/"]).await;
    assert_eq!(output.status.code(), Some(60), "{output:?}");
    assert!(second.requests().is_empty());
}
