//! `aam token new`, and what becomes of the admin token when the policy gets its first token.

use crate::support::daemon::{Daemon, Workspace, stderr, stdout, until};
use aam::credentials::Secret;
use serde_json::Value;
use std::process::Output;

fn new(workspace: &Workspace, arguments: &[&str]) -> Output {
    workspace.run(&[&["token", "new"], arguments].concat())
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|_| panic!("{}{}", stdout(output), stderr(output)))
}

/// Writes the entries into the policy and waits until the daemon refuses or accepts the token as `status` says.
async fn put_in_force(workspace: &Workspace, daemon: &mut Daemon, entries: &[&str], token: &str, status: u16) {
    workspace.write_policy(&format!("api: {{tokens: [{}]}}\n", entries.join(", ")));
    daemon.token = Secret::new(token.to_string());
    let daemon = &*daemon;
    until("the policy is in force", || async {
        let answer = daemon.get("/connections").await;
        (answer.status == status, format!("{} {}", answer.status, answer.body))
    })
    .await;
}

#[test]
fn the_entry_that_is_printed_is_valid_and_other_arguments_are_refused() {
    let workspace = Workspace::new();
    workspace.write_policy("namespace: team_a\n");
    let output = new(
        &workspace,
        &[
            "--name",
            "portal",
            "--scopes",
            "registry:read,ops:heal",
            "--namespaces",
            "a,2f1c6c0e-7f0b-4a52-9d6f-6f1f5c0d9b11",
            "--expires",
            "90d",
            "--locators",
            "env:CRM_*",
            "--hosts",
            "api.acme.example",
            "--format",
            "json",
        ],
    );
    let value = json(&output);
    let entry = value["entries"][0].as_str().expect("an entry");
    assert!(value["expires"].as_str().is_some_and(|end| end.ends_with('Z')), "{value}");
    workspace.write_policy(&format!("api:\n  tokens:\n  - {entry}\n"));
    let check = workspace.run(&["check"]);
    assert_eq!(check.status.code(), Some(0), "{}{}", stdout(&check), stderr(&check));
    assert!(stdout(&check).contains("token portal in") || !stdout(&check).contains("portal"), "{}", stdout(&check));
    let effective = stdout(&workspace.run(&["check", "--effective"]));
    assert!(effective.contains("expires: ") && effective.contains("ops:heal"), "{effective}");
    let again = new(&workspace, &["--name", "portal"]);
    assert!(stdout(&again).contains("The policy has a token portal: replace its entry"), "{}", stdout(&again));
    workspace.write_policy("namespace: team_a\n");
    let plain = json(&new(&workspace, &["--format", "json"]));
    assert_eq!(plain["namespaces"], serde_json::json!(["team_a"]), "{plain}");
    for (arguments, text) in [
        (&["--name", "a: b}"][..], "--name: "),
        (&["--name", "Ann"], "use lower-case letters"),
        (&["--name", ""], "--name: "),
        (&["--name", "a\nb"], "--name: "),
        (&["--name", "null"], ""),
        (&["--name", "admin"], "reserved for the admin token"),
        (&["--scopes", "registry:reed"], "did you mean registry:read"),
        (&["--scopes", ""], "--scopes: "),
        (&["--namespaces", "a b"], "--namespaces: "),
        (&["--locators", "env"], "--locators: "),
        (&["--hosts", "https://a.example"], "--hosts: "),
        (&["--expires", "soon"], "write 90d, 2027-06-30"),
        (&["--expires", "2020-01-01"], "is in the past"),
    ] {
        let output = new(&workspace, arguments);
        if arguments == ["--name", "null"] {
            // A text that YAML could read as something else is quoted.
            assert!(output.status.success() && stdout(&output).contains("name: \"null\""), "{}", stdout(&output));
            continue;
        }
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stdout(&output));
        assert!(stderr(&output).contains(text) && stdout(&output).is_empty(), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_token_says_that_the_admin_token_ends_and_the_entry_keeps_it() {
    let workspace = Workspace::new();
    let mut daemon = workspace.serve().await;
    let (admin, port) = (daemon.token.expose().to_string(), daemon.port.to_string());
    let first = new(&workspace, &["--name", "aod"]);
    assert!(stdout(&first).contains("the admin token in") && stdout(&first).contains("name: operator"), "{}", stdout(&first));
    let value = json(&new(&workspace, &["--name", "aod", "--format", "json"]));
    let (token, entry) = (value["token"].as_str().expect("a token"), value["entries"][0].as_str().expect("an entry"));
    let old = std::fs::read(workspace.path("policy/policy.yaml")).expect("a policy");
    workspace.replace("old.yaml", &old);
    put_in_force(&workspace, &mut daemon, &[entry], token, 200).await;
    // The diff, the check and the log say so.
    let diff = stdout(&workspace.run(&["policy", "diff", "old.yaml"]));
    assert!(diff.contains("so the admin token ends") && diff.contains("token aod added"), "{diff}");
    let check = stdout(&workspace.run(&["check"]));
    assert!(
        check.contains("is not accepted, because the policy lists other tokens") && check.contains("name: operator"),
        "{check}"
    );
    assert!(check.contains("none of them has the scope ops:heal or ops:confirm"), "{check}");
    let log = daemon.log();
    assert!(log.contains("is not accepted, because the policy lists other tokens") && !log.contains(&admin), "{log}");
    let heal = workspace.run(&["heal", "--port", &port]);
    assert!(heal.status.code() == Some(1) && stderr(&heal).contains("it was the admin token"), "{}", stderr(&heal));
    // The first fix: a token of the policy with the scope.
    let ops = json(&new(&workspace, &["--name", "ops", "--scopes", "ops:heal,registry:read", "--format", "json"]));
    let (ops_token, ops_entry) = (ops["token"].as_str().expect("a token"), ops["entries"][0].as_str().expect("an entry"));
    put_in_force(&workspace, &mut daemon, &[entry, ops_entry], ops_token, 200).await;
    let mut with_token = workspace.command(&["heal", "--port", &port]);
    let healed = with_token.env("AAM_TOKEN", ops_token).output().expect("the binary runs");
    assert!(healed.status.success(), "{}", stderr(&healed));
    // The second fix: the entry that the check prints.
    let start = check.find("{name: operator").expect("an entry");
    let kept = check.get(start..).and_then(|rest| rest.split_inclusive('}').next()).expect("an entry");
    put_in_force(&workspace, &mut daemon, &[entry, kept], &admin, 200).await;
    let healed = workspace.run(&["heal", "--port", &port]);
    assert!(healed.status.success(), "{}", stderr(&healed));
    let check = stdout(&workspace.run(&["check"]));
    assert!(!check.contains("admin token in"), "{check}");
    let diff = stdout(&workspace.run(&["policy", "diff", "old.yaml"]));
    assert!(diff.contains("the admin token is one of them and stays valid as operator"), "{diff}");
    // Back to none: the admin token counts by itself.
    let back = stdout(&workspace.run(&["policy", "diff", "policy/policy.yaml", "old.yaml"]));
    assert!(back.contains("the admin token is accepted again") && back.contains("(wider)"), "{back}");
    workspace.replace("policy/policy.yaml", &old);
    until("the admin token has every scope", || async {
        let answer = daemon.get("/holds").await;
        (answer.status == 200, format!("{} {}", answer.status, answer.body))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keep_admin_prints_both_entries() {
    let workspace = Workspace::new();
    let refused = new(&workspace, &["--keep-admin"]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("aam serve writes it"), "{}", stderr(&refused));
    let mut daemon = workspace.serve().await;
    let admin = daemon.token.expose().to_string();
    let text = stdout(&new(&workspace, &["--keep-admin"]));
    assert!(text.contains("Add both entries") && !text.contains(&admin), "{text}");
    let value = json(&new(&workspace, &["--keep-admin", "--namespaces", "autonomy,team", "--format", "json"]));
    let entries: Vec<&str> = value["entries"].as_array().expect("entries").iter().filter_map(Value::as_str).collect();
    assert!(entries.len() == 2 && entries[1].contains("[autonomy, team]"), "{value}");
    put_in_force(&workspace, &mut daemon, &entries, value["token"].as_str().expect("a token"), 200).await;
    let healed = workspace.run(&["heal", "--port", &daemon.port.to_string()]);
    assert!(healed.status.success(), "{}", stderr(&healed));
    assert!(!daemon.log().contains("is not accepted"), "{}", daemon.log());
    let again = new(&workspace, &["--keep-admin", "--name", "more"]);
    assert!(stdout(&again).contains("lists the admin token already, as operator"), "{}", stdout(&again));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_when_its_entry_says() {
    let workspace = Workspace::new();
    let mut daemon = workspace.serve().await;
    let value = json(&new(&workspace, &["--name", "brief", "--expires", "1h", "--format", "json"]));
    let (token, entry) = (value["token"].as_str().expect("a token"), value["entries"][0].as_str().expect("an entry"));
    put_in_force(&workspace, &mut daemon, &[entry], token, 200).await;
    let end = value["expires"].as_str().expect("an end");
    let ended = entry.replace(end, "2020-01-01T00:00:00Z");
    put_in_force(&workspace, &mut daemon, &[&ended], token, 401).await;
    let refused = daemon.get("/connections").await;
    let detail = refused.body["detail"].as_str().unwrap_or_default().to_string();
    assert!(detail.contains("Token brief ended at 2020-01-01T00:00:00"), "{detail}");
    let check = stdout(&workspace.run(&["check"]));
    assert!(
        check.contains("token brief ended at 2020-01-01T00:00:00") && check.contains("aam token new --name brief"),
        "{check}"
    );
}
