//! Rotation of logs and tokens under a running daemon, and `aam health`.

use crate::support::daemon::{Daemon, Workspace, intent, intent_with_locator, stderr, stdout, until};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

fn port(daemon: &Daemon) -> String {
    daemon.port.to_string()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Pushes an intent and waits until the log in `file` has the line of its attempt.
async fn until_logged(workspace: &Workspace, daemon: &Daemon, name: &str, file: &Path) {
    let answer = daemon.push(&intent("filesource", &workspace.csv(name, 3))).await;
    let id = answer.body["connection_id"].as_str().expect("an id").to_string();
    until("the attempt is logged", || async { (text(file).contains(&id), text(file)) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_renamed_or_truncated_goes_on_in_its_place() {
    let mut workspace = Workspace::new();
    let log = workspace.path("aam.log");
    workspace.set("AAM_LOG_FILE", &log.display().to_string());
    let daemon = workspace.serve().await;
    until_logged(&workspace, &daemon, "a.csv", &log).await;
    // As logrotate does it by default: rename, then the reload that the unit knows.
    let old = workspace.path("aam.log.1");
    std::fs::rename(&log, &old).expect("renamed");
    assert!(workspace.run(&["reload", "--port", &port(&daemon)]).status.success());
    until("a new file is there", || async { (log.exists(), String::new()) }).await;
    let length = std::fs::metadata(&old).expect("the old log").len();
    until_logged(&workspace, &daemon, "b.csv", &log).await;
    assert_eq!(std::fs::metadata(&old).expect("the old log").len(), length, "nothing more goes into the old file");
    let metadata = std::fs::metadata(&log).expect("the new log");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    // As logrotate does it with copytruncate: the file stays and becomes empty, and is not filled with zeros.
    std::fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(0)).expect("truncated");
    until_logged(&workspace, &daemon, "c.csv", &log).await;
    assert!(!text(&log).contains('\0') && std::fs::metadata(&log).expect("the log").ino() == metadata.ino());
    // A file that cannot be opened again is no reason to lose lines.
    let still = workspace.path("aam.log.2");
    std::fs::rename(&log, &still).expect("renamed");
    std::fs::create_dir(&log).expect("a folder in its place");
    let mut reload = workspace.command(&["reload", "--port", &port(&daemon)]);
    assert!(reload.env_remove("AAM_LOG_FILE").status().expect("runs").success());
    until("the reason is logged", || async { (text(&still).contains("the log goes on in the file that is open"), text(&still)) })
        .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_rotated_without_a_gap_and_without_a_restart() {
    let workspace = Workspace::new();
    let (old, old_entry) = workspace.new_token("aod", "\"intents:write\", \"registry:read\"", "autonomy");
    let (new, new_entry) = workspace.new_token("aod-2", "\"intents:write\", \"registry:read\"", "autonomy");
    let mut daemon = {
        workspace.write_policy(&format!("api: {{tokens: [{old_entry}]}}\n"));
        workspace.serve().await
    };
    let mut step = async |entries: &str, expected: [u16; 2]| {
        workspace.write_policy(&format!("api: {{tokens: [{entries}]}}\n"));
        assert!(workspace.run(&["reload", "--port", &port(&daemon)]).status.success());
        for (token, status) in [&old, &new].into_iter().zip(expected) {
            daemon.token = token.clone();
            until("the policy is in force", || async {
                let answer = daemon.get("/connections").await;
                (answer.status == status, format!("{} {}", answer.status, answer.body))
            })
            .await;
        }
    };
    step(&old_entry, [200, 401]).await;
    // Both are valid while the callers change over.
    step(&format!("{old_entry}, {new_entry}"), [200, 200]).await;
    step(&new_entry, [401, 200]).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_again_with_the_new_token_keeps_its_credential() {
    let mut workspace = Workspace::new();
    workspace.set("SERVICE_TOKEN", "any text of the tests");
    // Nothing listens there, so a connection that may use its credential ends with a refused connection.
    let document = |path: &str| intent_with_locator("openapi", &format!("http://127.0.0.1:9/{path}.json"), "env:SERVICE_TOKEN");
    let new_token = |name: &str| {
        let (token, entry) = workspace.new_token(name, "\"intents:write\", \"registry:read\"", "autonomy");
        (token, entry.replace("locators:", "hosts: [\"http://127.0.0.1:9\"], locators:"))
    };
    let ((old, old_entry), (new, new_entry)) = (new_token("aod"), new_token("aod-2"));
    workspace.write_policy(&format!("api: {{tokens: [{old_entry}, {new_entry}]}}\n"));
    let mut daemon = workspace.serve().await;
    for (token, paths) in [(&old, &["again", "once"][..]), (&new, &["again"])] {
        daemon.token = token.clone();
        for path in paths {
            assert!(daemon.push(&document(path)).await.body["error"].to_string().contains("connection refused"), "{path}");
        }
    }
    workspace.write_policy(&format!("api: {{tokens: [{new_entry}]}}\n"));
    let waiting = daemon.until_state("http://127.0.0.1:9/once.json", "AWAITING_CREDENTIALS").await;
    let again = daemon.until_state("http://127.0.0.1:9/again.json", "NETWORK_BLOCKED").await;
    // The way that the docs name.
    daemon.push(&document("once")).await;
    daemon.until_state("http://127.0.0.1:9/once.json", "NETWORK_BLOCKED").await;
    for connection in [waiting, again] {
        let id = connection["connection_id"].as_str().expect("an id");
        assert_eq!(daemon.delete(&format!("/connections/{id}")).await.status, 200, "the new token withdraws what both pushed");
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_admin_token_is_written_at_the_next_start() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let old = daemon.token.clone();
    daemon.stop().await;
    std::fs::remove_file(workspace.path("var/aam.db.admin-token")).expect("removed");
    let mut daemon = workspace.serve().await;
    assert_ne!(daemon.token.expose(), old.expose());
    assert_eq!(daemon.get("/connections").await.status, 200);
    daemon.token = old;
    assert_eq!(daemon.get("/connections").await.status, 401);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_whether_the_daemon_is_ready() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let ready = workspace.run(&["health", "--port", &port(&daemon)]);
    assert!(ready.status.success() && stdout(&ready) == "ready\n", "{}{}", stdout(&ready), stderr(&ready));
    let aside = workspace.path("aside");
    std::fs::rename(workspace.path("var/aam.db"), &aside).expect("moved");
    // A write notices it.
    assert_eq!(daemon.push(&intent("filesource", &workspace.csv("a.csv", 3))).await.status, 503);
    until("the daemon is not ready", || async {
        let output = workspace.run(&["health", "--port", &port(&daemon)]);
        (output.status.code() == Some(1) && stderr(&output).contains("was deleted or replaced"), stderr(&output))
    })
    .await;
    assert!(workspace.run(&["health", "--live", "--port", &port(&daemon)]).status.success(), "it still answers");
    std::fs::rename(&aside, workspace.path("var/aam.db")).expect("moved back");
    let port = port(&daemon);
    daemon.kill();
    let absent = workspace.run(&["health", "--port", &port]);
    assert!(absent.status.code() == Some(1) && stderr(&absent).contains("no AAM answers on"), "{}", stderr(&absent));
}
