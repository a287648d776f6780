//! Archive files: calls and step reports that are older than `registry.keep` leave the registry and stay part of what is verified.

use crate::calls::calls;
use crate::support::daemon::{Daemon, Workspace, intent, stderr, stdout, until};
use rusqlite::Connection;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const DAY_MS: i64 = 86_400_000;

/// A workspace whose clock is `days` ahead of the real one.
fn set_day(workspace: &Workspace, days: i64) {
    std::fs::write(workspace.path("clock"), (days * DAY_MS).to_string()).expect("an offset");
}

/// The archive files whose name begins with `what`, in order.
pub(crate) fn files(workspace: &Workspace, what: &str) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(workspace.path("var/aam.db.archive"));
    let mut files: Vec<PathBuf> = listed.map(|all| all.map(|file| file.expect("a file").path()).collect()).unwrap_or_default();
    files.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(what)));
    files.sort();
    files
}

fn registry(workspace: &Workspace) -> Connection {
    Connection::open(workspace.path("var/aam.db")).expect("a registry")
}

pub(crate) fn number(workspace: &Workspace, sql: &str) -> i64 {
    registry(workspace).query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// The history of a connection by the number of each entry.
async fn history(daemon: &Daemon, resource: &str) -> Vec<Value> {
    let connection = daemon.until_state(resource, "ACTIVE").await;
    let mut entries = daemon.history(&connection).await;
    entries.sort_by_key(|entry| entry["seq"].as_u64());
    entries
}

/// Fills a registry on day 0 and archives what it recorded five days later. Returns the workspace, the number of calls of day 0, and
/// what the API answered before.
pub(crate) async fn archived() -> (Workspace, usize, Vec<Value>) {
    let mut workspace = Workspace::new();
    workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
    set_day(&workspace, 0);
    workspace.write_policy("registry: {keep: 2d}\n");
    let resource = workspace.csv("one.csv", 2);
    workspace.intent_file("one.json", &intent("filesource", &resource));
    workspace.intent_file("two.json", &intent("filesource", &workspace.csv("two.csv", 2)));
    let daemon = workspace.serve().await;
    let before = history(&daemon, &resource).await;
    daemon.stop().await;
    let recorded = calls(&workspace, &[]).len();
    assert!(recorded > 0 && before.len() > 2 && files(&workspace, "").is_empty());
    let reports = number(&workspace, "SELECT count(*) FROM bodies");
    assert!(reports >= 2);
    set_day(&workspace, 5);
    let daemon = workspace.serve().await;
    let day = number(&workspace, "SELECT min(at) FROM ledger") / DAY_MS * DAY_MS + DAY_MS;
    until("what is old is archived", || async {
        let sql = "SELECT (SELECT count(*) FROM bodies JOIN ledger USING (seq) WHERE at < DAY)
            + (SELECT count(*) FROM call_batches WHERE at < DAY)";
        let left = number(&workspace, &sql.replace("DAY", &day.to_string()));
        let written = (files(&workspace, "steps-").len(), files(&workspace, "calls-").len());
        (left == 0 && written.0 > 0 && written.1 > 0, format!("{left} rows, {written:?} files"))
    })
    .await;
    let after = history(&daemon, &resource).await;
    assert_eq!(after[..before.len()], before, "the history shows archived reports");
    daemon.stop().await;
    (workspace, recorded, before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_moves_into_archive_files_and_is_listed_and_verified() {
    let (workspace, recorded, _) = archived().await;
    let all = calls(&workspace, &[]);
    assert!(all.len() >= recorded);
    assert_eq!(calls(&workspace, &["--until", "3d"]).len(), recorded, "the archived calls are listed");
    let verified = workspace.run(&["verify"]);
    assert!(
        stdout(&verified).contains(&format!("calls are intact: {} calls", all.len())),
        "{}{}",
        stdout(&verified),
        stderr(&verified)
    );
    for file in files(&workspace, "") {
        assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    }
    let named = number(&workspace, "SELECT count(*) FROM ledger WHERE kind IN ('steps_archived', 'calls_archived')");
    assert_eq!(usize::try_from(named).expect("a number"), files(&workspace, "").len());
    // What is not archived cannot be deleted.
    let refused = registry(&workspace).execute_batch("DELETE FROM call_batches").expect_err("calls of today").to_string();
    assert!(refused.contains("append-only"), "{refused}");
    let steps = workspace.run(&["query", "SELECT count(*) AS n FROM steps", "--format", "json"]);
    assert!(steps.status.success(), "{}", stderr(&steps));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_archive_file_is_named_and_a_backup_brings_it_back() {
    let (workspace, recorded, _) = archived().await;
    let copy = workspace.path("copy.db");
    let written = workspace.run(&["backup", &copy.display().to_string()]);
    assert!(written.status.success(), "{}", stderr(&written));
    assert!(workspace.run(&["verify", "--registry", &copy.display().to_string()]).status.success(), "the copy has the files");
    for what in ["steps-", "calls-"] {
        let file = files(&workspace, what).remove(0);
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let good = std::fs::read(&file).expect("a file");
        let mut changed = good.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for (content, problem) in [(Some(changed), "was changed"), (None, "is missing")] {
            match content {
                Some(content) => std::fs::write(&file, content).expect("written"),
                None => std::fs::remove_file(&file).expect("removed"),
            }
            let verified = workspace.run(&["verify"]);
            let text = stderr(&verified);
            assert_eq!(verified.status.code(), Some(1), "{text}");
            assert!(text.contains(&name) && text.contains(problem) && text.contains("fix: copy"), "{text}");
        }
        std::fs::copy(workspace.path(&format!("copy.db.archive/{name}")), &file).expect("copied back");
        let verified = workspace.run(&["verify"]);
        assert!(verified.status.success(), "{}", stderr(&verified));
    }
    // A restore brings the files with it.
    std::fs::remove_dir_all(workspace.path("var/aam.db.archive")).expect("removed");
    let restored = workspace.run(&["restore", &copy.display().to_string()]);
    assert!(restored.status.success(), "{}", stderr(&restored));
    assert!(workspace.run(&["verify"]).status.success());
    assert_eq!(calls(&workspace, &["--until", "3d"]).len(), recorded);
    // A stream is one file, so it says what it does not hold.
    let streamed = workspace.run(&["backup", "-"]);
    assert!(streamed.status.success() && stderr(&streamed).contains("does not hold"), "{}", stderr(&streamed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_or_forged_beside_the_archive_is_found() {
    for (sql, found) in [
        ("DROP TRIGGER bodies_archived; DELETE FROM bodies", "does not match its hash"),
        ("DROP TRIGGER bodies_no_update; UPDATE bodies SET body = '[]'", "does not match its hash"),
        ("DROP TRIGGER bodies_next; INSERT INTO bodies VALUES (1, '[]')", "step report for row 1"),
    ] {
        let mut workspace = Workspace::new();
        workspace.set("AAM_TEST_CLOCK", &workspace.path("clock").display().to_string());
        set_day(&workspace, 0);
        workspace.intent_file("one.json", &intent("filesource", &workspace.csv("one.csv", 2)));
        workspace.run(&["once"]);
        assert!(workspace.run(&["verify"]).status.success());
        let (_, guarded) = sql.split_once(';').expect("a trigger and a change");
        let refused = registry(&workspace).execute_batch(guarded).expect_err(sql).to_string();
        assert!(refused.contains("append-only"), "{sql}: {refused}");
        registry(&workspace).execute_batch(sql).expect("tampering");
        let verified = workspace.run(&["verify"]);
        assert_eq!(verified.status.code(), Some(1), "{sql}");
        assert!(stderr(&verified).contains(found), "{sql}: {}", stderr(&verified));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archived_calls_are_dropped_by_age_with_their_files() {
    let (workspace, _, _) = archived().await;
    workspace.write_policy("registry: {keep: 2d}\nevidence: {keep_calls: 3d}\n");
    set_day(&workspace, 10);
    let old = files(&workspace, "calls-");
    let daemon = workspace.serve().await;
    until("the old files are deleted", || async {
        let left = old.iter().filter(|file| file.exists()).count();
        (left == 0, format!("{left} files"))
    })
    .await;
    daemon.stop().await;
    let verified = workspace.run(&["verify"]);
    assert!(stdout(&verified).contains("older ones were dropped"), "{}{}", stdout(&verified), stderr(&verified));
    assert!(!files(&workspace, "steps-").is_empty(), "step reports stay");
}
