//! What the proxy refuses by itself, as data and as sentences.

use std::fmt;

/// Something that the proxy refused without asking `Upstream::forward`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The host of the tunnel or of the request: at most 253 characters, `None` if the program named none that is valid.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub reason: Reason,
}

/// Why it was refused. Texts that come from the program are short and hold printable ASCII only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The head of a request is not HTTP, or says things that contradict each other. Answered 400.
    Malformed(&'static str),
    /// The head of a request is too long or has too many headers. Answered 431.
    HeadTooLong,
    /// The body of a request is longer than this number of bytes. Answered 413.
    BodyTooLong(usize),
    /// The body of a request did not arrive in time, or not whole. Answered 408.
    BodyIncomplete,
    /// The `Host` of a request is not the host that the connection was opened for, but this one. Answered 421.
    WrongHost(String),
    /// The request asks for another protocol, such as `websocket`. Answered 501.
    Upgrade(String),
    /// The request has an expectation other than `100-continue`. Answered 417.
    Expectation,
    /// All tunnels, or all bytes for bodies, are in use. Answered 503.
    Busy(&'static str),
    /// `Upstream::forward` did not answer in time. Answered 504.
    NoAnswer,
    /// `Upstream::forward` answered with a status that is not an answer. Answered 502.
    WrongStatus(u16),
    /// What the program sent into its tunnel is not a TLS ClientHello: it speaks another protocol. Closed.
    NotTls,
    /// The program did not finish the TLS handshake in time. A protocol in which the server speaks first looks like
    /// this. Closed.
    NoHandshake,
    /// The TLS handshake asks for this host, which is not the host of the tunnel. Closed.
    WrongServerName(String),
    /// The program does not trust the authority of this run, so it has a trust store of its own. Closed.
    UntrustedAuthority,
    /// The TLS handshake failed for this reason. Closed.
    Handshake(String),
    /// The certificate for the host could not be made. Answered 502.
    Certificate(String),
}

impl Reason {
    /// The status that the program got. `None` if its connection was closed instead.
    pub fn status(&self) -> Option<hyper::StatusCode> {
        use hyper::StatusCode as S;
        Some(match self {
            Reason::Malformed(_) => S::BAD_REQUEST,
            Reason::HeadTooLong => S::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Reason::BodyTooLong(_) => S::PAYLOAD_TOO_LARGE,
            Reason::BodyIncomplete => S::REQUEST_TIMEOUT,
            Reason::WrongHost(_) => S::MISDIRECTED_REQUEST,
            Reason::Upgrade(_) => S::NOT_IMPLEMENTED,
            Reason::Expectation => S::EXPECTATION_FAILED,
            Reason::Busy(_) => S::SERVICE_UNAVAILABLE,
            Reason::NoAnswer => S::GATEWAY_TIMEOUT,
            Reason::WrongStatus(_) | Reason::Certificate(_) => S::BAD_GATEWAY,
            Reason::NotTls
            | Reason::NoHandshake
            | Reason::WrongServerName(_)
            | Reason::UntrustedAuthority
            | Reason::Handshake(_) => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Malformed(what) => write!(f, "the request is not valid: {what}"),
            Reason::HeadTooLong => f.write_str("the head of the request is too long"),
            Reason::BodyTooLong(limit) => write!(f, "the body of the request is longer than {limit} bytes"),
            Reason::BodyIncomplete => f.write_str("the body of the request did not arrive completely"),
            Reason::WrongHost(host) => write!(f, "the request is for {host}, but the connection was opened for another host"),
            Reason::Upgrade(protocol) => write!(f, "the request asks for the protocol {protocol}; only HTTP is allowed"),
            Reason::Expectation => f.write_str("the request has an Expect header other than 100-continue"),
            Reason::Busy(what) => write!(f, "too many {what} at the same time"),
            Reason::NoAnswer => f.write_str("the request was not answered in time"),
            Reason::WrongStatus(status) => write!(f, "the status {status} is not a final status"),
            Reason::NotTls => f.write_str("the program does not speak TLS in its tunnel; only HTTPS and HTTP are allowed"),
            Reason::NoHandshake => {
                f.write_str("the program did not finish a TLS handshake in time; only HTTPS and HTTP are allowed")
            }
            Reason::WrongServerName(name) => {
                write!(f, "the TLS handshake asks for {name}, but the tunnel was opened for another host")
            }
            Reason::UntrustedAuthority => {
                f.write_str("the program does not trust the certificate authority of this run; it uses a trust store of its own")
            }
            Reason::Handshake(why) => write!(f, "the TLS handshake failed: {why}"),
            Reason::Certificate(why) => write!(f, "could not make a certificate: {why}"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Some(host), Some(port)) => write!(f, "{host}:{port}: {}", self.reason),
            (Some(host), None) => write!(f, "{host}: {}", self.reason),
            (None, _) => write!(f, "{}", self.reason),
        }
    }
}
