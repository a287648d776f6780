//! What the HTTP listener serves: host names, pages of other sites, and the rate limit of each token.

use super::super::ApiRate;
use super::super::read::{Reader, Spot};
use std::net::Ipv6Addr;

/// The maximum length of a host name (RFC 1035).
const MAX_HOST_BYTES: usize = 253;

/// Splits `name`, `name:port`, `address:port` or `[IPv6 address]:port`. The dot at the end of a fully qualified name is
/// not part of the returned host. Returns `None` for any other text.
#[must_use]
pub fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, _) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            text.split_at_checked(address.len() + 2)?
        }
        None => text.split_at_checked(text.find(':').unwrap_or(text.len()))?,
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok().filter(|port| *port > 0)?),
        None if port.is_empty() => None,
        _ => return None,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let named = host.starts_with('[') || host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    (named && !host.is_empty() && host.len() <= MAX_HOST_BYTES).then_some((host, port))
}

/// Reads a name under which clients reach the API, with or without a port. Upper case becomes lower case.
pub fn host(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "a host name")?.to_ascii_lowercase();
    if let Some((host, port)) = host_and_port(&text) {
        return Some(port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}")));
    }
    r.report(
        spot,
        "this is not a host name with an optional port",
        "write aam.example.com, or aam.example.com:8443; no scheme, no path and no *",
    );
    None
}

/// Reads the rate limit of each token.
pub fn rate(r: &mut Reader, spot: &Spot<'_>) -> Option<ApiRate> {
    let fields = r.fields(spot, &["per_second", "burst"])?;
    let base = ApiRate::default();
    Some(ApiRate {
        per_second: r.field(&fields, "per_second", base.per_second, |r, spot| r.whole32(spot, 1..=1_000_000)),
        burst: r.field(&fields, "burst", base.burst, |r, spot| r.whole32(spot, 1..=10_000_000)),
    })
}

/// Reads the origins whose pages may call the API.
pub fn cors(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<String>> {
    let fields = r.fields(spot, &["origins"])?;
    Some(r.field(&fields, "origins", Vec::new(), |r, spot| r.unique(spot, "origins", origin)))
}

/// Reads an origin whose pages may show the dashboard in a frame, or `self`.
pub fn ancestor(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    match r.text(spot, "an origin")? {
        "self" | "'self'" => Some("'self'".to_string()),
        _ => origin(r, spot),
    }
}

/// Reads an origin: scheme, host and optional port. It is returned as a browser writes it in the Origin header: in lower
/// case and without the default port.
fn origin(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "an origin")?;
    if let Some(origin) = web_origin(text) {
        return Some(origin);
    }
    let (message, hint) = match text.contains('*') {
        true => {
            ("an origin must be written in full", "list each origin, for example https://portal.example.com; * is not allowed")
        }
        false => (
            "this is not an origin",
            "write scheme, host and optional port, for example https://portal.example.com; no path and no slash at the end",
        ),
    };
    r.report(spot, message, hint);
    None
}

fn web_origin(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let default_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let (host, port) = host_and_port(rest)?;
    Some(match port.filter(|port| *port != default_port) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for (text, expected) in [
            ("https://Portal.Example.com", Some("https://portal.example.com")),
            ("https://portal.example:443", Some("https://portal.example")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            ("http://[::1]:3000", Some("http://[::1]:3000")),
            ("https://portal.example/", None),
            ("https://portal.example/app", None),
            ("https://*.example", None),
            ("https://user@portal.example", None),
            ("portal.example", None),
            ("file:///tmp", None),
            ("null", None),
            ("*", None),
        ] {
            assert_eq!(web_origin(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn hosts_are_split_as_in_a_host_header() {
        for (text, expected) in [
            ("localhost", Some(("localhost", None))),
            ("localhost.:5000", Some(("localhost", Some(5000)))),
            ("aam.example.com.", Some(("aam.example.com", None))),
            ("127.0.0.1:80", Some(("127.0.0.1", Some(80)))),
            ("[::1]:5000", Some(("[::1]", Some(5000)))),
            ("[::1]", Some(("[::1]", None))),
            ("::1", None),
            ("[::1", None),
            ("[a]", None),
            ("", None),
            (".", None),
            (":80", None),
            ("a:", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:+1", None),
            ("a/b", None),
            ("user@a", None),
            ("http://a", None),
            ("a b", None),
            ("*.a", None),
        ] {
            assert_eq!(host_and_port(text), expected, "{text:?}");
        }
    }
}
