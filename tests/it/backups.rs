//! `aam backup` while the daemon writes, and `aam restore`.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

fn json(workspace: &Workspace, arguments: &[&str]) -> Value {
    let output = workspace.run(&[arguments, &["--format", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_while_the_daemon_writes_is_one_intact_state() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let folder = workspace.path("data").display().to_string();
    let (url, token) = (daemon.url("/connections/onboard"), daemon.token.clone());
    let (pushed, mut pushes) = tokio::sync::watch::channel(0);
    // On another thread, because the commands below block this one.
    let writer = tokio::spawn(async move {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        // Until nothing listens to it any more.
        for n in 0.. {
            let document = intent("filesource", &format!("{folder}/{n}.csv"));
            let request = client.post(&url).bearer_auth(token.expose()).header("prefer", "respond-async");
            let response = request.header("content-type", "application/json").body(document.to_string()).send().await;
            assert!(response.expect("a response").status().is_success());
            if pushed.send(n).is_err() {
                return;
            }
        }
    });
    let mut rows = Vec::new();
    for n in 0..6 {
        // Something is written between two backups, and the writer goes on during each of them.
        pushes.changed().await.expect("the writer goes on");
        let copy = json(&workspace, &["backup", &format!("copy{n}.db")]);
        let file = workspace.path(&format!("copy{n}.db"));
        assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
        // The copy is one file, and verifies by itself.
        let verified = json(&workspace, &["verify", "--registry", &file.display().to_string()]);
        assert_eq!((&verified["head"], &verified["rows"]), (&copy["head"], &copy["rows"]));
        assert!(!workspace.path(&format!("copy{n}.db-wal")).exists() && !workspace.path(&format!("copy{n}.db.partial")).exists());
        rows.push(copy["rows"].as_u64().expect("rows"));
    }
    drop(pushes);
    writer.await.expect("every push was accepted");
    assert!(rows.is_sorted() && rows.first() < rows.last(), "the daemon wrote on meanwhile: {rows:?}");
    // A folder gets a file with the time in its name; what exists is never written over.
    std::fs::create_dir(workspace.path("copies")).expect("a folder");
    let named = json(&workspace, &["backup", "copies"]);
    let name = named["file"].as_str().expect("a name");
    assert!(name.starts_with("copies/aam-20") && name.ends_with("Z.db"), "{name}");
    let again = workspace.run(&["backup", "copy0.db"]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("exists and was not changed"), "{}", stderr(&again));
    let nowhere = workspace.run(&["backup", "no/such/folder/copy.db"]);
    assert!(stderr(&nowhere).contains("choose a place where this user can write"), "{}", stderr(&nowhere));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_goes_back_to_the_backup_and_keeps_what_was_there() {
    let workspace = Workspace::new();
    let (first, second) = (workspace.csv("first.csv", 3), workspace.csv("second.csv", 3));
    let daemon = workspace.serve().await;
    daemon.push(&intent("filesource", &first)).await;
    let head = json(&workspace, &["backup", "copy.db"])["head"].clone();
    daemon.push(&intent("filesource", &second)).await;
    let refused = workspace.run(&["restore", "copy.db"]);
    let text = stderr(&refused);
    assert!(
        refused.status.code() == Some(1) && text.contains("is in use by process") && text.contains("stop that process"),
        "{text}"
    );
    // A process that was killed leaves a write-ahead log, which does not belong to the backup.
    daemon.kill();
    assert!(workspace.path("var/aam.db-wal").exists());
    let restored = workspace.run(&["restore", "copy.db"]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    assert!(stdout(&restored).contains("has to be pushed again"), "{}", stdout(&restored));
    assert_eq!(json(&workspace, &["verify"])["head"], head);
    assert_eq!(std::fs::metadata(workspace.path("var/aam.db")).expect("a file").permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_dir(workspace.path("var")).expect("a folder").flatten().map(|entry| entry.path());
    let kept =
        kept.filter(|path| path.display().to_string().contains("replaced-") && !path.display().to_string().ends_with("-wal"));
    let kept: Vec<String> =
        kept.filter(|path| !path.display().to_string().ends_with("-shm")).map(|path| path.display().to_string()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let listed: Value = json(&workspace, &["status", "--registry", &kept[0]]);
    assert_eq!(listed.as_array().expect("a list").len(), 2, "the registry before is whole: {listed}");
    let daemon = workspace.serve().await;
    assert_eq!(daemon.connections().await.len(), 1, "what was pushed after the backup is missing");
    assert_eq!(daemon.push(&intent("filesource", &second)).await.status, 201);
    daemon.stop().await;
    workspace.rows();
}

#[test]
fn restores_within_one_second_keep_every_registry_that_was_there() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    workspace.run(&["once"]);
    json(&workspace, &["backup", "copy.db"]);
    // More restores than fit into different seconds.
    let kept: std::collections::BTreeSet<String> =
        (0..5).map(|_| json(&workspace, &["restore", "copy.db"])["replaced"].as_str().expect("a name").to_string()).collect();
    assert_eq!(kept.len(), 5, "{kept:?}");
    assert!(kept.iter().all(|name| std::path::Path::new(name).exists()), "{kept:?}");
    workspace.rows();
}

#[test]
fn a_backup_that_is_damaged_or_none_changes_nothing() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    workspace.run(&["once"]);
    let head = json(&workspace, &["backup", "copy.db"])["head"].clone();
    let db = rusqlite::Connection::open(workspace.path("copy.db")).expect("a copy");
    db.execute_batch("DROP TRIGGER ledger_no_update; UPDATE ledger SET namespace = 'other' WHERE seq = 2").expect("changed");
    drop(db);
    std::fs::write(workspace.path("text.db"), "not a database, but long enough for the header of one ".repeat(20))
        .expect("written");
    let registry = workspace.path("var/aam.db").display().to_string();
    for (file, reason) in [
        ("copy.db", "is not intact"),
        ("text.db", "not an AAM registry"),
        ("none.db", "was not found"),
        (&registry, "is the registry itself"),
    ] {
        let output = workspace.run(&["restore", file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(stderr(&output).contains(reason), "{file}: {}", stderr(&output));
    }
    assert_eq!(json(&workspace, &["verify"])["head"], head);
    // A registry that was changed is copied only if that is asked for, because it may be all there is, and the command fails.
    let changed = workspace.path("copy.db").display().to_string();
    for (option, is_written) in [(None, false), (Some("--incomplete"), true)] {
        let arguments: Vec<&str> = ["backup", "again.db", "--registry", changed.as_str()].into_iter().chain(option).collect();
        let damaged = workspace.run(&arguments);
        let text = stderr(&damaged);
        assert!(damaged.status.code() == Some(1) && text.contains("keep the backups from before"), "{text}");
        assert_eq!(workspace.path("again.db").exists(), is_written, "{text}");
        assert!(!workspace.path("again.db.partial").exists(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_through_pipes_as_out_of_a_container() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await;
    let output = workspace.run(&["backup", "-"]);
    assert!(output.status.success() && stderr(&output).contains("1 connection; "), "{}", stderr(&output));
    std::fs::write(workspace.path("copy.db"), &output.stdout).expect("written");
    let head = json(&workspace, &["verify", "--registry", "copy.db"])["head"].clone();
    daemon.stop().await;
    std::fs::remove_dir_all(workspace.path("var")).expect("lost");
    let mut restore = workspace.command(&["restore", "-"]);
    restore.stdin(std::fs::File::open(workspace.path("copy.db")).expect("a copy"));
    let restored = restore.output().expect("runs");
    assert!(restored.status.success() && stdout(&restored).contains("restored from stdin"), "{}", stderr(&restored));
    assert_eq!(json(&workspace, &["verify"])["head"], head);
    let left: Vec<_> =
        std::fs::read_dir(workspace.path("var")).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().contains("incoming") || name.to_string_lossy().contains("backup")),
        "{left:?}"
    );
}
