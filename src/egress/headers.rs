//! The headers of a request: which are never sent, and which are always there.

use crate::model::{Class, Failure};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that could change the meaning of a request after the guard has checked it: its method, its URL, or where it ends.
/// Servers read `_` as `-`.
const FORBIDDEN_HEADERS: [&str; 14] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-override-url",
    "x-forwarded-uri",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "proxy-authorization",
];

/// Returns the headers of `pairs`, and those that every request has.
///
/// # Errors
/// If a header is never sent, or its value cannot be.
pub(super) fn headers(pairs: &[(String, crate::credentials::Secret)]) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::with_capacity(pairs.len() + 3);
    for (name, value) in pairs {
        let plain = name.replace('_', "-");
        if FORBIDDEN_HEADERS.iter().any(|forbidden| plain.eq_ignore_ascii_case(forbidden)) {
            let fix = "remove the header from the manifest or description: it could turn a read into a write";
            return Err(Failure::new(Class::EgressRefused, format!("the header {name} is never sent"), fix));
        }
        let unusable = || {
            let fix =
                "the credential holds a character that is not allowed in a header, most often a line break at its end: remove it";
            Failure::new(Class::CredentialMissing, format!("the value for the header {name} cannot be sent"), fix)
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            Failure::new(Class::Bug, format!("{name:?} is not a valid header name"), "report this as a defect of AAM")
        })?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| unusable())?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    map.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(concat!("AAM/", env!("CARGO_PKG_VERSION"))));
    map.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    if !map.contains_key(header::RANGE) {
        // A range request must not ask for compression: a part of a compressed body cannot be decompressed.
        map.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("gzip"));
    }
    Ok(map)
}
