//! The built binary as a process: start it, wait for it, observe it from outside, stop it.

use crate::Measured;
use crate::fixture::{Fixture, TOKEN};
use crate::http::Client;
use crate::replicas;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the bench waits for a daemon to reach a state.
const TIMEOUT: Duration = Duration::from_secs(300);
/// The pause between two polls.
const POLL: Duration = Duration::from_micros(500);
/// The kernel's clock tick of /proc/PID/stat (`getconf CLK_TCK`, 100 on Linux).
const TICKS: f64 = 100.0;

/// A running `aam serve`.
pub struct Daemon {
    child: Child,
    pub port: u16,
    pub log: PathBuf,
    /// When the process was spawned.
    pub started: Instant,
    /// From the spawn to the first 200 of `/readyz`.
    pub ready_after: Duration,
}

/// `aam` with the fixture's paths. Its log goes to a file, as for a service.
pub fn aam(fixture: &Fixture, registry: &Path, log: &Path) -> Measured<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aam"));
    command
        .env_clear()
        .env("AAM_INTENTS", fixture.intents())
        .env("AAM_POLICY", fixture.policy())
        .env("AAM_REGISTRY", registry)
        .env("AAM_SEEDS", fixture.home().join("no-seeds"))
        .env("BENCH_DIRECTORY", r#"{"api_key": "bench"}"#)
        .env(replicas::credential().0, replicas::credential().1)
        .env("AAM_LOG", "info,aam::sync=debug,aam::commit=debug")
        .current_dir(fixture.home())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(log)?);
    Ok(command)
}

impl Daemon {
    /// Starts a daemon on `registry` and waits until it is ready.
    pub fn start(fixture: &Fixture, registry: &Path) -> Measured<Daemon> {
        let log = registry.with_extension("log");
        Daemon::spawn(aam(fixture, registry, &log)?, log)
    }

    /// Starts a daemon with a command of [`aam`], whose log is `log`, and waits until it is ready.
    pub fn spawn(mut command: Command, log: PathBuf) -> Measured<Daemon> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        command.arg("serve").env("PORT", port.to_string());
        let started = Instant::now();
        let mut daemon = Daemon { child: command.spawn()?, port, log, started, ready_after: Duration::ZERO };
        daemon.wait("ready", |daemon| Ok(daemon.get("/readyz").is_ok_and(|(status, _)| status == 200)))?;
        daemon.ready_after = started.elapsed();
        Ok(daemon)
    }

    /// Waits until `done` returns true.
    pub fn wait(&mut self, what: &str, mut done: impl FnMut(&Daemon) -> Measured<bool>) -> Measured<()> {
        let started = Instant::now();
        while !done(self)? {
            if let Some(status) = self.child.try_wait()? {
                return Err(
                    format!("aam serve ended ({status}) before it was {what}; its log ends with: {}", self.last_line()).into()
                );
            }
            if started.elapsed() > TIMEOUT {
                return Err(format!("aam serve was not {what} within {TIMEOUT:?}").into());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Sends one request on a new connection.
    pub fn get(&self, target: &str) -> Measured<(u16, Vec<u8>)> {
        Client::connect(self.port)?.get(target, TOKEN)
    }

    /// A number of the funnel.
    pub fn funnel(&self, field: &str) -> Measured<u64> {
        let (_, body) = self.get("/metrics/funnel")?;
        let funnel: serde_json::Value = serde_json::from_slice(&body)?;
        funnel[field].as_u64().ok_or_else(|| format!("the funnel does not have the field {field}").into())
    }

    /// Resident memory in MB (10^6 bytes).
    pub fn resident(&self) -> Measured<f64> {
        self.memory("VmRSS:")
    }

    /// Peak resident memory so far, in MB.
    pub fn peak(&self) -> Measured<f64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> Measured<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kb = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.trim().split(' ').next())
            .unwrap_or_default();
        Ok(kb.parse::<f64>()? * 1024.0 / 1e6)
    }

    /// Processor time used so far, in seconds.
    pub fn processor(&self) -> Measured<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the process may contain spaces, so the fields are counted from its closing bracket.
        let after = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS)
    }

    /// The lines of the log so far that contain `text`.
    pub fn logged(&self, text: &str) -> Measured<Vec<String>> {
        lines(&self.log, text)
    }

    fn last_line(&self) -> String {
        lines(&self.log, "").unwrap_or_default().pop().unwrap_or_default()
    }

    /// Sends SIGTERM and waits until the process ends.
    pub fn stop(mut self) -> Measured<()> {
        let id = i32::try_from(self.child.id())?;
        if let Some(pid) = rustix::process::Pid::from_raw(id) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a log that contain `text`.
pub fn lines(log: &Path, text: &str) -> Measured<Vec<String>> {
    let lines = BufReader::new(File::open(log)?).lines();
    Ok(lines.map_while(Result::ok).filter(|line| line.contains(text)).collect())
}

/// The number after `name=` in a line of the log.
pub fn number(line: &str, name: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!("{name}="))?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
