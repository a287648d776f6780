//! Reports precisely what went wrong below HTTP: name resolution, port, route, TLS or timeout.

use super::dial::{DialTimeout, ProxyConnectError, ProxyTunnelError};
use super::gate::GateClosed;
use super::guard::Refusal;
use super::refusals::NOT_PERMITTED_FIX;
use super::resolve::{NoAddress, Unresolved};
use crate::credentials::redact;
use crate::model::{Class, Failure};
use rustls::CertificateError;
use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

/// Why there was no response.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// AAM's SSRF guard refused the address.
    Guard(Refusal),
    /// This process may not call now.
    GateClosed,
    NoSuchName,
    Refused,
    /// The server closed the connection before it sent a response.
    Closed,
    Unreachable,
    /// No connection was established within this time.
    ConnectTimeout(Duration),
    /// The connection was established, but no response arrived within this time.
    ResponseTimeout(Duration),
    /// The certificate is for another host name.
    CertificateName,
    /// The certificate was issued by an authority that this machine and the policy do not trust.
    CertificateIssuer,
    CertificateExpired,
    /// Any other TLS error, including a server that does not use TLS.
    Tls,
    /// The response is not HTTP.
    NotHttp,
    /// The policy's proxy did not connect to the source.
    Proxy,
    Other,
}

impl Cause {
    /// Returns whether the same request may succeed if it is sent again a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        *self == Cause::Closed
    }

    fn certificate(&self) -> bool {
        matches!(self, Cause::CertificateName | Cause::CertificateIssuer | Cause::CertificateExpired)
    }

    /// Returns the failure to report. `at` is `host` or `host:port`, and `message` is the message of the underlying
    /// error.
    #[must_use]
    pub fn failure(&self, at: &str, message: &str) -> Failure {
        let host = at.rsplit_once(':').map_or(at, |(host, _)| host);
        let fail = |title: String, fix: String| Failure::new(Class::Network, title, fix);
        let s = |time: &Duration| time.as_secs_f64();
        let failure = match self {
            Cause::Guard(refusal) => return refusal.failure(),
            Cause::GateClosed => {
                Failure::new(Class::Throttled, format!("{at} was not called: this process of AAM may not call now"), NOT_PERMITTED_FIX)
                    .after(Duration::from_secs(1))
            }
            Cause::NoSuchName => fail(
                format!("the host {host} was not found"),
                format!("correct the host if it is mistyped; otherwise check what this machine's resolver answers: getent hosts {host}"),
            ),
            Cause::Refused => fail(
                format!("connection refused by {at}"),
                "start the service, or correct host and port".to_string(),
            ),
            Cause::Closed => fail(
                format!("{at} closed the connection before it answered"),
                "check the log of the service; a proxy or firewall in between may also cut connections".to_string(),
            ),
            Cause::Unreachable => fail(
                format!("could not connect to {at}: no route to the host"),
                "open the route or the VPN from this machine, or name a proxy in the policy: network.proxy".to_string(),
            ),
            Cause::ConnectTimeout(time) => fail(
                format!("{at} did not accept a connection within {} s", s(time)),
                "a firewall most likely drops the packets: allow this machine in the firewall, or name a proxy in the policy: network.proxy".to_string(),
            ),
            Cause::ResponseTimeout(time) => fail(
                format!("{at} did not answer within {} s", s(time)),
                "check whether the service is overloaded; if it is only slow, raise safe_mode.step_timeout in the policy".to_string(),
            ),
            Cause::CertificateName => fail(
                format!("the certificate of {at} is for another host name"),
                "use the host name that the certificate was issued for".to_string(),
            ),
            Cause::CertificateIssuer => fail(
                format!("the certificate of {at} was issued by an authority that is not trusted here"),
                "put the authority's certificate (PEM) into a file and name it in the policy: network.ca_file".to_string(),
            ),
            Cause::CertificateExpired => fail(
                format!("the certificate of {at} is expired or not valid yet"),
                "renew the certificate of the service; check the clock of this machine".to_string(),
            ),
            Cause::Tls => fail(
                format!("could not establish a TLS connection to {at}"),
                "check that the service speaks TLS 1.2 or 1.3 on this port; if it does not use TLS, write http:// instead of https://".to_string(),
            ),
            Cause::NotHttp => Failure::new(
                Class::WrongService,
                format!("the response of {at} is not HTTP"),
                "check that host and port are those of the HTTP service, and write https:// if the service uses TLS",
            ),
            Cause::Proxy => fail(
                format!("the proxy of the policy did not connect to {at}"),
                "see the detail for the cause; network.proxy must name a running proxy that lets this machine reach that address".to_string(),
            ),
            Cause::Other => fail(format!("the call to {at} failed"), "see the detail for the cause".to_string()),
        };
        failure.detail(redact::scrub(message))
    }
}

/// Returns the failure for a host name that has no allowed address.
#[must_use]
pub fn no_address(error: &NoAddress) -> Failure {
    match error {
        NoAddress::Refused(refusal) => refusal.failure(),
        NoAddress::Unresolved(Unresolved { host, message }) => Cause::NoSuchName.failure(host, message),
    }
}

/// A request that received no response.
#[derive(Debug, thiserror::Error)]
pub enum NoResponse {
    #[error("operation timed out")]
    TimedOut,
    #[error(transparent)]
    Client(#[from] hyper_util::client::legacy::Error),
}

/// Classifies an error of the HTTP client. `connect` is the connect timeout and `timeout` is the response timeout.
#[must_use]
pub fn diagnose(error: &NoResponse, connect: Duration, timeout: Duration) -> Cause {
    let NoResponse::Client(error) = error else { return Cause::ResponseTimeout(timeout) };
    if chain(error).any(|error| error.is::<ProxyConnectError>()) {
        return Cause::Proxy;
    }
    let behind_proxy = chain(error).any(|error| error.is::<ProxyTunnelError>());
    match chain(error).find_map(known) {
        // Behind a proxy, a certificate error concerns the source's certificate. Any other error is the proxy's.
        Some(cause) if !behind_proxy || cause.certificate() => cause,
        _ if behind_proxy => Cause::Proxy,
        _ if chain(error).any(timed_out) => Cause::ConnectTimeout(connect.min(timeout)),
        _ => Cause::Other,
    }
}

/// Returns an error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let link = next?;
        next = link.source();
        Some(link)
    })
}

fn timed_out(error: &(dyn Error + 'static)) -> bool {
    error.is::<DialTimeout>() || error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::TimedOut)
}

/// Returns the messages of an error and of its causes.
#[must_use]
pub fn message(error: &(dyn Error + 'static)) -> String {
    chain(error).map(ToString::to_string).fold(String::new(), |message, more| match message.is_empty() {
        true => more,
        false if message.contains(&more) => message,
        false => format!("{message}: {more}"),
    })
}

/// Returns whether a body ended before its announced length.
#[must_use]
pub fn cut(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| {
        let hyper = error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_incomplete_message() || error.is_closed());
        let io = error.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
            )
        });
        hyper || io
    })
}

fn known(error: &(dyn Error + 'static)) -> Option<Cause> {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return Some(Cause::Guard(refusal.clone()));
    }
    if error.is::<GateClosed>() {
        return Some(Cause::GateClosed);
    }
    if error.is::<Unresolved>() {
        return Some(Cause::NoSuchName);
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls_cause(tls));
    }
    if let Some(io) = error.downcast_ref::<std::io::Error>() {
        return io_cause(io);
    }
    let hyper = error.downcast_ref::<hyper::Error>()?;
    if hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled() {
        return Some(Cause::Closed);
    }
    hyper.is_parse().then_some(Cause::NotHttp)
}

fn io_cause(error: &std::io::Error) -> Option<Cause> {
    // `source` of an `io::Error` skips the error that it wraps, so look at the wrapped error first.
    if let Some(inner) = error.get_ref() {
        let inner: &(dyn Error + 'static) = inner;
        if let Some(cause) = known(inner) {
            return Some(cause);
        }
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => Some(Cause::Refused),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
            Some(Cause::Closed)
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable => {
            Some(Cause::Unreachable)
        }
        _ => None,
    }
}

fn tls_cause(error: &rustls::Error) -> Cause {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Cause::CertificateName,
            // A bad signature usually means an authority with the same name and another key, for example after a
            // renewal.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Cause::CertificateIssuer,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Cause::CertificateExpired,
            // rustls reports a self-signed certificate with a separate error.
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Cause::CertificateIssuer,
            _ => Cause::Tls,
        },
        _ => Cause::Tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn every_cause_has_its_message() {
        let refusal =
            Refusal { host: "db.acme.example".to_string(), address: "10.1.2.3".parse().unwrap(), kind: "a private address" };
        let causes = [
            Cause::Guard(refusal),
            Cause::NoSuchName,
            Cause::Refused,
            Cause::Closed,
            Cause::Unreachable,
            Cause::ConnectTimeout(Duration::from_secs(10)),
            Cause::ResponseTimeout(Duration::from_secs(15)),
            Cause::CertificateName,
            Cause::CertificateIssuer,
            Cause::CertificateExpired,
            Cause::Tls,
            Cause::NotHttp,
            Cause::Proxy,
            Cause::Other,
        ];
        let mut text = String::new();
        for cause in causes {
            let failure = cause.failure("db.acme.example:8443", "the error's own message");
            writeln!(text, "{}: {}\n  fix: {}", failure.class.as_str(), failure.title, failure.fix).unwrap();
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots");
        insta::with_settings!({snapshot_path => folder, prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!("egress_transport_failures", text);
        });
    }

    #[test]
    fn certificate_errors_are_distinguished() {
        let of = |error| tls_cause(&rustls::Error::InvalidCertificate(error));
        assert_eq!(of(CertificateError::NotValidForName), Cause::CertificateName);
        assert_eq!(of(CertificateError::UnknownIssuer), Cause::CertificateIssuer);
        assert_eq!(of(CertificateError::Expired), Cause::CertificateExpired);
        assert_eq!(of(CertificateError::BadSignature), Cause::CertificateIssuer);
        assert_eq!(of(CertificateError::BadEncoding), Cause::Tls);
        let wrapped =
            std::io::Error::new(ErrorKind::InvalidData, rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(known(&wrapped), Some(Cause::CertificateIssuer));
    }
}
