//! Servers and wires that do not do what they should.

use super::support::*;
use aam::connectors::Bounds;
use aam::credentials::{Credential, Secret};
use aam::model::{Catalog, Class, Failure};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_server_without_a_free_slot_is_throttled() {
    let client = superuser("shop").await;
    client
        .batch_execute("DROP ROLE IF EXISTS crowded; CREATE ROLE crowded LOGIN CONNECTION LIMIT 0 PASSWORD 'crowded'")
        .await
        .unwrap();
    let failure = open_at(&Postgres.id("shop"), &Credential::read(Secret::new("crowded:crowded".into())), policy(None))
        .await
        .err()
        .unwrap();
    assert_eq!((failure.class, failure.retry_after_ms), (Class::Throttled, Some(30_000)), "{failure:?}");
}

#[tokio::test]
async fn tls_is_verified_by_chain_and_by_name() {
    for peer in [Postgres, Mariadb] {
        let trusting = || policy(Some(PathBuf::from(peer.var("CA_FILE"))));
        let id = |host: &str, rest: &str| peer.id_at(host, peer.port(), rest);
        let opened = open_at(&id("localhost", "shop?sslMode=verify-full"), &peer.credential("reader"), trusting()).await.unwrap();
        assert_eq!(opened.identity["encrypted"], json!(true));
        assert_eq!(opened.connector.tiny_sync(&Catalog::default(), 20).await.unwrap().rows, 20);
        // The certificate names localhost alone.
        let other =
            open_at(&id("127.0.0.1", "shop?sslMode=verify-full"), &peer.credential("reader"), trusting()).await.err().unwrap();
        assert!(other.class == Class::Network && other.detail.contains("not valid for name"), "{other:?}");
        let unknown =
            open_at(&id("localhost", "shop?sslMode=verify-full"), &peer.credential("reader"), policy(None)).await.err().unwrap();
        assert!(unknown.class == Class::Network && unknown.fix.contains("network.ca_file"), "{unknown:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_a_network_failure() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for peer in [Postgres, Mariadb] {
        let failure =
            open_at(&peer.id_at("127.0.0.1", port, "shop"), &peer.credential("reader"), policy(None)).await.err().unwrap();
        assert!(failure.class == Class::Network && failure.title.contains("nobody answers"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for (peer, rest) in [(Postgres, "shop?connectTimeout=1"), (Mariadb, "shop?connectTimeout=500")] {
        let started = Instant::now();
        let failure =
            open_at(&peer.id_at("127.0.0.1", port, rest), &peer.credential("reader"), policy(None)).await.err().unwrap();
        assert!(failure.class == Class::Network && failure.title.contains("no answer within"), "{failure:?}");
        assert!(started.elapsed() < Duration::from_secs(4));
    }
}

#[tokio::test]
async fn another_service_on_the_port_is_told_apart() {
    let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = http.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = http.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    for peer in [Postgres, Mariadb] {
        let failure =
            open_at(&peer.id_at("127.0.0.1", port, "shop"), &peer.credential("reader"), policy(None)).await.err().unwrap();
        assert_eq!(failure.class, Class::WrongService, "{failure:?}");
    }
    // MariaDB speaks first, and not PostgreSQL.
    let failure = open_at(&Postgres.id_at("127.0.0.1", Mariadb.port(), "shop"), &Postgres.credential("reader"), policy(None))
        .await
        .err()
        .unwrap();
    assert_eq!(failure.class, Class::WrongService, "{failure:?}");
}

/// Wherever the answer ends, the failure is the source's, and nothing hangs or passes.
#[tokio::test]
async fn a_truncated_answer_is_a_failure_wherever_it_ends() {
    for peer in [Postgres, Mariadb] {
        let mut reached = [0; 4];
        for limit in [1, 3, 20, 90, 140, 250, 400, 600, 900, 1400, 2200, 3400, 6000, 12_000] {
            let port = cutting_proxy(peer.port(), limit).await;
            let credential = peer.credential("reader");
            let (step, outcome) = all_steps(&peer.id_at("127.0.0.1", port, "shop"), &credential).await;
            reached[step] += 1;
            match outcome {
                Ok(()) => assert_eq!(step, 3),
                Err(failure) => {
                    assert!(matches!(failure.class, Class::Remote | Class::Network), "{limit} bytes, step {step}: {failure:?}")
                }
            }
        }
        assert!(reached[0] >= 3 && reached[1] + reached[2] >= 1, "cuts did not reach every step: {reached:?}");
    }
}

/// How far it came: 0 open, 1 discover, 2 tiny sync, 3 all of it.
async fn all_steps(id: &str, credential: &Credential) -> (usize, Result<(), Failure>) {
    let opened = match open_at(id, credential, policy(None)).await {
        Ok(opened) => opened,
        Err(failure) => return (0, Err(failure)),
    };
    let found = match opened.connector.discover(Bounds::default()).await {
        Ok(found) => found,
        Err(failure) => return (1, Err(failure)),
    };
    match opened.connector.tiny_sync(&found.catalog, 20).await {
        Ok(_) => (3, Ok(())),
        Err(failure) => (2, Err(failure)),
    }
}
