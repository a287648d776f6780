//! The hosts that a credential is sent to.

use std::fmt;
use std::net::IpAddr;
use url::Url;

/// A host that the resource id of an intent chose and that the credential would be sent to.
///
/// A host that the family's file, the policy or a literal address of a manifest names is not a `Recipient`: it was
/// reviewed, and an intent cannot change it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    /// In lower case, without a final dot and without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    /// The port that the protocol uses if none is written.
    pub default_port: u16,
    /// True if the credential would be sent over plain HTTP.
    pub plain: bool,
}

impl Recipient {
    /// The recipient of requests to `url`. Returns `None` if the URL has no host.
    #[must_use]
    pub fn from_url(url: &Url) -> Option<Recipient> {
        let plain = url.scheme() == "http";
        let default_port = if plain { 80 } else { 443 };
        Some(Recipient::new(url.host_str()?, url.port().unwrap_or(default_port), default_port, plain))
    }

    /// The recipient at `host` and `port`.
    #[must_use]
    pub fn new(host: &str, port: u16, default_port: u16, plain: bool) -> Recipient {
        Recipient { host: normal_host(host), port, default_port, plain }
    }
}

/// A host name or address as it is compared: in lower case, without a final dot and without brackets.
#[must_use]
pub fn normal_host(host: &str) -> String {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase()
}

/// Whether `host` is this machine.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The pattern of the policy that allows exactly this recipient.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recipient { host, port, default_port, plain } = self;
        let scheme = if *plain && !is_loopback(host) { "http://" } else { "" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if port == default_port && !plain { write!(f, "{host}") } else { write!(f, "{scheme}{host}:{port}") }
    }
}
