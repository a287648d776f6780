//! PostgreSQL, and databases that speak its protocol.

pub mod catalog;
pub mod errors;
pub mod meter;
pub mod rights;
pub mod sample;
pub mod wire;

use super::driver_session::DriverSession;
use super::login::Login;
use super::uri::DatabaseServer;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::egress::Traffic;
use crate::model::{Catalog, Class, Evidence, Failure};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::sync::Arc;
use wire::{PostgresSession, Row};

const IDENTITY: &str = "SELECT current_database()::text, current_user::text, current_setting('server_version'), pg_is_in_recovery(), \
    current_setting('transaction_read_only')";

/// An open database.
struct Database {
    wire: PostgresSession,
}

/// Logs in and proves that this is the database of the resource id, in a transaction that cannot write.
///
/// # Errors
/// The errors of the session and of the connection, and `WrongService` if this is another database.
pub async fn open(
    session: &Arc<dyn DriverSession>,
    server: &DatabaseServer,
    login: &Login,
    policy: &Policy,
) -> Result<Opened, Failure> {
    let wire = PostgresSession::open(session, server, login, &policy.network).await?;
    let mut identity = prove(&wire).await?;
    identity.insert("encrypted".into(), json!(wire.encrypted));
    if wire.pooled {
        identity.insert("pooler".into(), json!("the pooler refused the startup options; only the transactions are read-only"));
    }
    let privilege = rights::verdict(&wire).await;
    Ok(Opened { connector: Box::new(Database { wire }), identity, privilege })
}

/// Asks the server for its identity and proves that it is the database of the resource id.
async fn prove(wire: &PostgresSession) -> Result<Evidence, Failure> {
    let sets = wire.ask("read the identity of the server", IDENTITY).await?;
    let row: Row = sets.into_iter().flatten().next().unwrap_or_default();
    let [Some(database), Some(user), Some(version), recovery, Some(read_only)] = row.as_slice() else {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server did not report which database it is", wire.server),
            "check host and port",
        ));
    };
    if *database != wire.server.database {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server reports the database {database} instead", wire.server),
            "check the resource id and the routing of the pooler",
        ));
    }
    if read_only != "on" {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server does not keep the transaction read-only", wire.server),
            "AAM reads only if the server itself refuses writes; connect to the server directly instead of through a proxy",
        ));
    }
    let mut evidence = Evidence::new();
    evidence.insert("server_version".into(), json!(version));
    evidence.insert("database".into(), json!(database));
    evidence.insert("user".into(), json!(user));
    evidence.insert("in_recovery".into(), json!(recovery.as_deref() == Some("t")));
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
        Box::pin(sample::read(&self.wire, max_items))
    }

    fn traffic(&self) -> Traffic {
        self.wire.call.traffic()
    }
}
