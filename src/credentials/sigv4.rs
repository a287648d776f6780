//! AWS Signature Version 4 in the `Authorization` header. Pure: the time is an argument.
//!
//! Works for every AWS service, because the service, the region, further headers and the payload's hash are arguments.
//! Presigned queries are not supported, because a signature in a URL ends up in logs.
//! Source: AWS, "Create a signed AWS API request", and for S3 "Authenticating Requests: Using the
//! Authorization Header".

use super::Secret;
use crate::model::Timestamp;
use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::{digest, hmac};
use std::fmt::Write;
use url::Url;
use zeroize::Zeroizing;

/// SHA-256 of an empty body, used for every GET and HEAD.
pub const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Keeps the unreserved characters of RFC 3986 and encodes all others, including `/` in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// An access key. Temporary keys have a session token.
#[derive(Clone, Debug)]
pub struct Keys {
    pub access_key_id: Secret,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}

/// The service and region that a signature is valid for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// For example `s3`, `sts` or `organizations`.
    pub service: &'a str,
    pub region: &'a str,
}

/// The request to sign. Query and path are taken from `url` exactly as they are sent.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    pub method: &'a str,
    pub url: &'a Url,
    /// Further headers to sign, with names in lower case. The caller must send them too.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body in lower-case hex.
    pub payload_sha256: &'a str,
}

/// Signs for the instant `at` and returns the headers to add: `authorization`, `x-amz-date`,
/// `x-amz-content-sha256` (S3 requires it) and, with a session, `x-amz-security-token`.
#[must_use]
pub fn sign(unsigned: Unsigned<'_>, keys: &Keys, scope: Scope<'_>, at: Timestamp) -> Vec<(String, Secret)> {
    let stamp = stamp(at);
    let day = &stamp[..8];
    let mut added = vec![("x-amz-date".to_string(), Secret::new(stamp.clone()))];
    if scope.service == "s3" {
        added.push(("x-amz-content-sha256".to_string(), Secret::new(unsigned.payload_sha256.to_string())));
    }
    if let Some(token) = &keys.session_token {
        added.push(("x-amz-security-token".to_string(), token.clone()));
    }
    let (names, request) = canonical_request(unsigned, &added, scope.service);
    let range = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let request_hash = HEXLOWER.encode(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{stamp}\n{range}\n{request_hash}");
    let signature = HEXLOWER.encode(hmac(signing_key(keys, day, scope).as_ref(), &to_sign).as_ref());
    let authorization =
        format!("{ALGORITHM} Credential={}/{range}, SignedHeaders={names}, Signature={signature}", keys.access_key_id.expose());
    added.push(("authorization".to_string(), Secret::new(authorization)));
    added
}

/// Encodes `text` for a query, so that the request and the signature have the same bytes.
#[must_use]
pub fn encode_query(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Returns the names of the signed headers and the canonical request. The canonical request contains the session token.
fn canonical_request(unsigned: Unsigned<'_>, added: &[(String, Secret)], service: &str) -> (String, Zeroizing<String>) {
    let host = host(unsigned.url);
    let mut headers: Vec<(&str, &str)> = vec![("host", &host)];
    headers.extend(unsigned.headers.iter().copied());
    headers.extend(added.iter().map(|(name, value)| (name.as_str(), value.expose())));
    headers.sort_unstable();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut text = Zeroizing::new(format!("{}\n{}\n{}\n", unsigned.method, path(unsigned.url, service), query(unsigned.url)));
    for (name, value) in headers {
        // The specification requires that consecutive spaces are collapsed into one.
        let value = Zeroizing::new(value.split_whitespace().collect::<Vec<_>>().join(" "));
        let _ = writeln!(text, "{name}:{}", value.as_str());
    }
    let _ = write!(text, "\n{names}\n{}", unsigned.payload_sha256);
    (names, text)
}

/// The `Host` header that a client sends for `url`. It contains the port unless this is the default of the scheme.
fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_string(),
        (None, _) => String::new(),
    }
}

/// The path in the canonical request. S3 encodes each byte of the path once; other services encode the encoded path again.
fn path(url: &Url, service: &str) -> String {
    if service == "s3" {
        let plain: Vec<u8> = percent_decode_str(url.path()).collect();
        percent_encoding::percent_encode(&plain, PATH).to_string()
    } else {
        utf8_percent_encode(url.path(), PATH).to_string()
    }
}

fn query(url: &Url) -> String {
    let again = |text: &str| {
        let plain: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&plain, QUERY).to_string()
    };
    let mut pairs: Vec<(String, String)> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (again(name), again(value)))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Formats a time as `20130524T000000Z`. A time outside the calendar becomes the epoch, and the service then reports
/// correctly that the clock is wrong.
fn stamp(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH).strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn signing_key(keys: &Keys, day: &str, scope: Scope<'_>) -> hmac::Tag {
    let start = Zeroizing::new(format!("AWS4{}", keys.secret_access_key.expose()));
    let mut tag = hmac(start.as_bytes(), day);
    for part in [scope.region, scope.service, "aws4_request"] {
        tag = hmac(tag.as_ref(), part);
    }
    tag
}

fn hmac(key: &[u8], message: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(id: &str, hidden: &str, token: Option<&str>) -> Keys {
        let new = |text: &str| Secret::new(text.to_string());
        Keys { access_key_id: new(id), secret_access_key: new(hidden), session_token: token.map(new) }
    }

    fn authorization(method: &str, url: &str, headers: &[(&str, &str)], keys: &Keys, scope: Scope<'_>, at: &str) -> String {
        let url = Url::parse(url).expect("a URL");
        let at = Timestamp::parse(at).expect("a time");
        let signed = sign(Unsigned { method, url: &url, headers, payload_sha256: EMPTY_BODY }, keys, scope, at);
        let found = signed.iter().find(|(name, _)| name == "authorization");
        found.map(|(_, value)| value.expose().to_string()).unwrap_or_default()
    }

    type Headers = &'static [(&'static str, &'static str)];

    /// One test case: call, service and region, session token, further headers and signature.
    type Case = (&'static str, (&'static str, &'static str), Option<&'static str>, Headers, &'static str);

    /// The key that AWS published for its examples. It is written in parts, because secret scanners take it for a real key.
    fn example() -> Keys {
        keys(concat!("AKIA", "IOSFODNN7", "EXAMPLE"), concat!("wJalrXUtnFEMI", "/K7MDENG/", "bPxRfiCYEXAMPLEKEY"), None)
    }

    /// Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk".
    #[test]
    fn amazons_published_examples_for_s3() {
        let cases: [(&str, Headers, &str, &str); 3] = [
            (
                "https://examplebucket.s3.amazonaws.com/test.txt",
                &[("range", "bytes=0-9")],
                "host;range;x-amz-content-sha256;x-amz-date",
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "https://examplebucket.s3.amazonaws.com/?lifecycle",
                &[],
                "host;x-amz-content-sha256;x-amz-date",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
                &[],
                "host;x-amz-content-sha256;x-amz-date",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ];
        for (url, headers, names, signature) in cases {
            let scope = Scope { service: "s3", region: "us-east-1" };
            let got = authorization("GET", url, headers, &example(), scope, "2013-05-24T00:00:00Z");
            assert!(
                got.ends_with(&format!("/20130524/us-east-1/s3/aws4_request, SignedHeaders={names}, Signature={signature}")),
                "{got}"
            );
        }
    }

    /// The same calls signed by botocore 1.44.5 for 2026-11-22T18:30:05Z, key `AKEXAMPLE`.
    #[test]
    fn botocores_signatures_for_ports_tokens_odd_paths_and_other_services() {
        let cases: [Case; 5] = [
            (
                "HEAD http://127.0.0.1:9000/aam-landing",
                ("s3", "eu-central-1"),
                None,
                &[],
                "c9d44bfc440930baa8907d895d5f8471e9cea73e73a86347fd60f727584bd53e",
            ),
            (
                "GET https://acme.s3.eu-central-1.amazonaws.com/?list-type=2&max-keys=20&prefix=a%20b%2F%C3%BC%2Bx~%26%3D&delimiter=%2F",
                ("s3", "eu-central-1"),
                Some("tok/en+=="),
                &[],
                "23300063c69f75e62c1cf6a86ce832719a70063dfa49d226544176ca03760922",
            ),
            (
                "GET https://store.example:8443/base%20path/b_B.c/?continuation-token=1%2Fa%3D%3D&list-type=2&encoding-type=url",
                ("s3", "auto"),
                None,
                &[],
                "2c7bc76645826691a12f4683547acc127f26c5e2510d6f8aad83c2c2a6ae2945",
            ),
            (
                "GET https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
                ("sts", "us-east-1"),
                Some("tok"),
                &[],
                "ddfaaab4b3697387ea935e98a509e72e2038858d8fddba7de586e375f6c6426e",
            ),
            (
                "GET https://api.example/a%20b/c?x=1&x=0",
                ("execute-api", "us-west-2"),
                None,
                &[("x-amz-target", "A.B")],
                "24d031ded701bf1dc87645da3d9c83fd3617806f41735ff062d0935a1bdee295",
            ),
        ];
        for (call, (service, region), token, headers, signature) in cases {
            let (method, url) = call.split_once(' ').unwrap_or_default();
            let keys = keys("AKEXAMPLE", "not-a-secret/for+tests", token);
            let scope = Scope { service, region };
            let got = authorization(method, url, headers, &keys, scope, "2026-11-22T18:30:05Z");
            assert!(got.ends_with(&format!("Signature={signature}")), "{url}: {got}");
            assert!(!got.contains("not-a-secret"));
        }
    }

    proptest! {
        /// A query built with `encode_query` is signed byte for byte as it is sent.
        #[test]
        fn the_request_and_the_signature_agree(value in ".*", other in ".*") {
            let text = format!("https://b.example/?a={}&b={}", encode_query(&value), encode_query(&other));
            let url = Url::parse(&text).expect("a URL");
            prop_assert_eq!(url.query().unwrap_or_default(), query(&url));
            let back: Vec<String> = url.query_pairs().map(|(_, value)| value.into_owned()).collect();
            prop_assert_eq!(back, vec![value, other]);
        }

        #[test]
        fn any_time_is_signed_without_panic(at in any::<i64>()) {
            let url = Url::parse("https://b.example/").expect("a URL");
            let unsigned = Unsigned { method: "GET", url: &url, headers: &[], payload_sha256: EMPTY_BODY };
            let signed = sign(unsigned, &keys("a", "b", None), Scope { service: "s3", region: "r" }, Timestamp(at));
            prop_assert_eq!(signed.len(), 3);
        }
    }
}
