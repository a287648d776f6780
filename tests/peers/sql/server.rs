//! The two database servers: addresses, accounts, and connections as the administrator.

use crate::harness::variable;
use crate::support::sql::{open_at, policy};
use aam::connectors::Opened;
use aam::credentials::{Credential, Secret};
use aam::model::Failure;
use serde_json::json;

#[derive(Clone, Copy, PartialEq)]
pub enum Database {
    Postgres,
    Mariadb,
}

pub use Database::{Mariadb, Postgres};

impl Database {
    /// A variable of the server's peer script.
    pub fn variable(self, name: &str) -> String {
        variable(if self == Postgres { "POSTGRES" } else { "MARIADB" }, name)
    }

    pub fn port(self) -> u16 {
        self.variable("PORT").parse().unwrap()
    }

    pub fn id_at(self, host: &str, port: u16, rest: &str) -> String {
        let scheme = if self == Postgres { "postgresql" } else { "jdbc:mariadb" };
        format!("{scheme}://{host}:{port}/{rest}")
    }

    pub fn id(self, rest: &str) -> String {
        self.id_at("127.0.0.1", self.port(), rest)
    }

    pub fn credential(self, role: &str) -> Credential {
        let password = self.variable(&format!("{}_PASSWORD", role.to_uppercase()));
        Credential::read(Secret::new(json!({"user": role, "password": password}).to_string()))
    }
}

pub async fn open(database: Database, role: &str, rest: &str) -> Result<Opened, Failure> {
    open_at(&database.id(rest), &database.credential(role), policy(None)).await
}

pub async fn refused(database: Database, role: &str, rest: &str) -> Failure {
    open(database, role, rest).await.err().unwrap_or_else(|| panic!("{role} could open {rest}"))
}

/// The failure as text, without the port, which differs from run to run.
pub fn shown(database: Database, failure: &Failure) -> String {
    let text = format!("{:?}\n  {}\n  fix: {}\n  detail: {}\n", failure.class, failure.title, failure.fix, failure.detail);
    text.replace(&database.port().to_string(), "PORT")
}

/// A connection to PostgreSQL as its administrator.
pub async fn superuser(name: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(Postgres.port()).user("super").password(Postgres.variable("SUPER_PASSWORD")).dbname(name);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
