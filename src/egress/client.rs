//! The HTTP clients that the whole process shares. Each distinct `network` section of the policy has one client with
//! TLS and one without.

use super::dial::Dialer;
use super::gate::Gate;
use super::resolve::{Guarded, Lookup};
use super::{FurtherAuthorities, locked, tls};
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

/// The maximum time for name resolution, connection and TLS handshake together.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(10);

/// Returns the timeout for name resolution, connection and TLS handshake together. It is shorter than the step timeout,
/// so that the failure distinguishes a port that drops packets from a slow service.
#[must_use]
pub fn connect_timeout(safe_mode: &SafeMode) -> Duration {
    MAX_CONNECT_TIME.min(safe_mode.step_timeout / 2)
}

/// The maximum number of clients. The oldest ones are dropped first, because they usually belong to policies that are
/// no longer in force.
const MAX_CLIENTS: usize = 8;

/// The maximum number of idle connections to one host. It is large enough that a host that serves many accounts does
/// not need a new connection for each call.
const MAX_IDLE_PER_HOST: usize = 256;

/// How long an idle connection is kept open. The calls of one attempt follow each other closely, so a short time is
/// enough. With thousands of hosts, a longer time would keep a socket open for each host long after its attempt has
/// ended.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum size of the status line and the headers of a response together, in bytes. The largest headers of real
/// vendors have about 16 KiB.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// The maximum number of bytes that an HTTP/2 server may send before they are read.
const MAX_UNREAD_BYTES: u32 = 256 << 10;

/// The settings that a client was built from.
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
pub struct Clients {
    built: Mutex<Built>,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Built {
    /// The clients with their keys, oldest first.
    clients: Vec<(ClientKey, Client)>,
    /// The TLS configurations in use, oldest first. They are cached because loading the certificate authorities often takes
    /// longer than a call.
    tls: Vec<(Authorities, Arc<ClientConfig>)>,
}

/// The maximum number of TLS configurations. A policy has at most two: with and without the authorities of the vault.
const MAX_TLS_CONFIGS: usize = 4;

/// The files with certificate authorities, each with the key of the policy that names it and with its size and modification
/// time, so that a changed file is read again without a restart.
type Authorities = Vec<AuthoritiesFile>;

#[derive(Clone, PartialEq)]
struct AuthoritiesFile {
    file: PathBuf,
    policy_key: &'static str,
    version: Option<(u64, Option<SystemTime>)>,
}

impl AuthoritiesFile {
    fn new(file: &Path, policy_key: &'static str) -> AuthoritiesFile {
        AuthoritiesFile { file: file.to_path_buf(), policy_key, version: version(file) }
    }
}

impl Clients {
    /// Creates the clients of a process, whose connections `gate` permits.
    pub fn new(gate: Arc<Gate>) -> Clients {
        Clients { built: Mutex::default(), gate }
    }

    /// Returns the client for the `network` section of `policy`, which also trusts the authorities of `further`. If `tls` is
    /// false, the client supports only `http:`, and certificate authorities are not loaded.
    ///
    /// # Errors
    /// Returns `Misconfigured` if the proxy or a file with authorities cannot be used.
    pub fn get(
        &self,
        policy: &Policy,
        lookup: &Arc<dyn Lookup>,
        tls: bool,
        further: Option<&FurtherAuthorities>,
    ) -> Result<Client, Failure> {
        let (network, connect) = (&policy.network, connect_timeout(&policy.safe_mode));
        // The connection to the proxy may use TLS even if the source does not.
        let tls = tls || network.proxy.is_some();
        let own = network.ca_file.as_ref().map(|file| AuthoritiesFile::new(file, "network.ca_file"));
        let further = further.filter(|_| tls).map(|further| AuthoritiesFile::new(&further.file, further.policy_key));
        let authorities: Authorities = own.into_iter().chain(further).collect();
        let same = |known: &ClientKey| {
            (known.connect, known.tls) == (connect, tls) && known.authorities == authorities && known.network == *network
        };
        let mut built = locked(&self.built);
        if let Some((_, client)) = built.clients.iter().find(|(known, _)| same(known)) {
            return Ok(client.clone());
        }
        let trust = tls.then(|| built.trust(&authorities)).transpose()?;
        let client = build(network, connect, (lookup, &self.gate), trust.as_ref())?;
        if built.clients.len() >= MAX_CLIENTS {
            built.clients.remove(0);
        }
        built.clients.push((ClientKey { network: network.clone(), connect, authorities, tls }, client.clone()));
        Ok(client)
    }
}

impl Built {
    fn trust(&mut self, authorities: &Authorities) -> Result<Arc<ClientConfig>, Failure> {
        if let Some((_, trust)) = self.tls.iter().find(|(known, _)| known == authorities) {
            return Ok(Arc::clone(trust));
        }
        let files: Vec<(&Path, &str)> = authorities.iter().map(|of| (of.file.as_path(), of.policy_key)).collect();
        let mut trust = tls::config_with(&files)?;
        trust.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let trust = Arc::new(trust);
        if self.tls.len() >= MAX_TLS_CONFIGS {
            self.tls.remove(0);
        }
        self.tls.push((authorities.clone(), Arc::clone(&trust)));
        Ok(trust)
    }
}

fn version(file: &Path) -> Option<(u64, Option<SystemTime>)> {
    let meta = std::fs::metadata(file).ok()?;
    Some((meta.len(), meta.modified().ok()))
}

/// Builds a client. Without `trust`, the client supports only `http:` and does not use a proxy.
fn build(
    network: &Network,
    connect: Duration,
    (lookup, gate): (&Arc<dyn Lookup>, &Arc<Gate>),
    trust: Option<&Arc<ClientConfig>>,
) -> Result<Client, Failure> {
    let guarded = Guarded { lookup: Arc::clone(lookup), allowed: network.allow_private.clone().into() };
    let dialer = match (trust, &network.proxy) {
        (None, _) => Dialer::plain(guarded, connect, Arc::clone(gate)),
        (Some(trust), None) => Dialer::new(guarded, trust, connect, Arc::clone(gate)),
        (Some(trust), Some(text)) => Dialer::new(guarded, trust, connect, Arc::clone(gate)).through(
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
        .http1_max_buf_size(MAX_HEADER_BYTES)
        .http2_max_header_list_size(MAX_HEADER_BYTES as u32)
        .http2_initial_stream_window_size(MAX_UNREAD_BYTES)
        .http2_initial_connection_window_size(MAX_UNREAD_BYTES)
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
