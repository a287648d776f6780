//! What went wrong below HTTP, in precise words: name, port, route, TLS, time.

use super::dial::{Beyond, ToProxy, TooSlow};
use super::guard::Refusal;
use super::resolve::{NoAddress, Unresolved};
use crate::credentials::redact;
use crate::model::{Class, Failure};
use rustls::CertificateError;
use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// AAM's own guard.
    Guard(Refusal),
    NoSuchName,
    Refused,
    /// The other side hung up before it answered.
    Closed,
    Unreachable,
    /// No connection in time.
    ConnectTimeout(Duration),
    /// A connection, but no answer in time.
    AnswerTimeout(Duration),
    /// The certificate is for another name.
    CertificateName,
    /// The certificate comes from an authority that is not known here.
    CertificateIssuer,
    CertificateExpired,
    /// Any other trouble with TLS, also a server that does not speak it.
    Tls,
    /// What came is no HTTP.
    NotHttp,
    /// The policy's proxy opened no way.
    Proxy,
    Other,
}

impl Cause {
    /// Whether the same call may pass a moment later.
    #[must_use]
    pub fn passes_by_itself(&self) -> bool {
        *self == Cause::Closed
    }

    fn certificate(&self) -> bool {
        matches!(self, Cause::CertificateName | Cause::CertificateIssuer | Cause::CertificateExpired)
    }

    /// The failure a person reads. `at` is `host` or `host:port`, `words` the error's own.
    #[must_use]
    pub fn failure(&self, at: &str, words: &str) -> Failure {
        let host = at.rsplit_once(':').map_or(at, |(host, _)| host);
        let fail = |title: String, fix: String| Failure::new(Class::Network, title, fix);
        let s = |time: &Duration| time.as_secs_f64();
        let failure = match self {
            Cause::Guard(refusal) => return refusal.failure(),
            Cause::NoSuchName => fail(
                format!("{host} cannot be resolved"),
                format!("correct the host if it is mistyped; else see what this machine's resolver says: getent hosts {host}"),
            ),
            Cause::Refused => fail(
                format!("{at} refused the connection"),
                "nothing listens there: start the service, or correct host and port".to_string(),
            ),
            Cause::Closed => fail(
                format!("{at} closed the connection before it answered"),
                "see the service's own log; a proxy or firewall in between may cut connections, too".to_string(),
            ),
            Cause::Unreachable => fail(
                format!("{at} cannot be reached: no route"),
                "open the route or the VPN from this machine, or name a proxy in the policy: network.proxy".to_string(),
            ),
            Cause::ConnectTimeout(time) => fail(
                format!("{at} did not accept a connection within {} s", s(time)),
                "a firewall most likely drops the packets: allow this machine there, or name a proxy in the policy: network.proxy".to_string(),
            ),
            Cause::AnswerTimeout(time) => fail(
                format!("{at} did not answer within {} s", s(time)),
                "see whether the service is overloaded; if it is only slow, raise safe_mode.step_timeout in the policy".to_string(),
            ),
            Cause::CertificateName => fail(
                format!("the certificate of {at} is for another name"),
                "use the host name that the certificate was made for".to_string(),
            ),
            Cause::CertificateIssuer => fail(
                format!("the certificate of {at} comes from an authority that is not trusted here"),
                "put the authority's certificate (PEM) into a file and name it in the policy: network.ca_file".to_string(),
            ),
            Cause::CertificateExpired => fail(
                format!("the certificate of {at} is not valid at this time"),
                "renew the certificate of the service; see that the clock of this machine is right".to_string(),
            ),
            Cause::Tls => fail(
                format!("no TLS connection with {at}"),
                "see that the service speaks TLS 1.2 or 1.3 on this port; for a plain service write http:// instead of https://".to_string(),
            ),
            Cause::NotHttp => Failure::new(
                Class::WrongService,
                format!("{at} answered, but not in HTTP"),
                "see that host and port are those of the HTTP service, and that https:// is written where TLS is spoken",
            ),
            Cause::Proxy => fail(
                format!("the proxy of the policy opened no way to {at}"),
                "see in the detail what it said: network.proxy must name a proxy that runs and lets this machine reach that address".to_string(),
            ),
            Cause::Other => fail(format!("the call to {at} failed"), "see the detail; the service or the network in between broke the call".to_string()),
        };
        failure.detail(redact::scrub(words))
    }
}

/// The failure of a name that gave no address to dial.
#[must_use]
pub fn no_address(no: &NoAddress) -> Failure {
    match no {
        NoAddress::Refused(refusal) => refusal.failure(),
        NoAddress::Unresolved(Unresolved { host, words }) => Cause::NoSuchName.failure(host, words),
    }
}

/// A call that brought no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("operation timed out")]
    Late,
    #[error(transparent)]
    Client(#[from] hyper_util::client::legacy::Error),
}

/// Reads the error of the HTTP client. `connect` and `whole` are the timeouts in force.
#[must_use]
pub fn diagnose(error: &Broken, connect: Duration, whole: Duration) -> Cause {
    let Broken::Client(error) = error else { return Cause::AnswerTimeout(whole) };
    if links(error).any(|link| link.is::<ToProxy>()) {
        return Cause::Proxy;
    }
    let beyond = links(error).any(|link| link.is::<Beyond>());
    match links(error).find_map(known) {
        // Behind it stands the source's certificate; everything else was the proxy's word.
        Some(cause) if !beyond || cause.certificate() => cause,
        _ if beyond => Cause::Proxy,
        _ if links(error).any(timed_out) => Cause::ConnectTimeout(connect.min(whole)),
        _ => Cause::Other,
    }
}

/// An error and its causes, the outermost first.
fn links<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let link = next?;
        next = link.source();
        Some(link)
    })
}

fn timed_out(error: &(dyn Error + 'static)) -> bool {
    error.is::<TooSlow>() || error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::TimedOut)
}

/// The words of an error and of its causes.
#[must_use]
pub fn words(error: &(dyn Error + 'static)) -> String {
    links(error).map(ToString::to_string).fold(String::new(), |words, more| match words.is_empty() {
        true => more,
        false if words.contains(&more) => words,
        false => format!("{words}: {more}"),
    })
}

/// Whether a body ended before its announced end.
#[must_use]
pub fn cut(error: &(dyn Error + 'static)) -> bool {
    links(error).any(|error| {
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
    if error.is::<Unresolved>() {
        return Some(Cause::NoSuchName);
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(of_tls(tls));
    }
    if let Some(io) = error.downcast_ref::<std::io::Error>() {
        return of_io(io);
    }
    let hyper = error.downcast_ref::<hyper::Error>()?;
    if hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled() {
        return Some(Cause::Closed);
    }
    hyper.is_parse().then_some(Cause::NotHttp)
}

fn of_io(error: &std::io::Error) -> Option<Cause> {
    // `source` of a wrapped error skips the wrapped one itself.
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

fn of_tls(error: &rustls::Error) -> Cause {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Cause::CertificateName,
            // A bad signature: an authority of the same name with another key, as after a renewal.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Cause::CertificateIssuer,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Cause::CertificateExpired,
            // A self-signed end certificate is refused with words of its own.
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
    fn every_cause_has_its_words() {
        let refusal =
            Refusal { host: "db.acme.example".to_string(), address: "10.1.2.3".parse().unwrap(), kind: "a private address" };
        let causes = [
            Cause::Guard(refusal),
            Cause::NoSuchName,
            Cause::Refused,
            Cause::Closed,
            Cause::Unreachable,
            Cause::ConnectTimeout(Duration::from_secs(10)),
            Cause::AnswerTimeout(Duration::from_secs(15)),
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
            let failure = cause.failure("db.acme.example:8443", "the error's own words");
            writeln!(text, "{}: {}\n  fix: {}", failure.class.as_str(), failure.title, failure.fix).unwrap();
        }
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots");
        insta::with_settings!({snapshot_path => folder, prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!("egress_transport_failures", text);
        });
    }

    #[test]
    fn certificates_are_told_apart() {
        let of = |error| of_tls(&rustls::Error::InvalidCertificate(error));
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
