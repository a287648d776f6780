//! The peers as a daemon's sources: their addresses, their administrators, and wires that break.

use crate::daemon_support::{Daemon, Place, intent};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A variable of a peer.
pub fn of(peer: &str, name: &str) -> String {
    let full = format!("AAM_TEST_{peer}_{name}");
    std::env::var(&full).unwrap_or_else(|_| panic!("{full} is not set: run through scripts/with_peers.sh"))
}

/// The port of an address such as `http://127.0.0.1:1234`.
pub fn port_of(address: &str) -> u16 {
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("no port in {address}"))
}

/// `127.0.0.1:PORT` of a database server.
pub fn at(peer: &str) -> String {
    format!("127.0.0.1:{}", of(peer, "PORT"))
}

/// The secret of a login role.
pub fn login(user: &str, password: &str) -> String {
    json!({"user": user, "password": password}).to_string()
}

/// The secret of a role of the seed.
pub fn role(peer: &str, name: &str) -> String {
    login(name, &of(peer, &format!("{}_PASSWORD", name.to_uppercase())))
}

/// The secret of a user of an object store.
pub fn key(peer: &str, user: &str) -> String {
    let user = if user.is_empty() { String::new() } else { format!("{user}_") };
    format!("{}:{}", of(peer, &format!("{user}KEY_ID")), of(peer, &format!("{user}SECRET")))
}

/// The policy's caps and limits for these tests: no cap is met, a hanging peer costs seconds, and
/// what failed is tried again only when a test asks. `retry` is the backoff's first wait.
pub fn policy(retry: &str, more: &str) -> String {
    let cap = "{per_second: 1000, burst: 1000, per_day: 100000, concurrency: 8}";
    let families: Vec<String> = ["jdbc", "postgres", "s3", "s3_compat", "openapi", "filesource"]
        .iter()
        .map(|family| format!("{family}: {cap}"))
        .collect();
    format!(
        "safe_mode: {{max_items: 20, step_timeout: 8s, attempt_timeout: 40s}}\n\
         backoff: {{initial: {retry}, max: 1h, jitter: 0.0}}\n\
         caps: {{default: {cap}, families: {{{}}}}}\n{more}",
        families.join(", ")
    )
}

/// One connection of a test.
pub struct Source {
    pub what: &'static str,
    pub source_type: &'static str,
    pub id: String,
    /// The secret, if it has one.
    pub secret: Option<String>,
}

pub fn source(what: &'static str, source_type: &'static str, id: String, secret: impl Into<Option<String>>) -> Source {
    Source { what, source_type, id, secret: secret.into() }
}

impl Source {
    /// The variable of the daemon that holds the secret.
    fn variable(&self) -> String {
        let word: String =
            self.what.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        format!("{}_{word}", self.source_type.to_uppercase())
    }

    pub fn intent(&self) -> Value {
        let mut intent = intent(self.source_type, &self.id);
        if self.secret.is_some() {
            intent["credential_locator"] = format!("env:{}", self.variable()).into();
        }
        intent
    }
}

/// Gives the daemon the secrets of `sources`.
pub fn lend(place: &mut Place, sources: &[Source]) {
    for source in sources {
        if let Some(secret) = &source.secret {
            place.set(&source.variable(), secret);
        }
    }
}

/// The connection with its steps.
pub async fn whole(daemon: &Daemon, one: &Value) -> Value {
    let id = one["connection_id"].as_str().expect("an id");
    daemon.get(&format!("/connections/{id}")).await.body
}

/// A step of a connection by name.
pub fn step<'a>(whole: &'a Value, name: &str) -> &'a Value {
    let steps = whole["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no step {name}: {whole}"))
}

/// Asks for a new proof now; answers the connection after it.
pub async fn heal(daemon: &Daemon, one: &Value) -> Value {
    let id = one["connection_id"].as_str().expect("an id");
    let told = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!(told.status, 200, "{}", told.body);
    told.body
}

/// PostgreSQL as its administrator.
pub async fn postgres(database: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(of("POSTGRES", "PORT").parse().expect("a port"));
    config.user("super").password(of("POSTGRES", "SUPER_PASSWORD")).dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("the administrator is let in");
    tokio::spawn(connection);
    client
}

/// MariaDB as its administrator.
pub async fn mariadb() -> mysql_async::Conn {
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(of("MARIADB", "PORT").parse().expect("a port"))
        .user(Some("super"))
        .pass(Some(of("MARIADB", "SUPER_PASSWORD")))
        .prefer_socket(Some(false));
    mysql_async::Conn::new(opts).await.expect("the administrator is let in")
}

/// The password of a role that a test made.
pub fn password_of(name: &str) -> String {
    format!("word-of-{name}")
}

/// A database of the test's own with the tables `orders` and `people`, and a role that may read both.
/// Answers the database's name, which is the role's name too; its password is [`password_of`] it.
pub async fn own_postgres(what: &str) -> (String, tokio_postgres::Client) {
    let name = format!("{what}_{}", std::process::id());
    let admin = postgres("postgres").await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database");
    admin.batch_execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{}'", password_of(&name))).await.expect("a role");
    let inside = postgres(&name).await;
    inside
        .batch_execute(&format!(
            "REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {name};
             CREATE TABLE orders AS SELECT n AS id, n * 2 AS amount FROM generate_series(1, 50) AS n;
             CREATE TABLE people AS SELECT n AS id, 'p' || n AS name FROM generate_series(1, 30) AS n;
             GRANT SELECT ON orders, people TO {name}; ANALYZE"
        ))
        .await
        .expect("tables");
    (name, inside)
}

/// A port where nobody listens, and nobody can begin to while the socket lives.
pub fn closed() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let port = socket.local_addr().expect("an address").port();
    (socket, port)
}

/// A port where every caller waits for ever.
pub async fn hanging() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    port
}

/// A wire to the server at `to` that breaks after `limit` bytes of its answer.
pub async fn cutting(to: u16, limit: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(cut(client, to, limit));
        }
    });
    port
}

async fn cut(client: TcpStream, to: u16, mut left: usize) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else {
        return;
    };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
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
