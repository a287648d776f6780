//! A Redshift database over PostgreSQL's protocol: its identity, privileges, structure, and the names of its tables.

use super::{endpoint, statements};
use crate::connectors::sql::driver_session::DriverSession;
use crate::connectors::sql::login::Login;
use crate::connectors::sql::postgres::wire::{PostgresSession, Row};
use crate::connectors::sql::postgres::{is_login, other_user, prove_schema};
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
    wire.note_login(&mut identity);
    let privilege = verdict(&wire).await;
    Ok(Opened { connector: Box::new(Database { wire }), identity, privilege, removal: Vec::new() })
}

/// Adds what a host that does not answer can mean at Redshift.
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
        _ => failure,
    }
}

async fn prove(wire: &PostgresSession) -> Result<Evidence, Failure> {
    let server = &wire.server;
    let sets = wire.ask("read the identity of the server", statements::IDENTITY, &[3]).await?;
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
    if !is_login(&wire.user, user) {
        return Err(other_user(wire, user));
    }
    let mut evidence = Evidence::new();
    evidence.insert("matched".into(), json!(format!("database is {database}")));
    evidence.insert("database".into(), json!(database));
    evidence.insert("user".into(), json!(user));
    evidence.insert("redshift_version".into(), json!(release));
    evidence.insert("read_only".into(), json!(true));
    if let Some(schema) = &server.schema {
        prove_schema(wire, schema).await?;
        evidence.insert("schema".into(), json!(schema));
    }
    Ok(evidence)
}

/// Asks the catalog what the user may do. Nothing is tried out.
async fn verdict(wire: &PostgresSession) -> Privilege {
    match wire.ask("read the privileges of the user", &statements::privileges(limits::MAX_NAMED_GRANTS), &[2, 1, 1, 2]).await {
        Ok(sets) => judge(&sets, limits::MAX_NAMED_GRANTS),
        Err(failure) => Privilege::Unknown { reason: format!("{}: {}", failure.title, failure.detail) },
    }
}

/// Determines the privilege from the four result sets, of which the last two have one row more than `limit` if rows are left out.
fn judge(sets: &[Vec<Row>], limit: usize) -> Privilege {
    let [user, databases, schemas, tables] = sets else {
        return Privilege::Unknown { reason: format!("the server returned {} of 4 result sets", sets.len()) };
    };
    let Some(own) = user.first() else {
        return Privilege::Unknown { reason: "pg_user does not show the current user".to_string() };
    };
    let (Some(is_superuser), Some(creates_databases)) = (flag(own, 0), flag(own, 1)) else {
        return Privilege::Unknown { reason: "pg_user does not say whether the current user is a superuser".to_string() };
    };
    if is_superuser {
        return Privilege::Over { grants: vec!["superuser".to_string()] };
    }
    let mut grants: Vec<String> = Vec::new();
    grants.extend(creates_databases.then(|| "CREATEDB".to_string()));
    grants.extend(databases.iter().filter_map(|row| Some(format!("CREATE on database {}", quote::double(text(row, 0)?)))));
    let named = |rows: &[Row], what: &str, name: &dyn Fn(&Row) -> Option<String>| {
        let mut grants: Vec<String> = rows.iter().take(limit).filter_map(name).collect();
        grants.extend((rows.len() > limit).then(|| format!("and the same on more {what}")));
        grants
    };
    grants.extend(named(schemas, "schemas", &|row| Some(format!("CREATE on schema {}", quote::double(text(row, 0)?)))));
    grants.extend(named(tables, "tables", &|row| {
        let (schema, table) = (text(row, 0)?, text(row, 1)?);
        Some(format!("INSERT, UPDATE or DELETE on table {}.{}", quote::double(schema), quote::double(table)))
    }));
    match grants.is_empty() {
        false => Privilege::Over { grants },
        // A row without a name is a grant that cannot be named.
        true if [databases, schemas, tables].iter().all(|rows| rows.is_empty()) => Privilege::Ok,
        true => Privilege::Unknown { reason: "the server lists privileges without the names of their objects".to_string() },
    }
}

/// The value of a boolean column, or `None` if it is NULL or not a boolean. Redshift sends `t` and `f`; proxies send other forms.
fn flag(row: &Row, at: usize) -> Option<bool> {
    match text(row, at)?.to_ascii_lowercase().as_str() {
        "t" | "true" | "1" => Some(true),
        "f" | "false" | "0" => Some(false),
        _ => None,
    }
}

fn text(row: &Row, at: usize) -> Option<&str> {
    row.get(at).and_then(Option::as_deref)
}

async fn discover(wire: &PostgresSession, bounds: Bounds) -> Result<Discovery, Failure> {
    // One more than may be shown, so that a cut is noticed.
    let limit = bounds.streams.saturating_mul(20).min(MAX_COLUMNS) + 1;
    let schema = wire.server.schema.as_deref().map(quote::literal);
    let sets = wire.ask("read the columns of the tables", &statements::columns(schema.as_deref(), limit), &[5]).await?;
    let rows: Vec<Row> = sets.into_iter().flatten().collect();
    let mut catalog = Catalog { truncated: rows.len() >= limit, ..Catalog::default() };
    let mut tables: Vec<Table> = Vec::new();
    for row in &rows {
        let (Some(schema), Some(name), Some(column), Some(native)) = (text(row, 0), text(row, 1), text(row, 2), text(row, 3))
        else {
            catalog.truncated = true;
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
        prove_empty(wire).await?;
        evidence.insert("note".into(), json!("empty: the database has no tables in the schemas that the user may use"));
    }
    Ok(Discovery { catalog: catalog.sorted(), evidence, warning: None })
}

/// Proves that a database without visible tables is empty: `svv_columns` shows only what the user may use, so the tables of a schema
/// without USAGE are missing in it. The schemas and the classes of PostgreSQL's catalog are shown to every user.
///
/// # Errors
/// `PermissionDenied` if there are tables that the user may not see; the errors of the statement.
async fn prove_empty(wire: &PostgresSession) -> Result<(), Failure> {
    let schema = wire.server.schema.as_deref().map(quote::literal);
    let sql = statements::hidden(schema.as_deref(), limits::MAX_NAMED_GRANTS);
    let sets = wire.ask("look for tables that the user may not see", &sql, &[2]).await?;
    let hidden: Vec<(String, bool)> =
        sets.into_iter().flatten().filter_map(|row| Some((quote::double(text(&row, 0)?), flag(&row, 1) == Some(true)))).collect();
    let Some((first, may_use)) = hidden.first() else { return Ok(()) };
    let (server, role) = (&wire.server, quote::double(&wire.user));
    let grant = match may_use {
        true => format!("GRANT SELECT ON ALL TABLES IN SCHEMA {first} TO {role};"),
        false => format!("GRANT USAGE ON SCHEMA {first} TO {role};"),
    };
    let names: Vec<&str> = hidden.iter().map(|(name, _)| name.as_str()).collect();
    Err(Failure::new(
        Class::PermissionDenied,
        format!("{server}: {} may not see the tables of the database", wire.user),
        format!("{grant} then run `aam heal`"),
    )
    .detail(format!("schemas with tables that svv_columns does not show: {}", names.join(", "))))
}

/// The maximum number of columns that one discovery reads.
const MAX_COLUMNS: usize = 20_000;

async fn sample(wire: &PostgresSession, max_items: u32) -> Result<Sample, Failure> {
    let schema = wire.server.schema.as_deref().map(quote::literal);
    let sets = wire.ask("list the tables", &statements::tables(schema.as_deref(), max_items), &[3]).await?;
    let rows = sets.into_iter().flatten().count() as u64;
    let mut evidence = Evidence::new();
    evidence.insert("read".into(), json!("names of tables and views; no row of a table"));
    Ok(Sample::new(rows, evidence))
}

impl Connector for Database {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(discover(&self.wire, bounds))
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

    fn judged(sets: &[Vec<Row>]) -> Privilege {
        judge(sets, 2)
    }

    #[test]
    fn excess_privileges_are_named() {
        let plain = vec![row(&["f", "f"])];
        assert_eq!(judged(&[plain.clone(), vec![], vec![], vec![]]), Privilege::Ok);
        assert_eq!(
            judged(&[vec![row(&["t", "t"])], vec![], vec![], vec![]]),
            Privilege::Over { grants: vec!["superuser".to_string()] }
        );
        let over = judged(&[plain.clone(), vec![row(&["dev"])], vec![row(&["sales"])], vec![row(&["sales", "orders"]); 3]]);
        let Privilege::Over { grants } = over else { panic!("{over:?}") };
        assert_eq!(
            grants,
            [
                "CREATE on database \"dev\"",
                "CREATE on schema \"sales\"",
                "INSERT, UPDATE or DELETE on table \"sales\".\"orders\"",
                "INSERT, UPDATE or DELETE on table \"sales\".\"orders\"",
                "and the same on more tables"
            ]
        );
        assert!(matches!(judged(&[vec![], vec![], vec![], vec![]]), Privilege::Unknown { .. }));
        assert!(matches!(judged(&[plain]), Privilege::Unknown { .. }));
    }

    /// What says neither yes nor no is not ok.
    #[test]
    fn a_flag_of_another_form_is_read_or_unknown() {
        let user = |row: Row| judged(&[vec![row], vec![], vec![], vec![]]);
        assert_eq!(user(row(&["1", "0"])), Privilege::Over { grants: vec!["superuser".to_string()] });
        assert_eq!(user(row(&["0", "TRUE"])), Privilege::Over { grants: vec!["CREATEDB".to_string()] });
        assert_eq!(user(row(&["false", "0"])), Privilege::Ok);
        for other in [vec![None, None], row(&["f"]), row(&["", "f"]), row(&["no", "f"]), Vec::new()] {
            assert!(matches!(user(other.clone()), Privilege::Unknown { .. }), "{other:?}");
        }
        let nameless = judged(&[vec![row(&["f", "f"])], vec![], vec![vec![None]], vec![]]);
        assert!(matches!(nameless, Privilege::Unknown { .. }), "{nameless:?}");
    }
}
