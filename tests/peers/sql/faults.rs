//! Servers and connections that fail: TLS, cut connections, another service, and no free connection.

use super::server::*;
use crate::support::network::cutting_proxy;
use crate::support::sql::{open_at, policy};
use aam::connectors::Bounds;
use aam::credentials::{Credential, Secret};
use aam::model::{Catalog, Class, Failure};
use serde_json::json;
use std::path::PathBuf;

peer_tests! {
    [Postgres, Mariadb]: tls_is_verified_by_chain_and_by_name, a_truncated_response_is_a_failure_wherever_it_ends,
        mariadb_behind_a_postgresql_address_is_the_wrong_service;
    [Postgres]: a_server_without_a_free_slot_is_throttled;
}

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

async fn tls_is_verified_by_chain_and_by_name() {
    for database in [Postgres, Mariadb] {
        let trusting = || policy(Some(PathBuf::from(database.variable("CA_FILE"))));
        let id = |host: &str, rest: &str| database.id_at(host, database.port(), rest);
        let opened =
            open_at(&id("localhost", "shop?sslMode=verify-full"), &database.credential("reader"), trusting()).await.unwrap();
        assert_eq!(opened.identity["encrypted"], json!(true));
        assert_eq!(opened.connector.tiny_sync(&Catalog::default(), 20).await.unwrap().rows, 20);
        // The certificate is valid for localhost only.
        let other = open_at(&id("127.0.0.1", "shop?sslMode=verify-full"), &database.credential("reader"), trusting())
            .await
            .err()
            .unwrap();
        assert!(other.class == Class::Network && other.detail.contains("not valid for name"), "{other:?}");
        let unknown = open_at(&id("localhost", "shop?sslMode=verify-full"), &database.credential("reader"), policy(None))
            .await
            .err()
            .unwrap();
        assert!(unknown.class == Class::Network && unknown.fix.contains("network.ca_file"), "{unknown:?}");
    }
}

/// MariaDB sends the first message of a connection, which is not one of PostgreSQL.
async fn mariadb_behind_a_postgresql_address_is_the_wrong_service() {
    let id = Postgres.id_at("127.0.0.1", Mariadb.port(), "shop");
    let failure = open_at(&id, &Postgres.credential("reader"), policy(None)).await.err().unwrap();
    assert_eq!(failure.class, Class::WrongService, "{failure:?}");
}

/// Wherever the response is cut, the failure is one of the source or the network, and the attempt neither hangs nor
/// succeeds.
async fn a_truncated_response_is_a_failure_wherever_it_ends() {
    for database in [Postgres, Mariadb] {
        let mut reached = [0; 4];
        for limit in [1, 3, 20, 90, 140, 250, 400, 600, 900, 1400, 2200, 3400, 6000, 12_000] {
            let port = cutting_proxy(database.port(), limit).await;
            let credential = database.credential("reader");
            let (step, outcome) = all_steps(&database.id_at("127.0.0.1", port, "shop"), &credential).await;
            reached[step] += 1;
            match outcome {
                Ok(()) => assert_eq!(step, 3),
                Err(failure) => {
                    assert!(matches!(failure.class, Class::Remote | Class::Network), "{limit} bytes, step {step}: {failure:?}")
                }
            }
        }
        assert!(reached[0] >= 3 && reached[1] + reached[2] >= 1, "the cuts did not reach every step: {reached:?}");
    }
}

/// Runs all steps. Returns the step that was reached (0 open, 1 discover, 2 tiny sync, 3 all of them) and its result.
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
