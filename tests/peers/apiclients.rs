//! Programs that use the API: clients that are generated from the OpenAPI document, Schemathesis, and the reference client of
//! the Model Context Protocol.

use crate::harness::variable;
use crate::support::daemon::{Daemon, Workspace, intent};
use aam::credentials::Secret;
use aam::model::Digest;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

peer_tests! {
    [Apiclients]: a_typescript_client_is_generated_compiled_and_used, a_python_client_is_generated_compiled_and_used,
        schemathesis_finds_nothing, the_reference_client_of_mcp_calls_the_tools_over_stdio_and_http;
}

/// Tokens of the tests. They are not secrets.
const CALLER: &str = "caller-of-the-generated-clients";
const READER: &str = "reader-of-the-generated-clients";

/// A workspace with a token that may do everything in a namespace, and one that may only read there.
fn workspace(more: &str) -> Workspace {
    let workspace = Workspace::new();
    let token = |name: &str, value: &str, scopes: &str| {
        let sha256 = Digest::from_bytes(value.as_bytes());
        format!("    - {{name: {name}, sha256: \"{sha256}\", scopes: [{scopes}], namespaces: [autonomy]}}\n")
    };
    let all = "\"intents:write\", \"registry:read\", \"ops:heal\"";
    let tokens = token("caller", CALLER, all) + &token("reader", READER, "\"registry:read\"");
    workspace.write_policy(&format!("api:\n  rate: {{per_second: 100000, burst: 1000000}}\n{more}  tokens:\n{tokens}"));
    workspace
}

/// Runs a program in the folder `clients` of the workspace and returns its stdout.
fn run(workspace: &Workspace, program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(workspace.path("clients"))
        .env("PATH", format!("{}:{}", variable("APICLIENTS", "BIN"), std::env::var("PATH").unwrap_or_default()))
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{} {arguments:?}\n{stdout}\n{stderr}", program.display());
    stdout
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes the document of the daemon and the named files of the scripts into the folder `clients`.
async fn prepare(workspace: &Workspace, daemon: &Daemon, files: &[(&str, &str)]) {
    let folder = workspace.path("clients");
    std::fs::create_dir(&folder).expect("a folder");
    let document = daemon.get("/openapi.json").await.body;
    std::fs::write(folder.join("openapi.json"), document.to_string()).expect("written");
    for (from, to) in files {
        std::fs::copy(Path::new(&variable("APICLIENTS", "SCRIPTS")).join(from), folder.join(to)).expect("copied");
    }
}

/// Checks what a generated client saw: it pushed, listed, read, healed, counted and read the catalog of one connection.
fn assert_used(stdout: &str) {
    let seen: Value = serde_json::from_str(stdout.trim()).expect("JSON");
    let steps = aam::model::Step::ALL.map(aam::model::Step::as_str);
    assert_eq!((&seen["pushed"], &seen["healed"], &seen["active"]), (&json!("ACTIVE"), &json!("ACTIVE"), &json!(1)), "{seen}");
    assert_eq!((&seen["steps"], &seen["streams"], &seen["code"]), (&json!(steps), &json!(1), &json!("NOT_FOUND")), "{seen}");
    assert_eq!(seen["listed"].as_array().map(Vec::len), Some(1), "{seen}");
}

async fn a_typescript_client_is_generated_compiled_and_used() {
    let workspace = workspace("");
    let file = workspace.csv("a.csv", 3);
    let daemon = workspace.serve().await;
    let files = [("apiclients_client.ts", "client.ts"), ("apiclients_mistakes.ts", "mistakes.ts")];
    prepare(&workspace, &daemon, &files).await;
    let modules = variable("APICLIENTS", "MODULES");
    std::os::unix::fs::symlink(&modules, workspace.path("clients/node_modules")).expect("linked");
    let node = Path::new("node");
    run(&workspace, node, &["node_modules/openapi-typescript/bin/cli.js", "openapi.json", "-o", "api.d.ts"]);
    let compiler = ["node_modules/typescript/bin/tsc", "--strict", "--target", "es2022", "--module", "nodenext"];
    let files = ["--moduleResolution", "nodenext", "--outDir", "out", "client.ts", "mistakes.ts"];
    run(&workspace, node, &[&compiler[..], &files[..]].concat());
    assert_used(&run(&workspace, node, &["out/client.js", &daemon.url(""), CALLER, &file]));
}

async fn a_python_client_is_generated_compiled_and_used() {
    let workspace = workspace("");
    let file = workspace.csv("a.csv", 3);
    let daemon = workspace.serve().await;
    let files = [("apiclients_client.py", "client.py"), ("apiclients_mistakes.py", "mistakes.py")];
    prepare(&workspace, &daemon, &files).await;
    let bin = |name: &str| Path::new(&variable("APICLIENTS", "BIN")).join(name);
    let generate = ["generate", "--path", "openapi.json", "--output-path", "generated"];
    run(&workspace, &bin("openapi-python-client"), &generate);
    std::fs::rename(workspace.path("clients/generated/aam_client"), workspace.path("clients/aam_client")).expect("moved");
    run(&workspace, &bin("python"), &["-m", "compileall", "-q", "aam_client"]);
    run(&workspace, &bin("mypy"), &["--warn-unused-ignores", "client.py", "mistakes.py"]);
    assert_used(&run(&workspace, &bin("python"), &["client.py", &daemon.url(""), CALLER, &file]));
}

/// Calls every operation with and without a token, with valid and with invalid data, and with all checks.
async fn schemathesis_finds_nothing() {
    let workspace = workspace("");
    let file = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &file));
    let daemon = workspace.serve().await;
    prepare(&workspace, &daemon, &[("apiclients_schemathesis.toml", "schemathesis.toml")]).await;
    let program = Path::new(&variable("APICLIENTS", "BIN")).join("schemathesis");
    let document = daemon.url("/openapi.json");
    let authorization = format!("Authorization: Bearer {CALLER}");
    // The stream of events does not end by itself; tests/it/events.rs reads it.
    let common = [
        "run",
        &document,
        "--checks",
        "all",
        "--max-examples",
        "4",
        "--max-time",
        "45",
        "--seed",
        "1",
        "--exclude-checks",
        // The history of a connection stays readable after it was withdrawn.
        "use_after_free",
        "--exclude-path",
        "/events",
    ];
    let with_token = [&common[..], &["--header", &authorization][..]].concat();
    run(&workspace, &program, &with_token);
    run(&workspace, &program, &common);
    assert_eq!(daemon.get("/readyz").await.status, 200);
}

/// Starts the reference client and sends it the calls.
fn mcp(workspace: &Workspace, arguments: &[&str], token: Option<&str>, calls: &Value) -> Value {
    let script = Path::new(&variable("APICLIENTS", "SCRIPTS")).join("mcp_check.py");
    let mut command = Command::new(Path::new(&variable("APICLIENTS", "BIN")).join("python"));
    command.arg(script).args(arguments).envs(workspace.command(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(token) = token {
        command.env("AAM_TOKEN", token);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts");
    child.stdin.take().expect("stdin").write_all(calls.to_string().as_bytes()).expect("written");
    let output = child.wait_with_output().expect("the client ends");
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

fn names(seen: &Value) -> Vec<&str> {
    seen["tools"].as_array().into_iter().flatten().filter_map(|tool| tool["name"].as_str()).collect()
}

async fn the_reference_client_of_mcp_calls_the_tools_over_stdio_and_http() {
    let workspace = workspace("  mcp: true\n");
    let file = workspace.csv("a.csv", 3);
    workspace.intent_file("a.json", &intent("filesource", &file));
    let mut daemon = workspace.serve().await;
    daemon.token = Secret::new(CALLER.to_string());
    let id = daemon.until_state(&file, "ACTIVE").await["connection_id"].clone();
    let calls = json!([
        ["get_funnel", {}],
        ["list_connections", {"state": "ACTIVE"}],
        ["get_connection", {"connection_id": id}],
        ["get_catalog", {"connection_id": id}],
        ["get_drift", {"connection_id": id}],
        ["get_plan", {}],
        ["get_family", {"name": "github"}],
        ["verify_connection", {"connection_id": id}],
    ]);
    let port = daemon.port.to_string();
    let binary = env!("CARGO_BIN_EXE_aam");
    let (stdio, http) = (["stdio", binary, "mcp", "--port", &port], daemon.url("/mcp"));
    for seen in [mcp(&workspace, &stdio, Some(CALLER), &calls), mcp(&workspace, &["http", &http, CALLER], None, &calls)] {
        assert_eq!(seen["server"]["serverInfo"]["name"], "aam");
        assert!(names(&seen).contains(&"verify_connection"));
        let result = |index: usize| &seen["results"][index]["structuredContent"];
        assert!(seen["results"].as_array().unwrap().iter().all(|result| result["isError"] == false), "{}", seen["results"]);
        assert_eq!(result(0)["active"], 1);
        assert_eq!(result(1)["connections"][0]["connection_id"], id);
        assert_eq!(result(2)["steps"].as_array().map(Vec::len), Some(7));
        assert_eq!(result(3)["streams_total"], 1);
        assert_eq!(result(5)["checks"][0]["connection_id"], id);
        assert_eq!(result(7)["status"], "ACTIVE");
    }
    // The token of a reader neither sees nor may call the check.
    let calls = json!([["verify_connection", {"connection_id": id}]]);
    for seen in [mcp(&workspace, &stdio, Some(READER), &calls), mcp(&workspace, &["http", &http, READER], None, &calls)] {
        assert!(!names(&seen).contains(&"verify_connection") && names(&seen).contains(&"get_funnel"));
        assert_eq!(
            (&seen["results"][0]["isError"], &seen["results"][0]["structuredContent"]["code"]),
            (&json!(true), &json!("SCOPE_MISSING"))
        );
    }
}
