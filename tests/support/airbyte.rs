//! Connectors of Airbyte that run as processes, in a workspace: the small ones of `tests/airbyte/connectors`.

use crate::support::daemon::{Daemon, Workspace, intent_with_locator};
use crate::support::lowcode_families::{MockVendor, ReceivedRequest};
use crate::support::openapi::{MockResponse, json_response};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// The token of the vendor.
pub const TOKEN: &str = "airbyte-vendor-token-77";

/// A connector of the policy.
pub struct TestConnector<'a> {
    /// The source type, and with it the name of the intent's file.
    pub name: &'a str,
    /// The name of the script without `.py`.
    pub script: &'a str,
    pub config: Value,
    /// Further keys, for example `memory: 64MiB`.
    pub more: &'a str,
}

/// Returns the whole path of the interpreter: the command of a version manager is not one.
fn python() -> String {
    let output =
        Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3 is installed");
    String::from_utf8(output.stdout).expect("a path").trim().to_string()
}

/// Copies the connectors into a folder of their own in the workspace, so that their processes are known by their paths.
fn scripts(workspace: &Workspace) -> PathBuf {
    let to = workspace.path("connectors");
    if !to.exists() {
        std::fs::create_dir(&to).expect("a folder");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/airbyte/connectors");
        for entry in std::fs::read_dir(from).expect("the connectors").flatten() {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
            }
        }
    }
    to
}

/// Writes a policy with these connectors, which may call `hosts`, and an intent for each.
pub fn connect(workspace: &mut Workspace, connectors: &[TestConnector<'_>], hosts: &[&str], more: &str) {
    let (python, scripts) = (python(), scripts(workspace));
    let names: Vec<&str> = connectors.iter().map(|connector| connector.name).collect();
    let mut text = format!(
        "allowlist: [{}]\n{more}airbyte:\n  dir: {}\n  memory: 4GiB\n  connectors:\n",
        names.join(", "),
        workspace.path("airbyte").display()
    );
    for connector in connectors {
        let script = scripts.join(format!("{}.py", connector.script));
        text.push_str(&format!(
            "    {}:\n      run: [{python}, {}]\n      config: {}\n      hosts: {}\n",
            connector.name,
            script.display(),
            connector.config,
            json!(hosts),
        ));
        // The scripts import modules that are beside them.
        if !connector.more.contains("readable:") {
            text.push_str(&format!("      readable: [{}]\n", scripts.display()));
        }
        if !connector.more.is_empty() {
            text.push_str(&format!("      {}\n", connector.more));
        }
    }
    workspace.write_policy(&text);
    workspace.set("VENDOR", &json!({"token": TOKEN}).to_string());
    for connector in connectors {
        let intent = intent_with_locator(connector.name, connector.name, "env:VENDOR");
        workspace.intent_file(&format!("{}.json", connector.name), &intent);
    }
}

/// A vendor that the connector `well_behaved` reads: three items on one page. `POST /token` exchanges a token once.
pub async fn vendor() -> MockVendor {
    let valid: Arc<Mutex<u32>> = Arc::default();
    MockVendor::start(move |_, request| answer(&valid, request)).await
}

fn answer(valid: &Arc<Mutex<u32>>, request: &ReceivedRequest) -> MockResponse {
    if request.call == "POST /token" {
        let mut number = valid.lock().expect("unpoisoned");
        let expected = format!("refresh_token=single-use-token-{number:03}");
        if !request.body.contains(&expected) {
            return (400, Vec::new(), json!({"error": "invalid_grant"}).to_string());
        }
        *number += 1;
        return json_response(json!({"refresh_token": format!("single-use-token-{number:03}")}).to_string());
    }
    if request.token != TOKEN {
        return (401, Vec::new(), json!({"error": "bad token"}).to_string());
    }
    let items: Vec<Value> = (0..3).map(|id| json!({"id": id, "name": format!("item {id}")})).collect();
    match request.call.as_str() {
        "GET /me" => json_response("{}"),
        "GET /schema" => {
            json_response(json!({"items": {"type": "object", "properties": {"id": {"type": "integer"}}}}).to_string())
        }
        "GET /items?page=1" => json_response(json!(items).to_string()),
        _ => json_response("[]"),
    }
}

/// A connection with its steps and the details of its failure.
pub async fn whole(daemon: &Daemon, connection: &Value) -> Value {
    let id = connection["connection_id"].as_str().expect("an id");
    daemon.get(&format!("/connections/{id}")).await.body
}

/// The evidence of a step of a connection.
pub async fn evidence(daemon: &Daemon, connection: &Value, step: &str) -> Value {
    let steps = whole(daemon, connection).await["steps"].as_array().cloned().unwrap_or_default();
    steps.into_iter().find(|one| one["step"] == step).unwrap_or_default()["evidence"].clone()
}

/// The processes whose command line names the connectors of this workspace.
pub fn processes(workspace: &Workspace) -> Vec<String> {
    let folder = workspace.path("connectors").display().to_string();
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    let command = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
    entries.filter_map(command).map(text).filter(|text| text.contains(&folder)).collect()
}
