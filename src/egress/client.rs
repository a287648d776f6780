//! The HTTP clients: one for each distinct `network` part of the policy, with TLS and without, on each thread of attempts.

use super::locked;
use super::resolve::{Guarded, Lookup};
use crate::model::{Class, Failure};
use crate::policy::{Network, Policy, SafeMode};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, SystemTime};
use tokio::runtime::{Handle, RuntimeFlavor};

/// How long name, connection and TLS may take together, at most.
const CONNECT: Duration = Duration::from_secs(10);

/// The time for name, connection and TLS: less than a step has, so that the failure can tell a port
/// that drops packets from a service that is slow.
#[must_use]
pub fn connect_timeout(safe_mode: &SafeMode) -> Duration {
    CONNECT.min(safe_mode.step_timeout / 2)
}

/// Clients of policies that are no longer in force are dropped beyond this many.
const KEPT: usize = 32;

/// Connections to one host that are kept open between calls: as many as attempts may run at a time by default,
/// so that a host that serves many connections is not dialled anew for each call.
const IDLE: usize = 64;

/// What a client was built from.
#[derive(Clone, PartialEq)]
struct Ground {
    network: Network,
    connect: Duration,
    /// Size and time of the file of authorities: a changed one makes a new client, without a restart.
    file: Option<(u64, Option<SystemTime>)>,
    tls: bool,
    /// The thread, where it has a runtime of its own: a connection is served by the runtime that opened it, and one
    /// that another thread serves wakes both for each answer.
    thread: Option<ThreadId>,
}

/// The clients in use, the newest last.
#[derive(Default)]
pub struct Clients(Mutex<Vec<(Ground, reqwest::Client)>>);

impl Clients {
    /// The client for the network part of `policy`. One that will only speak `http:` (`tls` is false) does without
    /// the authorities of the machine: reading them takes longer than many a call.
    ///
    /// # Errors
    /// `Misconfigured` when the proxy or the file of authorities cannot be used.
    pub fn of(&self, policy: &Policy, lookup: &Arc<dyn Lookup>, tls: bool) -> Result<reqwest::Client, Failure> {
        let (network, connect) = (&policy.network, connect_timeout(&policy.safe_mode));
        // A proxy may be spoken to by TLS.
        let tls = tls || network.proxy.is_some();
        let file = network.ca_file.as_deref().and_then(version);
        let thread = own_thread();
        let same = |known: &Ground| {
            let place = (known.connect, known.tls, known.thread) == (connect, tls, thread);
            place && known.file == file && known.network == *network
        };
        let mut all = locked(&self.0);
        if let Some((_, client)) = all.iter().find(|(known, _)| same(known)) {
            return Ok(client.clone());
        }
        let client = build(network, connect, lookup, tls)?;
        if all.len() >= KEPT {
            all.remove(0);
        }
        all.push((Ground { network: network.clone(), connect, file, tls, thread }, client.clone()));
        Ok(client)
    }
}

fn own_thread() -> Option<ThreadId> {
    let flavor = Handle::try_current().ok()?.runtime_flavor();
    (flavor == RuntimeFlavor::CurrentThread).then(|| std::thread::current().id())
}

fn version(file: &Path) -> Option<(u64, Option<SystemTime>)> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.len(), meta.modified().ok()))
}

fn build(network: &Network, connect: Duration, lookup: &Arc<dyn Lookup>, tls: bool) -> Result<reqwest::Client, Failure> {
    // Another part of the process may have been first; both mean ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let proxy = network.proxy.as_deref().map(|text| proxy(text, network)).transpose()?;
    let authorities = network.ca_file.as_deref().map(authorities).transpose()?;
    let start = || {
        let guarded = Guarded {
            lookup: Arc::clone(lookup),
            allowed: network.allow_private.clone(),
            proxy: proxy.as_ref().map(|(_, host)| host.clone()),
        };
        let builder = reqwest::Client::builder()
            .user_agent(concat!("AAM/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(connect)
            .pool_idle_timeout(Duration::from_secs(20))
            .pool_max_idle_per_host(IDLE)
            .dns_resolver(Arc::new(guarded));
        match &proxy {
            Some((proxy, _)) => builder.proxy(proxy.clone()),
            None => builder,
        }
    };
    let merged = match tls {
        true => start().tls_certs_merge(authorities.clone().unwrap_or_default()).build(),
        false => start().tls_certs_only([]).build(),
    };
    // A machine without any authority can still talk http, or https with the file's authorities alone.
    merged.or_else(|_| start().tls_certs_only(authorities.unwrap_or_default()).build()).map_err(|error| {
        Failure::new(
            Class::Misconfigured,
            "the HTTP client cannot be built",
            "see network.ca_file and network.proxy in the policy",
        )
        .detail(super::transport::words(error))
    })
}

fn proxy(text: &str, network: &Network) -> Result<(reqwest::Proxy, String), Failure> {
    let wrong = |words: String| {
        Failure::new(
            Class::Misconfigured,
            "network.proxy cannot be used",
            "write it as network.proxy: http://proxy.acme.example:3128",
        )
        .detail(words)
    };
    let url = url::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    let host = url.host_str().unwrap_or_default().to_string();
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        return Err(wrong(format!("{}: is not served, only http: and https:", url.scheme())));
    }
    let proxy = reqwest::Proxy::all(url).map_err(|error| wrong(super::transport::words(error)))?;
    // What the policy opens inside is reached from inside.
    let inside: Vec<String> = network.allow_private.iter().map(ToString::to_string).collect();
    Ok((proxy.no_proxy(reqwest::NoProxy::from_string(&inside.join(","))), host))
}

fn authorities(file: &Path) -> Result<Vec<reqwest::Certificate>, Failure> {
    let wrong = |words: String| {
        let title = format!("network.ca_file {} cannot be used", file.display());
        Failure::new(
            Class::Misconfigured,
            title,
            "name a readable file with certificates in PEM form (-----BEGIN CERTIFICATE-----)",
        )
        .detail(words)
    };
    let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let found = reqwest::Certificate::from_pem_bundle(&bytes).map_err(|error| wrong(super::transport::words(error)))?;
    if found.is_empty() { Err(wrong("it holds no certificate".to_string())) } else { Ok(found) }
}
