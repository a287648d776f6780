//! The texts that people read, held by snapshots. Ids, times, ports, paths and durations are left out.

use crate::daemon_hostile::{Canary, Hostile, Mood};
use crate::daemon_support::{Place, intent, stderr, stdout};
use serde_json::{Value, json};
use std::process::Output;

/// Holds `text` against the snapshot `daemon_<name>`.
fn shot(place: &Place, name: &str, text: &str) {
    let folder = regex_escape(&place.dir.path().display().to_string());
    let filters = [
        (folder.as_str(), "[place]"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]"),
        (r"\b[0-9a-f]{64}\b", "[sha256]"),
        (r"aam_[0-9A-Za-z_-]{40,}", "[token]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
        (r"127\.0\.0\.1:\d{4,5}", "127.0.0.1:[port]"),
        (r"port \d{4,5}", "port [port]"),
        (r"(pid|process) \d+", "$1 [pid]"),
        (r"(device|inode) \d+", "$1 [n]"),
        (r"Policy [0-9a-f]{12}", "Policy [digest]"),
        (r" \(it is root\)", ""),
        (r"(policy|digest|head) [0-9a-f]{8,}", "$1 [digest]"),
        (r"mtime [0-9]+", "mtime [time]"),
        (r" *\d+ ms", " [n] ms"),
        (r"\d+ bytes", "[n] bytes"),
    ];
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false, filters => filters}, {
        insta::assert_snapshot!(format!("daemon_{name}"), text);
    });
}

fn regex_escape(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_alphanumeric() || c == '/' { vec![c] } else { vec!['\\', c] }).collect()
}

/// What a person sees: both streams and the exit code.
fn seen(output: &Output) -> String {
    let error = stderr(output);
    let error = if error.is_empty() { String::new() } else { format!("--- stderr\n{error}") };
    format!("{}{error}--- exit {}\n", stdout(output), output.status.code().unwrap_or(-1))
}

fn waiting(source_type: &str, resource_id: &str, locator: &str) -> Value {
    let mut document = intent(source_type, resource_id);
    document["credential_locator"] = json!(locator);
    document
}

#[test]
fn check_says_every_problem_with_its_place() {
    let place = Place::new();
    let mut careless = intent("filesource", &place.csv("a.csv", 3));
    careless["risk_level"] = json!("medium");
    careless["owner"]["confidence"] = json!(2);
    careless["sorce"] = json!("x");
    place.intent_file("careless.json", &careless);
    let mut odd = intent("filesource", &place.csv("b.csv", 3));
    odd["team"] = json!("data");
    place.intent_file("odd.json", &odd);
    std::fs::write(place.path("intents/broken.json"), "{\"source_type\": \"filesource\",\n  oops}").expect("write");
    shot(&place, "check_problems", &seen(&place.run(&["check"])));
    place.write_policy("alowlist: [slack]\nslo: {coverage: 90}\n");
    shot(&place, "check_policy", &seen(&place.run(&["check"])));
    let good = Place::new();
    good.intent_file("a.json", &intent("filesource", &good.csv("a.csv", 3)));
    shot(&good, "check_good", &seen(&good.run(&["check"])));
    shot(&good, "check_effective", &seen(&good.run(&["check", "--effective"])));
    good.run(&["once"]);
    good.replace("old.yaml", &std::fs::read(good.path("policy/policy.yaml")).expect("policy"));
    good.write_policy("allowlist: [jdbc]\neligibility: {max_risk: med}\ncaps: {default: {per_day: 100}}\n");
    shot(&good, "policy_diff", &seen(&good.run(&["policy", "diff", "old.yaml", "policy/policy.yaml"])));
}

#[test]
fn plan_says_what_and_why() {
    let place = Place::new();
    let (kept, gone) = (place.csv("kept.csv", 3), place.csv("gone.csv", 3));
    place.intent_file("kept.json", &intent("filesource", &kept));
    place.intent_file("gone.json", &intent("filesource", &gone));
    shot(&place, "plan_first", &ordered(&place, &seen(&place.run(&["plan"]))));
    place.run(&["once"]);
    shot(&place, "plan_nothing", &seen(&place.run(&["plan"])));
    let mut riskier = intent("filesource", &kept);
    riskier["risk_level"] = json!("high");
    place.intent_file("kept.json", &riskier);
    std::fs::remove_file(place.path("intents/gone.json")).expect("remove");
    place.intent_file("new.json", &intent("jdbc", &format!("jdbc:sqlite:{}", place.path("data/shop.sqlite").display())));
    place.intent_file("api.json", &intent("openapi", "https://api.acme.example/openapi.json"));
    place.intent_file("lake.json", &waiting("s3", "acme-lake", "env:AWS_KEYS"));
    place.intent_file("off.json", &intent("github", "acme"));
    std::fs::write(place.path("intents/zbad.json"), "[").expect("write");
    shot(&place, "plan_changes", &ordered(&place, &seen(&place.run(&["plan"]))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_names_the_cause_and_the_way_out() {
    let mut place = Place::new();
    let canary = Canary::tame("texts");
    place.set("SERVICE_TOKEN", &canary.value);
    place.set("EMPTY", " ");
    let mut services = Vec::new();
    for (name, mood) in [
        ("a401", Mood::Status(401)),
        ("b403", Mood::Status(403)),
        ("c404", Mood::Status(404)),
        ("d429", Mood::Status(429)),
        ("e500", Mood::Status(500)),
        ("f200", Mood::Good),
    ] {
        let service = Hostile::openapi(
            &canary,
            r#"{"type":"http","scheme":"bearer"}"#,
            &["authorization"],
            format!("Bearer {}", canary.value),
        )
        .await;
        service.set(mood);
        place.intent_file(
            &format!("{name}.json"),
            &waiting("openapi", &format!("{}/openapi.json", service.base), "env:SERVICE_TOKEN"),
        );
        services.push(service);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let csv = place.csv("a.csv", 3);
    let mut shadow = intent("filesource", &csv);
    shadow["evidence"]["status"] = json!("Shadow");
    let documents = [
        ("ok", intent("filesource", &place.csv("ok.csv", 3))),
        ("shadow", shadow),
        ("unknown", intent("slak", "acme")),
        ("off", intent("github", "acme")),
        ("later", waiting("zoom", "acme", "env:SERVICE_TOKEN")),
        ("unset", waiting("filesource", &place.csv("unset.csv", 3), "env:NOT_SET")),
        ("empty", waiting("filesource", &place.csv("empty.csv", 3), "env:EMPTY")),
        ("vault", waiting("filesource", &place.csv("vault.csv", 3), "vault:kv/aam#token")),
        ("none", intent("postgres", "postgresql://127.0.0.1:5432/shop")),
        ("refused", waiting("openapi", &format!("http://{closed}/openapi.json"), "env:SERVICE_TOKEN")),
        ("private", intent("openapi", "http://10.0.0.1/openapi.json")),
        ("metadata", intent("openapi", "http://169.254.169.254/openapi.json")),
        ("missing", intent("filesource", &place.path("data/missing.csv").display().to_string())),
        ("outside", intent("filesource", "/etc/passwd")),
        ("wrong", intent("jdbc", "jdbc:oracle:thin:@db.example:1521/shop")),
    ];
    for (name, document) in &documents {
        place.intent_file(&format!("{name}.json"), document);
    }
    place.set("AAM_LOG", "off");
    let once = seen(&place.run(&["once"]));
    shot(&place, "once_below_target", &ordered(&place, &once));
    shot(&place, "status_list", &ordered(&place, &stdout(&place.run(&["status"]))));
    for name in ["ok", "b403", "unset", "missing"] {
        let file = place.path(&format!("intents/{name}.json")).display().to_string();
        shot(&place, &format!("test_{name}"), &seen(&place.run(&["test", &file])));
    }
    let list: Value = serde_json::from_str(&stdout(&place.run(&["status", "--format", "json"]))).expect("JSON");
    for (name, state) in [("active", "ACTIVE"), ("error", "ERROR")] {
        let one = list.as_array().into_iter().flatten().find(|one| one["status"] == state && one["source_type"] == "filesource");
        let id = one.and_then(|one| one["connection_id"].as_str()).expect("there").to_string();
        shot(&place, &format!("status_{name}"), &seen(&place.run(&["status", &id])));
    }
    shot(&place, "status_unknown", &seen(&place.run(&["status", "nonsense"])));
}

/// Ids hang on ports and on the folder, and the order of connections hangs on ids: here, on words alone.
fn ordered(place: &Place, text: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines() {
        match blocks.last_mut() {
            Some(block) if line.starts_with("  ") => block.push_str(&format!("\n{line}")),
            _ => blocks.push(line.to_string()),
        }
    }
    let listed = |block: &String| ["+ ", "~ ", "- ", "! ", "? ", ". ", "x "].iter().any(|sign| block.starts_with(sign));
    let folder = place.dir.path().display().to_string();
    let words = |block: &String| {
        let text = block.replace(&folder, "");
        let words = text.split_whitespace().filter(|word| word.len() != 36).collect::<Vec<_>>().join(" ");
        words.chars().filter(|c| !c.is_ascii_digit()).collect::<String>()
    };
    let (mut sorted, rest): (Vec<String>, Vec<String>) = blocks.iter().cloned().partition(listed);
    let first = blocks.iter().position(listed).unwrap_or(0);
    sorted.sort_by_key(words);
    let (before, after) = rest.split_at(first.min(rest.len()));
    [before, &sorted, after].concat().join("\n") + "\n"
}

#[test]
fn verify_names_the_first_row_that_does_not_fit() {
    let place = Place::new();
    place.intent_file("a.json", &intent("filesource", &place.csv("a.csv", 3)));
    let summary = seen(&place.run(&["once"]));
    shot(&place, "once_met", summary.split("--- stderr").next().unwrap_or_default());
    shot(&place, "report", &seen(&place.run(&["report"])));
    shot(&place, "verify_whole", &seen(&place.run(&["verify"])));
    let db = rusqlite::Connection::open(place.path("var/aam.db")).expect("registry");
    db.execute_batch("DROP TRIGGER ledger_no_update; UPDATE ledger SET at = at + 1 WHERE seq = 2;").expect("tampering");
    shot(&place, "verify_broken", &seen(&place.run(&["verify"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_told_in_plain_words() {
    let place = Place::new();
    let daemon = place.serve().await;
    let port = daemon.port.to_string();
    shot(&place, "port_reused", &seen(&place.run(&["serve", "--port", &port])));
    let other = Place::new();
    shot(
        &other,
        "port_reused_by_another_registry",
        &seen(&other.run(&["serve", "--port", &port])).replace(&place.dir.path().display().to_string(), "[first place]"),
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    shot(&place, "port_taken", &seen(&other.run(&["serve", "--port", &port])));
    shot(&place, "registry_in_use", &seen(&place.run(&["once"])));
    shot(&place, "heal_nobody", &seen(&place.run(&["heal", "--port", &port])));
}

#[test]
fn the_gate_asks_in_five_lines() {
    let place = Place::new();
    let head = "| id | severity | what | rationale | payoff plan | ETA |\n|---|---|---|---|---|---|\n";
    place.replace("DEBT.md", format!("{head}| D1 | High | no second region | one machine is enough for now | add replicas | next month |\n| D2 | Low | short help | time | write it | soon |\n").as_bytes());
    let root = place.dir.path().display().to_string();
    let gate = |more: &[&str]| seen(&place.run(&[&["gate", "--root", &root], more].concat()));
    shot(&place, "gate_awaiting", &gate(&[]));
    shot(&place, "gate_wrong_token", &gate(&["--approve", "yes"]));
    shot(&place, "gate_approved", &gate(&["--approve", "CONTINUE 90 RUN"]));
    place.replace("DEBT.md", head.as_bytes());
    shot(&place, "gate_passed", &gate(&[]));
    std::fs::remove_file(place.path("DEBT.md")).expect("remove");
    shot(&place, "gate_without_debt_file", &gate(&[]));
}

#[test]
fn the_rest_of_the_command_line() {
    let place = Place::new();
    shot(&place, "families", &seen(&place.run(&["families"])));
    shot(&place, "token_new", &seen(&place.run(&["token", "new", "--name", "aod"])));
    shot(&place, "no_registry", &seen(&place.run(&["status"])));
    shot(&place, "no_command", &seen(&place.run(&[])));
    shot(&place, "unknown_command", &seen(&place.run(&["onec"])));
    for words in [
        "",
        "serve",
        "once",
        "plan",
        "check",
        "status",
        "report",
        "heal",
        "gate",
        "test",
        "verify",
        "token new",
        "policy diff",
        "families",
    ] {
        let arguments: Vec<&str> = words.split_whitespace().chain(["--help"]).collect();
        let name = words.split_whitespace().last().unwrap_or("aam");
        shot(&place, &format!("help_{name}"), &stdout(&place.run(&arguments)));
    }
}
