//! `aam lowcode` as a command: exit codes, what goes to stdout and stderr, secrets, and the texts that people read.

use crate::support::daemon::Workspace;
use crate::support::shop::{Shop, TOKEN};
use crate::support::snapshot::assert_snapshot;
use serde_json::{Value, json};
use std::process::Output;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/lowcode/shop.yaml");

/// A workspace with a config for a shop in `mode`, and a policy that allows loopback.
fn workspace(shop: &Shop, mode: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write_policy("caps: {default: {per_second: 1000, burst: 1000, per_day: 1000, concurrency: 4}}\n");
    workspace.replace("config.json", shop.config(mode).to_string().as_bytes());
    workspace
}

/// The messages on stdout. Each line must be a JSON message.
fn messages(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of_type(messages: &[Value], kind: &str) -> Vec<Value> {
    messages.iter().filter(|message| message["type"] == kind).cloned().collect()
}

#[test]
fn a_read_stops_at_its_limit_and_logs_that() {
    let shop = Shop::start();
    let workspace = workspace(&shop, "ok");
    let output = workspace.run(&[
        "lowcode",
        "read",
        "--manifest",
        MANIFEST,
        "--config",
        "config.json",
        "--limit",
        "3",
        "--stream",
        "customers",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let messages = messages(&output);
    assert_eq!(of_type(&messages, "RECORD").len(), 3);
    assert_eq!(shop.take_requests().len(), 1, "a page beyond the limit was requested");
    let logs: String =
        of_type(&messages, "LOG").iter().map(|log| log["log"]["message"].as_str().unwrap().to_string() + "\n").collect();
    assert!(logs.contains("Stream customers: stopped at the limit of 3 records"), "{logs}");
}

#[test]
fn the_secret_is_not_in_the_output_even_if_the_source_sends_it_back() {
    let shop = Shop::start();
    let workspace = workspace(&shop, "echo");
    let output = workspace.run(&["lowcode", "read", "--manifest", MANIFEST, "--config", "config.json"]);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(shop.take_requests().iter().any(|request| request.contains(TOKEN)), "the secret was not sent");
    assert!(text.contains("[redacted]"), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
}

#[test]
fn the_policy_decides_where_calls_go() {
    let shop = Shop::start();
    let workspace = workspace(&shop, "ok");
    workspace.write_policy("network: {allow_private: []}\n");
    let output = workspace.run(&["lowcode", "check", "--manifest", MANIFEST, "--config", "config.json"]);
    assert_eq!(output.status.code(), Some(0), "a failed check is a result, not an error");
    let status = &of_type(&messages(&output), "CONNECTION_STATUS")[0]["connectionStatus"];
    assert_eq!(status["status"], "FAILED");
    assert!(status["message"].as_str().unwrap().contains("network.allow_private"), "{status}");
    assert_eq!(shop.take_requests(), Vec::<String>::new());
}

/// As in the daemon, the source type is the name of the manifest file, and the policy lists POSTs by source type.
#[test]
fn a_post_is_sent_only_if_the_policy_lists_it_for_this_manifest() {
    let shop = Shop::start();
    let workspace = workspace(&shop, "ok");
    let manifest = std::fs::read_to_string(MANIFEST).unwrap().replace("http_method: GET", "http_method: POST");
    workspace.replace("post_shop.yaml", manifest.as_bytes());
    let check = ["lowcode", "check", "--manifest", "post_shop.yaml", "--config", "config.json"];
    let refused = workspace.run(&check);
    let status = &of_type(&messages(&refused), "CONNECTION_STATUS")[0]["connectionStatus"];
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("is not on the list of read-only POSTs"), "{message}");
    assert!(message.contains("manifests.sources.post_shop"), "{message}");
    assert_eq!(shop.take_requests(), Vec::<String>::new());
    let listed =
        format!("{{url: \"{}/ok/v1/customers\", why: a list, query: {{limit: any, offset: any}}, body: none}}", shop.url);
    workspace.write_policy(&format!("manifests: {{dir: ., sources: {{post_shop: {{posts: [{listed}]}}}}}}\n"));
    let sent = workspace.run(&check);
    let status = &of_type(&messages(&sent), "CONNECTION_STATUS")[0]["connectionStatus"];
    assert_eq!(status["status"], "SUCCEEDED", "{status}");
    let requests = shop.take_requests();
    assert!(
        requests.iter().all(|call| call.starts_with("POST /ok/v1/customers?limit=5 ")) && requests.len() == 1,
        "{requests:?}"
    );
}

#[test]
fn a_link_that_leaves_the_manifests_hosts_is_not_followed() {
    let (shop, other) = (Shop::start(), Shop::start());
    let workspace = workspace(&shop, &format!("elsewhere-{}", other.port()));
    let output = workspace.run(&["lowcode", "read", "--manifest", MANIFEST, "--config", "config.json", "--stream", "orders"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("was not called"), "{text}");
    assert_eq!(other.take_requests(), Vec::<String>::new());
}

#[test]
fn usage_file_and_policy_errors_have_their_own_exit_codes() {
    let shop = Shop::start();
    let workspace = workspace(&shop, "ok");
    workspace.replace("bad.json", b"{");
    let run = |arguments: &[&str]| {
        let output = workspace.run(arguments);
        (output.status.code().unwrap(), messages(&output).len())
    };
    assert_eq!(run(&["lowcode", "chek"]), (64, 0));
    assert_eq!(run(&["lowcode", "read", "--limit", "many"]), (64, 0));
    // Exit code 1, and two messages: a log entry and a trace.
    let traced = (1, 2);
    assert_eq!(run(&["lowcode", "check", "--manifest", MANIFEST]), traced, "no config");
    assert_eq!(run(&["lowcode", "check", "--config", "config.json"]), traced, "no manifest");
    assert_eq!(run(&["lowcode", "check", "--config", "none.json", "--manifest", MANIFEST]), traced);
    assert_eq!(run(&["lowcode", "check", "--config", "bad.json", "--manifest", MANIFEST]), traced);
    workspace.replace("policy/policy.yaml", b"version: 9\n");
    assert_eq!(run(&["lowcode", "check", "--config", "config.json", "--manifest", MANIFEST]), (78, 0));
    assert_eq!(run(&["lowcode", "spec", "--manifest", MANIFEST]).0, 0, "spec works without a policy");
}

#[test]
fn a_manifest_inside_the_config_is_read_from_there() {
    let shop = Shop::start();
    let workspace = workspace(&shop, "ok");
    let limits = positioned_yaml::json::Limits { values: 10_000, text_bytes: 1 << 20, depth: 64 };
    let manifest = positioned_yaml::json::parse(&std::fs::read_to_string(MANIFEST).unwrap(), limits).unwrap();
    let mut config = shop.config("ok");
    config["__injected_declarative_manifest"] = manifest;
    workspace.replace("config.json", config.to_string().as_bytes());
    let output = workspace.run(&["lowcode", "check", "--config", "config.json"]);
    assert_eq!(
        of_type(&messages(&output), "CONNECTION_STATUS"),
        [json!({"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}})]
    );
}

#[test]
fn a_manifest_is_explained() {
    let workspace = Workspace::new();
    std::fs::copy(MANIFEST, workspace.path("shop.yaml")).unwrap();
    let output = workspace.run(&["lowcode", "explain", "shop.yaml"]);
    assert_eq!(output.status.code(), Some(0));
    assert_snapshot("lowcode_explain", &String::from_utf8_lossy(&output.stdout), &[]);
    let output = workspace.run(&["lowcode", "explain", "shop.yaml", "--format", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["streams"].as_array().unwrap().len(), 3);
}

#[test]
fn classes_are_explained_and_an_overlay_replaces_them() {
    let workspace = Workspace::new();
    let class = "type: CustomRecordExtractor\n      class_name: source_shop.components.Extractor\n";
    let text = std::fs::read_to_string(MANIFEST).unwrap().replacen("type: DpathExtractor\n", class, 1);
    workspace.replace("shop.yaml", text.as_bytes());
    let explain = || {
        let output = workspace.run(&["lowcode", "explain", "shop.yaml"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, shown) = explain();
    assert_eq!(code, Some(0));
    for line in
        ["  source_shop.components.Extractor\n", "which only Python can run\n", "    at: shop.yaml:", "    streams: customers"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    workspace.replace("shop.overlay.yaml", b"classes: {Extractor: {instead: {type: DpathExtractor}}}\n");
    let (_, shown) = explain();
    assert!(shown.contains("`DpathExtractor` takes its place"), "{shown}");
    assert!(!shown.contains("cannot be read"), "{shown}");
    workspace.replace("shop.overlay.yaml", b"classes: {}\n");
    assert_eq!(explain().0, Some(78), "an overlay that is not valid is not left out");
}

#[test]
fn mistakes_are_shown_with_their_source_line() {
    let workspace = Workspace::new();
    let good = std::fs::read_to_string(MANIFEST).unwrap();
    let mut shown = String::new();
    for (name, from, to) in [
        ("misspelt.yaml", "type: OffsetIncrement", "type: OfsetIncrement"),
        ("field.yaml", "field_path: [data]", "field_paht: [data]"),
        ("reference.yaml", "- $ref: \"#/definitions/customers\"", "- $ref: \"#/definitions/custommers\""),
        (
            "custom.yaml",
            "type: DpathExtractor\n",
            "type: CustomRecordExtractor\n      class_name: source_shop.components.Extractor\n",
        ),
        ("yaml.yaml", "stream_names: [customers]", "stream_names: [customers"),
    ] {
        workspace.replace(name, good.replacen(from, to, 1).as_bytes());
        let output = workspace.run(&["lowcode", "explain", name]);
        let code = output.status.code().unwrap();
        shown.push_str(&format!("$ aam lowcode explain {name}   # exit {code}\n{}\n", String::from_utf8_lossy(&output.stderr)));
    }
    assert_snapshot("lowcode_mistakes", &shown, &[]);
}
