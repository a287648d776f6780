//! The limits: each is reached here, and each is answered.

use crate::harness::{Proxy, exchange, ok, patiently, read_head, read_to_end};
use futures_util::FutureExt;
use intercept::{Limits, Reason};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, Semaphore};

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_head_that_is_too_long_is_answered() {
    for (name, count) in [("x".repeat(20_000), 1), ("x".into(), 150)] {
        let proxy = Proxy::start_echo(Limits { head_bytes: 10_000, ..Limits::default() }).await;
        let header = format!("{name}: 1\r\n").repeat(count);
        let answer = proxy.exchange_in_tunnel(format!("GET / HTTP/1.1\r\n{header}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        proxy.expect_refusal("a.example:443", Reason::HeadTooLong).await;
        let answer = proxy.exchange(format!("GET http://a.example/ HTTP/1.1\r\n{header}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_closed() {
    // Long enough for a busy machine to send a whole head.
    let proxy = Proxy::start_echo(Limits { head: Duration::from_secs(2), ..Limits::default() }).await;
    let (nothing, half, nothing_inside, idle) = tokio::join!(
        proxy.exchange(b""),
        proxy.exchange(b"GET http://a.exam"),
        proxy.exchange_in_tunnel(b""),
        // It is idle after its first answer.
        proxy.exchange_in_tunnel(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    );
    assert_eq!([nothing, half, nothing_inside], ["", "", ""]);
    assert!(idle.starts_with("HTTP/1.1 200 "), "{idle}");
}

#[tokio::test]
async fn a_slow_body_is_answered() {
    let proxy = Proxy::start_echo(Limits { body: SHORT, ..Limits::default() }).await;
    let answer = proxy.exchange_in_tunnel(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    proxy.expect_refusal("a.example:443", Reason::BodyIncomplete).await;
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn a_call_without_an_answer_is_answered() {
    let answer = Box::new(|_| std::future::pending().boxed());
    let proxy = Proxy::start_with(Limits { answer: SHORT, ..Limits::default() }, answer).await;
    let answer = proxy.exchange_in_tunnel(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    proxy.expect_refusal("a.example:443", Reason::NoAnswer).await;
}

#[tokio::test]
async fn a_tunnel_too_many_is_answered_and_one_that_ends_makes_room() {
    let proxy = Proxy::start_echo(Limits { tunnels: 2, ..Limits::default() }).await;
    let first = proxy.tls("a.example:443", "a.example", &[]).await.unwrap();
    let _second = proxy.tls("b.example:443", "b.example", &[]).await.unwrap();
    let connect = b"CONNECT c.example:443 HTTP/1.1\r\nHost: c.example:443\r\n\r\n";
    let answer = proxy.exchange(connect).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    proxy.expect_refusal("c.example:443", Reason::Busy("tunnels")).await;
    drop(first);
    // The end of a tunnel is seen a moment after its client has closed it.
    let room = async {
        loop {
            let mut stream = proxy.connect().await;
            stream.write_all(connect).await.unwrap();
            if read_head(&mut stream).await.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    patiently(room).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let proxy = Proxy::start_echo(Limits { connections: 2, ..Limits::default() }).await;
    let (first, _second) = (proxy.tunnel("a.example:443").await, proxy.tunnel("a.example:443").await);
    let mut third = proxy.connect().await;
    let request = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let mut answer = Box::pin(exchange(&mut third, request));
    assert!(tokio::time::timeout(SHORT, &mut answer).await.is_err(), "it must wait");
    assert!(proxy.requests().is_empty());
    drop(first);
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn bodies_beyond_the_memory_for_all_are_answered() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (is_begun, may_go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
    let answer = move |_| {
        let may_go_on = Arc::clone(&may_go_on);
        is_begun.notify_one();
        async move {
            let _ = may_go_on.acquire().await;
            ok("done")
        }
        .boxed()
    };
    let limits = Limits { all_bodies_bytes: 1000, ..Limits::default() };
    let proxy = Proxy::start_with(limits, Box::new(answer)).await;
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 600\r\n\r\n";
    let request = format!("{head}{}", "x".repeat(600));
    let first = proxy.exchange_in_tunnel(request.as_bytes());
    let second = async {
        patiently(begun.notified()).await;
        let answer = proxy.exchange_in_tunnel(request.as_bytes()).await;
        go_on.add_permits(10);
        answer
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    assert!(second.starts_with("HTTP/1.1 503 "), "{second}");
    proxy.expect_refusal("a.example:443", Reason::Busy("bytes of bodies")).await;
    // The share of the first one was given back.
    let third = proxy.exchange_in_tunnel(request.as_bytes()).await;
    assert!(third.starts_with("HTTP/1.1 200 "), "{third}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_in_the_end() {
    let limits = Limits { connection: Duration::from_millis(500), connections: 1, ..Limits::default() };
    let large = "x".repeat(30_000_000);
    let proxy = Proxy::start_with(limits, Box::new(move |_| futures_util::future::ready(ok(large.clone())).boxed())).await;
    let mut lazy = proxy.connect().await;
    let request = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    lazy.write_all(request).await.unwrap();
    // There is one place: this one is served as soon as the lazy one has lost it.
    let served = async {
        loop {
            let mut stream = proxy.connect().await;
            stream.write_all(request).await.unwrap();
            if read_head(&mut stream).await.starts_with("HTTP/1.1 200 ") {
                return;
            }
        }
    };
    patiently(served).await;
    assert!(read_to_end(&mut lazy).await.len() < 30_000_000);
}

#[tokio::test]
async fn many_hosts_do_not_fill_the_memory_for_certificates() {
    let proxy = Proxy::start_echo(Limits::default()).await;
    for at in 0..600 {
        drop(proxy.tunnel(&format!("h{at}.example:443")).await);
    }
    // The certificates were thrown away in between; a new one is made.
    assert!(proxy.tls("h0.example:443", "h0.example", &[]).await.is_ok());
    assert!(proxy.tls("h599.example:443", "h599.example", &[]).await.is_ok());
}
