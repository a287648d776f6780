//! A new version of AAM starts with the registry of an earlier one, and an earlier one refuses the registry of a newer one.

use crate::support::daemon::{Workspace, stderr, stdout};
use serde_json::Value;
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/registries").join(name)
}

/// A workspace with the registry `name`.
fn workspace(name: &str) -> Workspace {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("var")).expect("a folder");
    std::fs::copy(fixture(name), workspace.path("var/aam.db")).expect("copied");
    workspace
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_keeps_every_connection_and_its_history() {
    let expected: Value = serde_json::from_slice(&std::fs::read(fixture("connections.json")).expect("read")).expect("JSON");
    // `registry::tests::earlier` opens all versions; these are the first one and those that AAM of their time wrote.
    for version in ["v1", "v4", "v7"] {
        let connections = &expected[version];
        let workspace = workspace(&format!("{version}.db"));
        // A backup before the upgrade is possible with the new version, because it does not migrate.
        let backup = workspace.run(&["backup", "before.db", "--format", "json"]);
        let backup: Value = serde_json::from_str(&stdout(&backup)).unwrap_or_else(|_| panic!("{}", stderr(&backup)));
        assert_eq!(backup["connections"], 10, "{version}: {backup}");
        // So is its verification, also of a backup that was made years ago.
        assert_eq!(workspace.rows(), backup["rows"].as_u64().expect("rows"), "{version}");
        let status = workspace.run(&["status"]);
        if !status.status.success() {
            assert!(stderr(&status).contains("start aam serve or aam once to migrate it"), "{version}: {}", stderr(&status));
        }
        let daemon = workspace.serve().await;
        let found = daemon.connections().await;
        for (id, old) in connections.as_object().expect("connections") {
            let one = found.iter().find(|one| one["connection_id"] == id.as_str()).unwrap_or_else(|| panic!("{version}: {id}"));
            assert_eq!((&one["resource_ids"][0], &one["source_type"]), (&old["resource_id"], &old["source_type"]), "{version}");
            assert_eq!(one["status"] == "RETIRED", old["status"] == "RETIRED", "{version}: {one}");
            assert!(!daemon.entries(one, "intent_accepted").await.is_empty(), "{version}: {id} has its history");
        }
        daemon.stop().await;
        assert!(workspace.rows() >= backup["rows"].as_u64().expect("rows"), "{version}");
        assert!(workspace.run(&["status"]).status.success(), "{version}: now every command reads it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_of_a_newer_version_is_refused_with_the_way_back() {
    let workspace = workspace("v4.db");
    assert!(workspace.run(&["backup", "before.db"]).status.success());
    workspace.serve().await.stop().await;
    let db = rusqlite::Connection::open(workspace.path("var/aam.db")).expect("a registry");
    db.execute("INSERT INTO schema_migrations VALUES (99, 'of a newer version')", []).expect("inserted");
    drop(db);
    let before = std::fs::read(workspace.path("var/aam.db")).expect("read");
    for arguments in [&["serve", "--port", "0"][..], &["once"], &["status"], &["verify"], &["backup", "after.db"]] {
        let output = workspace.run(arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains("a newer AAM has opened it") && text.contains("aam restore FILE"), "{arguments:?}: {text}");
    }
    assert_eq!(std::fs::read(workspace.path("var/aam.db")).expect("read"), before, "nothing was changed");
    // The way back that the message names.
    let restored = workspace.run(&["restore", "before.db"]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    let daemon = workspace.serve().await;
    assert_eq!(daemon.connections().await.len(), 10);
    daemon.stop().await;
}
