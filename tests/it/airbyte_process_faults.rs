//! Connectors of Airbyte that do what hurts others. Each is ended or refused, says why, and leaves nothing behind.

use crate::support::airbyte::{TestConnector, connect, evidence, processes, whole};
use crate::support::daemon::{Workspace, until};
use crate::support::network::closed_port;
use serde_json::{Value, json};

const SECRET: &str = "printed-secret-of-the-connector-4711";
/// Shorter than by default, so that a connector that hangs is ended soon.
const TIMEOUTS: &str = "safe_mode: {step_timeout: 10s, attempt_timeout: 40s}\n";

fn fault<'a>(name: &'a str, script: &'a str, config: Value, more: &'a str) -> TestConnector<'a> {
    TestConnector { name, script, config, more }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_floods_forks_or_eats_memory_is_ended_with_all_its_processes() {
    let mut workspace = Workspace::new();
    let connectors = [
        fault("hangs", "hangs", json!({}), ""),
        fault("floods", "floods_stdout", json!({}), ""),
        fault("endless", "floods_stdout", json!({"line": true}), ""),
        fault("tree", "forks_tree", json!({"wait": true}), ""),
        fault("forest", "forks_tree", json!({"wait": true, "width": 6}), "memory: 2GiB"),
        fault("eats", "eats_memory", json!({}), "memory: 128MiB"),
        fault("weaves", "starts_threads", json!({}), ""),
        fault("dies", "dies", json!({}), ""),
        fault("killed", "dies", json!({"signal": 9}), ""),
        fault("silent", "dies", json!({"exit": 0}), ""),
    ];
    connect(&mut workspace, &connectors, &[], TIMEOUTS);
    let daemon = workspace.serve().await;
    for (name, said) in [
        ("hangs", "hangs was ended: it did not answer check within 8s"),
        ("floods", "check of floods failed"),
        ("endless", "check of endless failed"),
        ("tree", "tree was ended: it did not answer check within 8s"),
        ("forest", "processes for check"),
        ("eats", "eats was ended: check needs more memory than 128 MiB"),
        ("dies", "check needs more memory than 512 MiB"),
        ("killed", "killed was ended: check needs more memory than 512 MiB"),
        ("silent", "check of silent failed"),
    ] {
        let failed = daemon.until_connection(name, said, |one| one.to_string().contains(said)).await;
        assert_ne!(failed["status"], "ACTIVE", "{failed}");
    }
    // The kernel counts the threads of every user but root, and then the connector itself fails.
    let stopped = ["threads for check", "check of weaves failed"];
    let weaves =
        daemon.until_connection("weaves", "ended", |one| stopped.iter().any(|said| one.to_string().contains(said))).await;
    assert!(!weaves.to_string().contains("all threads run"), "{weaves}");
    // The retries of the connections end with the daemon.
    daemon.stop().await;
    until("no process is left", || async {
        let left = processes(&workspace);
        (left.is_empty(), format!("{left:?}"))
    })
    .await;
}

/// The checks of these connectors pass only if everything that they try is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_files_other_networks_and_the_environment_are_out_of_reach() {
    let mut workspace = Workspace::new();
    let (_socket, closed) = closed_port();
    let host = format!("127.0.0.1:{closed}");
    let files = json!({"files": [workspace.path("policy/policy.yaml"), workspace.path("var/aam.db"), workspace.path("intents/other_files.json")]});
    let allowed = [
        "PATH",
        "HOME",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "LANG",
        "TZ",
        "PYTHONUNBUFFERED",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONNOUSERSITE",
        "PYTHONPATH",
        "MALLOC_ARENA_MAX",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "http_proxy",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "JAVA_TOOL_OPTIONS",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "AWS_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "HTTPLIB2_CA_CERTS",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ];
    let connectors = [
        fault("other_files", "reads_files", files, ""),
        fault("sockets", "opens_sockets", json!({"targets": [host]}), ""),
        fault("environment", "shows_environment", json!({"allowed": allowed}), ""),
        fault("hides", "hides_memory", json!({}), ""),
    ];
    connect(&mut workspace, &connectors, &[], "");
    let daemon = workspace.serve().await;
    for name in ["other_files", "sockets", "environment", "hides"] {
        let connection = daemon.until_connection(name, "checked", |one| one["status"] != "PENDING" && !one.is_null()).await;
        assert_eq!(connection["status"], "ACTIVE", "{connection}");
    }
    daemon.stop().await;
    assert_eq!(runs(&workspace), 0, "the folders of the runs are removed");
}

/// What is left below the folder of the runs.
fn runs(workspace: &Workspace) -> usize {
    std::fs::read_dir(workspace.path("airbyte/runs")).map_or(0, Iterator::count)
}

async fn until_removed(workspace: &Workspace) {
    until("the folders of the runs are removed", || async {
        let left = runs(workspace);
        (left == 0, left.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connector_leaves_in_its_folder_is_removed_and_it_may_write_its_config() {
    let mut workspace = Workspace::new();
    let secret = json!({"secret": "{credential.token}", "projects": "one two"});
    let connectors = [
        // Deep enough for the stack of a thread that removes it recursively.
        fault("deep", "nests_deep", json!({"secret": "{credential.token}", "levels": 9000}), ""),
        fault("closed", "leaves_closed_folders", secret.clone(), ""),
        fault("migrates", "migrates_config", secret, ""),
    ];
    connect(&mut workspace, &connectors, &[], "safe_mode: {step_timeout: 120s, attempt_timeout: 400s}\n");
    let daemon = workspace.serve().await;
    for name in ["deep", "closed", "migrates"] {
        let connection = daemon.until_connection(name, "checked", |one| one["status"] != "PENDING" && !one.is_null()).await;
        assert_eq!(connection["status"], "ACTIVE", "{connection}");
    }
    until_removed(&workspace).await;
    daemon.stop().await;
}

/// In a container, AAM has the same process id each time, so the name of a folder does not say whether it is in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_process_left_is_removed_at_the_start_also_if_no_connector_runs() {
    let workspace = Workspace::new();
    workspace.write_policy(&format!("allowlist: [filesource]\nairbyte: {{dir: {}}}\n", workspace.path("airbyte").display()));
    for name in [format!("{}-1-a", std::process::id()), "0123456789abcdef".to_string()] {
        let work = workspace.path(&format!("airbyte/runs/{name}/work/tmp_1"));
        std::fs::create_dir_all(&work).expect("created");
        std::fs::write(work.join("config.json"), "{}").expect("written");
    }
    let daemon = workspace.serve().await;
    until_removed(&workspace).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_unknown_messages_and_wide_catalogs_do_no_harm_and_a_printed_secret_is_in_no_file() {
    let mut workspace = Workspace::new();
    let connectors = [
        fault("noisy", "noisy", json!({}), ""),
        fault("unknown", "unknown_messages", json!({}), ""),
        fault("wide", "wide_discover", json!({}), ""),
        fault("unread", "blocks_unread", json!({}), ""),
        fault("lasting", "hangs", json!({"answer_first": true}), ""),
        fault("prints", "prints_secret", json!({"secret": "{credential.token}"}), ""),
    ];
    connect(&mut workspace, &connectors, &[], "");
    workspace.set("VENDOR", &json!({"token": SECRET}).to_string());
    let daemon = workspace.serve().await;
    for name in ["noisy", "unknown", "wide", "unread", "lasting"] {
        daemon.until_state(name, "ACTIVE").await;
    }
    let noisy = daemon.until_state("noisy", "ACTIVE").await;
    let upsert = evidence(&daemon, &noisy, "upsert").await;
    assert!(upsert["process"]["noise_lines"].as_u64().is_some_and(|lines| lines > 3), "{upsert}");
    let unread = daemon.until_state("unread", "ACTIVE").await;
    assert_eq!(unread["first_sync_rows"], 20, "{unread}");
    let prints = daemon.until_connection("prints", "failed", |one| one.to_string().contains("check of prints failed")).await;
    let prints = whole(&daemon, &prints).await.to_string();
    assert!(prints.contains("Login with [redacted] failed"), "{prints}");
    daemon.stop().await;
    let scripts = workspace.path("connectors");
    for (path, bytes) in workspace.files().into_iter().filter(|(path, _)| !path.starts_with(&scripts)) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(SECRET), "the secret is in {}", path.display());
        assert!(!text.contains("jane.doe@example.com"), "a line that is not a message is in {}", path.display());
    }
}
