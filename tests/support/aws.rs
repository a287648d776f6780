//! AWS as the provider of credentials sees it: a server with the instance metadata service (IMDSv2), the container endpoint
//! and STS, as strict as AWS documents them.

use aam::clock::Clock;
use aam::credentials::redact::AttemptSecrets;
use aam::egress::Egress;
use aam::egress::resolve::SystemLookup;
use aam::model::{ConnectionId, Failure, Locator, Timestamp};
use aam::policy::Policy;
use aam::providers::{CredentialRequest, Process, ProvidedCredential, Providers, Reading};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A secret access key, a session token and a key id that no text may contain.
pub const SECRET: &str = "canary/secret+of+the+machine";
pub const SESSION: &str = "canary-session-token-of-the-machine==";
pub const KEY_ID: &str = "ASIAMACHINE";
/// The static keys that the fake of STS knows.
pub const STATIC_ID: &str = "AKIASTATIC";
pub const STATIC_SECRET: &str = "canary/static+secret";

/// One request that a server received.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// The path with its query.
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Received {
    /// The fields of a form.
    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }
}

/// A status with a body, or silence.
pub enum Reply {
    Answer(u16, String),
    /// With one more header.
    With(u16, (&'static str, String), String),
    Silence,
}

/// A server on loopback that records what it received.
#[derive(Clone)]
pub struct Fake {
    pub url: String,
    pub received: Arc<Mutex<Vec<Received>>>,
}

impl Fake {
    pub async fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (record, answer) = (Arc::clone(&received), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
                tokio::spawn(async move {
                    let Some(request) = read(&mut socket).await else { return };
                    record.lock().expect("unpoisoned").push(request.clone());
                    let (status, more, body) = match answer(&request) {
                        Reply::Answer(status, body) => (status, String::new(), body),
                        Reply::With(status, (name, value), body) => (status, format!("{name}: {value}\r\n"), body),
                        Reply::Silence => {
                            let _ = socket.read(&mut [0]).await;
                            return;
                        }
                    };
                    let head =
                        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{more}\r\n", body.len());
                    let _ = socket.write_all((head + &body).as_bytes()).await;
                });
            }
        });
        Fake { url, received }
    }

    pub fn calls(&self) -> Vec<String> {
        self.received.lock().expect("unpoisoned").iter().map(|call| format!("{} {}", call.method, call.target)).collect()
    }
}

async fn read(socket: &mut TcpStream) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_string(), first.next()?.to_string());
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_string())).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Received { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The instance metadata service, version 2 only, as the Amazon EC2 User Guide describes it: the PUT needs the header with
/// the time to live (1 to 21600) and must not come through a proxy, and a GET without a valid token is answered with 401.
pub fn imds(request: &Received, role: Option<&str>, credentials: &str) -> Reply {
    const TOKEN: &str = "canary-imds-token==";
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    if header("x-forwarded-for").is_some() {
        return Reply::Answer(403, String::new());
    }
    match (request.method.as_str(), request.target.as_str()) {
        ("PUT", "/latest/api/token") => {
            let ttl = header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|ttl| ttl.parse::<u32>().ok());
            match ttl {
                Some(1..=21_600) => Reply::Answer(200, TOKEN.to_string()),
                _ => Reply::Answer(400, String::new()),
            }
        }
        ("GET", _) if header("x-aws-ec2-metadata-token") != Some(TOKEN) => Reply::Answer(401, String::new()),
        ("GET", path) => match (path.strip_prefix("/latest/meta-data/iam/security-credentials/"), role) {
            (Some(""), Some(role)) => Reply::Answer(200, role.to_string()),
            (Some(name), Some(role)) if name == role => Reply::Answer(200, credentials.to_string()),
            _ => Reply::Answer(404, "<html>Not Found</html>".to_string()),
        },
        _ => Reply::Answer(405, String::new()),
    }
}

/// The credentials document of a metadata service that ends at `expiration`.
pub fn document(code: Option<&str>, expiration: &str) -> String {
    let code = code.map(|code| format!(r#""Code":"{code}","Type":"AWS-HMAC","#)).unwrap_or_default();
    format!(r#"{{{code}"AccessKeyId":"{KEY_ID}","SecretAccessKey":"{SECRET}","Token":"{SESSION}","Expiration":"{expiration}"}}"#)
}

/// A clock that a test moves.
pub struct TestClock(pub AtomicI64);

impl TestClock {
    pub fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// 2026-11-29T12:00:00Z in milliseconds since the epoch.
pub const NOON: i64 = 1_795_953_600_000;

/// Providers with a policy and an environment of their own.
pub struct Rig {
    pub providers: Arc<Providers>,
    pub policy: Arc<Policy>,
    pub clock: Arc<TestClock>,
    pub env: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Rig {
    /// `principal` is the entry of the principal `main` in the policy.
    pub fn new(principal: &str) -> Rig {
        Rig::with_network(principal, "allow_private: [127.0.0.0/8]")
    }

    pub fn with_network(principal: &str, network: &str) -> Rig {
        let text = format!(
            "version: 1\nallowlist: [s3, s3_compat]\nnetwork: {{{network}}}\nsafe_mode: {{step_timeout: 20s, attempt_timeout: 60s}}\n\
             credentials:\n  caps: {{tokens: {{per_second: 1000, burst: 1000, per_day: 100000, concurrency: 16}}}}\n\
             \x20 principals:\n    main: {principal}\n"
        );
        let policy = aam::policy::parse::parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}\n{problems:?}"));
        let clock = Arc::new(TestClock(NOON.into()));
        let env: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
        let read = Arc::clone(&env);
        let egress = Egress::with(Arc::new(super::session::UnlimitedBudget), clock.clone(), Arc::new(SystemLookup));
        let read_env = Arc::new(move |name: &str| read.lock().expect("unpoisoned").get(name).cloned());
        let providers = Providers::with_env(egress, clock.clone(), Process::Recording, read_env);
        Rig { providers, policy: Arc::new(policy), clock, env }
    }

    pub fn set(&self, name: &str, value: &str) {
        self.env.lock().expect("unpoisoned").insert(name.to_string(), value.to_string());
    }

    /// Stores the static keys in the variable AWS_KEYS.
    pub fn with_static_keys(self) -> Rig {
        self.set("AWS_KEYS", &format!(r#"{{"access_key_id":"{STATIC_ID}","secret_access_key":"{STATIC_SECRET}"}}"#));
        self
    }

    pub fn request(&self, connection: usize, reading: Reading) -> CredentialRequest {
        CredentialRequest {
            locator: Locator::parse("sp:main").expect("a locator"),
            connection: ConnectionId::derive("autonomy", "s3", &[format!("bucket-{connection}")]),
            namespace: "autonomy".to_string(),
            owner: "owner".to_string(),
            family: Arc::clone(aam::families::find("s3").expect("a family")),
            resource_ids: vec![format!("bucket-{connection}")].into(),
            policy: Arc::clone(&self.policy),
            reading,
        }
    }

    /// Mints for one connection, as an attempt does. Fails if a text of a failure or of the evidence contains a canary.
    pub async fn provide(&self, reading: Reading) -> Result<ProvidedCredential, Failure> {
        let request = self.request(0, reading);
        let result = AttemptSecrets::new(&[]).run(self.providers.provide(&request)).await;
        let shown = match &result {
            Ok(provided) => format!("{:?} {:?}", provided.facts, provided.credential),
            Err(failure) => format!("{failure:?}"),
        };
        assert!(!shown.contains("canary"), "{shown}");
        result
    }

    pub async fn failure(&self) -> Failure {
        self.provide(Reading::Cached).await.expect_err("a failure")
    }
}

/// The value of a field of a credential.
pub fn field(provided: &ProvidedCredential, name: &str) -> String {
    provided.credential.field(name).map(|secret| secret.expose().to_string()).unwrap_or_default()
}
