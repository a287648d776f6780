//! The peers as sources of a daemon: their addresses, their credentials, and connections as their administrators.

use crate::harness::variable;
use crate::support::daemon::{Daemon, Workspace, intent};
use serde_json::{Value, json};

/// The port of an address such as `http://127.0.0.1:1234`.
pub fn port_of(address: &str) -> u16 {
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("{address} does not contain a port"))
}

/// `127.0.0.1:PORT` of a database server.
pub fn address(peer: &str) -> String {
    format!("127.0.0.1:{}", variable(peer, "PORT"))
}

/// The secret of a login role.
pub fn login(user: &str, password: &str) -> String {
    json!({"user": user, "password": password}).to_string()
}

/// The secret of a role of the seed.
pub fn role(peer: &str, name: &str) -> String {
    login(name, &variable(peer, &format!("{}_PASSWORD", name.to_uppercase())))
}

/// The secret of a user of an object store.
pub fn key(peer: &str, user: &str) -> String {
    let user = if user.is_empty() { String::new() } else { format!("{user}_") };
    format!("{}:{}", variable(peer, &format!("{user}KEY_ID")), variable(peer, &format!("{user}SECRET")))
}

/// The policy of these tests. Its caps are too large to be reached, its timeouts are short, and `retry` is the first wait
/// of the backoff, so a test can prevent retries with a long one. `more` is appended.
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

/// A source that a test connects to.
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
    /// The name of the daemon's variable that holds the secret.
    fn secret_variable(&self) -> String {
        let suffix: String =
            self.what.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        format!("{}_{suffix}", self.source_type.to_uppercase())
    }

    pub fn intent(&self) -> Value {
        let mut intent = intent(self.source_type, &self.id);
        if self.secret.is_some() {
            intent["credential_locator"] = format!("env:{}", self.secret_variable()).into();
        }
        intent
    }
}

/// Sets the variables of the daemon that hold the secrets of `sources`.
pub fn set_secrets(workspace: &mut Workspace, sources: &[Source]) {
    for source in sources {
        if let Some(secret) = &source.secret {
            workspace.set(&source.secret_variable(), secret);
        }
    }
}

/// The connection with its steps.
pub async fn details(daemon: &Daemon, one: &Value) -> Value {
    let id = one["connection_id"].as_str().expect("an id");
    daemon.get(&format!("/connections/{id}")).await.body
}

/// A step of a connection by name.
pub fn step<'a>(details: &'a Value, name: &str) -> &'a Value {
    let steps = details["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("step {name} was not found: {details}"))
}

/// Heals the connection now; returns it as it is afterwards.
pub async fn heal(daemon: &Daemon, one: &Value) -> Value {
    let id = one["connection_id"].as_str().expect("an id");
    let response = daemon.post(&format!("/connections/{id}/heal"), &json!({})).await;
    assert_eq!(response.status, 200, "{}", response.body);
    response.body
}

/// Connects to PostgreSQL as the administrator.
pub async fn postgres(database: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(variable("POSTGRES", "PORT").parse().expect("a port"));
    config.user("super").password(variable("POSTGRES", "SUPER_PASSWORD")).dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a connection as the administrator");
    tokio::spawn(connection);
    client
}

/// Connects to MariaDB as the administrator.
pub async fn mariadb() -> mysql_async::Conn {
    let opts = mysql_async::OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(variable("MARIADB", "PORT").parse().expect("a port"))
        .user(Some("super"))
        .pass(Some(variable("MARIADB", "SUPER_PASSWORD")))
        .prefer_socket(Some(false));
    mysql_async::Conn::new(opts).await.expect("a connection as the administrator")
}

/// The password of a role that a test created.
pub fn password_of(name: &str) -> String {
    format!("password-of-{name}")
}

/// Creates a PostgreSQL database with the tables `orders` and `people`, and a role that may read both.
/// Returns the name, which is that of the database and of the role, and a connection as the administrator. The password
/// of the role is [`password_of`] the name.
pub async fn create_database(what: &str) -> (String, tokio_postgres::Client) {
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
