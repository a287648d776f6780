//! Airbyte's own connectors from the package registry, as processes of the built binary: source-faker, source-file, source-okta,
//! source-gitlab and source-github against the sandbox, source-s3 against moto. Where AAM has an engine of its own for the source,
//! both run beside each other, and what they say is compared.

use crate::harness::{PeerTest, variable};
use crate::support::airbyte::{evidence, whole};
use crate::support::daemon::{Daemon, Workspace, intent, intent_with_locator};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The time in which a connection is checked, discovered and read. A connector in Python takes seconds for each command, and
/// more on a machine that does other work.
const MAX_WAIT: Duration = Duration::from_secs(300);
const SAFE_MODE: &str = "safe_mode: {max_items: 20, step_timeout: 90s, attempt_timeout: 280s}\n";

const OKTA_TOKEN: &str = "00sandboxReadOnlyAdministratorToken0000000";

mod faker {
    use super::sample_data_is_made_without_a_request;
    peer_tests! { [AirbyteConnectors]: sample_data_is_made_without_a_request; }
}

mod file {
    use super::a_file_of_the_web_is_read_and_a_missing_one_is_named;
    peer_tests! { [AirbyteConnectors]: a_file_of_the_web_is_read_and_a_missing_one_is_named; }
}

mod okta {
    use super::{okta_is_ended_when_its_host_is_refused, okta_says_the_same_as_aam_s_own_engine};
    peer_tests! { [AirbyteConnectors]: okta_says_the_same_as_aam_s_own_engine, okta_is_ended_when_its_host_is_refused; }
}

mod gitlab {
    use super::gitlab_says_the_same_as_aam_s_own_engine;
    peer_tests! { [AirbyteConnectors]: gitlab_says_the_same_as_aam_s_own_engine; }
}

mod github {
    use super::github_says_the_same_as_aam_s_own_engine;
    peer_tests! { [AirbyteConnectors]: github_says_the_same_as_aam_s_own_engine; }
}

mod s3 {
    use super::s3_reads_the_objects_that_aam_s_own_engine_lists;
    peer_tests! { [AirbyteConnectors, Moto]: s3_reads_the_objects_that_aam_s_own_engine_lists; }
}

/// The tests. `AIRBYTE_CONNECTORS` may leave out connectors that take long to install; their tests are left out too.
pub fn tests() -> Vec<PeerTest> {
    let present = |name: &str| std::env::var_os(format!("AAM_TEST_AIRBYTE_CONNECTORS_{name}")).is_some();
    let all = [
        ("FAKER", faker::tests()),
        ("FILE", file::tests()),
        ("OKTA", okta::tests()),
        ("GITLAB", gitlab::tests()),
        ("GITHUB", github::tests()),
        ("S3", s3::tests()),
    ];
    let is_started = present("PYTHON_VERSION");
    for (name, _) in all.iter().filter(|(name, _)| is_started && !present(name)) {
        eprintln!("NOT TESTED: source-{}, which AIRBYTE_CONNECTORS leaves out", name.to_lowercase());
    }
    all.into_iter().filter(|(name, _)| !is_started || present(name)).flat_map(|(_, tests)| tests).collect()
}

/// A connector of the policy.
struct Installed<'a> {
    source_type: &'a str,
    /// Without `source-`.
    name: &'a str,
    /// Further keys, each a line.
    more: Vec<String>,
}

/// Held while a test marks an environment as complete.
static MARKING: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Makes the installed connectors packages of the workspace, and writes a policy with them and with the families of `own`.
fn write_policy(workspace: &Workspace, connectors: &[Installed<'_>], own: &[&str], more: &str) {
    let folder = workspace.path("airbyte");
    std::fs::create_dir_all(&folder).unwrap();
    let types: Vec<&str> = connectors.iter().map(|one| one.source_type).chain(own.iter().copied()).collect();
    let mut text = format!(
        "allowlist: [{}]\n{SAFE_MODE}{more}airbyte:\n  dir: {}\n  memory: 2GiB\n  connectors:\n",
        types.join(", "),
        folder.display()
    );
    for Installed { source_type, name, more } in connectors {
        let program = PathBuf::from(variable("AIRBYTE_CONNECTORS", &name.to_uppercase()));
        let version = &aam::families::airbyte::find(&format!("source-{name}")).unwrap().version;
        let environment = program.parent().and_then(Path::parent).unwrap();
        let link = folder.join(format!("source-{name}-{version}"));
        if !link.exists() {
            std::os::unix::fs::symlink(environment, &link).unwrap();
            // As the end of aam airbyte install. These connectors were installed without a lock file. Several tests link the same
            // environment, and the marker is written through a temporary file with one name.
            let _one_at_a_time = MARKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            aam::connectors::airbyte::environment::mark_complete(&link, aam::model::Digest::default()).unwrap();
        }
        text.push_str(&format!("    {source_type}:\n      run: airbyte-source-{name}\n      version: \"{version}\"\n"));
        for line in more {
            text.push_str(&format!("      {line}\n"));
        }
    }
    workspace.write_policy(&text);
}

/// The part of the policy that leads all calls to the sandbox.
fn sandbox() -> String {
    let (proxy, ca) = (variable("AIRBYTE_CONNECTORS", "SANDBOX"), variable("AIRBYTE_CONNECTORS", "CA"));
    format!("network: {{allow_private: [127.0.0.0/8], proxy: \"{proxy}\", ca_file: {ca}}}\n")
}

/// Waits until the connection of `source_type` has a state that is not PENDING; returns it.
async fn settled(daemon: &Daemon, source_type: &str) -> Value {
    let until = Instant::now() + MAX_WAIT;
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        let all = daemon.connections().await;
        let found = all.into_iter().find(|one| one["source_type"] == source_type).unwrap_or_default();
        if !found.is_null() && found["status"] != "PENDING" {
            return whole(daemon, &found).await;
        }
        assert!(Instant::now() < until, "{source_type} is not settled: {found}; log:\n{}", daemon.log());
        ticks.tick().await;
    }
}

/// Waits until the connection is ACTIVE; returns it.
async fn active(daemon: &Daemon, source_type: &str) -> Value {
    let found = settled(daemon, source_type).await;
    assert_eq!(found["status"], "ACTIVE", "{found:#}");
    found
}

/// The names of the streams of a connection's catalog.
async fn streams(daemon: &Daemon, connection: &Value) -> BTreeSet<String> {
    let id = connection["connection_id"].as_str().unwrap();
    let catalog = daemon.get(&format!("/connections/{id}/catalog")).await.body;
    let streams = catalog["catalog"]["streams"].as_array().or(catalog["streams"].as_array()).cloned();
    let names = streams.unwrap_or_default().into_iter().filter_map(|stream| Some(stream["name"].as_str()?.to_string()));
    names.collect()
}

/// The milliseconds that all steps of the last attempt took.
fn took(connection: &Value) -> u64 {
    let steps = connection["steps"].as_array().unwrap();
    steps.iter().filter_map(|step| step["duration_ms"].as_u64()).sum()
}

/// Prints what a connector took, for the table of docs/airbyte.md.
async fn report(daemon: &Daemon, connection: &Value) {
    let mut parts = Vec::new();
    for step in ["upsert", "discover", "tiny_sync"] {
        let process = evidence(daemon, connection, step).await["process"].clone();
        parts.push(format!("{step} {} ms, {}, {} requests", process["ms"], process["memory"], process["requests"]));
    }
    eprintln!("{}: {} ms; {}", connection["source_type"], took(connection), parts.join("; "));
}

/// Nothing of the runs is left, and the secret is in no file.
fn left_clean(workspace: &Workspace, secret: &str) {
    let runs = std::fs::read_dir(workspace.path("airbyte/runs")).map_or(0, Iterator::count);
    assert_eq!(runs, 0, "the folders of the runs are removed");
    for (path, bytes) in workspace.files() {
        let is_installed = path.starts_with(workspace.path("airbyte"));
        assert!(is_installed || !String::from_utf8_lossy(&bytes).contains(secret), "the secret is in {}", path.display());
    }
}

async fn sample_data_is_made_without_a_request() {
    let workspace = Workspace::new();
    write_policy(&workspace, &[Installed { source_type: "faker", name: "faker", more: Vec::new() }], &[], "");
    workspace.intent_file("faker.json", &intent("faker", "sample"));
    let daemon = workspace.serve().await;
    let found = active(&daemon, "faker").await;
    assert_eq!(found["first_sync_rows"], 20, "{found:#}");
    assert_eq!(streams(&daemon, &found).await, ["products", "purchases", "users"].map(str::to_string).into());
    let upsert = evidence(&daemon, &found, "upsert").await;
    assert_eq!((&upsert["process"]["requests"], &upsert["not_confined"]), (&json!(0), &Value::Null), "{upsert}");
    report(&daemon, &found).await;
    daemon.stop().await;
}

async fn a_file_of_the_web_is_read_and_a_missing_one_is_named() {
    let (base, ca) = (variable("AIRBYTE_CONNECTORS", "FILES"), variable("AIRBYTE_CONNECTORS", "FILES_CA"));
    let network = format!("network: {{allow_private: [127.0.0.0/8, \"::1/128\"], ca_file: {ca}}}\n");
    for (file, class) in [("orders.csv", Value::Null), ("gone.csv", json!("not_found"))] {
        let workspace = Workspace::new();
        write_policy(&workspace, &[Installed { source_type: "airbyte_file", name: "file", more: Vec::new() }], &[], &network);
        workspace.intent_file("file.json", &intent("airbyte_file", &format!("{base}/{file}")));
        let daemon = workspace.serve().await;
        let found = settled(&daemon, "airbyte_file").await;
        assert_eq!(found["error"]["class"], class, "{found:#}");
        if class.is_null() {
            assert_eq!((&found["first_sync_rows"], streams(&daemon, &found).await), (&json!(20), ["file".to_string()].into()));
            report(&daemon, &found).await;
        }
        daemon.stop().await;
    }
}

/// A family that AAM's own engine serves, and beside it the connector as a source type of its own.
struct Pair<'a> {
    family: &'a str,
    resource_id: &'a str,
    credential: Value,
    /// Further keys of the connector, and further lines of the policy.
    more: Vec<String>,
    policy: String,
}

impl Pair<'_> {
    fn process(&self) -> String {
        format!("{}_process", self.family)
    }

    /// Starts a daemon with both. The credential replaces the one of the pair.
    async fn start(&self, credential: &Value) -> (Workspace, Daemon) {
        let mut workspace = Workspace::new();
        let process = self.process();
        let connector = Installed { source_type: &process, name: self.family, more: self.more.clone() };
        write_policy(&workspace, &[connector], &[self.family], &self.policy);
        workspace.set("SOURCE", &credential.to_string());
        for source_type in [self.family, &process] {
            let intent = intent_with_locator(source_type, self.resource_id, "env:SOURCE");
            workspace.intent_file(&format!("{source_type}.json"), &intent);
        }
        let daemon = workspace.serve().await;
        (workspace, daemon)
    }

    /// Both become active. Returns the names of their streams: those of the process, and those of the family.
    async fn agree(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (workspace, daemon) = self.start(&self.credential).await;
        let own = active(&daemon, self.family).await;
        let process = active(&daemon, &self.process()).await;
        let rows = process["first_sync_rows"].as_u64();
        assert!(rows.is_some_and(|rows| (1..=20).contains(&rows)), "{process:#}");
        let upsert = evidence(&daemon, &process, "upsert").await;
        assert_eq!((&upsert["check"], &upsert["not_confined"]), (&json!("succeeded"), &Value::Null), "{upsert}");
        report(&daemon, &process).await;
        eprintln!("{}: {} ms", self.family, took(&own));
        let names = (streams(&daemon, &process).await, streams(&daemon, &own).await);
        daemon.stop().await;
        for secret in self.credential.as_object().unwrap().values() {
            left_clean(&workspace, secret.as_str().unwrap());
        }
        names
    }

    /// Both refuse `credential` with the same class, which is `credential_rejected`.
    async fn refuse(&self, credential: &Value) {
        let (_workspace, daemon) = self.start(credential).await;
        let (own, process) = (settled(&daemon, self.family).await, settled(&daemon, &self.process()).await);
        for one in [&own, &process] {
            assert_eq!(
                (&one["status"], &one["error"]["class"]),
                (&json!("AWAITING_CREDENTIALS"), &json!("credential_rejected")),
                "{one:#}"
            );
        }
        daemon.stop().await;
    }
}

/// The streams that AAM's interpreter discovers in the manifest of a connector's package.
fn streams_of_manifest(name: &str, config: &Value) -> BTreeSet<String> {
    let program = PathBuf::from(variable("AIRBYTE_CONNECTORS", &name.to_uppercase()));
    let libraries = program.parent().and_then(Path::parent).unwrap().join("lib");
    let python = std::fs::read_dir(libraries).unwrap().flatten().next().unwrap().path();
    let manifest = python.join(format!("site-packages/source_{name}/manifest.yaml"));
    let workspace = Workspace::new();
    std::fs::write(workspace.path("config.json"), config.to_string()).unwrap();
    let began = Instant::now();
    let ran =
        workspace.run(&["lowcode", "discover", "-q", "--config", "config.json", "--manifest", &manifest.display().to_string()]);
    eprintln!("aam lowcode discover of {name}: {} ms", began.elapsed().as_millis());
    let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
    let mut messages = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let found = messages.find(|message| message["type"] == "CATALOG").unwrap_or_else(|| panic!("{ran:?}"));
    let streams = found["catalog"]["streams"].as_array().unwrap();
    streams.iter().filter_map(|stream| stream["name"].as_str().map(str::to_string)).collect()
}

fn shared(names: &(BTreeSet<String>, BTreeSet<String>)) -> Vec<&str> {
    names.0.intersection(&names.1).map(String::as_str).collect()
}

async fn okta_says_the_same_as_aam_s_own_engine() {
    let pair = Pair {
        family: "okta",
        resource_id: "acme.okta.com",
        credential: json!({"api_token": OKTA_TOKEN}),
        more: Vec::new(),
        policy: sandbox(),
    };
    let names = pair.agree().await;
    // The connector does not read the apps, which the family lists.
    assert_eq!(shared(&names), ["groups", "users"], "{names:?}");
    assert_eq!(
        names.0,
        streams_of_manifest(
            "okta",
            &json!({"domain": "acme", "credentials": {"auth_type": "api_token", "api_token": OKTA_TOKEN}})
        )
    );
    pair.refuse(&json!({"api_token": "00sandboxTokenThatWasNeverIssued0000000000"})).await;
}

async fn okta_is_ended_when_its_host_is_refused() {
    let mut workspace = Workspace::new();
    let more = vec!["hosts: [elsewhere.example]".to_string()];
    write_policy(&workspace, &[Installed { source_type: "okta", name: "okta", more }], &[], &sandbox());
    workspace.set("SOURCE", &json!({"api_token": OKTA_TOKEN}).to_string());
    workspace.intent_file("okta.json", &intent_with_locator("okta", "acme.okta.com", "env:SOURCE"));
    let daemon = workspace.serve().await;
    let found = settled(&daemon, "okta").await;
    assert_eq!(found["error"]["class"], "egress_refused", "{found:#}");
    assert!(
        found["error"]["title"].as_str().is_some_and(|title| title.contains("acme.okta.com/api/v1/users was not sent")),
        "{found:#}"
    );
    // The connector itself would wait for a minute, five times.
    assert!(took(&found) < 60_000, "{found:#}");
    daemon.stop().await;
}

async fn gitlab_says_the_same_as_aam_s_own_engine() {
    let pair = Pair {
        family: "gitlab",
        resource_id: "acme",
        credential: json!({"token": "glpat-sandbox-reader"}),
        more: Vec::new(),
        policy: sandbox(),
    };
    let names = pair.agree().await;
    assert!(names.0.contains("projects") && names.1.contains("projects"), "{names:?}");
    pair.refuse(&json!({"token": "glpat-sandbox-nobody"})).await;
}

async fn github_says_the_same_as_aam_s_own_engine() {
    let pair = Pair {
        family: "github",
        resource_id: "acme",
        credential: json!({"token": "github_pat_sandbox_reader"}),
        more: Vec::new(),
        policy: sandbox(),
    };
    let names = pair.agree().await;
    assert!(names.0.contains("repositories"), "{names:?}");
    pair.refuse(&json!({"token": "github_pat_sandbox_nobody"})).await;
}

async fn s3_reads_the_objects_that_aam_s_own_engine_lists() {
    let endpoint = variable("MOTO", "ENDPOINT");
    let config = json!({
        "bucket": "{resource_id.host}", "endpoint": endpoint, "region_name": "us-east-1",
        "credentials": {"auth_type": "iam_user", "aws_access_key_id": "{credential.access_key_id}", "aws_secret_access_key": "{credential.secret_access_key}"},
        "streams": [{"name": "csv", "globs": ["**/*.csv"], "format": {"filetype": "csv"}, "validation_policy": "Emit Record", "days_to_sync_if_history_is_full": 3, "schemaless": false}],
    });
    let (id, secret) = (variable("MOTO", "READER_KEY_ID"), variable("MOTO", "READER_SECRET"));
    let pair = Pair {
        family: "s3",
        resource_id: "aam-tables",
        credential: json!({"access_key_id": id, "secret_access_key": secret}),
        more: vec![format!("config: {config}"), format!("hosts: [\"{endpoint}\"]")],
        policy: format!("families: {{s3: {{base_url: \"{endpoint}\"}}}}\n"),
    };
    let (process, own) = pair.agree().await;
    // The family describes the folders and reads no object; the connector reads the tables in them.
    assert_eq!(process, ["csv".to_string()].into());
    assert!(own.contains("sales/"), "{own:?}");
    pair.refuse(&json!({"access_key_id": id, "secret_access_key": "not-the-secret-of-this-key"})).await;
}
