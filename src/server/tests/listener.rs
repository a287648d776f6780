//! Tests of the listening socket: slow clients, the connection limit, the graceful stop and the probe.

use super::*;
use crate::server::probe;
use tokio::time::timeout;

fn short() -> ServerLimits {
    ServerLimits { connections: 2, reserve: 2, header_read: Duration::from_millis(300), ..ServerLimits::default() }
}

#[tokio::test]
async fn silent_slow_and_idle_clients_are_closed() {
    let server = TestServer::with(&policy_text(), ServerLimits { connections: 8, ..short() }).await;
    for start in ["", "PRI * HT", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let mut stream = server.connect().await;
        stream.write_all(start.as_bytes()).await.expect("sent");
        let mut rest = Vec::new();
        let closed = timeout(TIMEOUT, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "{start:?} is still open");
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut rest = Vec::new();
    assert!(timeout(TIMEOUT, idle.read_to_end(&mut rest)).await.is_ok(), "idle after an answer");
    assert!(String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[tokio::test]
async fn large_heads_and_smuggled_lengths_are_refused() {
    let server = TestServer::new().await;
    let many: String = (0..100).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(64 << 10));
    for head in [many, long] {
        let reply = server.raw(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes()).await;
        assert!(matches!(reply.status, 0 | 400 | 431), "{reply:?}");
    }
    let both = "POST /connections/onboard HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    assert!(matches!(server.raw(both.as_bytes()).await.status, 0 | 400));
}

#[tokio::test]
async fn at_the_cap_idle_connections_give_way_and_served_ones_do_not() {
    let server = TestServer::with(&policy_text(), ServerLimits { header_read: TIMEOUT, ..short() }).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut start = [0; 12];
    idle.read_exact(&mut start).await.expect("answered");
    let mut waiting = vec![waiting_push(&server, "a", "").await, waiting_push(&server, "b", "").await];
    let mut rest = Vec::new();
    timeout(TIMEOUT, idle.read_to_end(&mut rest)).await.expect("the idle connection is closed").expect("read");

    // Every place is being served now. Health and callers with a token get reserved places, others do not.
    assert_eq!(server.get("/healthz").await.status, 200);
    let listed = server.get("/connections").await;
    assert_eq!((listed.status, listed.header("connection")), (200, "close"), "{listed:?}");
    assert_eq!(server.send("GET", "/connections", &[], None).await.status, 401);
    let refused = server.get("/openapi.json").await;
    assert_eq!((refused.status, refused.code().as_str(), refused.header("retry-after")), (503, "BUSY", "5"));
    let pushed = server.post("/connections/onboard", &document("jdbc", "c")).await;
    assert_eq!(pushed.status, 202, "a reserved place does not wait for attempts");

    waiting.clear();
    timeout(TIMEOUT, async {
        while server.get("/openapi.json").await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("closed connections free their places");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let limits = ServerLimits { write: Duration::from_millis(300), ..ServerLimits::default() };
    let server = TestServer::with(&policy_text(), limits).await;
    let mut stream = server.connect().await;
    // Pipelined requests whose responses do not fit into the buffers of the kernel.
    let request = format!("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n", bearer(FULL));
    let end = timeout(TIMEOUT, async {
        loop {
            if let Err(error) = stream.write_all(request.as_bytes()).await {
                return error;
            }
        }
    });
    let error = end.await.expect("the server closes the connection");
    assert!(matches!(error.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe), "{error}");
}

#[tokio::test]
async fn a_connection_without_a_valid_token_has_a_limited_life() {
    let life = Duration::from_millis(300);
    let server = TestServer::with(&policy_text(), ServerLimits { life_without_token: life, ..ServerLimits::default() }).await;
    let end_of = async |authorization: &str| {
        let mut stream = server.connect().await;
        let request = format!("GET /metrics/funnel HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n");
        let started = std::time::Instant::now();
        let mut buffer = [0; 4096];
        while started.elapsed() < 3 * life {
            if stream.write_all(request.as_bytes()).await.is_err() || !matches!(stream.read(&mut buffer).await, Ok(1..)) {
                return Some(started.elapsed());
            }
        }
        None
    };
    let ended = end_of("").await.expect("closed although it sends requests all the time");
    assert!(ended >= life, "{ended:?}");
    assert!(end_of("Authorization: Bearer nonsense\r\n").await.is_some());
    assert_eq!(end_of(&format!("Authorization: {}\r\n", bearer(FULL))).await, None, "a caller with a token stays");
}

#[tokio::test]
async fn a_stop_lets_answers_out_and_takes_no_more() {
    let server = TestServer::new().await;
    let port = server.port;
    let body = document("jdbc", "a").to_string();
    let mut waiting = server.connect().await;
    let head = format!(
        "POST /connections/onboard HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Type: application/json\r\nPrefer: wait=300\r\nContent-Length: {}\r\n\r\n{body}",
        bearer(FULL),
        body.len()
    );
    waiting.write_all(head.as_bytes()).await.expect("sent");
    let mut changes = server.handle.registry.changes();
    while *changes.borrow_and_update() == 0 {
        changes.changed().await.expect("the writer lives");
    }
    server.handle.stopping.send_replace(true);
    let mut answer = Vec::new();
    timeout(TIMEOUT, waiting.read_to_end(&mut answer)).await.expect("in time").expect("read");
    let reply = HttpReply::read(&answer);
    assert_eq!((reply.status, reply.json()["status"].clone()), (202, json!("PENDING")), "what was accepted is answered");
    timeout(TIMEOUT, server.served).await.expect("in time").expect("ended");
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "the port is free");
}

#[tokio::test]
async fn the_probe_knows_an_aam_from_anything_else() {
    let server = TestServer::new().await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.port));
    let probe::Listener::Aam(running) = probe::listener(address).await else { panic!("an AAM") };
    assert_eq!((running.info.port, running.info.service.as_str()), (server.port, "aam"));
    assert!(running.prove(server.handle.registry.path()).is_ok());
    let probe::Listener::Aam(running) = probe::listener(address).await else { panic!("an AAM") };
    let elsewhere = tempfile::tempdir().expect("a folder");
    crate::server::proof::ListenerKey::create(&elsewhere.path().join("aam.db")).expect("a key");
    let refused = running.prove(&elsewhere.path().join("aam.db")).err().expect("the AAM of another registry");
    assert!(refused.contains("does not know the key"), "{refused}");
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = other.local_addr().expect("bound").port();
    let talk = tokio::spawn(async move {
        let (mut stream, _) = other.accept().await.expect("a caller");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    });
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert!(matches!(probe::listener(address).await, probe::Listener::Other));
    talk.await.expect("talked");
    assert!(matches!(probe::listener(address).await, probe::Listener::Absent), "the port is free");
}

#[tokio::test]
async fn a_body_that_does_not_come_or_is_too_large_is_refused_early() {
    let limits = ServerLimits { body_read: Duration::from_millis(200), ..ServerLimits::default() };
    let server = TestServer::with(&policy_text(), limits).await;
    let head = |path: &str, length: usize| {
        let token = bearer(FULL);
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{{"
        )
    };
    let slow = server.raw(head("/connections/onboard", 100).as_bytes()).await;
    assert_eq!((slow.status, slow.code().as_str()), (408, "BODY_TOO_SLOW"));
    for (path, length) in [("/connections/onboard", (1 << 20) + 1), ("/connections/onboard/batch", (16 << 20) + 1)] {
        let large = server.raw(head(path, length).as_bytes()).await;
        assert_eq!((large.status, large.code().as_str(), large.header("connection")), (413, "TOO_LARGE", "close"));
    }
    let chunked = format!(
        "POST /connections/onboard HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        bearer(FULL),
        (1 << 20) + 1,
        " ".repeat((1 << 20) + 1)
    );
    assert_eq!(server.raw(chunked.as_bytes()).await.code(), "TOO_LARGE");
}

/// Collects the log output.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_the_call_and_never_a_token_or_a_query() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = TestServer::new().await;
    server.get("/connections?source_type=canary-in-the-query").await;
    server.send("GET", "/connections", &[("Authorization", "Bearer canary-in-the-header")], None).await;
    server.post_with("/connections/onboard", &json!({"canary-in-the-body": 1}), &[]).await;
    let log = String::from_utf8_lossy(&lines.0.lock().expect("no panic")).into_owned();
    assert!(
        log.contains("method=GET path=\"/connections\" status=200")
            && log.contains("method=POST path=\"/connections/onboard\" status=422"),
        "{log}"
    );
    assert!(!log.contains("canary") && !log.contains(FULL), "{log}");
}
