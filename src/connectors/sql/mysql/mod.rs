//! MySQL and MariaDB.

pub mod catalog;
pub mod errors;
pub mod grants;
pub mod wire;

use super::driver_session::DriverSession;
use super::login::Login;
use super::uri::DatabaseServer;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::egress::Traffic;
use crate::model::{Catalog, Class, Evidence, Failure, Privilege};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::sync::Arc;
use wire::{MysqlSession, Row};

/// The variable is `tx_read_only` in MariaDB and `transaction_read_only` in MySQL 8.
const IDENTITY: [&str; 2] = [
    "SELECT DATABASE(), CURRENT_USER(), VERSION(), @@tx_read_only",
    "SELECT DATABASE(), CURRENT_USER(), VERSION(), @@transaction_read_only",
];

/// An open database.
struct Database {
    wire: MysqlSession,
    /// Whether a grant covers the whole database.
    sees_all: bool,
}

/// Logs in and proves that this is the database of the resource id, in a session that cannot write.
///
/// # Errors
/// The errors of the session and of the connection, and `WrongService` if this is another database.
pub async fn open(
    session: &Arc<dyn DriverSession>,
    server: &DatabaseServer,
    login: &Login,
    policy: &Policy,
) -> Result<Opened, Failure> {
    let wire = MysqlSession::open(session, server, login, &policy.network).await?;
    let mut identity = prove(&wire).await?;
    identity.insert("encrypted".into(), json!(wire.encrypted));
    let (privilege, sees_all) = match wire.ask("read the grants of the account", &["SHOW GRANTS"]).await {
        Ok(sets) => {
            let lines: Vec<String> = sets.into_iter().flatten().filter_map(|row| row.into_iter().next().flatten()).collect();
            (grants::verdict(&lines, wire.mariadb), grants::sees_all(&lines, &server.database))
        }
        Err(failure) => (Privilege::Unknown { reason: format!("{}: {}", failure.title, failure.detail) }, false),
    };
    Ok(Opened { connector: Box::new(Database { wire, sees_all }), identity, privilege })
}

/// Asks the server for its identity and proves that it is the database of the resource id.
async fn prove(wire: &MysqlSession) -> Result<Evidence, Failure> {
    let statement = if wire.mariadb { IDENTITY[0] } else { IDENTITY[1] };
    let sets = wire.ask("read the identity of the server", &[statement]).await?;
    let row: Row = sets.into_iter().flatten().next().unwrap_or_default();
    let [Some(database), Some(user), Some(version), read_only] = row.as_slice() else {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server did not report which database it is", wire.server),
            "check host and port",
        ));
    };
    // If lower_case_table_names is set, the server converts names to lower case.
    if database.to_lowercase() != wire.server.database.to_lowercase() {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server reports the database {database} instead", wire.server),
            "check the resource id and the routing of the proxy",
        ));
    }
    if read_only.as_deref() != Some("1") {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server does not keep the session read-only", wire.server),
            "AAM reads only if the server itself refuses writes; connect to the server directly instead of through a proxy",
        ));
    }
    let mut evidence = Evidence::new();
    evidence.insert("server_version".into(), json!(version));
    evidence.insert("database".into(), json!(database));
    evidence.insert("user".into(), json!(user));
    evidence.insert("read_only".into(), json!(true));
    Ok(evidence)
}

impl Connector for Database {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(catalog::discover(&self.wire, bounds))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(prove(&self.wire))
    }

    fn tiny_sync<'a>(&'a self, _catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(catalog::sample(&self.wire, self.sees_all, max_items))
    }

    fn traffic(&self) -> Traffic {
        self.wire.call.traffic()
    }
}
