//! The HTTP clients: one for each distinct `network` part of the policy, with TLS and without, on each thread of attempts.

use super::dial::Dialler;
use super::resolve::{Guarded, Lookup};
use super::{locked, tls};
use crate::model::{Class, Failure};
use crate::policy::{Network, Policy, SafeMode};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use std::path::{Path, PathBuf};
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

/// How long they are.
const IDLE_FOR: Duration = Duration::from_secs(20);

/// What a client was built from.
#[derive(Clone, PartialEq)]
struct Ground {
    network: Network,
    connect: Duration,
    authorities: Authorities,
    tls: bool,
    /// The thread, where it has a runtime of its own: a connection is served by the runtime that opened it, and one
    /// that another thread serves wakes both for each answer.
    thread: Option<ThreadId>,
}

/// Sends requests on kept connections.
pub type Client = legacy::Client<Dialler, Full<Bytes>>;

/// The clients in use, the newest last.
#[derive(Default)]
pub struct Clients(Mutex<CachedResponse>);

#[derive(Default)]
struct CachedResponse {
    clients: Vec<(Ground, Client)>,
    /// Of the newest policy, for the clients of all threads: reading the authorities takes longer than many a call.
    tls: Option<(Authorities, Arc<ClientConfig>)>,
}

/// The policy's file of authorities, with size and time: a changed one is read anew, without a restart.
type Authorities = Option<(PathBuf, Option<(u64, Option<SystemTime>)>)>;

impl Clients {
    /// The client for the network part of `policy`. One that will only speak `http:` (`tls` is false) does without
    /// the authorities.
    ///
    /// # Errors
    /// `Misconfigured` when the proxy or the file of authorities cannot be used.
    pub fn of(&self, policy: &Policy, lookup: &Arc<dyn Lookup>, tls: bool) -> Result<Client, Failure> {
        let (network, connect) = (&policy.network, connect_timeout(&policy.safe_mode));
        // A proxy may be spoken to by TLS.
        let tls = tls || network.proxy.is_some();
        let authorities = network.ca_file.as_ref().map(|file| (file.clone(), version(file)));
        let thread = own_thread();
        let same = |known: &Ground| {
            let place = (known.connect, known.tls, known.thread) == (connect, tls, thread);
            place && known.authorities == authorities && known.network == *network
        };
        let mut kept = locked(&self.0);
        if let Some((_, client)) = kept.clients.iter().find(|(known, _)| same(known)) {
            return Ok(client.clone());
        }
        let trust = if tls { kept.trust(&authorities)? } else { Arc::new(tls::without_authorities()?) };
        let client = build(network, connect, lookup, &trust)?;
        if kept.clients.len() >= KEPT {
            kept.clients.remove(0);
        }
        kept.clients.push((Ground { network: network.clone(), connect, authorities, tls, thread }, client.clone()));
        Ok(client)
    }
}

impl CachedResponse {
    fn trust(&mut self, authorities: &Authorities) -> Result<Arc<ClientConfig>, Failure> {
        match &self.tls {
            Some((known, trust)) if known == authorities => Ok(Arc::clone(trust)),
            _ => {
                let mut trust = tls::config(authorities.as_ref().map(|(file, _)| file.as_path()))?;
                trust.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                let trust = Arc::new(trust);
                self.tls = Some((authorities.clone(), Arc::clone(&trust)));
                Ok(trust)
            }
        }
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

fn build(network: &Network, connect: Duration, lookup: &Arc<dyn Lookup>, trust: &Arc<ClientConfig>) -> Result<Client, Failure> {
    let guarded = Guarded { lookup: Arc::clone(lookup), allowed: network.allow_private.clone().into() };
    let mut dialler = Dialler::new(guarded, trust, connect);
    if let Some(text) = &network.proxy {
        dialler = dialler.through(proxy(text)?, Guarded::open(lookup), trust, network.allow_private.clone());
    }
    Ok(legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_FOR)
        .pool_max_idle_per_host(IDLE)
        .build(dialler))
}

fn proxy(text: &str) -> Result<Uri, Failure> {
    let wrong = |words: String| {
        Failure::new(
            Class::Misconfigured,
            "network.proxy cannot be used",
            "write it as network.proxy: http://proxy.acme.example:3128",
        )
        .detail(words)
    };
    let url = url::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong(format!("{}: is not served, only http: and https:", url.scheme())));
    }
    url.as_str().parse().map_err(|error: hyper::http::uri::InvalidUri| wrong(error.to_string()))
}
