//! Fakes and helpers that the tests in this folder share.

use crate::clock::Clock;
use crate::credentials::Secret;
use crate::egress::resolve::{Lookup, ServiceHost};
use crate::egress::{Caller, DayBudget, Egress, HttpRequest, Method, Session};
use crate::model::{ConnectionId, Digest, Posts, Risk, Timestamp};
use crate::policy::*;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};

/// The time 2026-11-08T18:00:00Z, in milliseconds since the epoch.
pub const START: i64 = 1_794_160_800_000;

/// A clock that moves only when a test moves it.
pub struct FakeClock(AtomicI64);

impl FakeClock {
    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A registry that only counts calls.
#[derive(Default)]
pub struct FakeBudget {
    pub used: Mutex<BTreeMap<(String, i64), u64>>,
    pub asked: Mutex<u64>,
    pub writes: Mutex<u64>,
    pub full: AtomicBool,
    /// While a test holds this lock, writes to the registry block.
    pub disk: tokio::sync::Mutex<()>,
}

impl DayBudget for FakeBudget {
    fn take<'a>(&'a self, key: &'a str, day: i64, wanted: u64, limit: u64) -> BoxFuture<'a, Result<u64, String>> {
        Box::pin(async move {
            if self.full.load(Ordering::SeqCst) {
                return Err("database or disk is full".to_string());
            }
            *self.asked.lock().unwrap() += 1;
            let _disk = self.disk.lock().await;
            *self.writes.lock().unwrap() += 1;
            let mut all = self.used.lock().unwrap();
            let used = all.entry((key.to_string(), day)).or_default();
            let granted = wanted.min(limit.saturating_sub(*used));
            *used += granted;
            Ok(granted)
        })
    }
}

impl FakeBudget {
    pub fn total(&self) -> u64 {
        self.used.lock().unwrap().values().sum()
    }
}

/// The host names that the test defines, and a record of each lookup.
#[derive(Default)]
pub struct FakeLookup {
    pub names: HashMap<String, Vec<IpAddr>>,
    pub asked: Mutex<Vec<String>>,
    /// The hosts of SRV records.
    pub services: HashMap<String, Vec<ServiceHost>>,
    /// One TXT record for each name.
    pub texts: HashMap<String, String>,
}

impl Lookup for FakeLookup {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(host.to_string());
            self.names.get(host).cloned().ok_or_else(|| io::Error::other("Name or service not known"))
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<ServiceHost>>> {
        Box::pin(async move { self.services.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        Box::pin(async move { Ok(self.texts.get(name).cloned().into_iter().collect()) })
    }
}

/// An egress with the fakes and the policy that it uses.
pub struct World {
    pub clock: Arc<FakeClock>,
    pub budget: Arc<FakeBudget>,
    pub lookup: Arc<FakeLookup>,
    pub egress: Arc<Egress>,
    pub policy: Policy,
    pub cap: Cap,
    pub posts: Posts,
}

impl World {
    pub fn new() -> World {
        World::with_names(&[])
    }

    pub fn with_names(names: &[(&str, &[&str])]) -> World {
        let clock = Arc::new(FakeClock(AtomicI64::new(START)));
        let budget = Arc::new(FakeBudget::default());
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let names = names.iter().map(|(name, texts)| ((*name).to_string(), addresses(texts))).collect();
        let lookup = Arc::new(FakeLookup { names, ..FakeLookup::default() });
        let egress = Egress::with(budget.clone(), clock.clone(), lookup.clone());
        World { clock, budget, lookup, egress, policy: policy(), cap: cap(), posts: Posts::default() }
    }

    /// Simulates a restart of the process with the same registry.
    pub fn restart(&mut self) {
        self.egress = Egress::with(self.budget.clone(), self.clock.clone(), self.lookup.clone());
    }

    pub fn caller(&self) -> Caller {
        Caller {
            connection: ConnectionId::derive("autonomy", "openapi", &["x".to_string()]),
            family: "openapi".into(),
            purpose: crate::model::CallPurpose::Source,
            account: "acme".to_string(),
            cap: self.cap.clone(),
            policy: Arc::new(self.policy.clone()),
            posts: Arc::new(self.posts.clone()),
        }
    }

    pub fn session(&self) -> Session {
        self.egress.session(self.caller())
    }
}

pub fn get(url: &str) -> HttpRequest {
    HttpRequest {
        method: Method::Get,
        url: url::Url::parse(url).unwrap(),
        headers: vec![("authorization".to_string(), Secret::new("Bearer of-the-canary-7777".to_string()))],
        max_bytes: 1 << 20,
        follow_redirects: true,
    }
}

pub fn cap() -> Cap {
    Cap { per_second: 1000.0, burst: 1000, per_day: 2000, concurrency: 8 }
}

fn policy() -> Policy {
    let seconds = Duration::from_secs;
    Policy {
        version: 1,
        namespace: "autonomy".to_string(),
        slo: Slo { coverage: 0.9 },
        eligibility: Eligibility { evidence: vec!["Sanctioned".to_string()], max_risk: Risk::High, min_confidence: 0.0 },
        safe_mode: SafeMode { max_items: 20, step_timeout: seconds(20), attempt_timeout: seconds(60) },
        allowlist: BTreeSet::new(),
        network: Network {
            allow_private: vec!["127.0.0.0/8".parse().unwrap()],
            proxy: None,
            ca_file: None,
            allow_weak_login: Vec::new(),
        },
        files: Files { roots: Vec::new() },
        caps: Caps { default: cap(), families: BTreeMap::new() },
        backoff: Backoff { initial: seconds(5), max: seconds(900), jitter: 0.2 },
        breaker: Breaker { failures: 5, open_for: seconds(30) },
        recheck: Recheck { health: seconds(21_600), drift: seconds(86_400), awaiting_credentials: seconds(300) },
        reconcile: Reconcile { concurrency: 64, resync: seconds(30), memory: 256 << 20, max_retire: None, confirm: Vec::new() },
        families: BTreeMap::new(),
        manifests: Manifests::default(),
        airbyte: crate::policy::Airbyte::default(),
        credentials: Default::default(),
        notify: Vec::new(),
        evidence: Default::default(),
        registry: crate::policy::RegistryPolicy::default(),
        api: Api::default(),
        handoff: Default::default(),
        digest: Digest::default(),
    }
}

/// How a server responds to one request.
#[derive(Clone)]
pub enum Reply {
    /// Writes the bytes and closes the connection.
    Bytes(Vec<u8>),
    /// Closes the connection without a response.
    Close,
    /// Never responds and keeps the connection open.
    Hang,
    /// Waits for the notification, then behaves like `Bytes`.
    When(Arc<Notify>, Vec<u8>),
}

/// An HTTP response with a correct `Content-Length`.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut text = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    Reply::Bytes([text.as_bytes(), b"\r\n", body].concat())
}

/// A server that replies from a script. The last reply is repeated.
pub struct Server {
    pub port: u16,
    pub heads: Arc<Mutex<Vec<String>>>,
    seen: watch::Receiver<usize>,
}

impl Server {
    pub async fn start(script: Vec<Reply>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (count, seen) = watch::channel(0);
        let log = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log, count) = (script.clone(), Arc::clone(&log), count.clone());
                tokio::spawn(serve(stream, script, log, count));
            }
        });
        Server { port, heads, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Returns the number of requests so far.
    pub fn count(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    /// Waits until the server has received `count` requests.
    pub async fn seen(&self, count: usize) {
        self.seen.clone().wait_for(|seen| *seen >= count).await.unwrap();
    }
}

/// Returns whether head and body are complete.
fn whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    bytes.len() >= end + 4 + length.unwrap_or(0)
}

async fn serve(mut stream: TcpStream, script: Vec<Reply>, log: Arc<Mutex<Vec<String>>>, count: watch::Sender<usize>) {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !whole(&head) {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(read) => head.extend_from_slice(&piece[..read]),
        }
    }
    let turn = {
        let mut log = log.lock().unwrap();
        log.push(String::from_utf8_lossy(&head).into_owned());
        log.len() - 1
    };
    count.send_modify(|count| *count += 1);
    let bytes = match script.get(turn).or(script.last()) {
        Some(Reply::Bytes(bytes)) => bytes.clone(),
        Some(Reply::When(notify, bytes)) => {
            notify.notified().await;
            bytes.clone()
        }
        Some(Reply::Hang) => return std::future::pending().await,
        Some(Reply::Close) | None => return,
    };
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

/// A port on which no program listens. No other program can use it until the socket is dropped.
pub fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Captured log output. It is not scrubbed, so that a test can see what was logged.
#[derive(Clone)]
pub struct Captured(pub Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
