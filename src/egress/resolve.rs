//! Resolves names to addresses that passed the guard. The HTTP client connects to these addresses and to no other, so a
//! name that changes its address between the check and the connection cannot get around the guard.

use super::guard::{self, Refusal};
use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_service::Service;

/// A name that could not be resolved.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{host}: {message}")]
pub struct Unresolved {
    pub host: String,
    pub message: String,
}

/// Resolves host names: the resolver of the machine, or one of a test.
pub trait Lookup: Send + Sync {
    /// Returns every address of `host`.
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The resolver of the machine.
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in tokio::net::lookup_host((host, 0)).await? {
                if !addresses.contains(&address.ip()) {
                    addresses.push(address.ip());
                }
            }
            Ok(addresses)
        })
    }
}

/// Why a name has no address that may be called.
#[derive(Clone, Debug)]
pub enum NoAddress {
    Refused(Refusal),
    Unresolved(Unresolved),
}

/// The addresses of `host`, a name or a literal, that may be called. There is at least one.
///
/// # Errors
/// If it has no address, or none that the guard lets pass.
pub async fn resolve(lookup: &dyn Lookup, host: &str, allowed: &[IpNet]) -> Result<Vec<IpAddr>, NoAddress> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let found = match bare.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => lookup.lookup(bare).await.map_err(|error| unresolved(host, &error.to_string()))?,
    };
    if found.is_empty() {
        return Err(unresolved(host, "the name has no address"));
    }
    guard::passing(host, &found, allowed).map_err(NoAddress::Refused)
}

fn unresolved(host: &str, message: &str) -> NoAddress {
    NoAddress::Unresolved(Unresolved { host: host.to_string(), message: message.to_string() })
}

/// The resolver of the HTTP client, with the guard.
#[derive(Clone)]
pub struct Guarded {
    pub lookup: Arc<dyn Lookup>,
    pub allowed: Arc<[IpNet]>,
}

impl Guarded {
    /// A resolver that lets every address pass, for the policy's proxy: its address is allowed because the policy names it.
    pub fn open(lookup: &Arc<dyn Lookup>) -> Guarded {
        let everything = [IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())];
        Guarded { lookup: Arc::clone(lookup), allowed: Arc::new(everything) }
    }
}

impl Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Guarded { lookup, allowed } = self.clone();
        Box::pin(async move {
            match resolve(lookup.as_ref(), name.as_str(), &allowed).await {
                // The HTTP client replaces port 0 with the port of the URL.
                Ok(addresses) => Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect::<Vec<_>>().into_iter()),
                Err(NoAddress::Refused(refusal)) => Err(refusal.into()),
                Err(NoAddress::Unresolved(unresolved)) => Err(unresolved.into()),
            }
        })
    }
}
