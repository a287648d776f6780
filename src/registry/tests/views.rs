//! The list of views cannot differ from the schema, and `docs/sql.md` cannot differ from the list.

use super::rig::{Rig, accepted, attempt, outcome};
use crate::model::ledger::Why;
use crate::model::{Digest, Scope};
use crate::registry::query::QueryLimits;
use crate::registry::views::{Column, VIEWS};
use crate::registry::{Notice, schema};
use rusqlite::Connection;
use rusqlite::types::Value;
use std::fmt::Write;
use std::time::Duration;

/// The views of a registry with their columns.
fn of_schema() -> Vec<(String, Vec<String>)> {
    let mut db = Connection::open_in_memory().unwrap();
    schema::migrate(&mut db).unwrap();
    let db = db;
    let mut statement = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name").unwrap();
    let names: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    names
        .into_iter()
        .map(|name| {
            let columns = db.prepare(&format!("SELECT * FROM {name}")).unwrap();
            let columns = columns.column_names().map(str::to_string).collect();
            (name, columns)
        })
        .collect()
}

#[test]
fn every_view_of_the_schema_is_described() {
    let described: Vec<(String, Vec<String>)> = VIEWS
        .iter()
        .filter(|view| !view.computed)
        .map(|view| (view.name.to_string(), view.columns.iter().map(|column| column.name.to_string()).collect()))
        .collect();
    assert_eq!(described, of_schema(), "views.rs lists the views of the schema in the order of their names");
}

/// A view over bodies and facts must not read those of other kinds of entries as JSON.
#[tokio::test]
async fn every_view_can_be_read_whatever_the_ledger_holds() {
    let rig = Rig::new();
    let registry = rig.open();
    let id = accepted(&registry, "db").await;
    attempt(&registry, id, Why::New, &outcome(None, Scope::Full, &["t"])).await;
    registry.accept_policy(Digest::from_bytes(b"x"), "not: [JSON".to_string(), Vec::new()).await.unwrap();
    let notice = Notice::DriftAcknowledged { connection: id, version: 1, by: "ann".to_string(), note: String::new() };
    registry.record_notices(vec![notice]).await.unwrap();
    let limits = QueryLimits { rows: 100, time: Duration::from_secs(10) };
    for view in VIEWS.iter().filter(|view| !view.computed) {
        let result = registry.reader().query(&format!("SELECT * FROM {}", view.name), &[], limits).unwrap();
        assert_eq!(result.columns.len(), view.columns.len(), "{}", view.name);
    }
    let result =
        registry.reader().query("SELECT count(*), max(acknowledged_by) FROM drift_acknowledgements", &[], limits).unwrap();
    assert_eq!(result.rows, [[Value::Integer(1), Value::Text("ann".to_string())]]);
    registry.close().await;
}

/// The names are a contract: a change of this snapshot breaks the queries of users, unless it only adds.
#[test]
fn the_names_of_views_and_columns_are_stable() {
    let lines: Vec<String> = VIEWS.iter().map(|view| format!("{}({})\n", view.name, view.column_names())).collect();
    insta::with_settings!({ snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("sql_views", lines.concat());
    });
}

/// The reference in `docs/sql.md`. `AAM_UPDATE_DOCS=1` writes it.
#[test]
fn the_reference_describes_every_column() {
    let mut text = String::new();
    for view in &VIEWS {
        let only = if view.computed { " Only in `aam query`." } else { "" };
        let _ = write!(
            text,
            "\n### {}\n\n{}.{only}\n\n| column | type | content |\n|---|---|---|\n",
            view.name,
            capitalized(view.about)
        );
        for Column { name, kind, about } in view.columns {
            let _ = writeln!(text, "| `{name}` | {kind} | {about} |");
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (head, rest) = page.split_once("<!-- views: generated, see src/registry/views.rs -->\n").unwrap();
    if std::env::var_os("AAM_UPDATE_DOCS").is_some() {
        let page = format!("{head}<!-- views: generated, see src/registry/views.rs -->\n{text}");
        std::fs::write(path, page).unwrap();
        return;
    }
    assert_eq!(rest, text, "run this test with AAM_UPDATE_DOCS=1");
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}
