//! `aam secret`, and secrets that a running daemon takes up: what the fix says to type works without heal or restart.

use crate::support::daemon::{Workspace, intent_with_locator, stderr, stdout};
use crate::support::leaky_service::{Canary, LeakMode, LeakyService};
use crate::support::snapshot::assert_snapshot;
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Output, Stdio};

/// Nothing but a wake starts an attempt: the resync and the re-check come later than the test waits.
const SLOW: &str = "reconcile: {concurrency: 16, resync: 10m}\n";

fn with_stdin(workspace: &Workspace, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = workspace.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    child.stdin.take().expect("stdin").write_all(input).expect("written");
    child.wait_with_output().expect("an end")
}

/// A file source that needs no credential, but waits for one if it names one.
fn waiting(workspace: &Workspace, name: &str, locator: &str) -> String {
    let path = workspace.csv(&format!("{name}.csv"), 3);
    workspace.intent_file(&format!("{name}.json"), &intent_with_locator("filesource", &path, locator));
    path
}

fn mode(workspace: &Workspace, name: &str) -> u32 {
    std::fs::metadata(workspace.path(name)).expect("a file").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fix_of_a_missing_secret_works_for_the_running_daemon_at_once() {
    let workspace = Workspace::new();
    workspace.write_policy(SLOW);
    let (canary, rotated) = (Canary::new("stored"), Canary::new("rotated"));
    let service = LeakyService::bearer(&rotated).await;
    let url = format!("{}/openapi.json", service.base);
    workspace.intent_file("crm.json", &intent_with_locator("openapi", &url, "env:CRM_TOKEN"));
    let other = waiting(&workspace, "other", "env:OTHER_TOKEN");
    let daemon = workspace.serve().await;
    let missing = daemon.until_state(&url, "AWAITING_CREDENTIALS").await;
    let fix = missing["error"]["fix"].as_str().expect("a fix");
    let command = fix.split(" (").next().expect("a command");
    let arguments: Vec<&str> = command.strip_prefix("aam ").expect("a command of aam").split(' ').collect();
    assert_eq!(arguments, ["secret", "set", "CRM_TOKEN"]);

    // A wrong value is rejected by the source, and the right one is taken up, both at once.
    let output = with_stdin(&workspace, &arguments, format!("{}\n", canary.value).as_bytes());
    assert!(output.status.success(), "{}", stderr(&output));
    daemon.until_connection(&url, "the wrong value is rejected", |one| one["error"]["class"] == "credential_rejected").await;
    let output = with_stdin(&workspace, &arguments, rotated.value.as_bytes());
    assert!(output.status.success() && stdout(&output).starts_with("replaced env:CRM_TOKEN"), "{}", stdout(&output));
    let active = daemon.until_state(&url, "ACTIVE").await;
    let begun = daemon.entries(&active, "attempt_begun").await;
    assert_eq!(begun[0]["facts"]["why"], "credential_changed", "{}", begun[0]);
    assert_eq!((mode(&workspace, "var/secrets"), mode(&workspace, "var/secrets/CRM_TOKEN")), (0o700, 0o600));

    // The connection on another secret was not attempted again.
    let other = daemon.until_state(&other, "AWAITING_CREDENTIALS").await;
    assert_eq!(daemon.entries(&other, "attempt_finished").await.len(), 1);

    // A secret that is removed is missing at the next attempt.
    let removed = workspace.run(&["secret", "rm", "CRM_TOKEN"]);
    assert!(stdout(&removed).contains("1 user loses it at the next attempt: openapi"), "{}", stdout(&removed));
    service.set(LeakMode::Authorizing);
    daemon.post(&format!("/connections/{}/heal", active["connection_id"].as_str().expect("an id")), &json!({})).await;
    daemon.until_state(&url, "AWAITING_CREDENTIALS").await;
    // The service sends its own secret to everybody, so AAM does not know it while the wrong one is in use.
    assert_eq!(canary.found_in(daemon.log().as_bytes()), None);
    for text in [stdout(&output), stderr(&output), stdout(&removed)] {
        assert_eq!(rotated.found_in(text.as_bytes()), None, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mounted_secret_and_a_credential_file_are_taken_up_when_they_appear() {
    let workspace = Workspace::new();
    let (secrets, files) = (workspace.path("mnt/secrets"), workspace.path("mnt/files"));
    workspace.write_policy(&format!(
        "{SLOW}credentials: {{secrets_dir: \"{}\", files: [\"{}\"]}}\n",
        secrets.display(),
        files.display()
    ));
    let by_env = waiting(&workspace, "by_env", "env:MOUNTED_TOKEN");
    let by_file = waiting(&workspace, "by_file", &format!("file:{}/team/token.json", files.display()));
    let by_relative = waiting(&workspace, "relative", "file:team/token.json");
    let outside = waiting(&workspace, "outside", &format!("file:{}/../data/by_env.csv", files.display()));
    let daemon = workspace.serve().await;
    for path in [&by_env, &by_file, &by_relative, &outside] {
        daemon.until_state(path, "AWAITING_CREDENTIALS").await;
    }
    // The folders appear later than the daemon, as a volume of Kubernetes: links into a folder that is swapped.
    std::fs::create_dir_all(secrets.join("..1")).expect("a folder");
    std::fs::write(secrets.join("..1/MOUNTED_TOKEN"), "0p9o8i7u\n").expect("written");
    symlink("..1", secrets.join("..data")).expect("linked");
    symlink("..data/MOUNTED_TOKEN", secrets.join("MOUNTED_TOKEN")).expect("linked");
    std::fs::create_dir_all(files.join("team")).expect("a folder");
    std::fs::write(files.join("team/token.json"), "{\"token\": \"0p9o8i7u\"}").expect("written");
    daemon.until_state(&by_env, "ACTIVE").await;
    daemon.until_state(&by_file, "ACTIVE").await;
    let relative = daemon.until_state(&by_relative, "AWAITING_CREDENTIALS").await;
    let fix = relative["error"]["fix"].as_str().unwrap_or_default();
    assert!(fix.contains(&format!("file:{}/team/token.json", files.display())), "{fix}");
    let outside = daemon.until_state(&outside, "AWAITING_CREDENTIALS").await;
    assert!(outside["error"]["title"].as_str().is_some_and(|title| title.contains("`..` is not allowed")), "{outside}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_definition_in_the_policy_concerns_only_the_connections_that_use_it() {
    let workspace = Workspace::new();
    workspace.write_policy(SLOW);
    let principal = waiting(&workspace, "principal", "sp:crm");
    let unrelated = waiting(&workspace, "unrelated", "sp:other");
    let by_env = waiting(&workspace, "by_env", "env:SOME_TOKEN");
    let daemon = workspace.serve().await;
    for path in [&principal, &unrelated, &by_env] {
        daemon.until_state(path, "AWAITING_CREDENTIALS").await;
    }
    let before = daemon.until_state(&principal, "AWAITING_CREDENTIALS").await["error"]["title"].clone();
    workspace.write_policy(&format!(
        "{SLOW}credentials: {{principals: {{crm: {{kind: basic, username: reader, password: \"env:CRM_PASSWORD\"}}}}}}\n"
    ));
    let known = daemon.until_connection(&principal, "the principal is known", |one| one["error"]["title"] != before).await;
    let begun = daemon.entries(&known, "attempt_begun").await;
    assert_eq!(begun[0]["facts"]["why"], "policy_changed", "{}", begun[0]);
    for path in [&unrelated, &by_env] {
        let other = daemon.until_state(path, "AWAITING_CREDENTIALS").await;
        assert_eq!(daemon.entries(&other, "attempt_finished").await.len(), 1, "{other}");
    }
    // Another folder of secrets concerns what is read from it.
    std::fs::create_dir(workspace.path("elsewhere")).expect("a folder");
    std::fs::write(workspace.path("elsewhere/SOME_TOKEN"), "0p9o8i7u").expect("written");
    workspace.write_policy(&format!("{SLOW}credentials: {{secrets_dir: elsewhere}}\n"));
    daemon.until_state(&by_env, "ACTIVE").await;
}

#[test]
fn a_value_that_cannot_be_used_is_refused_and_changes_nothing() {
    let mut workspace = Workspace::new();
    let set = |workspace: &Workspace, name: &str, input: &[u8]| {
        let output = with_stdin(workspace, &["secret", "set", name], input);
        (output.status.code(), format!("{}{}", stdout(&output), stderr(&output)))
    };
    assert_eq!(set(&workspace, "A_TOKEN", b"0p9o8i7u\n").0, Some(0));
    let too_large = vec![b'x'; (64 << 10) + 1];
    let cases: [(&str, &[u8], &str); 14] = [
        ("A_TOKEN", b"", "the value is empty"),
        ("A_TOKEN", b" \n", "the value is empty"),
        ("A_TOKEN", b"abc", "shorter than 4 characters"),
        ("A_TOKEN", b"password\n", "a common word"),
        ("A_TOKEN", b"caf\xe9-caf\xe9", "not valid UTF-8"),
        ("A_TOKEN", b"nul\0nul", "a NUL character"),
        ("A_TOKEN", &too_large, "larger than 64 KiB"),
        ("A_TOKEN", b"{\"token\": \"0p9o8i7u\",}\n", "trailing comma at line 1 column 22"),
        ("A_TOKEN", b"[\"0p9o8i7u\"]", "is a JSON list"),
        ("A_TOKEN", b"\"0p9o8i7u\"\n", "in quotation marks"),
        ("PATH", b"0p9o8i7u", "a variable of the process itself"),
        ("AAM_POLICY", b"0p9o8i7u", "a variable of the process itself"),
        ("../A_TOKEN", b"0p9o8i7u", "the name is not valid"),
        ("A-TOKEN", b"0p9o8i7u", "the name is not valid"),
    ];
    for (name, input, part) in cases {
        let (code, text) = set(&workspace, name, input);
        // A name that cannot be used is a mistake in the command line.
        let wanted = if matches!(name, "A_TOKEN") { 1 } else { 64 };
        assert!(code == Some(wanted) && text.contains(part), "{name}: {code:?} {text}");
        assert!(!text.contains("0p9o8i7u"), "{text}");
    }
    let stored = |name: &str| std::fs::read_to_string(workspace.path(&format!("var/secrets/{name}"))).ok();
    assert_eq!(stored("A_TOKEN").as_deref(), Some("0p9o8i7u"));
    assert_eq!(std::fs::read_dir(workspace.path("var/secrets")).expect("a folder").count(), 1);
    assert_eq!(workspace.run(&["secret", "rm", "ABSENT"]).status.code(), Some(1));
    // A key keeps its lines; only the line break at the end is removed.
    assert_eq!(set(&workspace, "env:A_KEY", b"-----BEGIN X-----\nqwpoeiru\n-----END X-----\n").0, Some(0));
    assert_eq!(stored("A_KEY").as_deref(), Some("-----BEGIN X-----\nqwpoeiru\n-----END X-----"));
    workspace.set("A_TOKEN", "from-the-variable");
    let (_, text) = set(&workspace, "A_TOKEN", b"0p9o8i7u");
    assert!(text.contains("warning: the variable A_TOKEN is set"), "{text}");
}

/// What a person sees who types `input` after the question, the exit code, and the output.
fn typed(workspace: &Workspace, name: &str, input: &[u8]) -> (Option<i32>, String, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::fs::File;
    use std::io::Read;
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("granted");
    let path = ptsname(&terminal, Vec::new()).expect("a path").into_string().expect("a path");
    let side = File::options().read(true).write(true).open(path).expect("the other side");
    let mut command = workspace.command(&["secret", "set", name]);
    let mut child =
        command.stdin(side.try_clone().expect("a copy")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    let mut question = [0; 64];
    let length = child.stderr.as_mut().expect("stderr").read(&mut question).expect("a question");
    let question = String::from_utf8_lossy(&question[..length]).into_owned();
    assert!(question.starts_with(&format!("Value of {name}")), "{question}");
    let mut terminal = File::from(terminal);
    terminal.write_all(input).expect("typed");
    let output = child.wait_with_output().expect("an end");
    // Echo is on again, so this is shown, and nothing before it.
    terminal.write_all(b"end\n").expect("typed");
    let mut shown = Vec::new();
    while !shown.ends_with(b"end\r\n") {
        let mut byte = [0];
        terminal.read_exact(&mut byte).expect("the echo");
        shown.push(byte[0]);
    }
    drop(side);
    let text = format!("{}{}", stdout(&output), stderr(&output));
    (output.status.code(), String::from_utf8_lossy(&shown).into_owned(), text)
}

#[test]
fn a_value_that_is_typed_is_not_shown() {
    let workspace = Workspace::new();
    let canary = Canary::alphanumeric("typed");
    let stored = |name: &str| std::fs::read_to_string(workspace.path(&format!("var/secrets/{name}"))).ok();
    let (code, shown, text) = typed(&workspace, "TYPED", format!("{}x\x7f\n", canary.value).as_bytes());
    assert_eq!((code, shown.as_str()), (Some(0), "end\r\n"), "{text}");
    assert_eq!(stored("TYPED").as_deref(), Some(canary.value.as_str()), "backspace removes one character");
    let long = canary.value.repeat(300);
    assert_eq!(typed(&workspace, "LONG", format!("{long}\n").as_bytes()).0, Some(0));
    assert_eq!(stored("LONG"), Some(long), "a long value is not cut");
    for (input, part) in [
        (format!("{}\x03", canary.value), "cancelled"),
        (format!("{0}\n{0}\n", canary.value), "has several lines"),
        ("\n".to_string(), "the value is empty"),
    ] {
        let (code, shown, text) = typed(&workspace, "OTHER", input.as_bytes());
        assert!(code == Some(1) && text.contains(part), "{text}");
        assert!(!shown.contains(&canary.value) && !text.contains(&canary.value), "{shown} {text}");
        assert_eq!(stored("OTHER"), None);
    }
}

#[test]
fn list_shows_names_ages_and_users_and_never_a_value() {
    let workspace = Workspace::new();
    workspace.write_policy(
        "credentials: {principals: {entra-prod: {kind: basic, username: reader, password: \"env:ENTRA_SECRET\"}}}\n",
    );
    let canary = Canary::new("listed");
    assert!(stdout(&workspace.run(&["secret", "list"])).starts_with("0 secrets in "));
    for name in ["CRM_TOKEN", "UNUSED_TOKEN"] {
        assert!(with_stdin(&workspace, &["secret", "set", name], canary.value.as_bytes()).status.success());
    }
    for (name, locator) in [("a", "env:CRM_TOKEN"), ("b", "env:CRM_TOKEN"), ("c", "env:WANTED_TOKEN"), ("d", "sp:entra-prod")] {
        waiting(&workspace, name, locator);
    }
    workspace.run(&["once"]);
    std::fs::remove_file(workspace.path("intents/b.json")).expect("removed");
    workspace.run(&["once"]);
    let output = workspace.run(&["secret", "list"]);
    let folder = workspace.dir.path().display().to_string();
    let filters = [(folder.as_str(), "[place]"), (r"\d+ (s|min) old", "[age]")];
    assert_snapshot("daemon_secret_list", &stdout(&output), &filters);
    let json = workspace.run(&["secret", "list", "--format", "json"]);
    let value: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let row = |name: &str| value["secrets"].as_array().expect("a list").iter().find(|row| row["name"] == name).cloned();
    assert_eq!(row("CRM_TOKEN").expect("a row")["used_by"].as_array().map(Vec::len), Some(1), "the retired one is left out");
    assert_eq!(row("WANTED_TOKEN").expect("a row")["stored_at"], Value::Null);
    assert_eq!(row("ENTRA_SECRET").expect("a row")["used_by"].as_array().map(Vec::len), Some(2));
    for output in [&output, &json] {
        assert_eq!(canary.found_in(&output.stdout), None);
    }
    let help = [stdout(&workspace.run(&["secret", "--help"])), stdout(&workspace.run(&["secret", "set", "--help"]))].concat();
    assert_snapshot("daemon_help_secret", &help, &[(folder.as_str(), "[place]")]);
}
