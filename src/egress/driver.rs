//! The calls of drivers that open their own connections, and of readers of local files.

use super::client::connect_timeout;
use super::{Session, admission, breaker, locked, log, records, resolve, transport};
use crate::model::{CallTarget, Class, Failure, RecordedCall};
use std::net::SocketAddr;
use std::time::Duration;

/// An address that passed the guard, with permission to connect to it. It is for drivers that open their own
/// connections. Dropping it frees the concurrency slot.
pub struct AdmittedConnection {
    pub address: SocketAddr,
    /// The concurrency slot, which is freed on drop.
    pub slot: Option<tokio::sync::OwnedSemaphorePermit>,
    /// Returns the probe to the breaker on drop if the call was never settled.
    _admission: Option<admission::Admission>,
}

/// The server and the database that a driver connects to, for the log and the record of calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionTarget<'a> {
    /// The host. An IPv6 address has no brackets here.
    pub host: &'a str,
    /// The port if it is not the default of the protocol.
    pub port: Option<u16>,
    /// The name of the database; empty if there is none.
    pub database: &'a str,
}

impl ConnectionTarget<'_> {
    /// Returns the host with the port, if there is one, as a URL writes them.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// Returns the database as the path of a URL.
    fn path(&self) -> String {
        if self.database.is_empty() { String::new() } else { format!("/{}", self.database) }
    }
}

/// A statement or command that a driver sends over an admitted connection.
#[derive(Clone, Copy, Debug)]
pub struct DriverStatement<'a> {
    /// The protocol, for example `postgres`.
    pub protocol: &'a str,
    pub target: ConnectionTarget<'a>,
    /// The text without values.
    pub text: &'a str,
    /// The bytes in both directions.
    pub bytes: u64,
    pub took: Duration,
    /// The class of the failure, or an empty string.
    pub error: &'a str,
}

/// The rule for files of this machine.
const FILE_RULE: &str = "files.roots";
/// The method of a read of a local file.
const READ_FILE: &str = "READ FILE";

/// The rule that allows what a driver of `protocol` does on its connection.
fn rule(protocol: &str) -> &'static str {
    match protocol {
        "mongodb" => "commands that only read",
        "sqlite" => FILE_RULE,
        _ => "read-only session",
    }
}

impl Session {
    /// Admits one connection of a SQL driver. Takes one call from the budgets, resolves `host` and checks the address.
    ///
    /// # Errors
    /// Returns the same errors as [`Session::http`].
    pub async fn admit(&self, host: &str, port: u16) -> Result<AdmittedConnection, Failure> {
        let (mut admission, slot) = self.request_admission(host, port).await?;
        let allowed = &self.caller.policy.network.allow_private;
        let resolving = tokio::time::timeout(
            connect_timeout(&self.caller.policy.safe_mode),
            resolve::resolve(self.egress.lookup.as_ref(), host, allowed),
        );
        let found = match resolving.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let failure = transport::no_address(&error);
                admission.leave(health_signal(Some(&failure)), &failure.title);
                return Err(failure);
            }
            Err(_) => {
                let failure = transport::Cause::NoSuchName.failure(host, "the resolver did not answer in time");
                admission.leave(breaker::HealthSignal::Failing, &failure.title);
                return Err(failure);
            }
        };
        self.charge().await?;
        self.counters.call();
        let authority = ConnectionTarget { host, port: Some(port), database: "" }.authority();
        log::begun(&self.caller, &log::CallEvent { method: "CONNECT", host: &authority, ..log::CallEvent::default() });
        locked(&self.passes).insert(host.to_string(), (admission.key.clone(), admission.pass));
        // The drivers try only one address. Prefer IPv4, because some networks do not route IPv6.
        match found.iter().find(|ip| ip.is_ipv4()).or(found.first()) {
            Some(ip) => {
                Ok(AdmittedConnection { address: SocketAddr::new(*ip, port), slot: Some(slot), _admission: Some(admission) })
            }
            None => Err(transport::Cause::NoSuchName.failure(host, "the name has no address")),
        }
    }

    /// Looks up the SRV and TXT records of a service: `_SERVICE._tcp.HOST` and `HOST`. Only names are resolved; each host that
    /// is returned has to be admitted before it is called. A lookup takes no call from the budgets, like that of an address.
    ///
    /// # Errors
    /// Returns `Network` if the name has no SRV record or the resolver does not answer.
    pub async fn service_records(&self, service: &str, host: &str) -> Result<records::ServiceRecords, Failure> {
        let limit = connect_timeout(&self.caller.policy.safe_mode);
        records::look_up(self, (service, host), limit).await
    }

    /// Reports the outcome of an admitted call to the breaker and the call log. `protocol` is, for example, `postgres`.
    pub fn settle(&self, protocol: &str, host: &str, bytes: u64, took: Duration, failure: Option<&Failure>) {
        self.settle_connection(protocol, &ConnectionTarget { host, ..ConnectionTarget::default() }, bytes, took, failure);
    }

    /// As [`Session::settle`], for a connection whose port and database are recorded, too.
    pub fn settle_connection(
        &self,
        protocol: &str,
        target: &ConnectionTarget<'_>,
        bytes: u64,
        took: Duration,
        failure: Option<&Failure>,
    ) {
        let host = target.host;
        let now = self.egress.clock.now();
        let pass = locked(&self.passes).get(host).cloned();
        if let Some((key, pass)) = pass {
            let reason = failure.map(|failure| failure.title.as_str()).unwrap_or_default();
            self.egress.breakers.leave(&key, pass, health_signal(failure), reason, now, &self.caller.policy.breaker);
        }
        self.counters.bytes(bytes);
        let error = failure.map(|failure| failure.class.as_str()).unwrap_or_default();
        let (authority, rule) = (target.authority(), rule(protocol));
        let statements = locked(&self.statement_bytes).remove(&authority).unwrap_or_default();
        let path = self.driver_path(rule, target);
        let event = log::CallEvent {
            method: protocol,
            host: &authority,
            path: &path,
            bytes,
            took,
            error,
            rule,
            ..log::CallEvent::default()
        };
        log::write(&self.caller, &event);
        self.record(&log::CallEvent { bytes: bytes.saturating_sub(statements), ..event });
    }

    /// The path of what a driver reads: the file of this machine, or the database.
    fn driver_path(&self, rule: &str, target: &ConnectionTarget<'_>) -> String {
        if rule == FILE_RULE { locked(&self.local_path).clone() } else { target.path() }
    }

    /// Takes one call from the budgets for a local file and logs that it begins. Report how it ended with
    /// [`Session::local_ended`].
    ///
    /// # Errors
    /// Returns `Throttled` if the file's budget for the day is used up or the registry cannot record the call.
    pub async fn local(&self, path: &str) -> Result<(), Failure> {
        self.egress.gate.admit(&self.caller)?;
        self.account.free(&self.caller, self.egress.clock.now())?;
        let slot = self.account.enter(&self.caller, &self.egress).await?;
        self.charge().await?;
        self.counters.call();
        *locked(&self.local_path) = path.to_string();
        let event = log::CallEvent { method: READ_FILE, host: "local", path, rule: FILE_RULE, ..log::CallEvent::default() };
        log::begun(&self.caller, &event);
        drop(slot);
        Ok(())
    }

    /// Writes the read of a local file to the log and to the record of the attempt. `error` is the class of its failure, or an
    /// empty string. It is not reported to a circuit breaker, because one bad file says nothing about the others.
    pub fn local_ended(&self, path: &str, bytes: u64, took: Duration, error: &str) {
        self.counters.bytes(bytes);
        let event = log::CallEvent {
            method: READ_FILE,
            host: "local",
            path,
            bytes,
            took,
            error,
            rule: FILE_RULE,
            ..log::CallEvent::default()
        };
        log::write(&self.caller, &event);
        self.record(&event);
    }

    /// Writes to the log that a statement is about to be sent.
    pub fn statement_begins(&self, protocol: &str, target: &ConnectionTarget<'_>, text: &str) {
        let (authority, path) = (target.authority(), self.driver_path(rule(protocol), target));
        let event =
            log::CallEvent { method: protocol, host: &authority, path: &path, statement: text, ..log::CallEvent::default() };
        log::begun(&self.caller, &event);
    }

    /// Writes a statement to the log and to the record of the attempt. It is not counted as a call, because it is part of the
    /// connection that was admitted.
    pub fn statement(&self, statement: &DriverStatement<'_>) {
        let DriverStatement { protocol, target, text, bytes, took, error } = *statement;
        let authority = target.authority();
        *locked(&self.statement_bytes).entry(authority.clone()).or_default() += bytes;
        let path = self.driver_path(rule(protocol), &target);
        let rule = match rule(protocol) {
            "read-only session" => "read-only transaction",
            other => other,
        };
        let event = log::CallEvent {
            method: protocol,
            host: &authority,
            path: &path,
            bytes,
            took,
            error,
            rule,
            statement: text,
            ..log::CallEvent::default()
        };
        log::ended(&self.caller, &event);
        self.record(&event);
    }

    /// Adds a call to the record of the attempt, or to that of the calls outside of attempts.
    pub(super) fn record(&self, event: &log::CallEvent<'_>) {
        let ms = u64::try_from(event.took.as_millis()).unwrap_or(u64::MAX);
        let now = self.egress.clock.now();
        let target = CallTarget {
            purpose: self.caller.purpose,
            method: event.method.to_string(),
            host: event.host.to_string(),
            path: event.path.to_string(),
            statement: event.statement.to_string(),
            rule: event.rule.to_string(),
        };
        let call = RecordedCall {
            at: crate::model::Timestamp(now.0.saturating_sub(i64::try_from(ms).unwrap_or(0))),
            target,
            status: Some(event.status).filter(|status| *status != 0),
            sent: event.sent,
            bytes: event.bytes,
            ms,
            error: event.error.to_string(),
        };
        super::recorder::record(self.recorder.as_ref(), &self.egress.background, &self.caller, call);
    }
}

/// Returns what a failure says about the health of the host.
pub(super) fn health_signal(failure: Option<&Failure>) -> breaker::HealthSignal {
    match failure.map(|failure| failure.class) {
        Some(Class::Network | Class::Remote) => breaker::HealthSignal::Failing,
        Some(
            Class::Throttled | Class::BreakerOpen | Class::EgressRefused | Class::Interrupted | Class::CrashLoop | Class::Bug,
        ) => breaker::HealthSignal::Unknown,
        _ => breaker::HealthSignal::Alive,
    }
}
