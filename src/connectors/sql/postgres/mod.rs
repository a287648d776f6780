//! PostgreSQL, and databases that speak its protocol.

pub mod catalog;
pub mod errors;
mod fixes;
mod login_errors;
pub mod login_guard;
pub mod meter;
mod relation_errors;
pub mod removal;
mod removal_sql;
pub mod rights;
mod rights_sql;
pub mod sample;
pub mod wire;

use super::driver_session::DriverSession;
use super::login::Login;
use super::quote;
use super::uri::DatabaseServer;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::egress::Traffic;
use crate::model::{Catalog, Class, Evidence, Failure};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use wire::{PostgresSession, Row};

const IDENTITY: &str = "SELECT current_database()::text, current_user::text, current_setting('server_version'), pg_is_in_recovery(), \
    current_setting('transaction_read_only'), pg_backend_pid(), session_user::text";

/// Limit on the number of existing schemas that a message names.
const MAX_NAMED_SCHEMAS: usize = 8;

/// An open database.
struct Database {
    wire: PostgresSession,
    /// The time for the tiny sync. It leaves a quarter of the step's timeout for the last statement and other resources.
    sample_time: Duration,
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
    wire.note_login(&mut identity);
    if wire.pooled {
        identity.insert("pooler".into(), json!("the pooler refused the startup options; only the transactions are read-only"));
    }
    let version = identity.get("server_version").and_then(|version| version.as_str()).unwrap_or_default();
    let privilege = rights::verdict(&wire, version).await;
    let role = identity.get("user").and_then(|user| user.as_str()).unwrap_or(&wire.user);
    let removal = removal::of_verdict(&wire, role, version, &privilege).await;
    let sample_time = policy.safe_mode.step_timeout.mul_f32(0.75);
    Ok(Opened { connector: Box::new(Database { wire, sample_time }), identity, privilege, removal })
}

/// Asks the server for its identity and proves that it is the database of the resource id.
async fn prove(wire: &PostgresSession) -> Result<Evidence, Failure> {
    let sets = wire.ask("read the identity of the server", IDENTITY, &[7]).await?;
    let row: Row = sets.into_iter().flatten().next().unwrap_or_default();
    let [Some(database), Some(user), Some(version), recovery, Some(read_only), process_id, Some(login)] = row.as_slice() else {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server did not report which database it is", wire.server),
            "check host and port",
        ));
    };
    // PostgreSQL sends the process id of the session at the login. A pooler sends another one, because the session that runs
    // a statement can change.
    let behind_pooler = process_id.as_deref().and_then(|id| id.parse::<u32>().ok()).is_some_and(|id| id != wire.process_id);
    if *database != wire.server.database && !behind_pooler {
        return Err(Failure::new(
            Class::WrongService,
            format!("{}: the server reports the database {database} instead", wire.server),
            format!(
                "check which server answers at {}, or name the database {database} in the resource id",
                wire.server.authority()
            ),
        ));
    }
    if !behind_pooler && !is_login(&wire.user, login) {
        return Err(other_user(wire, login));
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
    if *database != wire.server.database {
        // A database of a pooler is an alias: `shop = host=... dbname=shop_prod`.
        evidence.insert("alias".into(), json!(format!("the pooler serves the database {database} as {}", wire.server.database)));
    }
    evidence.insert("behind_pooler".into(), json!(behind_pooler));
    if !is_login(&wire.user, login) {
        evidence.insert("login".into(), json!(format!("the pooler logs in as {login} for the user {}", wire.user)));
    }
    evidence.insert("user".into(), json!(user));
    evidence.insert("in_recovery".into(), json!(recovery.as_deref() == Some("t")));
    evidence.insert("read_only".into(), json!(true));
    if let Some(schema) = &wire.server.schema {
        prove_schema(wire, schema).await?;
        evidence.insert("schema".into(), json!(schema));
    }
    Ok(evidence)
}

/// Whether the role `login` of a session is that of the credential. Poolers and some services take the name of the project or server
/// after the role: `aam.PROJECT` (Supabase), `aam@SERVER` (Azure). Roles of CockroachDB are in lower case.
pub fn is_login(user: &str, login: &str) -> bool {
    let is_role = |name: &str| name.eq_ignore_ascii_case(login);
    is_role(user) || ['.', '@'].iter().any(|separator| user.rsplit_once(*separator).is_some_and(|(name, _)| is_role(name)))
}

/// The failure for a session of another role than that of the credential.
pub fn other_user(wire: &PostgresSession, login: &str) -> Failure {
    Failure::new(
        Class::WrongService,
        format!("{}: the server reports a login of {login}, and the credential is that of {}", wire.server, wire.user),
        "check the proxies between AAM and the server: the session must belong to the user of the credential",
    )
}

/// Proves that the schema of the resource id exists. Without this check, a misspelt schema looks like an empty database.
///
/// # Errors
/// `NotFound` with the schemas that exist; `Misconfigured` for a system schema.
pub async fn prove_schema(wire: &PostgresSession, schema: &str) -> Result<(), Failure> {
    let server = &wire.server;
    if schema == "information_schema" || schema.starts_with("pg_") {
        return Err(Failure::new(
            Class::Misconfigured,
            format!("{server}: {schema} is a system schema, and AAM does not read system schemas"),
            "name a schema with tables of users after currentSchema=, or remove the property to include all schemas",
        ));
    }
    let name = quote::literal(schema);
    let sql = format!(
        "SELECT nspname::text FROM pg_namespace WHERE nspname = {name} OR nspname !~ '^pg_' AND nspname <> 'information_schema' \
         ORDER BY nspname = {name} DESC, lower(nspname) = lower({name}) DESC, 1 LIMIT {MAX_NAMED_SCHEMAS}"
    );
    let sets = wire.ask("look up the schema", &sql, &[1]).await?;
    let existing: Vec<String> = sets.into_iter().flatten().filter_map(|row| row.into_iter().next().flatten()).collect();
    if existing.first().is_some_and(|first| first == schema) {
        return Ok(());
    }
    let fix = match existing.first() {
        Some(other) if other.to_lowercase() == schema.to_lowercase() => {
            format!("the name is case-sensitive here: write currentSchema={other}")
        }
        Some(_) => format!("write one of the existing schemas after currentSchema=: {}", existing.join(", ")),
        None => "remove currentSchema from the resource id; the database does not have a schema of users".to_string(),
    };
    Err(Failure::new(Class::NotFound, format!("{server}: the schema {schema} does not exist in this database"), fix)
        .detail(format!("pg_namespace does not contain {schema}")))
}

impl Connector for Database {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(catalog::discover(&self.wire, bounds))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(prove(&self.wire))
    }

    fn accepted_credential(&self) -> bool {
        self.wire.asked_for_password
    }

    fn warning(&self) -> Option<Failure> {
        self.wire.warning()
    }

    fn tiny_sync<'a>(&'a self, _catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(sample::read(&self.wire, max_items, self.sample_time))
    }

    fn traffic(&self) -> Traffic {
        self.wire.call.traffic()
    }
}
