//! The built binary in a temporary workspace, driven over real sockets and files.

use super::network::free_port;
use super::operator_token::token_below;
use aam::credentials::Secret;
use aam::server::routes::{Access, Method, PAGES};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a test waits for a condition before it fails.
const MAX_WAIT: Duration = Duration::from_secs(150);

/// A folder with intents, policy, data and registry.
pub struct Workspace {
    pub dir: tempfile::TempDir,
    pub env: Vec<(String, String)>,
}

/// A running `aam serve`. Killed when dropped.
pub struct Daemon {
    child: Child,
    pub port: u16,
    pub token: Secret,
    log: PathBuf,
    client: reqwest::Client,
}

/// Status, headers and JSON body of a response of the API.
pub struct ApiResponse {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Workspace {
    /// A workspace whose policy allows the families that work without a vendor, calls to loopback, and its data folder.
    pub fn new() -> Workspace {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for folder in ["intents", "data", "policy"] {
            std::fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        let workspace = Workspace { dir, env: Vec::new() };
        workspace.write_policy("");
        workspace
    }

    /// The path of `name` in the workspace.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the standard policy with `more` lines; a key in `more` replaces the standard one.
    pub fn write_policy(&self, more: &str) {
        let data = self.path("data");
        let standard = [
            ("version", "1".to_string()),
            ("allowlist", "[filesource, jdbc, postgres, openapi, s3, s3_compat]".to_string()),
            ("files", format!("{{roots: [{}]}}", data.display())),
            ("network", "{allow_private: [127.0.0.0/8]}".to_string()),
            ("backoff", "{initial: 200ms, max: 2s, jitter: 0.0}".to_string()),
            ("reconcile", "{concurrency: 16, resync: 1s}".to_string()),
        ];
        let mut text = String::new();
        for (key, value) in standard {
            if !more.lines().any(|line| line.starts_with(&format!("{key}:"))) {
                text.push_str(&format!("{key}: {value}\n"));
            }
        }
        text.push_str(more);
        self.replace("policy/policy.yaml", text.as_bytes());
    }

    /// Writes a file as an editor does: to a temporary name, then renamed over the old file.
    pub fn replace(&self, name: &str, bytes: &[u8]) {
        let (path, draft) = (self.path(name), self.path(&format!("{name}.draft")));
        std::fs::write(&draft, bytes).expect("write");
        std::fs::rename(draft, path).expect("rename");
    }

    /// Writes a CSV file into the data folder; returns its path.
    pub fn csv(&self, name: &str, rows: usize) -> String {
        let mut text = "id,name\n".to_string();
        for row in 0..rows {
            text.push_str(&format!("{row},name {row}\n"));
        }
        let path = self.path("data").join(name);
        std::fs::write(&path, text).expect("write");
        path.display().to_string()
    }

    /// Writes one intent file.
    pub fn intent_file(&self, name: &str, intent: &Value) {
        self.replace(&format!("intents/{name}"), intent.to_string().as_bytes());
    }

    /// Sets an environment variable of the binary.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(key, _)| key != name);
        self.env.push((name.to_string(), value.to_string()));
    }

    /// The binary, with the paths of this workspace in its environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aam"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("AAM_INTENTS", self.path("intents"))
            .env("AAM_POLICY", self.path("policy/policy.yaml"))
            .env("AAM_REGISTRY", self.path("var/aam.db"))
            .envs(self.env.iter().cloned());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// Starts `aam serve` on a free port and waits until it is ready.
    pub async fn serve(&self) -> Daemon {
        self.serve_on(0).await
    }

    /// Starts `aam serve` on `port`, or on a free port if it is 0, and waits until it is ready.
    pub async fn serve_on(&self, port: u16) -> Daemon {
        let mut daemon = self.start_on(port);
        assert_ne!(daemon.port, 0, "the daemon printed no port; log:\n{}", daemon.log());
        let ready = daemon.url("/readyz");
        until("the daemon is ready", || async {
            match daemon.client.get(&ready).send().await {
                Ok(answer) => (answer.status() == 200, format!("{}", answer.status())),
                Err(error) => (false, error.to_string()),
            }
        })
        .await;
        daemon.token = self.token();
        daemon
    }

    fn token(&self) -> Secret {
        let is_database = self.env.iter().any(|(name, value)| name == "AAM_REGISTRY" && value.starts_with("postgres:"));
        token_below(&self.path("var"), if is_database { "postgres-" } else { "aam.db" })
    }

    /// Starts `aam serve` on a free port. `port` is 0 if the process ended before it printed one.
    pub fn start(&self) -> Daemon {
        self.start_on(0)
    }

    /// Starts `aam serve` on a free port and does not wait for anything, because another daemon may hold the registry.
    /// [`Daemon::until_ready`] waits.
    pub fn start_waiting(&self) -> Daemon {
        self.spawn(free_port(), Stdio::null())
    }

    fn start_on(&self, port: u16) -> Daemon {
        let mut daemon = self.spawn(port, Stdio::piped());
        daemon.port = daemon.read_port(self.append_to_log());
        daemon
    }

    fn append_to_log(&self) -> std::fs::File {
        std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("log")
    }

    fn spawn(&self, port: u16, stdout: Stdio) -> Daemon {
        // The client needs a crypto provider although it only uses plain HTTP here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let filter = self.env.iter().find(|(name, _)| name == "AAM_LOG").map_or("info,aam=debug", |(_, value)| value);
        let child = self
            .command(&["serve", "--port", &port.to_string()])
            .env("AAM_LOG", filter)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(self.append_to_log())
            .spawn()
            .expect("the binary starts");
        Daemon {
            child,
            port,
            token: self.token(),
            log: self.path("log"),
            // Shorter than the time after which the daemon closes a connection that is not used.
            client: reqwest::Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(5)).build().expect("client"),
        }
    }

    /// A new token with these scopes and namespaces, and its entry for `api.tokens`. It may name every locator.
    pub fn new_token(&self, name: &str, scopes: &str, namespaces: &str) -> (Secret, String) {
        let output = self.run(&["token", "new", "--name", name, "--format", "json"]);
        let value: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        let entry = format!(
            "{{name: {name}, sha256: \"{}\", scopes: [{scopes}], namespaces: [{namespaces}], locators: [\"env:*\"]}}",
            value["sha256"].as_str().expect("a digest")
        );
        (Secret::new(value["token"].as_str().expect("a token").to_string()), entry)
    }

    /// The number of rows in the ledger. Fails unless `aam verify` finds the hash chain intact.
    pub fn rows(&self) -> u64 {
        let output = self.run(&["verify", "--format", "json"]);
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert!(output.status.success() && verdict["broken"].is_null(), "{verdict} {}", stderr(&output));
        verdict["rows"].as_u64().expect("rows")
    }

    /// Every file in the workspace with its content: registry, logs, token file, and the files that the test wrote.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect_files(self.dir.path(), &mut files);
        files
    }
}

fn collect_files(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if let Ok(bytes) = std::fs::read(&path) {
            files.push((path, bytes));
        }
    }
}

impl Daemon {
    /// Reads the port from the first line of stdout, or returns 0 if the line does not contain one. Appends the other
    /// lines to the log.
    fn read_port(&mut self, mut log: std::fs::File) -> u16 {
        use std::io::{BufRead, BufReader, Write};
        let mut lines = BufReader::new(self.child.stdout.take().expect("stdout")).lines();
        let first = lines.next().and_then(Result::ok).unwrap_or_default();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = writeln!(log, "stdout: {line}");
            }
        });
        let address = first.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        address.and_then(|address| address.rsplit(':').next()?.parse().ok()).unwrap_or(0)
    }

    /// Waits until the daemon is ready, which may take as long as another daemon holds the registry.
    pub async fn until_ready(&mut self) {
        let ready = self.url("/readyz");
        until("the daemon is ready", || async {
            match self.client.get(&ready).timeout(std::time::Duration::from_secs(2)).send().await {
                Ok(answer) => (answer.status() == 200, answer.status().to_string()),
                Err(error) => (false, error.to_string()),
            }
        })
        .await;
        self.token = token_below(&self.log.with_file_name("var"), "postgres-");
    }

    /// The log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub async fn get(&self, path: &str) -> ApiResponse {
        send(self.client.get(self.url(path)).bearer_auth(self.token.expose())).await
    }

    pub async fn delete(&self, path: &str) -> ApiResponse {
        send(self.client.delete(self.url(path)).bearer_auth(self.token.expose())).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> ApiResponse {
        self.post_with(path, body, "wait=30").await
    }

    pub async fn post_with(&self, path: &str, body: &Value, prefer: &str) -> ApiResponse {
        let request = self.client.post(self.url(path)).bearer_auth(self.token.expose());
        send(request.header("content-type", "application/json").header("prefer", prefer).body(body.to_string())).await
    }

    /// Posts a text of any media type.
    pub async fn post_text(&self, path: &str, media_type: &str, text: &str) -> ApiResponse {
        let request = self.client.post(self.url(path)).bearer_auth(self.token.expose());
        send(request.header("content-type", media_type).header("prefer", "wait=30").body(text.to_string())).await
    }

    /// Pushes an intent; returns the status, or `None` if the daemon ended before it answered.
    pub async fn try_push(&self, intent: &Value) -> Option<u16> {
        let request = self.client.post(self.url("/connections/onboard")).bearer_auth(self.token.expose());
        let request = request.header("content-type", "application/json").header("prefer", "respond-async");
        request.body(intent.to_string()).send().await.ok().map(|answer| answer.status().as_u16())
    }

    pub async fn push(&self, intent: &Value) -> ApiResponse {
        self.post("/connections/onboard", intent).await
    }

    pub async fn funnel(&self) -> Value {
        self.get("/metrics/funnel?namespace=autonomy").await.body
    }

    /// All connections of the namespace.
    pub async fn connections(&self) -> Vec<Value> {
        let response = self.get("/connections?namespace=autonomy&limit=1000").await;
        response.body["connections"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until the connection of `resource_id` satisfies `wanted`; returns the connection.
    pub async fn until_connection(&self, resource_id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = std::cell::RefCell::new(Value::Null);
        until(what, || async {
            let all = self.connections().await;
            let one = all.into_iter().find(|one| one["resource_ids"][0] == resource_id).unwrap_or_default();
            let done = wanted(&one);
            let text = one.to_string();
            found.replace(one);
            (done, text)
        })
        .await;
        found.into_inner()
    }

    /// Waits until the connection of `resource_id` is in `state`; returns the connection.
    pub async fn until_state(&self, resource_id: &str, state: &str) -> Value {
        self.until_connection(resource_id, state, |one| one["status"] == state).await
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("SIGTERM is sent");
    }

    /// Sends SIGTERM and waits for the end; returns the exit code.
    pub async fn stop(self) -> Option<i32> {
        self.terminate();
        self.ended().await.code()
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> std::process::ExitStatus {
        until("the daemon ends", || {
            let ended = self.child.try_wait().ok().flatten().is_some();
            async move { (ended, String::new()) }
        })
        .await;
        self.child.wait().expect("the exit status")
    }

    /// The ledger entries of one connection that have `kind`, newest first.
    pub async fn entries(&self, connection: &Value, kind: &str) -> Vec<Value> {
        self.history(connection).await.into_iter().filter(|entry| entry["kind"] == kind).collect()
    }

    /// The ledger entries of one connection, newest first.
    pub async fn history(&self, connection: &Value) -> Vec<Value> {
        let id = connection["connection_id"].as_str().unwrap_or_default();
        let response = self.get(&format!("/connections/{id}/versions?limit=1000")).await;
        response.body["versions"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn send(request: reqwest::RequestBuilder) -> ApiResponse {
    let response = request.send().await.expect("a response");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap_or_default();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    ApiResponse { status, headers, body }
}

/// Calls `probe` every 15 ms until it returns true. Fails after [`MAX_WAIT`] with the last observation of `probe`.
pub async fn until<F: Future<Output = (bool, String)>>(what: &str, mut probe: impl FnMut() -> F) {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(15));
    loop {
        let (done, observed) = probe().await;
        if done {
            return;
        }
        assert!(started.elapsed() < MAX_WAIT, "timed out waiting until {what}; last observation: {observed}");
        ticks.tick().await;
    }
}

/// The addresses of all pages that a token opens with GET, with those of the connections `ids` and of the family filesource.
/// Streams are left out.
#[must_use]
pub fn page_paths(ids: &[String]) -> Vec<String> {
    let pages = PAGES.iter().filter(|route| matches!(route.access, Access::Page(_)) && route.method == Method::Get);
    let mut paths = Vec::new();
    for path in pages.map(|route| route.path).filter(|path| *path != "/ui/live") {
        match path.contains("{id}") {
            true => paths.extend(ids.iter().map(|id| path.replace("{id}", id))),
            false => paths.push(path.replace("{name}", "filesource")),
        }
    }
    paths
}

/// A sanctioned intent for one resource.
pub fn intent(source_type: &str, resource_id: &str) -> Value {
    json!({
        "source_type": source_type,
        "resource_ids": [resource_id],
        "scopes_mode": "safe_readonly",
        "namespace": "autonomy",
        "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "CMDB", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.95, "why": "admin"}
    })
}

/// A sanctioned intent whose credential is at `locator`.
pub fn intent_with_locator(source_type: &str, resource_id: &str, locator: &str) -> Value {
    let mut document = intent(source_type, resource_id);
    document["credential_locator"] = json!(locator);
    document
}

/// stdout of a finished command, as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// stderr of a finished command, as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
