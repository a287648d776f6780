//! What holds for every command: exit codes, what it takes as input, and the flags in its help.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Output, Stdio};

/// The codes with their meanings, from lines such as `64   the command line …` or `| 64 | the command line … |`.
fn table(text: &str) -> Vec<(u8, String)> {
    let row = |line: &str| {
        let line = line.trim().trim_matches('|').trim();
        let (code, meaning) = line.split_once([' ', '|'])?;
        Some((code.parse().ok()?, meaning.trim_matches([' ', '|']).to_string()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn help_and_documents_have_the_same_table_of_exit_codes() {
    let workspace = Workspace::new();
    let help = stdout(&workspace.run(&["--help"]));
    let help = table(help.split("Exit codes:").nth(1).expect("a table"));
    let document = include_str!("../../docs/operations.md").split("## Exit codes").nth(1).expect("a table");
    let document = table(document.split("\n## ").next().expect("a section"));
    assert_eq!(help, document);
    let codes: Vec<u8> = help.iter().map(|(code, _)| *code).collect();
    assert!(codes.is_sorted() && [0, 1, 2, 64, 78, 143].iter().all(|code| codes.contains(code)), "{codes:?}");
}

#[test]
fn a_wrong_argument_is_64_and_a_wrong_file_is_78_for_every_command() {
    let workspace = Workspace::new();
    workspace.run(&["once"]);
    let wrong: [&[&str]; 11] = [
        &["heal", "not-an-id"],
        &["report", "--at", "yesterday"],
        &["confirm", "xyz"],
        &["status", "--since", "soon"],
        &["families", "githb"],
        &["secret", "set", "A-NAME"],
        &["plan", "--outfile", "x"],
        &["once", "--port", "many"],
        &["verify", "now"],
        &["gate", "--detail"],
        &["completion", "tcsh"],
    ];
    for arguments in wrong {
        let output = workspace.run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", stderr(&output));
    }
    let absent = workspace.path("absent.json").display().to_string();
    for arguments in [
        &["test", &absent][..],
        &["gate", "--root", &absent],
        &["policy", "diff", &absent, &absent],
        &["families", "lint", &absent],
    ] {
        let output = workspace.run(arguments);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(&absent), "{arguments:?}: {}", stderr(&output));
    }
    // Without a valid policy, neither of the file nor of the registry, every command that needs one says so.
    let fresh = Workspace::new();
    fresh.replace("policy/policy.yaml", b"version: 2\n");
    let file = fresh.path("intents/a.json").display().to_string();
    fresh.intent_file("a.json", &intent("filesource", "a.csv"));
    for arguments in [
        &["check"][..],
        &["plan"],
        &["once"],
        &["serve", "--port", "0"],
        &["test", &file],
        &["secret", "list"],
        &["consent", "list"],
    ] {
        let output = fresh.run(arguments);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {}", stderr(&output));
    }
}

fn test_stdin(workspace: &Workspace, text: &str) -> Output {
    let mut command = workspace.command(&["test", "-", "--format", "json"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("stdin").write_all(text.as_bytes()).expect("written");
    child.wait_with_output().expect("an end")
}

fn states(output: &Output) -> Vec<String> {
    let values: Value = serde_json::from_str(&stdout(output)).unwrap_or_default();
    values.as_array().into_iter().flatten().filter_map(|one| Some(one["status"].as_str()?.to_string())).collect()
}

#[test]
fn test_takes_a_folder_and_stdin() {
    let workspace = Workspace::new();
    let good = intent("filesource", &workspace.csv("good.csv", 3));
    let gone = intent("filesource", &workspace.path("data/gone.csv").display().to_string());
    let folder = workspace.path("team");
    std::fs::create_dir_all(folder.join("crm")).expect("a folder");
    let empty = workspace.run(&["test", &folder.display().to_string()]);
    assert!(empty.status.code() == Some(78) && stderr(&empty).contains("holds no intents"), "{}", stderr(&empty));
    std::fs::write(folder.join("a.yaml"), good.to_string()).expect("written");
    std::fs::write(folder.join("crm/b.jsonl"), format!("{good}\n{gone}\n")).expect("written");
    std::fs::write(folder.join("README.md"), "not an intent").expect("written");
    let tested = workspace.run(&["test", &folder.display().to_string()]);
    let text = stdout(&tested);
    assert!(tested.status.code() == Some(2) && text.contains("3 intents: 1 ERROR, 2 ACTIVE\nnothing was written\n"), "{text}");
    std::fs::write(folder.join("broken.json"), "{").expect("written");
    let broken = workspace.run(&["test", &folder.display().to_string()]);
    assert!(broken.status.code() == Some(78) && stdout(&broken).is_empty(), "nothing is attempted: {}", stdout(&broken));
    assert!(stderr(&broken).contains("broken.json:1"), "{}", stderr(&broken));
    let list = json!([good, gone]).to_string();
    let lines = format!("\n{good}\n{gone}\n");
    let yaml = format!("---\n{}\n---\n{}\n", yaml(&good), yaml(&gone));
    for text in [list, lines, yaml] {
        let output = test_stdin(&workspace, &text);
        assert_eq!(
            (output.status.code(), states(&output)),
            (Some(2), vec!["ACTIVE".to_string(), "ERROR".to_string()]),
            "{}",
            stderr(&output)
        );
    }
    let one = test_stdin(&workspace, &good.to_string());
    assert_eq!((one.status.code(), states(&one)), (Some(0), vec!["ACTIVE".to_string()]), "{}", stderr(&one));
    let wrong = test_stdin(&workspace, "{\"source_type\": ");
    assert!(wrong.status.code() == Some(78) && stderr(&wrong).contains("stdin:1:"), "{}", stderr(&wrong));
}

/// The first level of an intent in YAML's block style.
fn yaml(intent: &Value) -> String {
    let fields = intent.as_object().expect("an intent").iter();
    fields.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_operator_sees_one_line_of_the_gate() {
    let workspace = Workspace::new();
    let debt = "| id | severity | what | rationale | payoff plan | ETA |\n|---|---|---|---|---|---|\n| D1 | Low | short help | time | write it | soon |\n";
    workspace.replace("DEBT.md", debt.as_bytes());
    let root = workspace.dir.path().display().to_string();
    let gate = workspace.run(&["gate", "--root", &root]);
    assert!(gate.status.success() && stdout(&gate) == "GATE PASSED: nothing stops this run\n", "{}", stdout(&gate));
    let details = stdout(&workspace.run(&["gate", "--root", &root, "--details"]));
    assert!(details.contains("1 Low declared in DEBT.md"), "{details}");
}

#[test]
fn a_help_shows_examples_and_only_flags_that_the_command_uses() {
    let workspace = Workspace::new();
    let top = stdout(&workspace.run(&["--help"]));
    let commands = top.split("Commands:").nth(1).and_then(|text| text.split("\n\n").next()).expect("the commands");
    let names: Vec<&str> = commands.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names.iter().filter(|name| **name != "help") {
        let help = stdout(&workspace.run(&[name, "--help"]));
        assert!(help.contains("Example") && help.contains(&format!("aam {name}")), "{help}");
        // These commands read no intents and ask no daemon.
        if ["verify", "version", "completion", "man", "gate", "token"].contains(name) {
            assert!(!help.contains("--intents") && !help.contains("--port"), "{help}");
        }
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let workspace = Workspace::new();
    for command in ["version", "check"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux");
        let output = workspace.command(&[command]).stdout(full).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(stderr(&output).contains("aam: the output could not be written: No space left on device"), "{}", stderr(&output));
    }
}

#[test]
fn a_misspelled_level_is_refused_and_the_folder_of_the_log_is_created() {
    let workspace = Workspace::new();
    for level in ["inof", "[[", "aam=inof"] {
        let output = workspace.run(&["check", "--log-level", level]);
        assert_eq!(output.status.code(), Some(64), "{level}: {}", stderr(&output));
    }
    let log = workspace.path("new/folder/aam.log").display().to_string();
    let output = workspace.run(&["check", "--log-level", "aam::egress=debug,warn", "--log-file", &log]);
    assert!(output.status.success() && workspace.path("new/folder/aam.log").exists(), "{}", stderr(&output));
}
