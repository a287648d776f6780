//! Writes the statements that take excess privileges away from a role, for an administrator who pastes them into psql.
//!
//! A privilege comes from a grant to the role itself, from a grant to PUBLIC, from ownership, or from membership in another
//! role. Each needs another statement, so the access control lists are read (PostgreSQL manual, "Privileges"). The
//! statements are only shown; AAM never runs them.

use super::removal_sql::{COLUMNS, sources};
use super::rights::major;
use super::wire::{PostgresSession, Row};
use crate::connectors::sql::quote;
use crate::model::Privilege;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The number of tables that one statement names. A schema with more of them gets `ALL TABLES IN SCHEMA`.
const MAX_NAMED_TABLES: usize = 20;
/// The number of statements at most.
const MAX_STATEMENTS: usize = 100;

/// Returns the statements for the excess that the role `name` has by `privilege`. `version` is the `server_version` of the server.
/// Returns none if there is no excess, or if the server does not show its access control lists, as some compatible servers do not.
pub async fn of_verdict(wire: &PostgresSession, name: &str, version: &str, privilege: &Privilege) -> Vec<String> {
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
    match wire.ask("read where the privileges come from", &sources(major(version)), &[COLUMNS]).await {
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
        match (text(row, 0), text(row, 4)) {
            ("" | "OWNED", _) => {}
            ("TABLE", held_by) if held_by != "owner" => {
                let key = (text(row, 1), text(row, 3), grantee(held_by, role));
                tables.entry(key).or_default().insert(text(row, 2));
            }
            _ => others.push(statement(row, role)),
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
    if rows.iter().any(|row| text(row, 0) == "OWNED") {
        // Functions, types, sequences and other objects: the role can no longer change or drop them.
        all.push(format!("REASSIGN OWNED BY {role} TO CURRENT_USER;"));
    }
    all.truncate(MAX_STATEMENTS);
    all
}

fn text(row: &Row, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

fn grantee<'a>(held_by: &str, role: &'a str) -> &'a str {
    if held_by == "public" { "PUBLIC" } else { role }
}

/// Writes the statement for one row. For a membership, the privileges of the row are the role that granted it, if it must be named.
fn statement(row: &Row, role: &str) -> String {
    let (schema, object, privileges, held_by, other) = (text(row, 1), text(row, 2), text(row, 3), text(row, 4), text(row, 5));
    let grantee = grantee(held_by, role);
    match (text(row, 0), held_by) {
        ("ROLE", _) if privileges.is_empty() => format!("REVOKE {other} FROM {role};"),
        ("ROLE", _) => format!("REVOKE {other} FROM {role} GRANTED BY {privileges};"),
        ("TABLE", "owner") => owned("TABLE", &format!("{schema}.{object}"), role),
        (kind, "owner") => owned(kind, object, role),
        ("DEFAULT", _) => {
            let place = if schema.is_empty() { String::new() } else { format!(" IN SCHEMA {schema}") };
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE {other}{place} REVOKE {privileges} ON {object} FROM {grantee};")
        }
        ("SEQUENCE", _) => format!("REVOKE {privileges} ON SEQUENCE {schema}.{object} FROM {grantee};"),
        (kind, _) => format!("REVOKE {privileges} ON {kind} {object} FROM {grantee};"),
    }
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
            row(["DEFAULT", "", "SEQUENCES", "USAGE", "public", "admin"]),
            row(["DEFAULT", "sales", "TABLES", "INSERT", "role", "admin"]),
            row(["FOREIGN SERVER", "", "files", "USAGE", "role", ""]),
            row(["LARGE OBJECT", "", "4711", "UPDATE", "role", ""]),
            row(["OWNED", "", "", "", "owner", ""]),
            row(["ROLE", "", "", "", "member", "writers"]),
            row(["ROLE", "", "", "admin", "member", "editors"]),
            row(["SCHEMA", "public", "public", "CREATE", "public", ""]),
            row(["SEQUENCE", "sales", "ids", "UPDATE, USAGE", "role", ""]),
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
                "ALTER DEFAULT PRIVILEGES FOR ROLE admin REVOKE USAGE ON SEQUENCES FROM PUBLIC;",
                "ALTER DEFAULT PRIVILEGES FOR ROLE admin IN SCHEMA sales REVOKE INSERT ON TABLES FROM \"aam\";",
                "REVOKE USAGE ON FOREIGN SERVER files FROM \"aam\";",
                "REVOKE UPDATE ON LARGE OBJECT 4711 FROM \"aam\";",
                "REVOKE writers FROM \"aam\";",
                "REVOKE editors FROM \"aam\" GRANTED BY admin;",
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
                "REVOKE UPDATE, USAGE ON SEQUENCE sales.ids FROM \"aam\";",
                "ALTER TABLE sales.own OWNER TO CURRENT_USER; GRANT SELECT ON TABLE sales.own TO \"aam\";",
                "REASSIGN OWNED BY \"aam\" TO CURRENT_USER;",
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
