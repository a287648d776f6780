//! One MySQL or MariaDB session in which nothing can be written.
//!
//! The session is set to READ ONLY once, and every batch consists of `START TRANSACTION READ ONLY`, constant statements and
//! `ROLLBACK`. No handler for LOCAL INFILE is installed, so a hostile server cannot read files of this machine.

use super::errors::{self, Stage};
use crate::connectors::sql::driver_session::{Call, DriverSession};
use crate::connectors::sql::login::Login;
use crate::connectors::sql::uri::DatabaseServer;
use crate::connectors::sql::{limits, tls};
use crate::model::{Class, Failure};
use crate::policy::Network;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, SslOpts, Value};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Mutex;

/// One row as text. `None` stands for NULL.
pub type Row = Vec<Option<String>>;

/// Limit on the bytes of a packet, and therefore of a row.
const MAX_PACKET_BYTES: usize = 16 << 20;

/// An open session.
pub struct MysqlSession {
    conn: Mutex<Conn>,
    pub call: Call,
    pub server: DatabaseServer,
    pub user: String,
    pub encrypted: bool,
    pub mariadb: bool,
}

impl MysqlSession {
    /// Connects, encrypts, logs in, and makes the session read-only.
    ///
    /// # Errors
    /// The errors of the session and those of [`errors::classify`].
    pub async fn open(
        session: &Arc<dyn DriverSession>,
        server: &DatabaseServer,
        login: &Login,
        network: &Network,
    ) -> Result<MysqlSession, Failure> {
        let call = Call::admit(session, server).await?;
        let encrypted = call.note_failure(tls::encrypted(server, call.address()))?;
        let opts = options(server, login, network, call.address(), encrypted);
        let conn = within(limits::connect_timeout(server), server, "log in", Conn::new(opts)).await;
        let conn = conn.and_then(|outcome| outcome.map_err(|error| errors::classify(server, &login.user, Stage::Open, &error)));
        let mut conn = call.note(conn)?;
        let what = "make the session read-only";
        let mariadb = within(limits::batch_timeout(server), server, what, restrict(&mut conn)).await;
        let mariadb =
            mariadb.and_then(|outcome| outcome.map_err(|error| errors::classify(server, &login.user, Stage::Work(what), &error)));
        let mariadb = call.note(mariadb)?;
        Ok(MysqlSession { conn: Mutex::new(conn), call, server: server.clone(), user: login.user.clone(), encrypted, mariadb })
    }

    /// Runs constant statements in one read-only transaction and returns their rows in order.
    ///
    /// # Errors
    /// The errors of [`errors::classify`]; `Network` if there is no response in time.
    pub async fn ask(&self, what: &str, statements: &[&str]) -> Result<Vec<Vec<Row>>, Failure> {
        let mut conn = self.conn.lock().await;
        self.call.begin();
        let outcome = within(limits::batch_timeout(&self.server), &self.server, what, self.batch(&mut conn, statements)).await;
        let outcome = match outcome {
            Ok(Err(error)) => {
                if !error.is_fatal() {
                    let _ = within(limits::LOCK_TIMEOUT, &self.server, "end the transaction", conn.query_drop("ROLLBACK")).await;
                }
                Err(errors::classify(&self.server, &self.user, Stage::Work(what), &error))
            }
            Ok(Ok(sets)) => Ok(sets),
            Err(late) => Err(late),
        };
        self.call.note(outcome)
    }

    async fn batch(&self, conn: &mut Conn, statements: &[&str]) -> Result<Vec<Vec<Row>>, mysql_async::Error> {
        conn.query_drop("START TRANSACTION READ ONLY").await?;
        let mut sets = Vec::with_capacity(statements.len());
        for statement in statements {
            let mut result = conn.query_iter(*statement).await?;
            let mut rows = Vec::new();
            while let Some(row) = result.next().await? {
                rows.push(self.text(row));
                if self.bytes() > limits::MAX_BYTES {
                    return Err(mysql_async::DriverError::PacketTooLarge.into());
                }
            }
            sets.push(rows);
        }
        conn.query_drop("ROLLBACK").await?;
        Ok(sets)
    }

    fn text(&self, row: mysql_async::Row) -> Row {
        let values = row.unwrap_raw().into_iter().map(|value| match value {
            Some(Value::Bytes(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            None | Some(Value::NULL) => None,
            Some(other) => Some(other.as_sql(true).trim_matches('\'').to_string()),
        });
        let row: Row = values.collect();
        let read: usize = row.iter().flatten().map(String::len).sum();
        self.call.bytes().fetch_add(read as u64, Ordering::Relaxed);
        row
    }

    /// Bytes of the values read so far. The driver does not report the bytes of the protocol.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.call.bytes().load(Ordering::Relaxed)
    }
}

fn options(server: &DatabaseServer, login: &Login, network: &Network, address: SocketAddr, encrypted: bool) -> OptsBuilder {
    let opts = OptsBuilder::default()
        .ip_or_hostname(address.ip().to_string())
        .tcp_port(address.port())
        .user(Some(login.user.as_str()))
        .pass(Some(login.password.expose()))
        .db_name(Some(server.database.as_str()))
        // Without this setting, the driver would switch from TCP to a socket file that the server names.
        .prefer_socket(Some(false))
        .max_allowed_packet(Some(MAX_PACKET_BYTES))
        .wait_timeout(Some(28_800))
        .stmt_cache_size(Some(0));
    if !encrypted {
        return opts;
    }
    let roots = network.ca_file.iter().map(|path| path.clone().into()).collect();
    opts.ssl_opts(Some(SslOpts::default().with_root_certs(roots).with_danger_tls_hostname_override(Some(server.host.clone()))))
}

/// Makes the session read-only and sets its limits. Returns whether the server is MariaDB.
async fn restrict(conn: &mut Conn) -> Result<bool, mysql_async::Error> {
    conn.query_drop("SET SESSION TRANSACTION READ ONLY").await?;
    let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
    let mariadb = version.is_some_and(|version| version.to_ascii_lowercase().contains("mariadb"));
    conn.query_drop("SET SESSION lock_wait_timeout = 1").await?;
    // MariaDB expects the timeout in seconds, MySQL in milliseconds.
    conn.query_drop(if mariadb { "SET SESSION max_statement_time = 5" } else { "SET SESSION max_execution_time = 5000" }).await?;
    Ok(mariadb)
}

async fn within<T>(
    limit: std::time::Duration,
    server: &DatabaseServer,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.map_err(|_| {
        Failure::new(
            Class::Network,
            format!("{server}: no response within {} s while trying to {what}", limit.as_secs_f32()),
            format!(
                "check that a MySQL or MariaDB server listens on {} and that no firewall drops its packets",
                server.authority()
            ),
        )
    })
}
