//! The namespace `demo` is loaded once and never changes afterwards.

use crate::support::daemon::{Workspace, intent};
use aam::model::Digest;
use serde_json::json;

/// The number of rows of the namespace, and a digest over every column of every row.
fn demo_rows(workspace: &Workspace) -> (usize, Digest) {
    let db = rusqlite::Connection::open_with_flags(workspace.path("var/aam.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
        .expect("registry");
    let mut query = db.prepare("SELECT * FROM ledger WHERE namespace = 'demo' ORDER BY seq").expect("query");
    let columns = query.column_count();
    let mut rows = query.query([]).expect("rows");
    let (mut count, mut text) = (0, String::new());
    while let Ok(Some(row)) = rows.next() {
        count += 1;
        for column in 0..columns {
            text.push_str(&format!("{:?}\n", row.get_ref(column).expect("a value")));
        }
    }
    (count, Digest::from_bytes(text.as_bytes()))
}

#[tokio::test]
async fn the_demo_is_loaded_once_and_nothing_changes_it() {
    let mut workspace = Workspace::new();
    let seeds = workspace.path("seeds");
    std::fs::create_dir(&seeds).expect("folder");
    let mut seed = intent("filesource", &workspace.csv("demo.csv", 3));
    seed["namespace"] = json!("demo");
    let mut other = seed.clone();
    other["resource_ids"] = json!(["elsewhere.csv"]);
    std::fs::write(seeds.join("demo.json"), json!([seed, other]).to_string()).expect("write");
    workspace.set("AAM_SEEDS", &seeds.display().to_string());
    let daemon = workspace.serve().await;
    let before = demo_rows(&workspace);
    assert!(before.0 >= 2, "the seed is loaded: {} rows", before.0);
    let listed = daemon.get("/connections?namespace=demo").await.body;
    assert_eq!(listed["total"], 2, "{listed}");
    let id = listed["connections"][0]["connection_id"].as_str().expect("id").to_string();

    let mut late = seed.clone();
    late["resource_ids"] = json!(["late.csv"]);
    for document in [&seed, &late] {
        let response = daemon.push(document).await;
        assert_eq!(response.status, 403, "{}", response.body);
        let batch = daemon.post("/connections/onboard/batch", &json!({ "intents": [document] })).await;
        assert_eq!(batch.body["results"][0]["http_status"], 403, "{}", batch.body);
    }
    assert_eq!(daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.status, 403);
    assert_eq!(daemon.post("/connections/heal", &json!({ "namespace": "demo" })).await.status, 403);
    workspace.intent_file("demo.json", &late);
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    daemon.until_state(&path, "ACTIVE").await;
    let shown = daemon.get("/dashboard.json").await.body["problems"].to_string();
    assert!(shown.contains("demo.json") && shown.contains("sealed"), "the dashboard reports that the file was refused: {shown}");
    daemon.post("/connections/heal", &json!({})).await;
    daemon.kill();

    // A seed was added while the daemon was down, but seeds are loaded only once.
    std::fs::write(seeds.join("late.json"), late.to_string()).expect("write");
    let daemon = workspace.serve().await;
    workspace.write_policy("allowlist: [jdbc]\n");
    daemon.until_state(&path, "UNSUPPORTED").await;
    std::fs::remove_file(workspace.path("intents/a.json")).expect("remove");
    std::fs::remove_file(workspace.path("intents/demo.json")).expect("remove");
    workspace.write_policy("");
    let second = workspace.csv("b.csv", 3);
    workspace.intent_file("b.json", &intent("filesource", &second));
    daemon.until_state(&second, "ACTIVE").await;
    daemon.stop().await;
    assert_eq!(workspace.run(&["once"]).status.code(), Some(0));
    assert_eq!(demo_rows(&workspace), before, "a row of the demo namespace changed");
    assert_eq!(workspace.run(&["verify"]).status.code(), Some(0));

    // Even a program that writes to the registry file directly is refused, by the triggers of the database.
    let db = rusqlite::Connection::open(workspace.path("var/aam.db")).expect("registry");
    let refused = [
        "INSERT INTO ledger SELECT * FROM (SELECT * FROM ledger WHERE namespace = 'demo' LIMIT 1)",
        "UPDATE ledger SET namespace = 'demo'",
        "UPDATE ledger SET at = 0 WHERE namespace = 'demo'",
        "DELETE FROM ledger WHERE namespace = 'demo'",
    ];
    for sql in refused {
        assert!(db.execute(sql, []).is_err(), "{sql} was not refused");
    }
    let copy = sealed_insert(&db);
    assert!(copy.contains("sealed"), "a valid next row for the demo namespace was not refused: {copy}");
    assert_eq!(demo_rows(&workspace), before);
}

/// Tries to append a copy of a demo row as the next row; returns the error message.
fn sealed_insert(db: &rusqlite::Connection) -> String {
    let mut names: Vec<String> = Vec::new();
    let mut columns = db.prepare("SELECT name FROM pragma_table_info('ledger')").expect("columns");
    let mut rows = columns.query([]).expect("rows");
    while let Ok(Some(row)) = rows.next() {
        names.push(row.get(0).expect("a name"));
    }
    let values: Vec<String> = names
        .iter()
        .map(|name| if name == "seq" { "(SELECT max(seq) + 1 FROM ledger)".to_string() } else { name.clone() })
        .collect();
    let sql = format!(
        "INSERT INTO ledger ({}) SELECT {} FROM ledger WHERE namespace = 'demo' LIMIT 1",
        names.join(", "),
        values.join(", ")
    );
    db.execute(&sql, []).expect_err("refused").to_string()
}
