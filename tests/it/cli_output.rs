//! The texts that people read, compared with snapshots. Ids, times, ports, paths and durations are replaced.

use crate::support::daemon::{Workspace, intent, intent_with_locator, stderr, stdout};
use crate::support::leaky_service::{Canary, LeakMode, LeakyService};
use crate::support::network::closed_port;
use crate::support::snapshot::assert_snapshot;
use serde_json::{Value, json};
use std::process::Output;

/// Compares `text` with the snapshot `daemon_<name>`.
fn assert_text(workspace: &Workspace, name: &str, text: &str) {
    let folder = regex_escape(&workspace.dir.path().display().to_string());
    let filters = [
        (folder.as_str(), "[place]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]"),
        (r"\b[0-9a-f]{64}\b", "[sha256]"),
        (r"aam_[0-9A-Za-z_-]{40,}", "[token]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
        (r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:[port]"),
        (r"port \d{4,5}", "port [port]"),
        (r"(pid|process|kill) \d+", "$1 [pid]"),
        (r"(device|inode) \d+", "$1 [n]"),
        (r"Policy [0-9a-f]{12}", "Policy [digest]"),
        (r" \(it is root\)", ""),
        (r"(policy|digest|head) [0-9a-f]{8,}", "$1 [digest]"),
        (r"mtime [0-9]+", "mtime [time]"),
        (r" *\d+ ms", " [n] ms"),
        (r"\d+ bytes", "[n] bytes"),
        (r" +\d+[smhd] ago", " [age] ago"),
        (r"(?m) \d+[smhd]$", " [age]"),
    ];
    assert_snapshot(&format!("daemon_{name}"), text, &filters);
}

fn regex_escape(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_alphanumeric() || c == '/' { vec![c] } else { vec!['\\', c] }).collect()
}

/// What a person sees: both streams and the exit code.
fn transcript(output: &Output) -> String {
    let error = stderr(output);
    let error = if error.is_empty() { String::new() } else { format!("--- stderr\n{error}") };
    format!("{}{error}--- exit {}\n", stdout(output), output.status.code().unwrap_or(-1))
}

#[test]
fn check_reports_every_problem_with_its_position() {
    let workspace = Workspace::new();
    let mut careless = intent("filesource", &workspace.csv("a.csv", 3));
    careless["risk_level"] = json!("medium");
    careless["owner"]["confidence"] = json!(2);
    careless["sorce"] = json!("x");
    workspace.intent_file("careless.json", &careless);
    let mut odd = intent("filesource", &workspace.csv("b.csv", 3));
    odd["team"] = json!("data");
    workspace.intent_file("odd.json", &odd);
    std::fs::write(workspace.path("intents/broken.json"), "{\"source_type\": \"filesource\",\n  oops}").expect("write");
    assert_text(&workspace, "check_problems", &transcript(&workspace.run(&["check"])));
    workspace.write_policy("alowlist: [slack]\nslo: {coverage: 90}\n");
    assert_text(&workspace, "check_policy", &transcript(&workspace.run(&["check"])));
    let good = Workspace::new();
    good.intent_file("a.json", &intent("filesource", &good.csv("a.csv", 3)));
    assert_text(&good, "check_good", &transcript(&good.run(&["check"])));
    assert_text(&good, "check_effective", &transcript(&good.run(&["check", "--effective"])));
    good.run(&["once"]);
    good.replace("old.yaml", &std::fs::read(good.path("policy/policy.yaml")).expect("policy"));
    good.write_policy("allowlist: [jdbc]\neligibility: {max_risk: med}\ncaps: {default: {per_day: 100}}\n");
    assert_text(&good, "policy_diff", &transcript(&good.run(&["policy", "diff", "old.yaml", "policy/policy.yaml"])));
}

#[test]
fn plan_shows_every_attempt_with_its_reason_and_calls() {
    let workspace = Workspace::new();
    let (kept, gone) = (workspace.csv("kept.csv", 3), workspace.csv("gone.csv", 3));
    workspace.intent_file("kept.json", &intent("filesource", &kept));
    workspace.intent_file("gone.json", &intent("filesource", &gone));
    assert_text(&workspace, "plan_first", &ordered(&workspace, &transcript(&workspace.run(&["plan"]))));
    workspace.run(&["once"]);
    assert_text(&workspace, "plan_nothing", &transcript(&workspace.run(&["plan"])));
    let mut riskier = intent("filesource", &kept);
    riskier["risk_level"] = json!("high");
    workspace.intent_file("kept.json", &riskier);
    std::fs::remove_file(workspace.path("intents/gone.json")).expect("remove");
    workspace.intent_file("new.json", &intent("jdbc", &format!("jdbc:sqlite:{}", workspace.path("data/shop.sqlite").display())));
    workspace.intent_file("api.json", &intent("openapi", "https://api.acme.example/openapi.json"));
    workspace.intent_file("lake.json", &intent_with_locator("s3", "acme-lake", "env:AWS_KEYS"));
    workspace.intent_file("off.json", &intent("github", "acme"));
    std::fs::write(workspace.path("intents/zbad.json"), "[").expect("write");
    assert_text(&workspace, "plan_changes", &ordered(&workspace, &transcript(&workspace.run(&["plan"]))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_names_its_cause_and_its_fix() {
    let mut workspace = Workspace::new();
    let canary = Canary::alphanumeric("texts");
    workspace.set("SERVICE_TOKEN", &canary.value);
    workspace.set("EMPTY", " ");
    let mut services = Vec::new();
    for (name, mode) in [
        ("a401", LeakMode::Status(401)),
        ("b403", LeakMode::Status(403)),
        ("c404", LeakMode::Status(404)),
        ("d429", LeakMode::Status(429)),
        ("e500", LeakMode::Status(500)),
        ("f200", LeakMode::Authorizing),
    ] {
        let service = LeakyService::bearer(&canary).await;
        service.set(mode);
        workspace.intent_file(
            &format!("{name}.json"),
            &intent_with_locator("openapi", &format!("{}/openapi.json", service.base), "env:SERVICE_TOKEN"),
        );
        services.push(service);
    }
    let (_socket, closed) = closed_port();
    let csv = workspace.csv("a.csv", 3);
    let mut shadow = intent("filesource", &csv);
    shadow["evidence"]["status"] = json!("Shadow");
    let documents = [
        ("ok", intent("filesource", &workspace.csv("ok.csv", 3))),
        ("shadow", shadow),
        ("unknown", intent("slak", "acme")),
        ("off", intent("github", "acme")),
        ("later", intent_with_locator("hubspot", "portal_1", "env:SERVICE_TOKEN")),
        ("unset", intent_with_locator("filesource", &workspace.csv("unset.csv", 3), "env:NOT_SET")),
        ("empty", intent_with_locator("filesource", &workspace.csv("empty.csv", 3), "env:EMPTY")),
        ("vault", intent_with_locator("filesource", &workspace.csv("vault.csv", 3), "vault:kv/aam#token")),
        ("none", intent("postgres", "postgresql://127.0.0.1:5432/shop")),
        ("refused", intent_with_locator("openapi", &format!("http://127.0.0.1:{closed}/openapi.json"), "env:SERVICE_TOKEN")),
        ("private", intent("openapi", "http://10.0.0.1/openapi.json")),
        ("metadata", intent("openapi", "http://169.254.169.254/openapi.json")),
        ("missing", intent("filesource", &workspace.path("data/missing.csv").display().to_string())),
        ("outside", intent("filesource", "/etc/passwd")),
        ("wrong", intent("jdbc", "jdbc:oracle:thin:@db.example:1521/shop")),
    ];
    for (name, document) in &documents {
        workspace.intent_file(&format!("{name}.json"), document);
    }
    workspace.set("AAM_LOG", "off");
    let once = transcript(&workspace.run(&["once"]));
    assert_text(&workspace, "once_below_target", &ordered(&workspace, &once));
    assert_text(&workspace, "status_list", &ordered(&workspace, &stdout(&workspace.run(&["status"]))));
    for name in ["ok", "b403", "unset", "missing"] {
        let file = workspace.path(&format!("intents/{name}.json")).display().to_string();
        assert_text(&workspace, &format!("test_{name}"), &transcript(&workspace.run(&["test", &file])));
    }
    let list: Value = serde_json::from_str(&stdout(&workspace.run(&["status", "--format", "json"]))).expect("JSON");
    for (name, state) in [("active", "ACTIVE"), ("error", "ERROR")] {
        let one = list.as_array().into_iter().flatten().find(|one| one["status"] == state && one["source_type"] == "filesource");
        let id = one.and_then(|one| one["connection_id"].as_str()).expect("there").to_string();
        assert_text(&workspace, &format!("status_{name}"), &transcript(&workspace.run(&["status", &id])));
    }
    assert_text(&workspace, "status_unknown", &transcript(&workspace.run(&["status", "nonsense"])));
}

/// Sorts the entries of a listing by their text. AAM lists equal entries by id, and ids depend on ports and folders.
fn ordered(workspace: &Workspace, text: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines() {
        match blocks.last_mut() {
            Some(block) if line.starts_with("  ") => block.push_str(&format!("\n{line}")),
            // The widths of columns depend on the lengths of paths and ports.
            _ => blocks.push(line.split_whitespace().collect::<Vec<_>>().join(" ")),
        }
    }
    let listed = |block: &String| ["+ ", "~ ", "- ", "! ", "? ", ". ", "x "].iter().any(|sign| block.starts_with(sign));
    let folder = workspace.dir.path().display().to_string();
    // The text without the folder, ids and numbers, which differ from run to run.
    let stable_text = |block: &String| {
        let text = block.replace(&folder, "");
        let text = text.split_whitespace().filter(|word| word.len() != 36).collect::<Vec<_>>().join(" ");
        text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()
    };
    let (mut sorted, rest): (Vec<String>, Vec<String>) = blocks.iter().cloned().partition(listed);
    let first = blocks.iter().position(listed).unwrap_or(0);
    sorted.sort_by_key(stable_text);
    let (before, after) = rest.split_at(first.min(rest.len()));
    [before, &sorted, after].concat().join("\n") + "\n"
}

#[test]
fn verify_names_the_first_row_that_breaks_the_hash_chain() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    let summary = transcript(&workspace.run(&["once"]));
    assert_text(&workspace, "once_met", summary.split("--- stderr").next().unwrap_or_default());
    assert_text(&workspace, "report", &transcript(&workspace.run(&["report"])));
    assert_text(&workspace, "verify_whole", &transcript(&workspace.run(&["verify"])));
    let db = rusqlite::Connection::open(workspace.path("var/aam.db")).expect("registry");
    db.execute_batch("DROP TRIGGER ledger_no_update; UPDATE ledger SET at = at + 1 WHERE seq = 2;").expect("tampering");
    assert_text(&workspace, "verify_broken", &transcript(&workspace.run(&["verify"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_and_a_registry_in_use_are_explained() {
    let workspace = Workspace::new();
    let daemon = workspace.serve().await;
    let port = daemon.port.to_string();
    assert_text(&workspace, "port_reused", &transcript(&workspace.run(&["serve", "--port", &port])));
    let other = Workspace::new();
    assert_text(
        &other,
        "port_reused_by_another_registry",
        &transcript(&other.run(&["serve", "--port", &port]))
            .replace(&workspace.dir.path().display().to_string(), "[first place]"),
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    assert_text(&workspace, "port_taken", &transcript(&other.run(&["serve", "--port", &port])));
    assert_text(&workspace, "registry_in_use", &transcript(&workspace.run(&["once"])));
    assert_text(&workspace, "heal_without_daemon", &transcript(&workspace.run(&["heal", "--port", &port])));
}

#[test]
fn the_debt_gate_explains_its_verdict() {
    let workspace = Workspace::new();
    let head = "| id | severity | what | rationale | payoff plan | ETA |\n|---|---|---|---|---|---|\n";
    workspace.replace("DEBT.md", format!("{head}| D1 | High | no second region | one machine is enough for now | add replicas | next month |\n| D2 | Low | short help | time | write it | soon |\n").as_bytes());
    let root = workspace.dir.path().display().to_string();
    let gate = |more: &[&str]| transcript(&workspace.run(&[&["gate", "--root", &root], more].concat()));
    assert_text(&workspace, "gate_awaiting", &gate(&[]));
    assert_text(&workspace, "gate_wrong_token", &gate(&["--approve", "yes"]));
    assert_text(&workspace, "gate_approved", &gate(&["--approve", "CONTINUE 90 RUN"]));
    workspace.replace("DEBT.md", head.as_bytes());
    assert_text(&workspace, "gate_passed", &gate(&[]));
    assert_text(&workspace, "gate_details", &gate(&["--details"]));
    std::fs::remove_file(workspace.path("DEBT.md")).expect("remove");
    assert_text(&workspace, "gate_without_debt_file", &gate(&[]));
}

#[test]
fn other_commands_and_help_texts_match_their_snapshots() {
    let workspace = Workspace::new();
    assert_text(&workspace, "families", &transcript(&workspace.run(&["families"])));
    for family in ["github", "slack", "s3", "jdbc", "openapi", "m365_sharepoint", "snowflake", "aws_org", "filesource", "workday"]
    {
        assert_text(&workspace, &format!("families_{family}"), &transcript(&workspace.run(&["families", family])));
    }
    assert_text(&workspace, "families_slack_json", &transcript(&workspace.run(&["families", "slack", "--format", "json"])));
    assert_text(&workspace, "token_new", &transcript(&workspace.run(&["token", "new", "--name", "aod"])));
    assert_text(&workspace, "no_registry", &transcript(&workspace.run(&["status"])));
    assert_text(&workspace, "no_command", &transcript(&workspace.run(&[])));
    assert_text(&workspace, "unknown_command", &transcript(&workspace.run(&["onec"])));
    for command in [
        "",
        "serve",
        "once",
        "plan",
        "check",
        "status",
        "report",
        "heal",
        "confirm",
        "gate",
        "test",
        "verify",
        "backup",
        "restore",
        "health",
        "token new",
        "consent list",
        "consent link",
        "consent revoke",
        "policy diff",
        "families",
    ] {
        let arguments: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let name = command.split_whitespace().last().unwrap_or("aam");
        assert_text(&workspace, &format!("help_{name}"), &stdout(&workspace.run(&arguments)));
    }
}
