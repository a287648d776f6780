//! What no well-behaved client sends, byte by byte.

use crate::harness::{Proxy, echo, exchange, ok, patiently, read_head, read_to_end};
use futures_util::FutureExt;
use intercept::{Limits, Reason, StatusCode};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

async fn start() -> Proxy {
    Proxy::start_echo(Limits::default()).await
}

#[tokio::test]
async fn a_tunnel_for_another_protocol_is_closed_and_named() {
    let firsts: [&[u8]; 4] =
        [b"SSH-2.0-OpenSSH_9.6\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x08\x04\xd2\x16\x2f", b"*1\r\n$4\r\nPING\r\n"];
    for first in firsts {
        let proxy = start().await;
        let mut stream = proxy.tunnel("db.example:22").await;
        let answer = exchange(&mut stream, first).await;
        // At most a TLS alert comes back.
        assert!(answer.len() < 20, "{answer:?}");
        proxy.expect_refusal("db.example:22", Reason::NotTls).await;
        let text = proxy.refusals()[0].to_string();
        assert_eq!(text, "db.example:22: the program does not speak TLS in its tunnel; only HTTPS and HTTP are allowed");
        assert!(proxy.requests().is_empty());
    }
}

#[tokio::test]
async fn a_client_that_waits_for_the_server_is_closed_and_named() {
    let limits = Limits { handshake: std::time::Duration::from_millis(100), ..Limits::default() };
    let proxy = Proxy::start_echo(limits).await;
    let mut stream = proxy.tunnel("db.example:3306").await;
    assert_eq!(read_to_end(&mut stream).await, "");
    proxy.expect_refusal("db.example:3306", Reason::NoHandshake).await;
}

#[tokio::test]
async fn a_handshake_for_another_host_is_closed_and_named() {
    let proxy = start().await;
    assert!(proxy.tls("a.example:443", "b.example", &["http/1.1"]).await.is_err());
    proxy.expect_refusal("a.example:443", Reason::WrongServerName("b.example".into())).await;
}

#[tokio::test]
async fn a_client_that_speaks_http_2_only_is_named() {
    let proxy = start().await;
    assert!(proxy.tls("a.example:443", "a.example", &["h2"]).await.is_err());
    let reason = Reason::Handshake("peer doesn't support any known protocol".into());
    proxy.expect_refusal("a.example:443", reason).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_early_is_not_a_refusal() {
    let proxy = start().await;
    drop(proxy.connect().await);
    drop(proxy.tunnel("a.example:443").await);
    // The tunnel that follows is served, so both have been seen.
    assert!(proxy.exchange_in_tunnel(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await.contains("200 OK"));
    assert!(proxy.refusals().is_empty(), "{:?}", proxy.refusals());
}

/// Requests at the proxy itself, the status of their answer, and where they were refused and why.
#[tokio::test]
async fn malformed_requests_at_the_proxy_are_answered() {
    let malformed = Reason::Malformed;
    let host = malformed("its address does not have a valid host");
    let connect = malformed("CONNECT does not have a valid host:port");
    let cases: Vec<(&str, u16, &str, Reason)> = vec![
        ("\r\n\x01\x02\x03\r\n\r\n", 400, "", malformed("its head is not HTTP/1.1")),
        ("\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n", 400, "", malformed("its head is not HTTP/1.1")),
        ("GET http://a.example/ HTTP/1.1\r\nHost a.example\r\n\r\n", 400, "", malformed("its head is not HTTP/1.1")),
        (
            "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
            400,
            "",
            malformed("this is a proxy; it takes CONNECT and absolute http:// addresses"),
        ),
        (
            "GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
            400,
            "a.example:80",
            malformed("its address is not an http:// address; for https:// use CONNECT"),
        ),
        ("GET http://u:p@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "", host.clone()),
        ("GET http://*.example/ HTTP/1.1\r\nHost: *.example\r\n\r\n", 400, "", host),
        (
            "GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n",
            421,
            "a.example:80",
            Reason::WrongHost("b.example:80".into()),
        ),
        ("CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "", connect.clone()),
        ("CONNECT a.example:0 HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "", connect.clone()),
        ("CONNECT u@a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, "", connect),
        (
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc",
            400,
            "a.example:443",
            malformed("CONNECT with a body"),
        ),
    ];
    for (request, status, target, reason) in cases {
        let proxy = start().await;
        let answer = proxy.exchange(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?} {answer:?}");
        proxy.expect_refusal(target, reason).await;
        assert!(proxy.requests().is_empty(), "{request:?}");
    }
}

#[tokio::test]
async fn malformed_requests_in_a_tunnel_are_answered() {
    let malformed = Reason::Malformed;
    let cases: Vec<(&str, u16, Reason)> = vec![
        ("\x01\x02\r\n\r\n", 400, malformed("its head is not HTTP/1.1")),
        ("GET / HTTP/1.1\r\nContent-Length: x\r\nHost: a.example\r\n\r\n", 400, malformed("its head is not HTTP/1.1")),
        ("GET / HTTP/1.1\r\n\r\n", 400, malformed("it does not have a Host header")),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", 400, malformed("it has two Host headers")),
        ("GET / HTTP/1.1\r\nHost: a.example:x\r\n\r\n", 400, malformed("its Host header is not valid")),
        ("GET / HTTP/1.1\r\nHost: a.example:8443\r\n\r\n", 421, Reason::WrongHost("a.example:8443".into())),
        ("GET https://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 421, Reason::WrongHost("b.example".into())),
        (
            "GET http://a.example:443/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
            400,
            malformed("its address is not an https:// address"),
        ),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, malformed("a tunnel inside a tunnel")),
        ("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", 400, malformed("its path is not valid")),
        ("PUT / HTTP/1.1\r\nHost: a.example\r\nExpect: 200-ok\r\n\r\n", 417, Reason::Expectation),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c, x\x20y\r\n\r\n", 501, Reason::Upgrade("xy".into())),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n", 408, Reason::BodyIncomplete),
    ];
    for (request, status, reason) in cases {
        let proxy = start().await;
        let answer = proxy.exchange_in_tunnel(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?} {answer:?}");
        proxy.expect_refusal("a.example:443", reason).await;
        assert!(proxy.requests().is_empty(), "{request:?}");
    }
}

#[tokio::test]
async fn two_lengths_do_not_hide_a_request() {
    let proxy = start().await;
    let answer = proxy
        .exchange_in_tunnel(
            b"POST /1 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
              DELETE /2 HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
        )
        .await;
    // The chunks decide where the first request ends, and the connection with such a pair is closed after it. So two
    // readers could not disagree about the second one.
    let request = proxy.only_request();
    assert_eq!((request.url.as_str(), request.body.len()), ("https://a.example/1", 0));
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn a_status_that_is_not_final_is_replaced() {
    for status in [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS, StatusCode::from_u16(999).unwrap()] {
        let proxy = Proxy::start(move |_| {
            let mut response = ok("x");
            response.status = status;
            response
        })
        .await;
        let answer = proxy.exchange_in_tunnel(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        proxy.expect_refusal("a.example:443", Reason::WrongStatus(status.as_u16())).await;
    }
}

#[tokio::test]
async fn an_upstream_that_panics_ends_one_connection_only() {
    let proxy = Proxy::start(|request| match request.url.path() {
        "/panic" => panic!("a fault of the upstream"),
        _ => echo(request),
    })
    .await;
    assert_eq!(proxy.exchange_in_tunnel(b"GET /panic HTTP/1.1\r\nHost: a.example\r\n\r\n").await, "");
    let answer = proxy.exchange_in_tunnel(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn any_bytes_are_survived() {
    let proxy = start().await;
    let mut state = 42_u64;
    let mut random = move || {
        // SplitMix64: the same bytes in each run.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).to_le_bytes()
    };
    let valid = b"POST http://a.example/x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nbody".to_vec();
    for round in 0..300_usize {
        let mut bytes: Vec<u8> = match round % 3 {
            0 => (0..32).flat_map(|_| random()).collect(),
            1 => [b"\x16\x03\x01\0\x40".to_vec(), (0..8).flat_map(|_| random()).collect()].concat(),
            _ => valid.clone(),
        };
        if round % 3 == 2 {
            let [at, byte, ..] = random();
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        let mut stream = if round % 2 == 0 { proxy.connect().await } else { proxy.tunnel("a.example:443").await };
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        read_to_end(&mut stream).await;
    }
    let answer = proxy.exchange_in_tunnel(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn ending_the_proxy_ends_its_connections_and_calls() {
    struct Signal(Arc<Notify>);
    impl Drop for Signal {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (is_begun, is_dropped) = (Arc::clone(&begun), Arc::clone(&dropped));
    let answer = move |_| {
        let signal = Signal(Arc::clone(&is_dropped));
        is_begun.notify_one();
        async move {
            let _signal = signal;
            std::future::pending().await
        }
        .boxed()
    };
    let mut proxy = Proxy::start_with(Limits::default(), Box::new(answer)).await;

    // A client that hangs up ends its own call.
    let mut first = proxy.tls("a.example:443", "a.example", &[]).await.unwrap();
    first.write_all(b"GET /1 HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    patiently(begun.notified()).await;
    drop(first);
    patiently(dropped.notified()).await;

    let mut second = proxy.tls("a.example:443", "a.example", &[]).await.unwrap();
    second.write_all(b"GET /2 HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    patiently(begun.notified()).await;
    let mut third = proxy.tunnel("a.example:443").await;
    proxy.stop().await;
    patiently(dropped.notified()).await;
    assert_eq!(read_head(&mut second).await, "");
    assert!(patiently(third.read(&mut [0])).await.unwrap_or(0) == 0);
    assert!(tokio::net::TcpStream::connect(proxy.address).await.is_err());
}
