//! OpenBao as its administrator, and a workspace whose policy names it.

use crate::harness::{http_client, variable};
use crate::support::daemon::{Workspace, intent_with_locator, stderr};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};

/// One of the servers of the peer.
pub struct Bao {
    pub url: String,
    pub token: String,
    key: String,
    client: reqwest::Client,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test uses.
pub fn unique(name: &str) -> String {
    format!("{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}

impl Bao {
    /// The server `DEV`, `SEAL` or `TLS`.
    pub fn new(name: &str) -> Bao {
        let variable = |what: &str| variable("OPENBAO", &format!("{name}_{what}"));
        let client = match name {
            "TLS" => {
                let _ = rustls::crypto::ring::default_provider().install_default();
                let pem = std::fs::read(self::variable("OPENBAO", "TLS_CA_FILE")).expect("the authority");
                let authority = reqwest::Certificate::from_pem(&pem).expect("a certificate");
                reqwest::Client::builder().no_proxy().add_root_certificate(authority).build().expect("a client")
            }
            _ => http_client(),
        };
        Bao { url: variable("URL"), token: variable("TOKEN"), key: variable("KEY"), client }
    }

    /// Makes one call as the administrator; returns status and body.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_as(&self.token, method, path, body).await
    }

    /// Makes one call with `token`.
    pub async fn call_as(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("{}/v1/{path}", self.url)).header("x-vault-token", token);
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let response = request.send().await.expect("a response");
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap_or_default()).unwrap_or_default())
    }

    /// Makes one call that must succeed; returns its body.
    pub async fn write(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call("POST", path, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    pub async fn read(&self, path: &str) -> Value {
        let (status, answer) = self.call("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Mounts a key-value store of `version`; returns its path.
    pub async fn kv(&self, version: u32) -> String {
        let mount = unique("kv");
        self.write(&format!("sys/mounts/{mount}"), json!({"type": "kv", "options": {"version": version.to_string()}})).await;
        mount
    }

    /// Writes a version of a secret of KV version 2. The server upgrades a new mount for a moment, so it is asked again.
    pub async fn put(&self, mount: &str, path: &str, fields: Value) {
        crate::support::daemon::until("the secret is written", || async {
            let (status, answer) = self.call("POST", &format!("{mount}/data/{path}"), json!({"data": fields.clone()})).await;
            (status == 200, format!("{status} {answer}"))
        })
        .await;
    }

    /// Creates a policy with `rules`; returns its name.
    pub async fn policy(&self, rules: &str) -> String {
        let name = unique("policy");
        self.write(&format!("sys/policies/acl/{name}"), json!({"policy": rules})).await;
        name
    }

    /// Creates a token with one policy and further settings.
    pub async fn create_token(&self, policy: &str, more: Value) -> String {
        let mut body = json!({"policies": [policy], "ttl": "1h"});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let answer = self.write("auth/token/create", body).await;
        answer["auth"]["client_token"].as_str().expect("a token").to_string()
    }

    pub async fn seal(&self) {
        self.call("POST", "sys/seal", json!({})).await;
    }

    pub async fn unseal(&self) {
        self.call("POST", "sys/unseal", json!({"key": self.key})).await;
        crate::support::daemon::until("the vault is active", || async {
            let (status, answer) = self.call("GET", "sys/mounts", Value::Null).await;
            (status == 200, format!("{status} {answer}"))
        })
        .await;
    }
}

/// The section `credentials` of a policy whose vault is at `url`, with `login` and `more` keys of the vault.
pub fn section(url: &str, login: &str, more: &str) -> String {
    format!(
        "credentials:\n  vault: {{address: \"{url}\", login: {login}{more}}}\n  caps: {{vault: {{per_second: 1000, burst: 1000, per_day: 100000, concurrency: 8}}}}\n"
    )
}

/// A workspace whose policy names the vault and logs in with the token in `VAULT_TOKEN`.
pub fn workspace(url: &str, token: &str, more: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.set("VAULT_TOKEN", token);
    workspace.write_policy(&section(url, "{method: token, token: \"env:VAULT_TOKEN\"}", more));
    workspace
}

/// Runs `aam test` on one intent; returns its result.
pub fn attempt(workspace: &Workspace, resource_id: &str, locator: &str) -> Value {
    let file = workspace.path("one.json");
    std::fs::write(&file, intent_with_locator("openapi", resource_id, locator).to_string()).expect("written");
    let output = workspace.run(&["test", file.to_str().expect("a path"), "--format", "json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert!(value[0].is_object(), "{value} {}", stderr(&output));
    value[0].clone()
}

/// The report of the step `credential`.
pub fn credential_step(result: &Value) -> Value {
    let steps = result["steps"].as_array().cloned().unwrap_or_default();
    steps.into_iter().find(|step| step["step"] == "credential").unwrap_or_else(|| panic!("no credential step in {result}"))
}

/// Title and fix of the failure of the step `credential`, one below the other, with the detail.
pub fn failure(result: &Value) -> String {
    let failure = &credential_step(result)["failure"];
    assert!(failure.is_object(), "no failure in {result}");
    let text = |name: &str| failure[name].as_str().unwrap_or_default().to_string();
    format!("{}: {}\nfix: {}\ndetail: {}", text("class"), text("title"), text("fix"), text("detail"))
}

/// A running daemon with its workspace.
pub struct Served {
    pub daemon: crate::support::daemon::Daemon,
    pub workspace: Workspace,
}

/// Starts the daemon of `workspace`.
pub async fn serve(workspace: Workspace) -> Served {
    Served { daemon: workspace.serve().await, workspace }
}
