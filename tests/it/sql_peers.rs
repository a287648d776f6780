//! The sql engine against a real PostgreSQL and a real MariaDB.
//!
//! Run through `scripts/with_peers.sh postgres mariadb -- cargo test --test it sql_peers`.
//! Without the servers these tests fail; they are never skipped.

use aam::connectors::sql::SqlEngine;
use aam::connectors::sql::gate::Gate;
use aam::connectors::{Bounds, Opened};
use aam::credentials::{Credential, Secret};
use aam::egress::{Admitted, Traffic};
use aam::model::{Catalog, Class, Failure, Privilege};
use aam::policy::Policy;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Plain resolution of names: what the egress layer does after its checks.
#[derive(Default)]
struct Direct {
    settled: Mutex<Vec<(u64, Option<Class>)>>,
}

impl Gate for Direct {
    fn admit<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<Admitted, Failure>> {
        Box::pin(async move {
            let mut all = tokio::net::lookup_host((host, port)).await.map_err(|e| Failure::new(Class::Network, e.to_string(), ""))?;
            let address = all.find(|a| a.is_ipv4()).ok_or_else(|| Failure::new(Class::Network, "no address", ""))?;
            Ok(Admitted { address, slot: None })
        })
    }

    fn settle(&self, _: &str, _: &str, bytes: u64, _: Duration, failure: Option<&Failure>) {
        self.settled.lock().unwrap().push((bytes, failure.map(|failure| failure.class)));
    }

    fn local<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move { panic!("a server asked for the file {path}") })
    }

    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Postgres,
    Mariadb,
}

use Peer::{Mariadb, Postgres};

impl Peer {
    fn var(self, name: &str) -> String {
        let peer = if self == Postgres { "POSTGRES" } else { "MARIADB" };
        let name = format!("AAM_TEST_{peer}_{name}");
        std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set: run through scripts/with_peers.sh postgres mariadb -- ..."))
    }

    fn port(self) -> u16 {
        self.var("PORT").parse().unwrap()
    }

    fn id_at(self, host: &str, port: u16, rest: &str) -> String {
        let scheme = if self == Postgres { "postgresql" } else { "jdbc:mariadb" };
        format!("{scheme}://{host}:{port}/{rest}")
    }

    fn id(self, rest: &str) -> String {
        self.id_at("127.0.0.1", self.port(), rest)
    }

    fn credential(self, role: &str) -> Credential {
        let password = self.var(&format!("{}_PASSWORD", role.to_uppercase()));
        Credential::read(Secret::new(json!({"user": role, "password": password}).to_string()))
    }
}

async fn open_at(id: &str, credential: &Credential, policy: Policy) -> Result<Opened, Failure> {
    SqlEngine.open_through(Arc::new(Direct::default()), id, Some(credential), Arc::new(policy)).await
}

async fn open(peer: Peer, role: &str, rest: &str) -> Result<Opened, Failure> {
    open_at(&peer.id(rest), &peer.credential(role), policy(None)).await
}

async fn refused(peer: Peer, role: &str, rest: &str) -> Failure {
    open(peer, role, rest).await.err().unwrap_or_else(|| panic!("{role} was let in to {rest}"))
}

/// Ports differ from run to run.
fn shown(peer: Peer, failure: &Failure) -> String {
    let text = format!("{:?}\n  {}\n  fix: {}\n  detail: {}\n", failure.class, failure.title, failure.fix, failure.detail);
    text.replace(&peer.port().to_string(), "PORT")
}

fn snapshot(name: &str, text: &str) {
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(name, text);
    });
}

#[tokio::test]
async fn a_reader_passes_every_step() {
    for (peer, name) in [(Postgres, "sql_postgres_catalog"), (Mariadb, "sql_mariadb_catalog")] {
        let gate = Arc::new(Direct::default());
        let opened = SqlEngine
            .open_through(gate.clone(), &peer.id("shop"), Some(&peer.credential("reader")), Arc::new(policy(None)))
            .await
            .unwrap();
        assert_eq!((&opened.identity["database"], &opened.identity["read_only"]), (&json!("shop"), &json!(true)));
        assert_eq!(opened.privilege, Privilege::Ok);
        let mut found = opened.connector.discover(Bounds::default()).await.unwrap();
        assert!(found.catalog.streams.iter().any(|stream| stream.row_estimate == Some(200)), "{:?}", found.evidence);
        found.catalog.streams.iter_mut().for_each(|stream| stream.row_estimate = None);
        snapshot(name, &format!("{}\n{}", json!(found.evidence), serde_json::to_string_pretty(&found.catalog).unwrap()));
        opened.connector.health().await.unwrap();
        assert_eq!(opened.connector.tiny_sync(&found.catalog, 20).await.unwrap().rows, 20);
        assert_eq!(opened.connector.tiny_sync(&found.catalog, 3).await.unwrap().rows, 3);
        assert!(opened.connector.traffic().bytes > 500);
        drop(opened);
        let settled = gate.settled.lock().unwrap().clone();
        assert!(matches!(settled.as_slice(), [(bytes, None)] if *bytes > 500), "{settled:?}");
    }
}

#[tokio::test]
async fn bounds_are_kept_and_said() {
    for peer in [Postgres, Mariadb] {
        let opened = open(peer, "reader", "shop").await.unwrap();
        let few = opened.connector.discover(Bounds { streams: 2, ..Bounds::default() }).await.unwrap().catalog;
        assert!(few.truncated && few.streams.len() == 2, "{few:?}");
        let narrow = opened.connector.discover(Bounds { columns: 1, ..Bounds::default() }).await.unwrap().catalog;
        assert!(narrow.truncated && narrow.streams.iter().all(|s| s.json_schema["properties"].as_object().unwrap().len() <= 1));
    }
}

/// Every refusal a person reads, in the servers' own words.
#[tokio::test]
async fn refusals_have_their_class_and_their_fix() {
    for (peer, name) in [(Postgres, "sql_postgres_failures"), (Mariadb, "sql_mariadb_failures")] {
        let wrong = Credential::read(Secret::new("reader:not-the-password".to_string()));
        let mut all = vec![("wrong password", open_at(&peer.id("shop"), &wrong, policy(None)).await.err().unwrap(), Class::CredentialRejected)];
        all.push(("no such database", refused(peer, "super", "gone").await, Class::NotFound));
        let blind = match open(peer, "blind", "shop").await {
            Err(failure) => failure,
            Ok(opened) => opened.connector.tiny_sync(&Catalog::default(), 20).await.err().unwrap(),
        };
        all.push(("no permission", blind, Class::PermissionDenied));
        if peer == Mariadb {
            let narrow = open(peer, "narrow", "shop").await.unwrap();
            let found = narrow.connector.discover(Bounds::default()).await.unwrap();
            assert_eq!(found.evidence["unreadable"], json!(["`payroll` (lacks SELECT)"]));
            all.push(("sees, may not read", narrow.connector.tiny_sync(&found.catalog, 20).await.err().unwrap(), Class::PermissionDenied));
        }
        all.push(("TLS by an unknown authority", refused(peer, "reader", "shop?sslMode=verify-full").await, Class::Network));
        let writes = sample_of(peer, "writes").await.err().unwrap();
        all.push(("a view that writes", writes, Class::Remote));
        all.push(("a view that never ends", sample_of(peer, "slow").await.err().unwrap(), Class::Remote));
        let mut text = String::new();
        for (what, failure, class) in all {
            assert_eq!(failure.class, class, "{what}: {failure:?}");
            assert!(!failure.fix.is_empty() && !failure.detail.is_empty(), "{what}: {failure:?}");
            assert!(!format!("{failure:?}").contains("not-the-password"));
            text.push_str(&format!("# {what}\n{}\n", shown(peer, &failure)));
        }
        snapshot(name, &text);
    }
}

/// The places in `trap` that hold one awkward thing each.
fn awkward(peer: Peer, what: &str) -> String {
    match (peer, what) {
        (Postgres, schema) => format!("trap?currentSchema={schema}"),
        (Mariadb, "writes") => "trap".to_string(),
        (Mariadb, database) => database.to_string(),
    }
}

async fn sample_of(peer: Peer, what: &str) -> Result<aam::connectors::Sample, Failure> {
    let opened = open(peer, "writer", &awkward(peer, what)).await.unwrap();
    opened.connector.tiny_sync(&Catalog::default(), 20).await
}

#[tokio::test]
async fn an_empty_answer_is_told_from_a_blind_one() {
    for peer in [Postgres, Mariadb] {
        let sample = sample_of(peer, "void").await.unwrap();
        assert_eq!((sample.rows, &sample.evidence["note"]), (0, &json!("empty: the database has no tables")));
    }
    let hidden = sample_of(Postgres, "hidden").await.unwrap();
    assert!(hidden.rows == 0 && hidden.evidence["note"].as_str().unwrap().contains("row level security"), "{:?}", hidden.evidence);
    assert_eq!(sample_of(Postgres, "narrow").await.unwrap().rows, 1, "a grant on one column is enough to read that column");
}

#[tokio::test]
async fn too_many_rights_are_named() {
    let Privilege::Over { grants } = open(Postgres, "writer", "shop").await.unwrap().privilege else { panic!("not over") };
    assert_eq!(grants[..2], ["CREATEDB", "CREATE on schema \"sales\""]);
    assert!(grants.contains(&"INSERT, UPDATE, DELETE on table \"sales\".\"customer\"".to_string()), "{grants:?}");
    let Privilege::Over { grants } = open(Mariadb, "writer", "shop").await.unwrap().privilege else { panic!("not over") };
    assert!(grants.iter().any(|g| g == "FILE ON *.*") && grants.iter().any(|g| g == "INSERT, UPDATE, DELETE ON `shop`.*"), "{grants:?}");
    assert!(matches!(open(Postgres, "super", "shop").await.unwrap().privilege, Privilege::Over { grants } if grants[0] == "SUPERUSER"));
}

/// A view that inserts a row when it is read is read with an account that may insert: the server
/// refuses, and a second, independent connection counts the same rows as before.
#[tokio::test]
async fn nothing_can_be_written_even_with_the_right_to() {
    let before = (rows_in_postgres_log().await, rows_in_mariadb_log().await);
    for peer in [Postgres, Mariadb] {
        let opened = open(peer, "writer", &awkward(peer, "writes")).await.unwrap();
        assert!(matches!(opened.privilege, Privilege::Over { .. }));
        let failure = opened.connector.tiny_sync(&Catalog::default(), 20).await.err().unwrap();
        assert!(failure.title.contains("would write"), "{failure:?}");
        // The session goes on, still read-only.
        assert_eq!(opened.connector.health().await.unwrap()["read_only"], json!(true));
    }
    assert_eq!((rows_in_postgres_log().await, rows_in_mariadb_log().await), before);
    assert_eq!(before, (1, 1));
}

async fn rows_in_postgres_log() -> i64 {
    superuser("trap").await.query_one("SELECT count(*) FROM writes.log", &[]).await.unwrap().get(0)
}

async fn superuser(database: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(Postgres.port()).user("super").password(Postgres.var("SUPER_PASSWORD")).dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn rows_in_mariadb_log() -> i64 {
    use mysql_async::prelude::Queryable;
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(Mariadb.port())
        .user(Some("super"))
        .pass(Some(Mariadb.var("SUPER_PASSWORD")))
        .prefer_socket(Some(false));
    let mut conn = mysql_async::Conn::new(opts).await.unwrap();
    conn.query_first("SELECT count(*) FROM trap.log").await.unwrap().unwrap()
}

/// What the server itself logged of our sessions: every statement is inside a read-only transaction.
#[tokio::test]
async fn the_servers_log_holds_no_other_statement() {
    let opened = open_at(&Postgres.id("shop?ApplicationName=aam-log-test"), &Postgres.credential("reader"), policy(None)).await.unwrap();
    let pid_of = "SELECT pid FROM pg_stat_activity WHERE application_name = 'aam-log-test'";
    let pid: i32 = superuser("shop").await.query_one(pid_of, &[]).await.unwrap().get(0);
    let found = opened.connector.discover(Bounds::default()).await.unwrap();
    opened.connector.tiny_sync(&found.catalog, 20).await.unwrap();
    drop(opened);
    let log = std::fs::read_to_string(PathBuf::from(Postgres.var("CA_FILE")).with_file_name("log")).unwrap();
    let statements: Vec<&str> = log.lines().filter(|line| line.contains(&format!("[{pid}]")) && line.contains("statement: ")).collect();
    assert!(statements.len() >= 5, "{statements:?}");
    for line in statements {
        let statement = line.split_once("statement: ").map_or("", |(_, statement)| statement);
        assert!(statement.starts_with("BEGIN TRANSACTION READ ONLY; SET LOCAL") && statement.ends_with("; ROLLBACK"), "{line}");
    }
}

#[tokio::test]
async fn a_server_without_a_free_slot_is_throttled() {
    let client = superuser("shop").await;
    client.batch_execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0 PASSWORD 'crowded'").await.unwrap();
    let failure = open_at(&Postgres.id("shop"), &Credential::read(Secret::new("crowded:crowded".into())), policy(None)).await.err().unwrap();
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
        let other = open_at(&id("127.0.0.1", "shop?sslMode=verify-full"), &peer.credential("reader"), trusting()).await.err().unwrap();
        assert!(other.class == Class::Network && other.detail.contains("not valid for name"), "{other:?}");
        let unknown = open_at(&id("localhost", "shop?sslMode=verify-full"), &peer.credential("reader"), policy(None)).await.err().unwrap();
        assert!(unknown.class == Class::Network && unknown.fix.contains("network.ca_file"), "{unknown:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_a_network_failure() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    for peer in [Postgres, Mariadb] {
        let failure = open_at(&peer.id_at("127.0.0.1", port, "shop"), &peer.credential("reader"), policy(None)).await.err().unwrap();
        assert!(failure.class == Class::Network && failure.title.contains("nobody answers"), "{failure:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for (peer, rest) in [(Postgres, "shop?connectTimeout=1"), (Mariadb, "shop?connectTimeout=500")] {
        let started = Instant::now();
        let failure = open_at(&peer.id_at("127.0.0.1", port, rest), &peer.credential("reader"), policy(None)).await.err().unwrap();
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
        let failure = open_at(&peer.id_at("127.0.0.1", port, "shop"), &peer.credential("reader"), policy(None)).await.err().unwrap();
        assert_eq!(failure.class, Class::WrongService, "{failure:?}");
    }
    // MariaDB speaks first, and not PostgreSQL.
    let failure = open_at(&Postgres.id_at("127.0.0.1", Mariadb.port(), "shop"), &Postgres.credential("reader"), policy(None)).await.err().unwrap();
    assert_eq!(failure.class, Class::WrongService, "{failure:?}");
}

/// Cuts the server's answer after `limit` bytes.
async fn cutting_proxy(to: u16, limit: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
            tokio::spawn(relay(client, server, limit));
        }
    });
    port
}

async fn relay(client: TcpStream, server: TcpStream, limit: usize) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut left = limit;
    let mut buffer = [0; 512];
    while left > 0 {
        let Ok(read @ 1..) = from_server.read(&mut buffer).await else { break };
        let pass = read.min(left);
        left -= pass;
        if to_client.write_all(&buffer[..pass]).await.is_err() {
            break;
        }
    }
    let _ = to_client.shutdown().await;
    up.abort();
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
                Err(failure) => assert!(matches!(failure.class, Class::Remote | Class::Network), "{limit} bytes, step {step}: {failure:?}"),
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

/// The design's defaults, and the authority of a peer's certificate.
fn policy(ca_file: Option<PathBuf>) -> Policy {
    use aam::policy::*;
    let cap = Cap { per_second: 5.0, burst: 10, per_day: 2000, concurrency: 2 };
    Policy {
        version: 1,
        namespace: "autonomy".into(),
        slo: Slo { coverage: 0.9 },
        eligibility: Eligibility { evidence: vec!["Sanctioned".into()], max_risk: aam::model::Risk::High, min_confidence: 0.0 },
        safe_mode: SafeMode { max_items: 20, step_timeout: Duration::from_secs(20), attempt_timeout: Duration::from_secs(60) },
        allowlist: Default::default(),
        network: Network { allow_private: Vec::new(), proxy: None, ca_file },
        files: Files { roots: Vec::new() },
        caps: Caps { default: cap, families: Default::default() },
        backoff: Backoff { initial: Duration::from_secs(5), max: Duration::from_secs(900), jitter: 0.2 },
        breaker: Breaker { failures: 5, open_for: Duration::from_secs(30) },
        recheck: Recheck {
            health: Duration::from_secs(21_600),
            drift: Duration::from_secs(86_400),
            awaiting_credentials: Duration::from_secs(300),
        },
        reconcile: Reconcile { concurrency: 64, resync: Duration::from_secs(30) },
        families: Default::default(),
        api: Api::default(),
        digest: aam::model::Digest::default(),
    }
}
