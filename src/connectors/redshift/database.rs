//! A Redshift database over PostgreSQL's protocol: its identity, privileges, structure, and the names of its tables.

use super::{endpoint, statements};
use crate::connectors::sql::driver_session::DriverSession;
use crate::connectors::sql::login::Login;
use crate::connectors::sql::postgres::wire::{PostgresSession, Row};
use crate::connectors::sql::types::{self, Column, Table};
use crate::connectors::sql::uri::DatabaseServer;
use crate::connectors::sql::{limits, quote};
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::egress::Traffic;
use crate::model::{Catalog, Class, Evidence, Failure, Privilege};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::sync::Arc;

struct Database {
    wire: PostgresSession,
}

/// Logs in and proves that this is the database of the resource id, in a transaction that cannot write.
///
/// # Errors
/// The errors of the session and of the connection, and `WrongService` if this is another database or not Redshift.
pub async fn open(
    session: &Arc<dyn DriverSession>,
    server: &DatabaseServer,
    login: &Login,
    policy: &Policy,
) -> Result<Opened, Failure> {
    let wire =
        PostgresSession::open(session, server, login, &policy.network).await.map_err(|failure| explained(server, failure))?;
    let mut identity = prove(&wire).await?;
    identity.insert("encrypted".into(), json!(wire.encrypted));
    let privilege = verdict(&wire).await;
    Ok(Opened { connector: Box::new(Database { wire }), identity, privilege })
}

/// Adds what a host that does not answer can mean at Redshift, and that a wrong password is also reported as 28000.
fn explained(server: &DatabaseServer, failure: Failure) -> Failure {
    let name = server.host.split('.').next().unwrap_or_default();
    match failure.class {
        Class::Network if endpoint::is_endpoint(&server.host) => {
            let fix = format!(
                "{}; a paused cluster does not answer: aws redshift resume-cluster --cluster-identifier {name}; a cluster that is not \
                 publicly accessible answers only inside its VPC, or through the Data API with an access key of AWS",
                failure.fix
            );
            Failure { fix, ..failure }
        }
        // [R] amazon-redshift-python-driver#237: Redshift reports a wrong password as 28000.
        _ if failure.detail.contains("28000") && failure.detail.contains("password") => Failure::new(
            Class::CredentialRejected,
            format!("{server}: the user or the password is wrong, or the password has expired"),
            "store the right password where credential_locator points; to set a new one: ALTER USER name PASSWORD '...'",
        )
        .detail(failure.detail),
        _ => failure,
    }
}

async fn prove(wire: &PostgresSession) -> Result<Evidence, Failure> {
    let server = &wire.server;
    let sets = wire.ask("read the identity of the server", statements::IDENTITY).await?;
    let row: Row = sets.into_iter().flatten().next().unwrap_or_default();
    let [Some(database), Some(user), Some(version)] = row.as_slice() else {
        let title = format!("{server}: the server did not report which database it is");
        return Err(Failure::new(Class::WrongService, title, "check host and port"));
    };
    if database != &server.database {
        return Err(Failure::new(
            Class::WrongService,
            format!("{server}: the server reports the database {database} instead"),
            format!("check which server answers at {}, or name the database {database} in the resource id", server.authority()),
        ));
    }
    // [K] "VERSION": PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC ..., Redshift 1.0.12103.
    let Some((_, release)) = version.split_once("Redshift ") else {
        return Err(Failure::new(
            Class::WrongService,
            format!("{server}: the server is not Amazon Redshift"),
            "write source_type: postgres for a PostgreSQL database",
        )
        .detail(version.clone()));
    };
    let mut evidence = Evidence::new();
    evidence.insert("matched".into(), json!(format!("database is {database}")));
    evidence.insert("database".into(), json!(database));
    evidence.insert("user".into(), json!(user));
    evidence.insert("redshift_version".into(), json!(release));
    evidence.insert("read_only".into(), json!(true));
    Ok(evidence)
}

/// Asks the catalog what the user may do. Nothing is tried out.
async fn verdict(wire: &PostgresSession) -> Privilege {
    match wire.ask("read the privileges of the user", &statements::privileges(limits::MAX_NAMED_GRANTS)).await {
        Ok(sets) => judge(&sets),
        Err(failure) => Privilege::Unknown { reason: format!("{}: {}", failure.title, failure.detail) },
    }
}

fn judge(sets: &[Vec<Row>]) -> Privilege {
    let [user, databases, schemas, tables] = sets else {
        return Privilege::Unknown { reason: format!("the server returned {} of 4 result sets", sets.len()) };
    };
    let Some(own) = user.first() else {
        return Privilege::Unknown { reason: "pg_user does not show the current user".to_string() };
    };
    let is = |at: usize| text(own, at) == Some("t") || text(own, at) == Some("true");
    if is(0) {
        return Privilege::Over { grants: vec!["superuser".to_string()] };
    }
    let mut grants: Vec<String> = Vec::new();
    grants.extend(is(1).then(|| "CREATEDB".to_string()));
    grants.extend(databases.iter().filter_map(|row| Some(format!("CREATE on database {}", quote::double(text(row, 0)?)))));
    grants.extend(schemas.iter().filter_map(|row| Some(format!("CREATE on schema {}", quote::double(text(row, 0)?)))));
    grants.extend(tables.iter().filter_map(|row| {
        let (schema, table) = (text(row, 0)?, text(row, 1)?);
        Some(format!("INSERT, UPDATE or DELETE on table {}.{}", quote::double(schema), quote::double(table)))
    }));
    if grants.is_empty() { Privilege::Ok } else { Privilege::Over { grants } }
}

fn text(row: &Row, at: usize) -> Option<&str> {
    row.get(at).and_then(Option::as_deref)
}

async fn discover(wire: &PostgresSession, bounds: Bounds) -> Result<Discovery, Failure> {
    // One more than may be shown, so that a cut is noticed.
    let limit = bounds.streams.saturating_mul(20).min(MAX_COLUMNS) + 1;
    let schema = wire.server.schema.as_deref().map(quote::literal);
    let sets = wire.ask("read the columns of the tables", &statements::columns(schema.as_deref(), limit)).await?;
    let rows: Vec<Row> = sets.into_iter().flatten().collect();
    let mut catalog = Catalog { truncated: rows.len() >= limit, ..Catalog::default() };
    let mut tables: Vec<Table> = Vec::new();
    for row in &rows {
        let (Some(schema), Some(name), Some(column), Some(native)) = (text(row, 0), text(row, 1), text(row, 2), text(row, 3))
        else {
            continue;
        };
        let is_new = tables.last().is_none_or(|last| last.namespace.as_deref() != Some(schema) || last.name != name);
        if is_new {
            let namespace = Some(schema.to_string());
            tables.push(Table { namespace, name: name.to_string(), kind: "table", ..Table::default() });
        }
        let Some(table) = tables.last_mut().filter(|table| table.columns.len() < bounds.columns) else {
            catalog.truncated = true;
            continue;
        };
        let nullable = text(row, 4) != Some("NO");
        let schema = types::postgres(native);
        table.columns.push(Column { name: column.to_string(), native: native.to_string(), nullable, schema });
    }
    catalog.truncated |= tables.len() > bounds.streams;
    tables.truncate(bounds.streams);
    catalog.streams = tables.into_iter().map(types::stream).collect();
    let mut evidence = Evidence::new();
    evidence.insert("tables".into(), json!(catalog.streams.len()));
    if catalog.streams.is_empty() {
        let note = "svv_columns shows no table: the database has none, or the user has no USAGE on the schemas";
        evidence.insert("note".into(), json!(note));
    }
    Ok(Discovery { catalog: catalog.sorted(), evidence, warning: None })
}

/// The maximum number of columns that one discovery reads.
const MAX_COLUMNS: usize = 20_000;

async fn sample(wire: &PostgresSession, max_items: u32) -> Result<Sample, Failure> {
    let schema = wire.server.schema.as_deref().map(quote::literal);
    let sets = wire.ask("list the tables", &statements::tables(schema.as_deref(), max_items)).await?;
    let rows = sets.into_iter().flatten().count() as u64;
    let mut evidence = Evidence::new();
    evidence.insert("read".into(), json!("names of tables and views; no row of a table"));
    Ok(Sample { rows, evidence, warning: None })
}

impl Connector for Database {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(discover(&self.wire, bounds))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(prove(&self.wire))
    }

    fn tiny_sync<'a>(&'a self, _catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(sample(&self.wire, max_items))
    }

    fn traffic(&self) -> Traffic {
        self.wire.call.traffic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Row {
        values.iter().map(|value| Some((*value).to_string())).collect()
    }

    #[test]
    fn excess_privileges_are_named() {
        let plain = vec![row(&["f", "f"])];
        assert_eq!(judge(&[plain.clone(), vec![], vec![], vec![]]), Privilege::Ok);
        assert_eq!(
            judge(&[vec![row(&["t", "t"])], vec![], vec![], vec![]]),
            Privilege::Over { grants: vec!["superuser".to_string()] }
        );
        let over = judge(&[plain.clone(), vec![row(&["dev"])], vec![row(&["sales"])], vec![row(&["sales", "orders"])]]);
        let Privilege::Over { grants } = over else { panic!("{over:?}") };
        assert_eq!(
            grants,
            [
                "CREATE on database \"dev\"",
                "CREATE on schema \"sales\"",
                "INSERT, UPDATE or DELETE on table \"sales\".\"orders\""
            ]
        );
        assert!(matches!(judge(&[vec![], vec![], vec![], vec![]]), Privilege::Unknown { .. }));
        assert!(matches!(judge(&[plain]), Privilege::Unknown { .. }));
    }
}
