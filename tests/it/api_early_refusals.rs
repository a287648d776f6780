//! A client that writes its whole request before it reads gets the response to a request that was refused early.

use crate::support::daemon::{Daemon, Workspace};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BODY_BYTES: usize = 20 << 20;
/// No refusal may take longer.
const MAX_TIME: Duration = Duration::from_secs(30);

/// Writes the head and 20 MB, and only then reads. Returns the response, or why it could not be read.
async fn write_then_read(daemon: &Daemon, head: &str, body: &[u8]) -> Result<String, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.port)).await.map_err(|error| error.to_string())?;
    let exchange = async {
        stream.write_all(head.as_bytes()).await.map_err(|error| format!("the head: {error}"))?;
        for chunk in body.chunks(64 << 10) {
            stream.write_all(chunk).await.map_err(|error| format!("the body: {error}"))?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(|error| format!("the response: {error}"))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::time::timeout(MAX_TIME, exchange).await.map_err(|_| "timeout".to_string())?
}

#[tokio::test]
async fn every_early_refusal_is_readable_by_a_client_that_still_sends() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let token = daemon.token.expose();
    let body = vec![b' '; BODY_BYTES];
    let host = "Host: localhost\r\n";
    let length = format!("Content-Length: {BODY_BYTES}\r\n");
    let authorized = format!("Authorization: Bearer {token}\r\n");
    let json = "Content-Type: application/json\r\n";
    let chunked = {
        let mut text = Vec::with_capacity(BODY_BYTES + (1 << 20));
        for chunk in body.chunks(16 << 10) {
            text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            text.extend_from_slice(chunk);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        text
    };
    for (path, headers, status, code) in [
        ("/connections/onboard", format!("{host}{authorized}{json}{length}"), 413, "TOO_LARGE"),
        ("/connections/onboard/batch", format!("{host}{authorized}{json}{length}"), 413, "TOO_LARGE"),
        ("/connections/onboard", format!("{host}{authorized}Idempotency-Key: a\r\n{json}{length}"), 413, "TOO_LARGE"),
        ("/connections/onboard", format!("{host}{json}{length}"), 401, "TOKEN_MISSING"),
        ("/connections/onboard", format!("{host}{authorized}Content-Type: text/csv\r\n{length}"), 415, "NOT_JSON_TYPE"),
        ("/connections/onboard", format!("Host: other.example\r\n{authorized}{json}{length}"), 403, "HOST_NOT_ALLOWED"),
        ("/connections/onboard", format!("{authorized}{json}{length}"), 400, "BAD_REQUEST"),
        ("/nothing", format!("{host}{authorized}{json}{length}"), 404, "NOT_FOUND"),
        ("/connections", format!("{host}{authorized}{json}{length}"), 405, "METHOD_NOT_ALLOWED"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\n{headers}\r\n");
        let answer = write_then_read(&daemon, &head, &body).await.unwrap_or_else(|error| panic!("{status} {code}: {error}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(code), "{status} {code}: {answer}");
    }
    let head = format!("POST /connections/onboard HTTP/1.1\r\n{host}{authorized}{json}Transfer-Encoding: chunked\r\n\r\n");
    let answer = write_then_read(&daemon, &head, &chunked).await.expect("a response");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // A head that is not HTTP, and one that is too large.
    for (head, statuses) in [
        ("POST /connections/onboard HTTP/9.9\r\n\r\n".to_string(), ["HTTP/1.1 400", "HTTP/1.1 505"]),
        (
            format!("POST /connections/onboard HTTP/1.1\r\n{host}X-Long: {}\r\n\r\n", "x".repeat(100 << 10)),
            ["HTTP/1.1 431", "HTTP/1.1 400"],
        ),
    ] {
        let answer = write_then_read(&daemon, &head, &body).await.unwrap_or_else(|error| panic!("{}: {error}", &head[..40]));
        assert!(statuses.iter().any(|status| answer.starts_with(status)), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_sends_without_end_is_cut_off_and_delays_no_other() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let head = "POST /connections/onboard HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = TcpStream::connect(("127.0.0.1", daemon.port)).await.expect("connected");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let chunk = [format!("{:x}\r\n", 64 << 10).as_bytes(), &[b'x'; 64 << 10], b"\r\n"].concat();
    let started = Instant::now();
    let mut sent = 0_usize;
    while stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
        assert!(started.elapsed() < MAX_TIME && sent < 1 << 30, "{sent} bytes were read");
        if sent % (8 << 20) < chunk.len() {
            assert_eq!(daemon.get("/healthz").await.status, 200);
        }
    }
    assert!(sent >= BODY_BYTES, "only {sent} bytes were read");
}
