//! The sandbox and the daemon under test.

use crate::daemon::{Daemon, Workspace, intent, until};
use crate::vendor::{Case, Setup, Vendor};
use aam::model::{Class, State};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The seconds that a call of the API waits for the first attempt.
const PUSH_WAIT_SECONDS: u64 = 20;

/// The sandbox as a process. It ends when this is dropped, because its standard input closes then.
pub struct SandboxProcess {
    child: Child,
    state: tempfile::TempDir,
    proxy: String,
    client: reqwest::Client,
}

/// A call that a vendor received.
#[derive(Clone, Debug)]
pub struct VendorCall {
    pub family: String,
    pub method: String,
    pub host: String,
    pub path: String,
    pub violation: Option<String>,
}

impl SandboxProcess {
    /// Starts the sandbox of the same build with the files of `vendors`.
    pub async fn start(vendors: &Path) -> SandboxProcess {
        let binary = Path::new(env!("CARGO_BIN_EXE_aam")).with_file_name("aam-sandbox");
        assert!(binary.exists(), "{} does not exist; run cargo build -p aam-sandbox, or make conformance", binary.display());
        let state = tempfile::tempdir().expect("a temporary folder");
        let child = Command::new(binary)
            .args(["--proxy", "127.0.0.1:0", "--until-stdin-closes", "--vendors"])
            .arg(vendors)
            .arg("--state")
            .arg(state.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("the sandbox starts");
        let file = state.path().join("addresses.json");
        until("the sandbox is ready", || {
            let ready = file.exists();
            async move { (ready, String::new()) }
        })
        .await;
        let proxy = read_json(&file)["proxy"].as_str().expect("the address of the proxy").to_owned();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let through = reqwest::Proxy::http(format!("http://{proxy}")).expect("an address");
        let client = reqwest::Client::builder().proxy(through).build().expect("a client");
        SandboxProcess { child, state, proxy, client }
    }

    /// The credentials of the vendors, by family and name.
    pub fn credentials(&self) -> Value {
        read_json(&self.state.path().join("credentials.json"))
    }

    /// All calls so far.
    pub async fn calls(&self) -> Vec<VendorCall> {
        let response = self.client.get("http://sandbox.invalid/calls").send().await.expect("the calls");
        let text = response.text().await.expect("a body");
        let list: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let part = |call: &Value, name: &str| call[name].as_str().unwrap_or_default().to_owned();
        let call = |call: Value| VendorCall {
            family: part(&call, "family"),
            method: part(&call, "method"),
            host: part(&call, "host"),
            path: part(&call, "path"),
            violation: call["violation"].as_str().map(str::to_owned),
        };
        list.into_iter().map(call).collect()
    }

    fn network(&self) -> Value {
        json!({
            "proxy": format!("http://{}", self.proxy),
            "ca_file": self.state.path().join("ca.pem"),
            "allow_private": ["127.0.0.0/8"],
        })
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Replaces `{credentials.NAME.FIELD}` in the texts of `value` by what the sandbox wrote about the credential.
fn filled(value: &Value, credentials: &Value) -> Value {
    match value {
        Value::String(text) => {
            let (mut whole, mut rest) = (String::new(), text.as_str());
            while let Some((before, after)) = rest.split_once("{credentials.") {
                let (place, behind) = after.split_once('}').unwrap_or((after, ""));
                let (name, field) = place.rsplit_once('.').unwrap_or((place, "value"));
                let found = credentials[name][field].as_str();
                whole.push_str(before);
                whole.push_str(found.unwrap_or_else(|| panic!("credentials.json of the sandbox has no {name}.{field}")));
                rest = behind;
            }
            Value::String(whole + rest)
        }
        Value::Array(items) => items.iter().map(|item| filled(item, credentials)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), filled(value, credentials))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// The sandbox and the daemon.
pub struct Lab {
    pub sandbox: SandboxProcess,
    pub daemon: Daemon,
    workspace: Workspace,
    policy: Map<String, Value>,
}

impl Lab {
    /// Starts both. The daemon has the credentials of all cases in its environment.
    pub async fn start(root: &Path, vendors: &[&Vendor], cases: &[&Case]) -> Lab {
        let sandbox = SandboxProcess::start(&root.join("sandbox")).await;
        let credentials = sandbox.credentials();
        let mut workspace = Workspace::new();
        // Families that are tried without a build.
        if let Ok(drafts) = std::env::var("AAM_DRAFT_FAMILIES") {
            workspace.set("AAM_DRAFT_FAMILIES", &drafts);
        }
        for case in cases {
            if let Some(credential) = &case.setup.credential {
                let text = match filled(credential, &credentials[&case.family]) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                workspace.set(&credential_name(case), &text);
            }
        }
        let mut principals = Map::new();
        for vendor in vendors {
            let own = &credentials[&vendor.family];
            for (name, value) in &vendor.conformance.secrets {
                let text = filled(value, own);
                workspace.set(name, text.as_str().map_or_else(|| text.to_string(), str::to_owned).as_str());
            }
            for (name, principal) in &vendor.conformance.principals {
                let twice = principals.insert(name.clone(), filled(principal, own));
                assert!(twice.is_none(), "{}: another vendor has a principal with the name {name}", vendor.family);
            }
        }
        let policy = policy(&sandbox, vendors, principals);
        workspace.replace("policy/policy.yaml", json!(policy).to_string().as_bytes());
        let daemon = workspace.serve().await;
        Lab { sandbox, daemon, workspace, policy }
    }

    /// Changes how often connections that work are checked again.
    pub async fn recheck_after(&mut self, wait: &str) {
        self.policy.insert("recheck".to_owned(), json!({"health": wait, "drift": "24h"}));
        self.workspace.replace("policy/policy.yaml", json!(self.policy).to_string().as_bytes());
    }

    /// Pushes the intent of `case`, waits for its first attempt, and returns the connection.
    pub async fn push(&self, case: &Case) -> Value {
        let Setup { id, ids, credential, locator } = &case.setup;
        let ids = ids.clone().unwrap_or_else(|| id.iter().cloned().collect());
        let mut document = intent(&case.source_type, "");
        document["resource_ids"] = json!(ids);
        // The name of a connection is its namespace, its family and its resource ids, and most cases have the same id.
        document["namespace"] = json!(format!("{}-{}", case.family, case.name).replace('_', "-"));
        match (locator, credential) {
            (Some(locator), _) => document["credential_locator"] = json!(locator),
            (None, Some(_)) => document["credential_locator"] = json!(format!("env:{}", credential_name(case))),
            (None, None) => {}
        }
        let response = self.daemon.post_with("/connections/onboard", &document, &format!("wait={PUSH_WAIT_SECONDS}")).await;
        response.body
    }

    /// The connection as it is now, with its steps.
    pub async fn connection(&self, pushed: &Value) -> Value {
        let id = pushed["connection_id"].as_str().unwrap_or_default();
        self.daemon.get(&format!("/connections/{id}")).await.body
    }

    /// What the connection was after each of its attempts, as the API would have returned it.
    pub async fn after_each_attempt(&self, pushed: &Value) -> Vec<Value> {
        let mut finished = self.daemon.entries(pushed, "attempt_finished").await;
        finished.reverse();
        let mut was_active = false;
        let after = |entry: Value| {
            let body = &entry["body"];
            let steps = if body.is_array() { body.clone() } else { body["steps"].clone() };
            let failed = steps.as_array().into_iter().flatten().find(|step| step["status"] == "failed").cloned();
            let failure = failed.map_or(Value::Null, |step| step["failure"].clone());
            let class = serde_json::from_value::<Class>(failure["class"].clone()).ok();
            let state = State::derive(class, was_active);
            was_active |= failure.is_null();
            json!({"status": state.as_str(), "error": failure, "steps": steps, "first_sync_rows": entry["facts"]["rows"]})
        };
        finished.into_iter().map(after).collect()
    }

    /// When the connection was last checked. A check that finds nothing new has no entry in the ledger.
    pub async fn checked_at(&self, pushed: &Value) -> String {
        let connection = self.connection(pushed).await;
        connection["updated_at"].as_str().unwrap_or_default().to_owned()
    }
}

/// The policy under which all cases run: short waits, no breaker, and caps that no case reaches.
fn policy(sandbox: &SandboxProcess, vendors: &[&Vendor], principals: Map<String, Value>) -> Map<String, Value> {
    let families: BTreeSet<&str> = vendors.iter().map(|vendor| vendor.source_type()).collect();
    let cap = json!({"per_second": 1000, "burst": 1000, "per_day": 1_000_000, "concurrency": 4});
    let caps: BTreeMap<&str, &Value> = families.iter().map(|family| (*family, &cap)).collect();
    let standard = json!({
        "version": 1,
        "allowlist": families,
        "network": sandbox.network(),
        "safe_mode": {"max_items": 20, "step_timeout": "6s", "attempt_timeout": "20s"},
        "caps": {"families": caps},
        "backoff": {"initial": "300ms", "max": "4s", "jitter": 0.0},
        // Some vendors have one host for all accounts, and cases that hang must not stop the others.
        "breaker": {"failures": 1000},
        "recheck": {"health": "6h", "drift": "24h"},
        "reconcile": {"concurrency": 32, "resync": "1s"},
        "credentials": {"principals": principals},
    });
    let mut policy = match standard {
        Value::Object(policy) => policy,
        _ => Map::new(),
    };
    for vendor in vendors {
        merge(&mut policy, &vendor.conformance.policy);
    }
    policy
}

/// Adds the keys of `more`, also within mappings.
fn merge(into: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (name, value) in more {
        match (into.get_mut(name), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (Some(Value::Array(known)), Value::Array(more)) => known.extend(more.iter().cloned()),
            _ => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

/// The variable that has the credential of `case`.
fn credential_name(case: &Case) -> String {
    format!("CONFORMANCE_{}_{}", case.family, case.name).to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// The folder of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
