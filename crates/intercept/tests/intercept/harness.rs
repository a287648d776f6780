//! A proxy with an upstream that records, and the clients.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use intercept::{
    Authority, HeaderMap, HeaderName, HeaderValue, Limits, Reason, Refusal, Request, Response, StatusCode, Upstream,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What must happen has happened after this time, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(60);

type Answer = Box<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

struct Recorder {
    requests: Mutex<Vec<Request>>,
    refusals: watch::Sender<Vec<Refusal>>,
    answer: Answer,
}

impl Upstream for Recorder {
    fn forward(&self, request: Request) -> BoxFuture<'static, Response> {
        self.requests.lock().unwrap().push(request.clone());
        (self.answer)(request)
    }

    fn refused(&self, refusal: Refusal) {
        self.refusals.send_modify(|all| all.push(refusal));
    }
}

pub struct Proxy {
    pub address: SocketAddr,
    pem: String,
    folder: tempfile::TempDir,
    recorder: Arc<Recorder>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Answers each request at once with what the function gives.
    pub async fn start(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Proxy {
        let answer = move |request: Request| futures_util::future::ready(answer(&request)).boxed();
        Proxy::start_with(Limits::default(), Box::new(answer)).await
    }

    /// Answers each request with its own method, URL and body.
    pub async fn start_echo(limits: Limits) -> Proxy {
        Proxy::start_with(limits, Box::new(|request| futures_util::future::ready(echo(&request)).boxed())).await
    }

    pub async fn start_with(limits: Limits, answer: Answer) -> Proxy {
        let authority = Arc::new(Authority::new().unwrap());
        let pem = authority.certificate_pem();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let recorder = Arc::new(Recorder { requests: Mutex::default(), refusals: watch::Sender::default(), answer });
        let upstream = Arc::clone(&recorder) as Arc<dyn Upstream>;
        let serving = tokio::spawn(intercept::serve(listener, authority, upstream, limits));
        Proxy { address, pem, folder, recorder, serving }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn requests(&self) -> Vec<Request> {
        self.recorder.requests.lock().unwrap().clone()
    }

    pub fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().unwrap()
    }

    pub fn refusals(&self) -> Vec<Refusal> {
        self.recorder.refusals.borrow().clone()
    }

    /// Waits until the first refusal, which must have this reason and, as text, this host and port.
    pub async fn expect_refusal(&self, target: &str, reason: Reason) {
        let mut refusals = self.recorder.refusals.subscribe();
        let first = patiently(refusals.wait_for(|all| !all.is_empty())).await.unwrap().first().cloned().unwrap();
        let named = first.host.zip(first.port).map(|(host, port)| format!("{host}:{port}")).unwrap_or_default();
        assert_eq!((named.as_str(), first.reason), (target, reason));
    }

    /// Ends the proxy as its user does: by dropping the future.
    pub async fn stop(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Opens a tunnel and returns the connection as it is after the answer to `CONNECT`.
    pub async fn tunnel(&self, target: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }

    /// Opens a tunnel and makes a TLS handshake in it for `name`.
    pub async fn tls(&self, target: &str, name: &str, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_string()).unwrap();
        let stream = self.tunnel(target).await;
        patiently(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    /// Sends bytes through a tunnel to a.example and returns all that comes until the connection ends.
    pub async fn exchange_in_tunnel(&self, bytes: &[u8]) -> String {
        let mut stream = self.tls("a.example:443", "a.example", &["http/1.1"]).await.unwrap();
        exchange(&mut stream, bytes).await
    }

    /// Sends bytes to the proxy itself and returns all that comes until the connection ends.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        exchange(&mut self.connect().await, bytes).await
    }

    /// Runs a client with this proxy and this authority in its environment, and with nothing else there.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(program);
        let proxy = format!("http://{}", self.address);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).current_dir(self.folder.path());
        for name in ["http_proxy", "https_proxy", "HTTPS_PROXY"] {
            command.env(name, &proxy);
        }
        patiently(command.output()).await.unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// A response of 200 with a text.
pub fn ok(body: impl Into<Bytes>) -> Response {
    Response { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() }
}

pub fn echo(request: &Request) -> Response {
    ok(format!("{} {} {}", request.method, request.url, String::from_utf8_lossy(&request.body)))
}

pub fn with(mut response: Response, pairs: &[(&'static str, &'static str)]) -> Response {
    for (name, value) in pairs {
        response.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

pub fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name).map(|value| value.to_str().unwrap())
}

/// Reads to the end of a head, one byte at a time, so that what follows it is left.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match patiently(stream.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

pub async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> String {
    // The proxy may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    read_to_end(stream).await
}

pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut part = [0; 4096];
    // A connection that is reset has ended too.
    while let Ok(size @ 1..) = patiently(stream.read(&mut part)).await {
        all.extend_from_slice(&part[..size]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether a client is there. If not, the test says so past the capture of the test runner, because a test that ran
/// nothing must not look like one that passed.
pub fn is_there(program: &str, arguments: &[&str]) -> bool {
    let status = std::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_there = status.is_ok_and(|status| status.success());
    if !is_there {
        let test = std::thread::current().name().unwrap_or_default().to_string();
        let command = format!("{program} {}", arguments.join(" "));
        let _ = writeln!(std::io::stderr(), "NOT TESTED: {test}: `{command}` does not work on this machine");
    }
    is_there
}
