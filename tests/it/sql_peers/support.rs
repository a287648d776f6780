//! What the cases share: the servers' addresses, a gate without checks, a proxy that cuts.

use aam::connectors::Opened;
use aam::connectors::sql::SqlEngine;
use aam::connectors::sql::gate::Gate;
use aam::credentials::{Credential, Secret};
use aam::egress::{Admitted, Traffic};
use aam::model::{Class, Failure};
use aam::policy::Policy;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Plain resolution of names: what the egress layer does after its checks.
#[derive(Default)]
pub struct Direct {
    pub settled: Mutex<Vec<(u64, Option<Class>)>>,
}

impl Gate for Direct {
    fn admit<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Admitted, Failure>> {
        Box::pin(async move {
            let mut all = tokio::net::lookup_host((host, port))
                .await
                .map_err(|e| Failure::new(Class::Network, e.to_string(), ""))?;
            let address = all
                .find(|a| a.is_ipv4())
                .ok_or_else(|| Failure::new(Class::Network, "no address", ""))?;
            Ok(Admitted {
                address,
                slot: None,
            })
        })
    }

    fn settle(&self, _: &str, _: &str, bytes: u64, _: Duration, failure: Option<&Failure>) {
        self.settled
            .lock()
            .unwrap()
            .push((bytes, failure.map(|failure| failure.class)));
    }

    fn local<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { panic!("a server asked for the file {path}") })
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Peer {
    Postgres,
    Mariadb,
}

pub use Peer::{Mariadb, Postgres};

impl Peer {
    pub fn var(self, name: &str) -> String {
        let peer = if self == Postgres {
            "POSTGRES"
        } else {
            "MARIADB"
        };
        let name = format!("AAM_TEST_{peer}_{name}");
        std::env::var(&name).unwrap_or_else(|_| {
            panic!("{name} is not set: run through scripts/with_peers.sh postgres mariadb -- ...")
        })
    }

    pub fn port(self) -> u16 {
        self.var("PORT").parse().unwrap()
    }

    pub fn id_at(self, host: &str, port: u16, rest: &str) -> String {
        let scheme = if self == Postgres {
            "postgresql"
        } else {
            "jdbc:mariadb"
        };
        format!("{scheme}://{host}:{port}/{rest}")
    }

    pub fn id(self, rest: &str) -> String {
        self.id_at("127.0.0.1", self.port(), rest)
    }

    pub fn credential(self, role: &str) -> Credential {
        let password = self.var(&format!("{}_PASSWORD", role.to_uppercase()));
        Credential::read(Secret::new(
            json!({"user": role, "password": password}).to_string(),
        ))
    }
}

pub async fn open_at(id: &str, credential: &Credential, policy: Policy) -> Result<Opened, Failure> {
    SqlEngine
        .open_through(
            Arc::new(Direct::default()),
            id,
            Some(credential),
            Arc::new(policy),
        )
        .await
}

pub async fn open(peer: Peer, role: &str, rest: &str) -> Result<Opened, Failure> {
    open_at(&peer.id(rest), &peer.credential(role), policy(None)).await
}

pub async fn refused(peer: Peer, role: &str, rest: &str) -> Failure {
    open(peer, role, rest)
        .await
        .err()
        .unwrap_or_else(|| panic!("{role} was let in to {rest}"))
}

/// Ports differ from run to run.
pub fn shown(peer: Peer, failure: &Failure) -> String {
    let text = format!(
        "{:?}\n  {}\n  fix: {}\n  detail: {}\n",
        failure.class, failure.title, failure.fix, failure.detail
    );
    text.replace(&peer.port().to_string(), "PORT")
}

pub fn snapshot(name: &str, text: &str) {
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

pub async fn superuser(database: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(Postgres.port())
        .user("super")
        .password(Postgres.var("SUPER_PASSWORD"))
        .dbname(database);
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
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
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

/// The design's defaults, and the authority of a peer's certificate.
pub fn policy(ca_file: Option<PathBuf>) -> Policy {
    use aam::policy::*;
    let cap = Cap {
        per_second: 5.0,
        burst: 10,
        per_day: 2000,
        concurrency: 2,
    };
    Policy {
        version: 1,
        namespace: "autonomy".into(),
        slo: Slo { coverage: 0.9 },
        eligibility: Eligibility {
            evidence: vec!["Sanctioned".into()],
            max_risk: aam::model::Risk::High,
            min_confidence: 0.0,
        },
        safe_mode: SafeMode {
            max_items: 20,
            step_timeout: Duration::from_secs(20),
            attempt_timeout: Duration::from_secs(60),
        },
        allowlist: Default::default(),
        network: Network {
            allow_private: Vec::new(),
            proxy: None,
            ca_file,
        },
        files: Files { roots: Vec::new() },
        caps: Caps {
            default: cap,
            families: Default::default(),
        },
        backoff: Backoff {
            initial: Duration::from_secs(5),
            max: Duration::from_secs(900),
            jitter: 0.2,
        },
        breaker: Breaker {
            failures: 5,
            open_for: Duration::from_secs(30),
        },
        recheck: Recheck {
            health: Duration::from_secs(21_600),
            drift: Duration::from_secs(86_400),
            awaiting_credentials: Duration::from_secs(300),
        },
        reconcile: Reconcile {
            concurrency: 64,
            resync: Duration::from_secs(30),
        },
        families: Default::default(),
        api: Api::default(),
        digest: aam::model::Digest::default(),
    }
}
