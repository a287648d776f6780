//! What an operator types around the daemon: `aam init`, `version`, `completion`, `man`, `stop`, `reload`, the filters of `aam status`,
//! exit codes and the flags of the log.

use crate::support::daemon::{Workspace, intent, stderr, stdout, until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

#[test]
fn init_writes_what_is_missing_and_nothing_else() {
    let workspace = Workspace::new();
    let unit = workspace.path("aam.service").display().to_string();
    let policy = workspace.path("new/policy.yaml").display().to_string();
    let run = || workspace.run(&["init", "--policy", &policy, "--unit", &unit]);
    let first = run();
    assert!(first.status.success() && stdout(&first).contains("what AAM may do"), "{}{}", stdout(&first), stderr(&first));
    let check = workspace.run(&["check", "--policy", &policy]);
    assert_eq!(check.status.code(), Some(0), "the policy that is written is valid: {}", stdout(&check));
    let text = std::fs::read_to_string(&unit).expect("a unit");
    for (variable, path) in [
        ("AAM_POLICY", policy.clone()),
        ("AAM_INTENTS", workspace.path("intents").display().to_string()),
        ("AAM_REGISTRY", workspace.path("var/aam.db").display().to_string()),
    ] {
        assert!(text.contains(&format!("\nEnvironment={variable}={path}\n")), "{variable}: {text}");
    }
    assert!(text.contains(&format!("\nReadWritePaths={}\n", workspace.path("var").display())), "{text}");
    for setting in ["Type=notify", "WatchdogSec=", "ProtectSystem=strict", "LoadCredential=", "NoNewPrivileges=yes"] {
        assert!(text.contains(setting), "{setting}");
    }
    std::fs::write(&policy, "version: 1\nallowlist: []\n").expect("written");
    let again = run();
    assert!(again.status.success() && stdout(&again).matches("exists, not changed").count() == 3, "{}", stdout(&again));
    assert_eq!(std::fs::read_to_string(&policy).expect("a policy"), "version: 1\nallowlist: []\n");
}

#[test]
fn version_completion_and_manual_pages_are_of_this_build() {
    let workspace = Workspace::new();
    let version: Value = serde_json::from_str(&stdout(&workspace.run(&["version", "--format", "json"]))).expect("JSON");
    assert_eq!((&version["version"], &version["families"]), (&env!("CARGO_PKG_VERSION").into(), &33.into()), "{version}");
    assert!(stdout(&workspace.run(&["--version"])).starts_with("aam "));
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&workspace.run(&["completion", shell]));
        assert!(script.contains("heal") && script.contains("registry"), "{shell}");
    }
    let folder = workspace.path("man");
    assert!(workspace.run(&["man", &folder.display().to_string()]).status.success());
    let page = std::fs::read_to_string(folder.join("aam-status.1")).expect("a page");
    assert!(page.contains("\\-\\-columns") && folder.join("aam-token-new.1").exists());
    assert!(page.contains(".SH EXAMPLES\n.nf\n  aam status") && !page.contains("EXTRA"), "{page}");
}

#[test]
fn each_kind_of_mistake_has_its_exit_code() {
    let workspace = Workspace::new();
    for arguments in [&["stauts"][..], &["status", "--limit", "many"], &["status", "--state", "happy"], &["report", "-q", "-v"]] {
        let output = workspace.run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
    }
    let filter = workspace.run(&["check", "--log-level", "aam=loud"]);
    assert_eq!(filter.status.code(), Some(64), "{}", stderr(&filter));
    assert!(stderr(&filter).contains("write one of off, error, warn, info"), "{}", stderr(&filter));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_counts_filters_and_shows_the_history() {
    let workspace = Workspace::new();
    let (good, gone) = (workspace.csv("good.csv", 3), workspace.path("data/gone.csv").display().to_string());
    workspace.intent_file("good.json", &intent("filesource", &good));
    workspace.intent_file("gone.json", &intent("filesource", &gone));
    workspace.replace("intents/broken.json", b"{");
    workspace.run(&["once"]);
    let all = workspace.run(&["status"]);
    assert!(stdout(&all).starts_with("2 connections: 1 ERROR, 1 ACTIVE\n"), "{}", stdout(&all));
    assert!(stderr(&all).contains("1 problem in the intents folder") && stderr(&all).contains("broken.json"), "{}", stderr(&all));
    let failing = stdout(&workspace.run(&["status", "--state", "error", "--columns", "state,cause"]));
    assert!(failing.contains("1 of them shown") && failing.contains("! ERROR") && !failing.contains("+ ACTIVE"), "{failing}");
    for none in [&["--owner", "nobody"][..], &["--family", "okta"], &["--since", "2999-01-01T00:00:00Z"], &["--limit", "0"]] {
        let text = stdout(&workspace.run(&[&["status"], none].concat()));
        assert!(text.contains("0 of them shown"), "{none:?}: {text}");
    }
    let other_name = stdout(&workspace.run(&["status", "--family", "PostgreSQL"]));
    assert!(other_name.contains("0 of them shown"), "another name of a family: {other_name}");
    for (unknown, fix) in [
        (["--family", "filesorce"], "did you mean filesource?"),
        (["--family", "quux"], "unknown family quux; aam families lists all families"),
        (["--namespace", "autonomi"], "unknown namespace autonomi; the namespaces are autonomy, demo"),
    ] {
        let refused = workspace.run(&["status", unknown[0], unknown[1]]);
        assert!(refused.status.code() == Some(64) && stderr(&refused).contains(fix), "{unknown:?}: {}", stderr(&refused));
    }
    let since = workspace.run(&["status", "--since", "yesterday"]);
    assert_eq!(since.status.code(), Some(64), "{}", stderr(&since));
    let listed: Value = serde_json::from_str(&stdout(&workspace.run(&["status", "--format", "json"]))).expect("JSON");
    let active = listed.as_array().expect("a list").iter().find(|line| line["status"] == "ACTIVE").expect("a connection").clone();
    assert_eq!(active["owner"], "owner@acme.example");
    let one = stdout(&workspace.run(&["status", active["connection_id"].as_str().expect("an id")]));
    assert!(one.contains("history") && one.contains("attempt passed: 3 rows") && one.contains("intent accepted from"), "{one}");
    workspace.replace("policy/policy.yaml", b"version: 2\n");
    assert!(stderr(&workspace.run(&["status"])).contains("the last accepted policy stays in force"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reload_reads_the_folder_and_stop_waits_for_the_end() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let port = daemon.url("").rsplit(':').next().expect("a port").trim_end_matches('/').to_owned();
    let reload = workspace.run(&["reload", "--port", &port]);
    assert!(reload.status.success(), "{}", stderr(&reload));
    assert_eq!(daemon.get("/healthz").await.status, 200, "SIGHUP does not end the daemon");
    let stop = workspace.run(&["stop", "--port", &port]);
    assert!(stop.status.success() && stdout(&stop).contains("has stopped"), "{}{}", stdout(&stop), stderr(&stop));
    assert!(daemon.ended().await.success(), "a graceful end");
    let again = workspace.run(&["stop", "--port", &port]);
    assert!(again.status.code() == Some(1) && stderr(&again).contains("no AAM answers"), "{}", stderr(&again));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_learns_that_the_daemon_is_ready_alive_and_stopping() {
    let mut workspace = Workspace::new();
    let socket = workspace.path("notify.sock");
    let supervisor = UnixDatagram::bind(&socket).expect("a socket");
    supervisor.set_nonblocking(true).expect("a flag");
    workspace.set("NOTIFY_SOCKET", &socket.display().to_string());
    workspace.set("WATCHDOG_USEC", "300000");
    let daemon = workspace.serve().await;
    let mut received = String::new();
    let mut until_received = async |wanted: &str| {
        until(&format!("the daemon reports {wanted}"), || {
            let mut bytes = [0; 4096];
            while let Ok(length) = supervisor.recv(&mut bytes) {
                received.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
            let (found, all) = (received.contains(wanted), received.clone());
            async move { (found, all) }
        })
        .await;
    };
    until_received("READY=1").await;
    until_received("WATCHDOG=1").await;
    daemon.terminate();
    until_received("STOPPING=1").await;
    daemon.ended().await;
}

#[test]
fn the_log_file_is_private_and_appended_to() {
    let workspace = Workspace::new();
    let log = workspace.path("aam.log");
    for name in ["a", "b"] {
        workspace.intent_file(&format!("{name}.json"), &intent("filesource", &workspace.csv(&format!("{name}.csv"), 3)));
        let output = workspace.run(&["once", "-v", "--log-format", "json", "--log-file", &log.display().to_string()]);
        assert!(stderr(&output).is_empty(), "{}", stderr(&output));
    }
    assert_eq!(std::fs::metadata(&log).expect("a log").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&log).expect("a log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(lines.len() >= 2, "{text}");
    let unwritable = workspace.run(&["once", "--log-file", "/proc/aam.log"]);
    assert_eq!(unwritable.status.code(), Some(78), "{}", stderr(&unwritable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heal_takes_the_start_of_an_id_and_finds_the_daemon_in_the_lock() {
    let workspace = Workspace::new();
    let path = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &path));
    let daemon = workspace.serve().await;
    let known = daemon.until_state(&path, "ACTIVE").await;
    let id = known["connection_id"].as_str().expect("an id");
    let healed = workspace.run(&["heal", &id[..8]]);
    assert!(healed.status.success() && stdout(&healed).contains(id), "{}{}", stdout(&healed), stderr(&healed));
    let unknown = if id.starts_with('0') { "1111ffff" } else { "0000ffff" };
    let refused = workspace.run(&["heal", unknown]);
    assert!(
        refused.status.code() == Some(1) && stderr(&refused).contains("aam status lists the connections"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(workspace.run(&["heal", "okta"]).status.code(), Some(64));
    let stop = workspace.run(&["stop"]);
    assert!(stop.status.success() && stdout(&stop).contains("has stopped"), "{}{}", stdout(&stop), stderr(&stop));
    assert!(daemon.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_serves_on_the_address_of_the_daemon_before() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let (port, pid) = (daemon.port, daemon.pid());
    let restarted = workspace.command(&["restart"]).stdout(std::process::Stdio::null()).spawn();
    let mut restarted = restarted.expect("it runs");
    assert!(daemon.ended().await.success());
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    until("the new daemon answers on the same port", || async {
        let answer = client.get(format!("http://127.0.0.1:{port}/version")).send().await;
        let Ok(answer) = answer else { return (false, "no answer".to_string()) };
        let info: Value = answer.json().await.unwrap_or_default();
        (info["pid"].as_u64().is_some_and(|new| new != u64::from(pid)), info.to_string())
    })
    .await;
    let stop = workspace.run(&["stop"]);
    assert!(stop.status.success(), "{}", stderr(&stop));
    assert!(restarted.wait().expect("an end").success());
}

#[test]
fn a_folder_in_place_of_the_registry_is_named_with_a_fix_that_works() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    workspace.run(&["once"]);
    let folder = workspace.path("var").display().to_string();
    for command in ["status", "once", "verify", "heal"] {
        let refused = workspace.run(&[command, "--registry", &folder]);
        let text = stderr(&refused);
        assert!(
            refused.status.code() == Some(1) && text.contains("is a folder, and the registry is a file"),
            "{command}: {text}"
        );
        let fix = text.split("for example --registry ").nth(1).unwrap_or_default().trim().to_string();
        let fixed = workspace.run(&["status", "--registry", &fix]);
        assert!(stdout(&fixed).contains("1 ACTIVE"), "{command}: {fix}: {}", stderr(&fixed));
    }
    assert!(!workspace.path("var.lock").exists(), "nothing was written beside the folder");
}
