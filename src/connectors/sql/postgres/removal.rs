//! Writes the statements that take excess privileges away from a role, for an administrator who pastes them into psql.
//!
//! A privilege comes from a grant to the role itself, from a grant to PUBLIC, from ownership, or from membership in another
//! role. Each needs another statement, so the access control lists are read (PostgreSQL manual, "Privileges"). The
//! statements are only shown; AAM never runs them.

use super::wire::{PostgresSession, Row};
use crate::connectors::sql::quote;
use crate::model::Privilege;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The number of grants that are read at most.
const MAX_GRANTS: usize = 1000;
/// The number of tables that one statement names. A schema with more of them gets `ALL TABLES IN SCHEMA`.
const MAX_NAMED_TABLES: usize = 20;
/// The number of statements at most.
const MAX_STATEMENTS: usize = 100;
/// The columns of the statement that [`sources`] returns.
const COLUMNS: usize = 6;

/// Returns a statement for one result set: kind of object, schema, object, privileges, how they are held, role. Names are quoted by
/// the server.
fn sources() -> String {
    let user_schema = "nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'";
    format!(
        "WITH me AS (SELECT oid FROM pg_roles WHERE rolname = current_user), \
         objects AS ( \
           SELECT 'TABLE' AS kind, n.nspname AS schema, c.relname AS object, c.relowner AS owner, coalesce(c.relacl, acldefault('r', c.relowner)) AS acl \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r','p','v','f') AND NOT c.relispartition AND {user_schema} \
             AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') \
           UNION ALL SELECT 'SCHEMA', nspname, nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace \
             WHERE {user_schema} AND has_schema_privilege(oid, 'CREATE') \
           UNION ALL SELECT 'DATABASE', '', datname, datdba, coalesce(datacl, acldefault('d', datdba)) FROM pg_database \
             WHERE datname = current_database() AND has_database_privilege(oid, 'CREATE')), \
         held AS ( \
           SELECT o.kind, o.schema, o.object, a.privilege_type, a.grantee, CASE WHEN a.grantee = 0 THEN 'public' \
               WHEN a.grantee <> me.oid THEN 'member' WHEN o.owner = me.oid THEN 'owner' ELSE 'role' END AS held_by \
             FROM me, objects o, LATERAL aclexplode(o.acl) a \
             WHERE a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'CREATE') \
             AND (a.grantee = 0 OR pg_has_role(me.oid, a.grantee, 'USAGE'))) \
         SELECT kind, quote_ident(schema), quote_ident(object), string_agg(DISTINCT privilege_type, ', '), held_by, '' FROM held \
           WHERE held_by <> 'member' GROUP BY 1, 2, 3, 5 \
         UNION ALL SELECT DISTINCT 'ROLE', '', '', '', 'member', quote_ident(r.rolname) \
           FROM me JOIN pg_auth_members m ON m.member = me.oid JOIN pg_roles r ON r.oid = m.roleid \
           WHERE EXISTS (SELECT 1 FROM held WHERE held.held_by = 'member' AND pg_has_role(r.oid, held.grantee, 'USAGE')) \
           OR EXISTS (SELECT 1 FROM pg_roles d WHERE d.rolname IN ('pg_write_all_data', 'pg_write_server_files', \
             'pg_execute_server_program', 'pg_read_server_files', 'pg_signal_backend') AND pg_has_role(r.oid, d.oid, 'MEMBER')) \
         ORDER BY 1, 2, 3, 5, 6 LIMIT {MAX_GRANTS}"
    )
}

/// Returns the statements for the excess that the role `name` has by `privilege`. Returns none if there is no excess, or if the server does not show its
/// access control lists, as some compatible servers do not.
pub async fn of_verdict(wire: &PostgresSession, name: &str, privilege: &Privilege) -> Vec<String> {
    let Privilege::Over { grants } = privilege else { return Vec::new() };
    let role = quote::double(name);
    let attributes: Vec<&str> = ["SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS"]
        .into_iter()
        .filter(|attribute| grants.iter().any(|grant| grant == attribute))
        .collect();
    // A superuser may do everything, whatever is granted to it.
    if attributes.contains(&"SUPERUSER") {
        return vec![without(&role, &attributes)];
    }
    match wire.ask("read where the privileges come from", &sources(), &[COLUMNS]).await {
        Ok(sets) => statements(&role, &attributes, &sets.concat()),
        Err(_) => Vec::new(),
    }
}

fn without(role: &str, attributes: &[&str]) -> String {
    attributes.iter().fold(format!("ALTER ROLE {role}"), |text, attribute| text + " NO" + attribute) + ";"
}

/// Writes the statements for a role that is already quoted.
fn statements(role: &str, attributes: &[&str], rows: &[Row]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    if !attributes.is_empty() {
        all.push(without(role, attributes));
    }
    // By schema, privileges and grantee, so that one statement names all tables that lose the same.
    let mut tables: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut others = Vec::new();
    for row in rows {
        let text = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
        let (schema, object, privileges, held_by) = (text(1), text(2), text(3), text(4));
        let grantee = if held_by == "public" { "PUBLIC" } else { role };
        match (text(0), held_by) {
            ("", _) => {}
            ("ROLE", _) => others.push(format!("REVOKE {} FROM {role};", text(5))),
            ("TABLE", "owner") => others.push(owned("TABLE", &format!("{schema}.{object}"), role)),
            (kind, "owner") => others.push(owned(kind, object, role)),
            ("TABLE", _) => drop(tables.entry((schema, privileges, grantee)).or_default().insert(object)),
            (kind, _) => others.push(format!("REVOKE {privileges} ON {kind} {object} FROM {grantee};")),
        }
    }
    for ((schema, privileges, grantee), names) in tables {
        let object = match names.len() > MAX_NAMED_TABLES {
            true => format!("ALL TABLES IN SCHEMA {schema}"),
            false => names.iter().fold(String::from("TABLE"), |mut text, name| {
                let comma = if text == "TABLE" { "" } else { "," };
                let _ = write!(text, "{comma} {schema}.{name}");
                text
            }),
        };
        all.push(format!("REVOKE {privileges} ON {object} FROM {grantee};"));
    }
    all.extend(others);
    all.truncate(MAX_STATEMENTS);
    all
}

/// An owner can grant itself everything again, so the object gets another owner: the administrator who runs the statement.
fn owned(kind: &str, object: &str, role: &str) -> String {
    let read = match kind {
        "TABLE" => "SELECT",
        "SCHEMA" => "USAGE",
        _ => "CONNECT",
    };
    format!("ALTER {kind} {object} OWNER TO CURRENT_USER; GRANT {read} ON {kind} {object} TO {role};")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: [&str; COLUMNS]) -> Row {
        values.iter().map(|value| Some((*value).to_string())).collect()
    }

    #[test]
    fn each_source_of_a_privilege_has_its_statement() {
        let rows = [
            row(["DATABASE", "", "shop", "CREATE", "role", ""]),
            row(["ROLE", "", "", "", "member", "writers"]),
            row(["SCHEMA", "public", "public", "CREATE", "public", ""]),
            row(["TABLE", "sales", "a", "INSERT, UPDATE", "role", ""]),
            row(["TABLE", "sales", "\"b c\"", "INSERT, UPDATE", "role", ""]),
            row(["TABLE", "sales", "own", "DELETE, INSERT", "owner", ""]),
        ];
        assert_eq!(
            statements("\"aam\"", &["CREATEROLE", "CREATEDB"], &rows),
            [
                "ALTER ROLE \"aam\" NOCREATEROLE NOCREATEDB;",
                "REVOKE INSERT, UPDATE ON TABLE sales.\"b c\", sales.a FROM \"aam\";",
                "REVOKE CREATE ON DATABASE shop FROM \"aam\";",
                "REVOKE writers FROM \"aam\";",
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
                "ALTER TABLE sales.own OWNER TO CURRENT_USER; GRANT SELECT ON TABLE sales.own TO \"aam\";",
            ]
        );
    }

    #[test]
    fn many_tables_of_a_schema_are_one_statement() {
        let names: Vec<String> = (0..=MAX_NAMED_TABLES).map(|number| format!("t{number}")).collect();
        let rows: Vec<Row> = names.iter().map(|name| row(["TABLE", "s", name, "INSERT", "public", ""])).collect();
        assert_eq!(statements("aam", &[], &rows), ["REVOKE INSERT ON ALL TABLES IN SCHEMA s FROM PUBLIC;"]);
        assert!(statements("aam", &[], &[vec![None; COLUMNS], Vec::new()]).is_empty());
    }
}
