//! A distant vendor: a server in its own process that answers each call after 200 ms.
//!
//! The host of a request is the account that is called. `GET /report` returns the number of calls, and the number of
//! calls that one account made in sequence. The program that starts this server reads both.

use crate::Measured;
use crate::http::Client;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The first argument that makes this program the server.
pub const COMMAND: &str = "--distant-server";
/// The time from a request to its answer.
pub const DELAY: Duration = Duration::from_millis(200);
/// The number of records in each list. Three lists together fit into one sample, so a sample reads all three.
const RECORDS: usize = 5;

/// The server, in its own process.
pub struct Distant {
    child: Child,
    pub port: u16,
}

/// The calls since the last report.
pub struct Report {
    pub calls: u64,
    /// Calls of one account that overlap count once.
    pub calls_in_sequence: u64,
}

impl Distant {
    /// Starts a server on all addresses of this machine, so that each connection can have its own host.
    pub fn start() -> Measured<Distant> {
        let mut child = Command::new(std::env::current_exe()?).arg(COMMAND).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("the server has no stdout")?;
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Distant { child, port: line.trim().parse()? })
    }

    /// The calls since the last report.
    pub fn report(&self) -> Measured<Report> {
        let (_, body) = Client::connect(self.port)?.get("/report", "")?;
        let report: serde_json::Value = serde_json::from_slice(&body)?;
        let number = |name: &str| report[name].as_u64().ok_or_else(|| format!("the report does not have the field {name}"));
        Ok(Report { calls: number("calls")?, calls_in_sequence: number("calls_in_sequence")? })
    }
}

impl Drop for Distant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The calls by account.
#[derive(Default)]
struct Accounts(Mutex<HashMap<String, Account>>);

#[derive(Default)]
struct Account {
    in_flight: u64,
    calls: u64,
    calls_in_sequence: u64,
}

impl Accounts {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Account>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, host: &str) {
        self.with(|accounts| {
            let account = accounts.entry(host.to_string()).or_default();
            account.calls += 1;
            account.calls_in_sequence += u64::from(account.in_flight == 0);
            account.in_flight += 1;
        });
    }

    fn end(&self, host: &str) {
        self.with(|accounts| {
            if let Some(account) = accounts.get_mut(host) {
                account.in_flight -= 1;
            }
        });
    }

    fn report(&self) -> String {
        let accounts = self.with(std::mem::take);
        let sum = |number: fn(&Account) -> u64| accounts.values().map(number).sum::<u64>();
        serde_json::json!({
            "calls": sum(|account| account.calls), "calls_in_sequence": sum(|account| account.calls_in_sequence)
        })
        .to_string()
    }
}

/// Serves until the process is killed.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve())) {
        Ok(()) => {}
        Err(error) => eprintln!("bench: the distant server ended: {error}"),
    }
}

async fn serve() -> Measured<()> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind("0.0.0.0:0".parse()?)?;
    // All connections of the fleet are opened at the same time.
    let listener = socket.listen(4096)?;
    println!("{}", listener.local_addr()?.port());
    let (accounts, records) = (Arc::new(Accounts::default()), records());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (accounts, records) = (Arc::clone(&accounts), records.clone());
        let answer = hyper::service::service_fn(move |request| answer(request, Arc::clone(&accounts), records.clone()));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn answer(
    request: Request<Incoming>,
    accounts: Arc<Accounts>,
    records: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = if request.uri().path() == "/report" {
        accounts.report().into()
    } else {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        accounts.begin(host);
        tokio::time::sleep(DELAY).await;
        accounts.end(host);
        records
    };
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn records() -> Bytes {
    let records: Vec<_> = (0..RECORDS).map(|id| serde_json::json!({"id": id, "name": format!("record {id}")})).collect();
    serde_json::json!({ "data": records }).to_string().into()
}
