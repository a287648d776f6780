//! What the cases share: the servers' addresses, a session, a proxy that cuts.

use crate::session_support::{self, Recorded};
use aam::connectors::Opened;
use aam::connectors::sql::SqlEngine;
use aam::credentials::{Credential, Secret};
use aam::model::Failure;
use aam::policy::Policy;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Copy, PartialEq)]
pub enum Peer {
    Postgres,
    Mariadb,
}

pub use Peer::{Mariadb, Postgres};

impl Peer {
    pub fn var(self, name: &str) -> String {
        let peer = if self == Postgres { "POSTGRES" } else { "MARIADB" };
        let name = format!("AAM_TEST_{peer}_{name}");
        std::env::var(&name)
            .unwrap_or_else(|_| panic!("{name} is not set: run through scripts/with_peers.sh postgres mariadb -- ..."))
    }

    pub fn port(self) -> u16 {
        self.var("PORT").parse().unwrap()
    }

    pub fn id_at(self, host: &str, port: u16, rest: &str) -> String {
        let scheme = if self == Postgres { "postgresql" } else { "jdbc:mariadb" };
        format!("{scheme}://{host}:{port}/{rest}")
    }

    pub fn id(self, rest: &str) -> String {
        self.id_at("127.0.0.1", self.port(), rest)
    }

    pub fn credential(self, role: &str) -> Credential {
        let password = self.var(&format!("{}_PASSWORD", role.to_uppercase()));
        Credential::read(Secret::new(json!({"user": role, "password": password}).to_string()))
    }
}

pub async fn open_at(id: &str, credential: &Credential, policy: Policy) -> Result<Opened, Failure> {
    let policy = Arc::new(policy);
    SqlEngine.open_through(gate(&policy), id, Some(credential), policy).await
}

pub async fn open(peer: Peer, role: &str, rest: &str) -> Result<Opened, Failure> {
    open_at(&peer.id(rest), &peer.credential(role), policy(None)).await
}

pub async fn refused(peer: Peer, role: &str, rest: &str) -> Failure {
    open(peer, role, rest).await.err().unwrap_or_else(|| panic!("{role} was let in to {rest}"))
}

/// Ports differ from run to run.
pub fn shown(peer: Peer, failure: &Failure) -> String {
    let text = format!("{:?}\n  {}\n  fix: {}\n  detail: {}\n", failure.class, failure.title, failure.fix, failure.detail);
    text.replace(&peer.port().to_string(), "PORT")
}

pub fn snapshot(name: &str, text: &str) {
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

pub async fn superuser(database: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(Postgres.port()).user("super").password(Postgres.var("SUPER_PASSWORD")).dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Cuts the server's answer after `limit` bytes.
pub async fn cutting_proxy(to: u16, limit: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else {
                return;
            };
            tokio::spawn(relay(client, server, limit));
        }
    });
    port
}

pub async fn relay(client: TcpStream, server: TcpStream, limit: usize) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut left = limit;
    let mut buffer = [0; 512];
    while left > 0 {
        let Ok(read @ 1..) = from_server.read(&mut buffer).await else {
            break;
        };
        let pass = read.min(left);
        left -= pass;
        if to_client.write_all(&buffer[..pass]).await.is_err() {
            break;
        }
    }
    let _ = to_client.shutdown().await;
    up.abort();
}

/// The design's timeouts, and the authority of a peer's certificate.
pub fn policy(ca_file: Option<PathBuf>) -> Policy {
    session_support::policy(Duration::from_secs(20), ca_file.as_deref())
}

/// A session under `policy`.
pub fn gate(policy: &Arc<Policy>) -> Arc<Recorded> {
    Recorded::new("jdbc", Arc::clone(policy))
}
