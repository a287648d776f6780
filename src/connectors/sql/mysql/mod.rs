//! MySQL and MariaDB.
//!
//! Reading order: `fields` and `packets` (bytes of a server that is not trusted), `greeting` and `auth` (the login), `client`
//! (one connection), `session` (read-only transactions and failures), `catalog` (what is read).

mod auth;
pub mod catalog;
mod client;
pub mod errors;
mod fields;
pub mod grants;
mod greeting;
mod packets;
pub mod removal;
mod rsa;
pub mod session;

use super::driver_session::DriverSession;
use super::login::Login;
use super::uri::DatabaseServer;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::egress::Traffic;
use crate::model::{Catalog, Class, Evidence, Failure, Privilege};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use serde_json::json;
use session::MysqlSession;
use std::sync::Arc;
use std::time::Duration;

/// The variable is `tx_read_only` in MariaDB and `transaction_read_only` in MySQL 8.
const IDENTITY: [&str; 2] = [
    "SELECT DATABASE(), CURRENT_USER(), VERSION(), @@tx_read_only",
    "SELECT DATABASE(), CURRENT_USER(), VERSION(), @@transaction_read_only",
];

/// An open database.
struct Database {
    session: MysqlSession,
    /// How long the step of the tiny sync may take.
    step_timeout: Duration,
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
    let session = MysqlSession::open(session, server, login, &policy.network).await?;
    let mut identity = prove(&session).await?;
    identity.insert("encrypted".into(), json!(session.encrypted));
    if !session.missing_limits.is_empty() {
        identity.insert("missing_limits".into(), json!(session.missing_limits));
    }
    let (privilege, sees_all, removal) = match session.ask("read the grants of the account", &[("SHOW GRANTS", 1)]).await {
        Ok(sets) => {
            let truncated = sets.iter().any(|set| set.truncated);
            let lines: Vec<String> =
                sets.into_iter().flat_map(|set| set.rows).map(|row| row.into_iter().flatten().collect()).collect();
            let verdict = grants::verdict(&lines, truncated, session.mariadb);
            (verdict, grants::sees_all(&lines, &server.database), removal::statements(&lines, &server.database))
        }
        Err(failure) => (Privilege::Unknown { reason: format!("{}: {}", failure.title, failure.detail) }, false, Vec::new()),
    };
    let step_timeout = policy.safe_mode.step_timeout;
    Ok(Opened { connector: Box::new(Database { session, step_timeout, sees_all }), identity, privilege, removal })
}

/// Asks the server for its identity and proves that it is the database of the resource id.
async fn prove(session: &MysqlSession) -> Result<Evidence, Failure> {
    let statement = if session.mariadb { IDENTITY[0] } else { IDENTITY[1] };
    let sets = session.ask("read the identity of the server", &[(statement, 4)]).await?;
    let row = sets.into_iter().flat_map(|set| set.rows).next().unwrap_or_default();
    let [Some(database), Some(user), Some(version), read_only] = row.as_slice() else {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server did not report which database it is", session.server),
            "check host and port",
        ));
    };
    // If lower_case_table_names is set, the server converts names to lower case.
    if database.to_lowercase() != session.server.database.to_lowercase() {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server reports the database {database} instead", session.server),
            "check the resource id and the routing of the proxy",
        ));
    }
    if read_only.as_deref() != Some("1") {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server does not keep the session read-only", session.server),
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
        Box::pin(catalog::discover(&self.session, bounds))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(prove(&self.session))
    }

    fn tiny_sync<'a>(&'a self, _catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(catalog::sample(&self.session, self.sees_all, self.step_timeout, max_items))
    }

    fn traffic(&self) -> Traffic {
        self.session.call.traffic()
    }
}
