//! One replica: an `aam serve` with its own folders, its own port and its own way to the database.

use super::checks::{Process, Stops};
use super::pair::send;
use super::proxy::Proxy;
use super::vendor::{Processes, now_ms};
use crate::support::daemon::Workspace;
use crate::support::network::free_port;
use crate::support::operator_token::token_below;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::PoisonError;
use std::time::Duration;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a replica is reached.
#[derive(Clone)]
pub struct Address {
    pub index: usize,
    pub port: u16,
    /// The folder with the token of its operator.
    var: PathBuf,
}

/// The answer of a replica, or why it did not answer.
pub type Answer = Result<(u16, Value), String>;

impl Address {
    /// Sends a request; a body makes it a POST that does not wait for attempts.
    pub async fn send(&self, http: &reqwest::Client, method: reqwest::Method, path: &str, body: Option<&Value>) -> Answer {
        let mut request = http.request(method, format!("http://127.0.0.1:{}{path}", self.port)).timeout(PATIENCE);
        // A replica that did not start yet does not have a token, and is not reached either.
        request = request.bearer_auth(token_below(&self.var, "postgres-").expose());
        if let Some(body) = body {
            request = request.header("content-type", "application/json").header("prefer", "respond-async").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub async fn get(&self, http: &reqwest::Client, path: &str) -> Answer {
        self.send(http, reqwest::Method::GET, path, None).await
    }
}

pub struct Replica {
    pub address: Address,
    pub workspace: Workspace,
    pub proxy: Proxy,
    process: Process,
    child: Option<Child>,
    stopped_at: Option<u64>,
    /// When its processes were stopped.
    pub stops: Stops,
    processes: Processes,
    /// Whether the database could not be used while the process started, so that it may have ended.
    pub may_end: bool,
    /// How often a process ended because the database could not be used while it started.
    pub ended_at_start: usize,
}

impl Replica {
    /// Starts the first process of the replica.
    pub fn start(index: usize, mut workspace: Workspace, proxy: Proxy, processes: Processes) -> Replica {
        std::fs::write(workspace.path("clock"), "0").expect("the clock");
        let clock = workspace.path("clock").display().to_string();
        workspace.set("AAM_TEST_CLOCK", &clock);
        workspace.set("AAM_LOG", "info");
        let address = Address { index, port: free_port(), var: workspace.path("var") };
        let mut replica = Replica {
            address,
            workspace,
            proxy,
            process: Process { replica: index, life: 0 },
            child: None,
            stopped_at: None,
            stops: Stops::new(),
            processes,
            may_end: false,
            ended_at_start: 0,
        };
        replica.spawn();
        replica
    }

    fn spawn(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.workspace.path("log")).expect("the log");
        let child = self
            .workspace
            .command(&["serve", "--port", &self.address.port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.process.life += 1;
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).push((child.id(), self.process));
        self.child = Some(child);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().map(Child::id).and_then(|pid| i32::try_from(pid).ok());
        send(pid.expect("a process"), signal);
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts a new process after a kill.
    pub fn restart(&mut self) {
        if self.child.is_none() {
            self.spawn();
        }
    }

    pub fn stop(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.stopped_at = Some(now_ms());
    }

    pub fn go_on(&mut self) {
        if let Some(from) = self.stopped_at.take() {
            self.stops.entry(self.process).or_default().push((from, now_ms()));
            self.signal(Signal::SIGCONT);
        }
    }

    /// Sets the clock of the process off by this much.
    pub fn set_clock(&self, offset: Duration, is_slow: bool) {
        let sign = if is_slow { "-" } else { "" };
        self.workspace.replace("clock", format!("{sign}{}", offset.as_millis()).as_bytes());
    }

    /// Says how the process ended if nobody ended it. One that could not use the database while it started is started again, as
    /// the supervisor of the machine does it.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        let log = self.log();
        if self.may_end {
            self.ended_at_start += 1;
            self.spawn();
            return None;
        }
        Some(format!("replica {} ended with {status}; its log ends with:\n{log}", self.address.index))
    }

    /// The end of the log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.workspace.path("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the log of replica {} ends with:\n{}", self.address.index, self.log());
        }
    }
}
