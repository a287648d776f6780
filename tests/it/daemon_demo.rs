//! The namespace `demo`: loaded once, and never touched by anything.

use crate::daemon_support::{Place, intent};
use aam::model::Digest;
use serde_json::json;

/// Every row of the namespace with every column, as one digest, and how many there are.
fn demo_rows(place: &Place) -> (usize, Digest) {
    let db = rusqlite::Connection::open_with_flags(place.path("var/aam.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
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
    let mut place = Place::new();
    let seeds = place.path("seeds");
    std::fs::create_dir(&seeds).expect("folder");
    let mut seed = intent("filesource", &place.csv("demo.csv", 3));
    seed["namespace"] = json!("demo");
    let mut other = seed.clone();
    other["resource_ids"] = json!(["elsewhere.csv"]);
    std::fs::write(seeds.join("demo.json"), json!([seed, other]).to_string()).expect("write");
    place.set("AAM_SEEDS", &seeds.display().to_string());
    let daemon = place.serve().await;
    let before = demo_rows(&place);
    assert!(before.0 >= 2, "the seed is loaded: {} rows", before.0);
    let listed = daemon.get("/connections?namespace=demo").await.body;
    assert_eq!(listed["total"], 2, "{listed}");
    let id = listed["connections"][0]["connection_id"].as_str().expect("id").to_string();

    let mut late = seed.clone();
    late["resource_ids"] = json!(["late.csv"]);
    for document in [&seed, &late] {
        let told = daemon.push(document).await;
        assert_eq!(told.status, 403, "{}", told.body);
        let batch = daemon.post("/connections/onboard/batch", &json!({ "intents": [document] })).await;
        assert_eq!(batch.body["results"][0]["http_status"], 403, "{}", batch.body);
    }
    assert_eq!(daemon.post(&format!("/connections/{id}/heal"), &json!({})).await.status, 403);
    assert_eq!(daemon.post("/connections/heal", &json!({ "namespace": "demo" })).await.status, 403);
    place.intent_file("demo.json", &late);
    let path = place.csv("a.csv", 3);
    place.intent_file("a.json", &intent("filesource", &path));
    daemon.until_state(&path, "ACTIVE").await;
    let shown = daemon.get("/dashboard.json").await.body["problems"].to_string();
    assert!(shown.contains("demo.json") && shown.contains("sealed"), "the refusal of the file is shown: {shown}");
    daemon.post("/connections/heal", &json!({})).await;
    daemon.kill();

    // The seed changed meanwhile: it was loaded once.
    std::fs::write(seeds.join("late.json"), late.to_string()).expect("write");
    let daemon = place.serve().await;
    place.write_policy("allowlist: [jdbc]\n");
    daemon.until_state(&path, "UNSUPPORTED").await;
    std::fs::remove_file(place.path("intents/a.json")).expect("remove");
    std::fs::remove_file(place.path("intents/demo.json")).expect("remove");
    place.write_policy("");
    let second = place.csv("b.csv", 3);
    place.intent_file("b.json", &intent("filesource", &second));
    daemon.until_state(&second, "ACTIVE").await;
    daemon.stop().await;
    assert_eq!(place.run(&["once"]).status.code(), Some(0));
    assert_eq!(demo_rows(&place), before, "not one row and not one byte of the demo is another");
    assert_eq!(place.run(&["verify"]).status.code(), Some(0));

    // Not even somebody with the file: the registry's own triggers refuse.
    let db = rusqlite::Connection::open(place.path("var/aam.db")).expect("registry");
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
    assert!(copy.contains("sealed"), "a well-formed next row for demo is refused as well: {copy}");
    assert_eq!(demo_rows(&place), before);
}

/// Appends a copy of a row of the demo as the next one; answers the words of the refusal.
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
