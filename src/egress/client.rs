//! The HTTP clients, which the whole process shares: one for each distinct `network` part of the policy, with TLS
//! and without.

use super::dial::Dialer;
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
use std::time::{Duration, SystemTime};

/// The longest time for name resolution, connection and TLS handshake together.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(10);

/// The time for name resolution, connection and TLS handshake. It is shorter than a step, so that the failure tells a
/// port that drops packets from a service that is slow.
#[must_use]
pub fn connect_timeout(safe_mode: &SafeMode) -> Duration {
    MAX_CONNECT_TIME.min(safe_mode.step_timeout / 2)
}

/// Clients that are kept. Those of policies that are no longer in force are the first to be dropped.
const MAX_CLIENTS: usize = 8;

/// Idle connections to one host that are kept open, so that a host that serves many accounts is not dialled anew for
/// each call.
const MAX_IDLE_PER_HOST: usize = 256;

/// How long an idle connection is kept. The calls of one attempt follow each other closely. A fleet of thousands of
/// hosts must not hold a socket for each of them much longer than its attempt runs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client was built from.
#[derive(PartialEq)]
struct ClientKey {
    network: Network,
    connect: Duration,
    authorities: Authorities,
    tls: bool,
}

/// An HTTP client that keeps its connections open between calls.
pub type Client = legacy::Client<Dialer, Full<Bytes>>;

/// The clients of the process.
#[derive(Default)]
pub struct Clients(Mutex<Built>);

#[derive(Default)]
struct Built {
    /// The newest last.
    clients: Vec<(ClientKey, Client)>,
    /// The TLS configuration of the newest policy: reading the authorities takes longer than many a call.
    tls: Option<(Authorities, Arc<ClientConfig>)>,
}

/// The policy's file of certificate authorities with its size and modification time, so that a changed file is read
/// again without a restart.
type Authorities = Option<(PathBuf, Option<(u64, Option<SystemTime>)>)>;

impl Clients {
    /// The client for the network part of `policy`. A client for `http:` alone (`tls` is false) reads no authorities and
    /// sets up no TLS.
    ///
    /// # Errors
    /// `Misconfigured` if the proxy or the file of authorities cannot be used.
    pub fn get(&self, policy: &Policy, lookup: &Arc<dyn Lookup>, tls: bool) -> Result<Client, Failure> {
        let (network, connect) = (&policy.network, connect_timeout(&policy.safe_mode));
        // The connection to the proxy may itself use TLS.
        let tls = tls || network.proxy.is_some();
        let authorities = network.ca_file.as_ref().map(|file| (file.clone(), version(file)));
        let same = |known: &ClientKey| {
            (known.connect, known.tls) == (connect, tls) && known.authorities == authorities && known.network == *network
        };
        let mut built = locked(&self.0);
        if let Some((_, client)) = built.clients.iter().find(|(known, _)| same(known)) {
            return Ok(client.clone());
        }
        let trust = tls.then(|| built.trust(&authorities)).transpose()?;
        let client = build(network, connect, lookup, trust.as_ref())?;
        if built.clients.len() >= MAX_CLIENTS {
            built.clients.remove(0);
        }
        built.clients.push((ClientKey { network: network.clone(), connect, authorities, tls }, client.clone()));
        Ok(client)
    }
}

impl Built {
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

fn version(file: &Path) -> Option<(u64, Option<SystemTime>)> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.len(), meta.modified().ok()))
}

/// Without `trust` the client calls `http:` alone, and no proxy.
fn build(
    network: &Network,
    connect: Duration,
    lookup: &Arc<dyn Lookup>,
    trust: Option<&Arc<ClientConfig>>,
) -> Result<Client, Failure> {
    let guarded = Guarded { lookup: Arc::clone(lookup), allowed: network.allow_private.clone().into() };
    let dialer = match (trust, &network.proxy) {
        (None, _) => Dialer::plain(guarded, connect),
        (Some(trust), None) => Dialer::new(guarded, trust, connect),
        (Some(trust), Some(text)) => Dialer::new(guarded, trust, connect).through(
            proxy(text)?,
            Guarded::open(lookup),
            trust,
            network.allow_private.clone(),
        ),
    };
    Ok(legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .build(dialer))
}

fn proxy(text: &str) -> Result<Uri, Failure> {
    let wrong = |reason: String| {
        Failure::new(
            Class::Misconfigured,
            "network.proxy is not usable",
            "write it as network.proxy: http://proxy.acme.example:3128",
        )
        .detail(reason)
    };
    let url = url::Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong(format!("the scheme {}: is not supported; use http: or https:", url.scheme())));
    }
    url.as_str().parse().map_err(|error: hyper::http::uri::InvalidUri| wrong(error.to_string()))
}
