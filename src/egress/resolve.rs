//! Resolves host names to addresses that passed the guard. The HTTP client connects only to these addresses, so a name
//! whose address changes between the check and the connection cannot bypass the guard.

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

/// One host of a service, from an SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHost {
    /// In lower case and without the final dot.
    pub host: String,
    pub port: u16,
}

/// Resolves host names. Tests use their own implementation instead of the system resolver.
pub trait Lookup: Send + Sync {
    /// Returns every address of `host`.
    fn lookup<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;

    /// Returns the hosts of the SRV records of `name`. A name without such records is an error of the kind `NotFound`.
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<ServiceHost>>>;

    /// Returns the texts of the TXT records of `name`, each joined from its parts. The list is empty if there are none.
    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>>;
}

/// The system resolver.
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

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<ServiceHost>>> {
        super::records::services(name)
    }

    fn texts<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        super::records::texts(name)
    }
}

/// Why a host name has no allowed address.
#[derive(Clone, Debug)]
pub enum NoAddress {
    Refused(Refusal),
    Unresolved(Unresolved),
}

/// Returns the allowed addresses of `host`, which is a name or an IP literal. The result is never empty.
///
/// # Errors
/// Returns an error if the host has no address, or if the guard refuses all of its addresses.
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

/// The resolver that the HTTP client uses. It applies the guard.
#[derive(Clone)]
pub struct Guarded {
    pub lookup: Arc<dyn Lookup>,
    pub allowed: Arc<[IpNet]>,
}

impl Guarded {
    /// Creates a resolver that allows every address. It is used only for the policy's proxy, which is allowed because
    /// the policy names it.
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
