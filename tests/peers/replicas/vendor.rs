//! The vendors of the run: the sandbox with a credential for each connection, behind a relay that finds out which process called.

use super::checks::{Call, Process};
use crate::support::daemon::until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};

/// The processes that may call, by their process ids.
pub type Processes = Arc<Mutex<Vec<(u32, Process)>>>;

/// What was connected through the relay, by the port of the relay's own side: when, and for which process.
type Links = Arc<Mutex<BTreeMap<u16, Vec<(u64, Option<Process>)>>>>;

/// A family of the run.
pub struct Family {
    pub name: &'static str,
    host: &'static str,
    /// What the entry of a credential has besides name, value and account.
    rights: &'static str,
}

pub const FAMILIES: [Family; 2] = [
    Family {
        name: "okta",
        host: "okta.com",
        rights: "scopes: [okta.users.read, okta.groups.read, okta.apps.read], roles: [READ_ONLY_ADMIN]",
    },
    Family { name: "zendesk", host: "zendesk.com", rights: "scopes: [read], role: agent" },
];

/// The connections that share accounts.
pub const GROUP: usize = 6;

/// A connection of the run.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name of its credential, and of the variable that has it.
    pub name: String,
    pub family: &'static str,
    pub account: String,
    pub namespace: String,
}

/// The connections of the run, in groups of six: four of the first family at one account, and two of the second at another. Each
/// of a group is in its own namespace.
pub fn sources(count: usize) -> Vec<Source> {
    let source = |number: usize| {
        let family = &FAMILIES[usize::from(number % 3 == 2)];
        let account = format!("n{}-acme.{}", number / GROUP + 1, family.host);
        Source { name: format!("CONN_{number}"), family: family.name, account, namespace: format!("team-{}", number % GROUP) }
    };
    (0..count).map(source).collect()
}

pub fn secret(source: &Source) -> String {
    format!("{}-sandbox-{}", source.family, source.name.to_lowercase())
}

/// The sandbox and the relay. The sandbox ends when this is dropped, because its standard input closes then.
pub struct Vendors {
    child: Child,
    state: tempfile::TempDir,
    _files: tempfile::TempDir,
    relay: u16,
    links: Links,
    client: reqwest::Client,
    accounts: BTreeMap<String, String>,
    seen: Mutex<Vec<Call>>,
}

impl Vendors {
    pub async fn start(sources: &[Source], processes: Processes) -> Vendors {
        let files = vendor_files(sources);
        let binary = Path::new(env!("CARGO_BIN_EXE_aam")).with_file_name("aam-sandbox");
        assert!(binary.exists(), "{} does not exist; run cargo test --workspace --no-run", binary.display());
        let state = tempfile::tempdir().expect("a folder");
        let child = Command::new(binary)
            .args(["--proxy", "127.0.0.1:0", "--until-stdin-closes", "--latency", "20..120ms", "--vendors"])
            .arg(files.path())
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
        let text = std::fs::read_to_string(&file).expect("addresses");
        let addresses: Value = serde_json::from_str(&text).expect("JSON");
        let proxy = addresses["proxy"].as_str().expect("the address of the proxy").to_owned();
        let links = Links::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let relay = listener.local_addr().expect("an address").port();
        tokio::spawn(relay_all(listener, proxy.clone(), processes, Arc::clone(&links)));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let through = reqwest::Proxy::http(format!("http://{proxy}")).expect("an address");
        let client = reqwest::Client::builder().proxy(through).build().expect("a client");
        let accounts = sources.iter().map(|source| (source.name.to_lowercase(), source.account.clone())).collect();
        Vendors { child, state, _files: files, relay, links, client, accounts, seen: Mutex::default() }
    }

    /// The part `network` of the policy.
    pub fn network(&self) -> Value {
        serde_json::json!({
            "proxy": format!("http://127.0.0.1:{}", self.relay),
            "ca_file": self.state.path().join("ca.pem"),
            "allow_private": ["127.0.0.0/8"],
        })
    }

    /// Takes over the calls since the last time, because the sandbox keeps a limited number of them.
    pub async fn collect(&self) {
        let response = self.client.delete("http://sandbox.invalid/calls").send().await.expect("the calls");
        let list: Vec<Value> = serde_json::from_str(&response.text().await.expect("a body")).expect("JSON");
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = list.iter().map(|call| {
            let at_ms = call["at_ms"].as_u64().expect("a time");
            let port = call["from_port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
            let mut of_port = links.get(&port).into_iter().flatten();
            let name = call["credential"].as_str().unwrap_or_default();
            let host = call["host"].as_str().unwrap_or_default();
            assert!(call["violation"].is_null(), "{call}");
            Call {
                at_ms,
                connection: name.to_uppercase(),
                account: self.accounts.get(name).cloned().unwrap_or_else(|| host.to_string()),
                by: of_port.rfind(|(since, _)| *since <= at_ms + 1).and_then(|(_, process)| *process),
            }
        });
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend(calls);
    }

    /// All calls that were collected.
    pub fn calls(&self) -> Vec<Call> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Vendors {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The files of the families, with one more credential for each connection.
fn vendor_files(sources: &[Source]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for family in &FAMILIES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sandbox").join(format!("{}.yaml", family.name));
        let mut text = std::fs::read_to_string(path).expect("the vendor");
        let mut more = "\ncredentials:\n".to_string();
        for source in sources.iter().filter(|source| source.family == family.name) {
            let (name, value) = (source.name.to_lowercase(), secret(source));
            more.push_str(&format!("  - {{name: {name}, kind: bearer, value: {value}, account: acme, {}}}\n", family.rights));
        }
        assert!(text.contains("\ncredentials:\n"), "{} does not have credentials", family.name);
        text = text.replacen("\ncredentials:\n", &more, 1);
        std::fs::write(folder.path().join(format!("{}.yaml", family.name)), text).expect("written");
    }
    folder
}

pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

async fn relay_all(listener: TcpListener, proxy: String, processes: Processes, links: Links) {
    let own = listener.local_addr().expect("an address").port();
    loop {
        let Ok((mut caller, address)) = listener.accept().await else { continue };
        let (proxy, processes, links) = (proxy.clone(), Arc::clone(&processes), Arc::clone(&links));
        tokio::spawn(async move {
            let known = processes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let process = tokio::task::spawn_blocking(move || owner(address.port(), own, &known)).await.ok().flatten();
            let Ok(mut sandbox) = TcpStream::connect(proxy).await else { return };
            let _ = (caller.set_nodelay(true), sandbox.set_nodelay(true));
            let Ok(local) = sandbox.local_addr() else { return };
            links.lock().unwrap_or_else(PoisonError::into_inner).entry(local.port()).or_default().push((now_ms(), process));
            let _ = tokio::io::copy_bidirectional(&mut caller, &mut sandbox).await;
        });
    }
}

/// The process that has the socket with this port on its side and `to` on the other one.
fn owner(port: u16, to: u16, processes: &[(u32, Process)]) -> Option<Process> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let end = |field: &str| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok();
        (end(fields.get(1)?)? == port && end(fields.get(2)?)? == to).then(|| (*fields.get(9).unwrap_or(&"")).to_string())
    })?;
    let link = format!("socket:[{inode}]");
    let holds = |pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| target.as_os_str() == link.as_str())
    };
    // The newest first, because a process id may be used again.
    processes.iter().rev().find(|(pid, _)| holds(*pid)).map(|(_, process)| *process)
}
