//! The `sql` engine without a database: at a closed port, at a silent server, and at another service.

use crate::support::daemon::{Workspace, intent};
use crate::support::network::{closed_port, silent_address};
use crate::support::sql::{open_at, policy};
use aam::credentials::{Credential, Secret};
use aam::model::{Class, Failure};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The resource id schemes of PostgreSQL and MariaDB. Each has its own client.
const SCHEMES: [&str; 2] = ["postgresql", "jdbc:mariadb"];

/// The failure of opening `database` on a port where no database server listens.
async fn refusal(scheme: &str, port: u16, database: &str) -> Failure {
    let credential = Credential::read(Secret::new("reader:no-real-password".to_string()));
    let id = format!("{scheme}://127.0.0.1:{port}/{database}");
    open_at(&id, &credential, policy(None)).await.err().expect("no database answers")
}

#[tokio::test]
async fn a_closed_port_is_a_network_failure() {
    let (_socket, port) = closed_port();
    for scheme in SCHEMES {
        let failure = refusal(scheme, port, "shop").await;
        assert!(failure.class == Class::Network && failure.title.contains("connection refused"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_silent_server_fails_within_the_connect_timeout() {
    let (address, _) = silent_address().await;
    // PostgreSQL's connectTimeout is in seconds, that of MariaDB in milliseconds.
    for (scheme, database) in SCHEMES.into_iter().zip(["shop?connectTimeout=1", "shop?connectTimeout=500"]) {
        let started = Instant::now();
        let failure = refusal(scheme, address.port(), database).await;
        assert!(failure.class == Class::Network && failure.title.contains("no response within"), "{failure:?}");
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn another_service_on_the_port_is_the_wrong_service() {
    let http = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = http.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = http.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    for scheme in SCHEMES {
        let failure = refusal(scheme, port, "shop").await;
        assert_eq!(failure.class, Class::WrongService, "{failure:?}");
    }
}

#[tokio::test]
async fn the_fix_of_an_unsupported_dialect_connects_the_exported_data() {
    let mut workspace = Workspace::new();
    workspace.set("DB_LOGIN", "reader:not-a-real-one");
    let csv = workspace.csv("exported.csv", 3);
    let daemon = workspace.serve().await;
    let mut document = intent("jdbc", "jdbc:oracle:thin:@db.example:1521/shop");
    document["credential_locator"] = serde_json::json!("env:DB_LOGIN");
    let unsupported = daemon.push(&document).await;
    let result = &unsupported.body["result"];
    assert_eq!(result["status"], "UNSUPPORTED", "{}", unsupported.body);
    let fix = result["error"]["fix"].as_str().unwrap_or_else(|| panic!("no fix in {}", unsupported.body));
    assert!(fix.contains("source_type filesource with PATH"), "{fix}");
    let exported = daemon.push(&intent("filesource", &csv)).await;
    assert_eq!(exported.body["status"], "ACTIVE", "{}", exported.body);
}
