//! Prepares the URL that is sent, as `PreparedRequest.prepare_url` of requests does with `parse_url` of urllib3.

use super::{escape_at, push_escape, quote, unreserved};
use crate::error::Failed;
use crate::value::Value;

/// A prepared URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    Url(String),
    /// A URL with a scheme other than http and https. requests has no adapter for it.
    NoAdapter(String),
}

/// Adds the encoded `params` to `url` and percent-encodes both.
///
/// # Errors
/// `MissingSchema` and `InvalidURL` of requests.
pub fn prepare(url: &str, params: &str) -> Result<Prepared, Failed> {
    if settled(url) {
        let mut out = String::with_capacity(url.len() + 1 + params.len());
        out.push_str(url);
        if !params.is_empty() {
            out.push('?');
            out.push_str(params);
        }
        return Ok(Prepared::Url(out));
    }
    rewritten(url, params)
}

/// Whether preparing would leave `url` unchanged. This is so for most URLs: http or https, a plain host, no query, and a
/// path without dot segments and escapes.
fn settled(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://").or(url.strip_prefix("http://")) else { return false };
    let Some((authority, path)) = rest.split_once('/') else { return false };
    let (host, port) = authority.split_once(':').unwrap_or((authority, "1"));
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    host.as_bytes().first().is_some_and(|first| inside(*first))
        && host.bytes().all(|byte| inside(byte) || byte == b'.')
        && !port.starts_with(['0', '+'])
        && port.parse::<u16>().is_ok()
        && path.bytes().all(|byte| unreserved(byte) || b"!$&'()*+,;=:@/".contains(&byte))
        && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn rewritten(url: &str, params: &str) -> Result<Prepared, Failed> {
    let url = url.trim_start();
    if url.contains(':') && !url.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("http")) {
        return Ok(Prepared::NoAdapter(url.to_owned()));
    }
    let parts = parse(url)?;
    let Some(scheme) = parts.scheme else {
        let shown = Value::str(url).repr();
        let message = format!("Invalid URL {shown}: No scheme supplied. Perhaps you meant https://{url}?");
        return Err(Failed::system("MissingSchema", message));
    };
    if parts.host.is_empty() {
        return Err(invalid(format!("Invalid URL {}: No host supplied", Value::str(url).repr())));
    }
    let mut out = format!("{scheme}://");
    if let Some(auth) = parts.auth {
        out.push_str(&auth);
        out.push('@');
    }
    out.push_str(&parts.host);
    if let Some(port) = parts.port {
        out.push_str(&format!(":{port}"));
    }
    out.push_str(if parts.path.is_empty() { "/" } else { &parts.path });
    let query = parts.query.unwrap_or_default();
    if !query.is_empty() || !params.is_empty() {
        out.push('?');
        out.push_str(&query);
        if !query.is_empty() && !params.is_empty() {
            out.push('&');
        }
        out.push_str(params);
    }
    if let Some(fragment) = parts.fragment.filter(|it| !it.is_empty()) {
        out.push('#');
        out.push_str(&fragment);
    }
    let out = requote(&out);
    Ok(if matches!(scheme.as_str(), "http" | "https") { Prepared::Url(out) } else { Prepared::NoAdapter(out) })
}

fn invalid(message: impl Into<String>) -> Failed {
    Failed::system("InvalidURL", message)
}

#[derive(Default)]
struct Parts {
    scheme: Option<String>,
    auth: Option<String>,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
    fragment: Option<String>,
}

/// `urllib3.util.parse_url`, for a text that begins with `http` or does not contain a colon.
fn parse(url: &str) -> Result<Parts, Failed> {
    let mut parts = Parts::default();
    let mut rest = url;
    if let Some((scheme, tail)) = scheme(rest) {
        parts.scheme = Some(scheme);
        rest = tail;
    } else if rest.starts_with('/') {
        // A path without a scheme.
    } else {
        parts.host = rest.to_owned();
        return Ok(parts);
    }
    if let Some((head, fragment)) = rest.split_once('#') {
        parts.fragment = Some(encoded(fragment, b"!$&'()*+,;=:@/?"));
        rest = head;
    }
    if let Some((head, query)) = rest.split_once('?') {
        parts.query = Some(encoded(query, b"!$&'()*+,;=:@/?"));
        rest = head;
    }
    if let Some(tail) = rest.strip_prefix("//") {
        let end = tail.find(['/', '\\']).unwrap_or(tail.len());
        let (authority, path) = tail.split_at_checked(end).unwrap_or((tail, ""));
        authority_of(authority, &mut parts)?;
        rest = path;
    }
    if !rest.is_empty() {
        parts.path = encoded(&without_dots(rest), b"!$&'()*+,;=:@/");
        if !parts.path.starts_with('/') {
            parts.path.insert(0, '/');
        }
    }
    Ok(parts)
}

fn scheme(url: &str) -> Option<(String, &str)> {
    let (scheme, tail) = url.split_once(':')?;
    let mut chars = scheme.chars();
    let valid = chars.next()?.is_ascii_alphabetic() && chars.all(|c| c.is_ascii_alphanumeric() || "+-".contains(c));
    valid.then(|| (scheme.to_ascii_lowercase(), tail))
}

fn authority_of(authority: &str, parts: &mut Parts) -> Result<(), Failed> {
    let (auth, place) = authority.rsplit_once('@').map_or((None, authority), |(auth, place)| (Some(auth), place));
    parts.auth = auth.filter(|it| !it.is_empty()).map(|auth| encoded(auth, b"!$&'()*+,;=:"));
    if let Some(char) = place.chars().find(|c| *c <= ' ' || *c == '\x7f') {
        let (place, char) = (Value::str(place).repr(), Value::str(char.to_string()).repr());
        return Err(invalid(format!("Failed to parse: Host {place} contains invalid character {char}")));
    }
    let refused = || invalid(format!("Failed to parse: {} is not a valid host or port", Value::str(place).repr()));
    let bracket = place.rfind(']').map_or(0, |at| at + 1);
    let tail = place.get(bracket..).unwrap_or_default();
    let (host_end, port) = match tail.rfind(':') {
        Some(at) => (bracket + at, tail.get(at + 1..).unwrap_or_default()),
        None => (place.len(), ""),
    };
    let host = place.get(..host_end).unwrap_or_default();
    if !port.is_empty() {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        parts.port = Some(if digits { port.parse().map_err(|_| refused())? } else { return Err(refused()) });
    }
    if host.is_empty() && parts.port.is_none() {
        return Ok(());
    }
    // The url crate normalizes a host as browsers do: it applies lower case and IDNA, and shortens IPv6 addresses.
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'{' | b'}' | b'$'));
    parts.host = if plain {
        host.to_ascii_lowercase()
    } else if host.is_ascii() && !host.starts_with('[') {
        if host.contains(['[', ']', ':']) || host.starts_with('*') {
            return Err(refused());
        }
        host.to_ascii_lowercase()
    } else {
        ::url::Host::parse(host).map_err(|_| refused())?.to_string()
    };
    if parts.host.starts_with(['.', '*']) {
        return Err(invalid("URL has an invalid label."));
    }
    Ok(())
}

/// `_remove_path_dot_segments` of urllib3.
fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "." => {}
            ".." => drop(out.pop()),
            other => out.push(other),
        }
    }
    if path.starts_with('/') && out.first().is_none_or(|first| !first.is_empty()) {
        out.insert(0, "");
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        out.push("");
    }
    out.join("/")
}

/// `_encode_invalid_chars` of urllib3. It keeps `%` only if every `%` in the text begins an escape.
fn encoded(text: &str, allowed: &[u8]) -> String {
    let bytes = text.as_bytes();
    let percents = bytes.iter().filter(|byte| **byte == b'%').count();
    let escapes = (0..bytes.len()).filter(|at| escape_at(bytes, *at).is_some()).count();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match escape_at(bytes, at) {
            Some(value) if escapes == percents => {
                push_escape(value, &mut out);
                at += 3;
                continue;
            }
            // The digits of an escape become upper case even if its `%` is itself escaped.
            Some(value) => {
                let mut escape = String::new();
                push_escape(value, &mut escape);
                out.push_str("%25");
                out.push_str(escape.get(1..).unwrap_or_default());
                at += 3;
                continue;
            }
            None if byte != b'%' && (unreserved(byte) || allowed.contains(&byte)) => out.push(char::from(byte)),
            None => push_escape(byte, &mut out),
        }
        at += 1;
    }
    out
}

/// `requote_uri` of requests. It decodes escapes of unreserved characters and escapes characters that a URL may not contain.
fn requote(url: &str) -> String {
    const SAFE: &[u8] = b"!#$%&'()*+,/:;=?@[]~";
    let bytes = url.as_bytes();
    let mut out = String::with_capacity(url.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match escape_at(bytes, at) {
            Some(value) if unreserved(value) => out.push(char::from(value)),
            Some(_) => out.push_str(url.get(at..at + 3).unwrap_or_default()),
            None => {
                quote(&[*byte], SAFE, &mut out);
                at += 1;
                continue;
            }
        }
        at += 3;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::encode_pairs;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// If a URL is considered settled, the full algorithm does not change it.
        #[test]
        fn a_settled_url_is_not_rewritten(
            url in "https?://[a-z0-9.-]{1,6}(:[0-9]{1,5})?/([a-z.~!;=@:/_]|\\.\\./|%2[0f]|[?#]x){0,8}",
            pairs in prop::collection::vec((".{1,3}", ".{1,3}"), 0..3),
        ) {
            if settled(&url) {
                let params = encode_pairs(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())));
                prop_assert_eq!(prepare(&url, &params).ok(), rewritten(&url, &params).ok());
            }
        }
    }

    #[test]
    fn most_addresses_are_settled() {
        for url in ["http://127.0.0.1:45678/v1/customers/7/orders", "https://api.acme.example/", "https://a.b/x(1)~,y"] {
            assert!(settled(url), "{url}");
        }
        for url in
            ["http://A.b/", "http://a.b", "http://a.b/./c", "http://a.b/%41", "http://a.b/?x=1", "http://u@a.b/", "ftp://a/"]
        {
            assert!(!settled(url), "{url}");
        }
    }
}
