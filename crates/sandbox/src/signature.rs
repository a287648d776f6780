//! Verifies AWS Signature Version 4 in the header `Authorization`, as strictly as AWS does.
//!
//! Source: IAM User Guide, "Create a signed AWS API request" and "Troubleshoot Signature Version 4 request signing"; for S3
//! "Authenticating Requests: Using the Authorization Header". Written independently of the signer in AAM, and held against
//! botocore in the tests.

use crate::request::Request;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use ring::{digest, hmac};
use std::fmt::Write;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// AWS accepts a signature for 15 minutes, and from a clock that is 15 minutes ahead.
const MAX_SKEW_SECONDS: i64 = 15 * 60;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// What is wrong with a signature, as the suffix of an answer's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SignatureFault {
    /// The request has no signature.
    Missing,
    /// A part of the header `Authorization`, or the date, is missing.
    Incomplete,
    /// The signature is of another region or service.
    Scope,
    /// The vendor does not know the access key id, or the session token is not the one of the key.
    Key,
    /// The request was signed too long ago.
    Expired,
    /// The request was signed by a clock that is too far ahead.
    NotYet,
    /// A header that must be signed is not.
    Headers,
    /// The signature was made with another secret, or of another request.
    Mismatch,
}

impl SignatureFault {
    pub fn as_str(self) -> &'static str {
        match self {
            SignatureFault::Missing => "missing",
            SignatureFault::Incomplete => "incomplete",
            SignatureFault::Scope => "scope",
            SignatureFault::Key => "key",
            SignatureFault::Expired => "expired",
            SignatureFault::NotYet => "not_yet",
            SignatureFault::Headers => "headers",
            SignatureFault::Mismatch => "mismatch",
        }
    }
}

/// The parts of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'r> {
    pub access_key_id: &'r str,
    day: &'r str,
    region: &'r str,
    service: &'r str,
    signed_headers: Vec<&'r str>,
    signature: &'r str,
}

/// The access key that the vendor knows.
pub struct KnownKey<'k> {
    pub secret: &'k str,
    /// Temporary keys have a session token.
    pub session_token: Option<&'k str>,
}

impl<'r> Signature<'r> {
    /// Reads the header `Authorization`.
    ///
    /// # Errors
    /// `Missing` or `Incomplete`.
    pub fn parse(request: &'r Request) -> Result<Signature<'r>, SignatureFault> {
        let header = request.header("authorization").ok_or(SignatureFault::Missing)?;
        let rest = header.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' '));
        let rest = rest.ok_or(SignatureFault::Incomplete)?;
        let part = |name: &str| {
            let mut parts = rest.split(',').map(str::trim);
            parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).ok_or(SignatureFault::Incomplete)
        };
        let credential: Vec<&str> = part("Credential")?.split('/').collect();
        let [access_key_id, day, region, service, "aws4_request"] = credential[..] else {
            return Err(SignatureFault::Incomplete);
        };
        let signed_headers = part("SignedHeaders")?.split(';').collect();
        Ok(Signature { access_key_id, day, region, service, signed_headers, signature: part("Signature")? })
    }

    /// Verifies the signature of `request` for the service and region that it was sent to. `now` is in seconds.
    ///
    /// # Errors
    /// What is wrong, as AWS reports it first.
    pub fn verify(
        &self,
        request: &Request,
        key: &KnownKey<'_>,
        service: &str,
        region: &str,
        now: u64,
    ) -> Result<(), SignatureFault> {
        let date = request.header("x-amz-date").ok_or(SignatureFault::Incomplete)?;
        let signed_at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).map_err(|_| SignatureFault::Incomplete)?;
        let signed_at = signed_at.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| SignatureFault::Incomplete)?;
        if self.service != service || self.region != region {
            return Err(SignatureFault::Scope);
        }
        if request.header("x-amz-security-token") != key.session_token {
            return Err(SignatureFault::Key);
        }
        let age = i64::try_from(now).unwrap_or(i64::MAX) - signed_at.timestamp().as_second();
        if age > MAX_SKEW_SECONDS {
            return Err(SignatureFault::Expired);
        }
        if age < -MAX_SKEW_SECONDS {
            return Err(SignatureFault::NotYet);
        }
        if !self.covers_headers(request) {
            return Err(SignatureFault::Headers);
        }
        let payload = payload_hash(request, service).ok_or(SignatureFault::Mismatch)?;
        let canonical = self.canonical_request(request, &payload).ok_or(SignatureFault::Headers)?;
        let scope = format!("{}/{}/{}/aws4_request", self.day, self.region, self.service);
        let to_sign =
            format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref()));
        let mut tag = sign(format!("AWS4{}", key.secret).as_bytes(), self.day);
        for part in [self.region, self.service, "aws4_request", &to_sign] {
            tag = sign(tag.as_ref(), part);
        }
        // The day of the scope must be that of the date, or the key was made for another day.
        let is_valid = hex(tag.as_ref()) == self.signature && date.starts_with(self.day) && self.day.len() == 8;
        if is_valid { Ok(()) } else { Err(SignatureFault::Mismatch) }
    }

    /// Whether `host`, the content type and every `x-amz-` header are signed, in order and in lower case.
    fn covers_headers(&self, request: &Request) -> bool {
        let needed = request
            .headers
            .keys()
            .map(hyper::header::HeaderName::as_str)
            .filter(|name| *name == "host" || *name == "content-type" || name.starts_with("x-amz-"));
        let is_sorted = self.signed_headers.is_sorted();
        is_sorted && self.signed_headers.contains(&"host") && needed.into_iter().all(|name| self.signed_headers.contains(&name))
    }

    fn canonical_request(&self, request: &Request, payload: &str) -> Option<String> {
        let path = match self.service {
            "s3" => percent_encode(&percent_decode_str(&request.raw_path).collect::<Vec<u8>>(), PATH).to_string(),
            _ => percent_encode(request.raw_path.as_bytes(), PATH).to_string(),
        };
        let mut text = format!("{}\n{path}\n{}\n", request.method, canonical_query(&request.raw_query));
        for name in &self.signed_headers {
            let mut values = Vec::new();
            for value in request.headers.get_all(*name) {
                values.push(value.to_str().ok()?.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            if values.is_empty() {
                return None;
            }
            let _ = writeln!(text, "{name}:{}", values.join(","));
        }
        let _ = write!(text, "\n{}\n{payload}", self.signed_headers.join(";"));
        Some(text)
    }
}

/// Returns the hash of the body in the canonical request, or `None` if the header of S3 names another body.
fn payload_hash(request: &Request, service: &str) -> Option<String> {
    let own = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
    match request.header("x-amz-content-sha256") {
        Some("UNSIGNED-PAYLOAD") if service == "s3" => Some("UNSIGNED-PAYLOAD".to_owned()),
        Some(named) => (named == own).then_some(own),
        None => (service != "s3").then_some(own),
    }
}

fn canonical_query(raw: &str) -> String {
    let again = |text: &str| percent_encode(&percent_decode_str(text).collect::<Vec<u8>>(), UNRESERVED).to_string();
    let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<(String, String)> = pairs.map(|(name, value)| (again(name), again(value))).collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn sign(key: &[u8], message: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed test ends with a panic")]

    use super::*;
    use bytes::Bytes;
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    /// 2026-11-29T07:30:05Z.
    const SIGNED_AT: u64 = 1_795_937_405;
    const SECRET: &str = "not-a-secret/for+tests";

    /// A call that botocore 1.44.8 signed (`SigV4Auth`, `S3SigV4Auth`).
    struct Signed {
        call: &'static str,
        headers: Vec<(&'static str, &'static str)>,
        body: &'static str,
        scope: [&'static str; 2],
        token: Option<&'static str>,
    }

    fn signed() -> Vec<Signed> {
        const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let date = ("x-amz-date", "20261129T073005Z");
        vec![
            Signed {
                call: "POST https://organizations.us-east-1.amazonaws.com/",
                headers: vec![
                    ("content-type", "application/x-amz-json-1.1"),
                    ("x-amz-target", "AWSOrganizationsV20161128.ListAccounts"),
                    date,
                    (
                        "authorization",
                        "AWS4-HMAC-SHA256 Credential=AKSANDBOX/20261129/us-east-1/organizations/aws4_request, \
                         SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
                         Signature=a4ddfeb26c9a0271fd50f0188a7a92c092d8f00305be68b24d4147c523c5d472",
                    ),
                ],
                body: r#"{"MaxResults":20}"#,
                scope: ["organizations", "us-east-1"],
                token: None,
            },
            Signed {
                call: "POST https://sts.us-east-1.amazonaws.com/",
                headers: vec![
                    ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                    date,
                    ("x-amz-security-token", "tok/en+=="),
                    (
                        "authorization",
                        "AWS4-HMAC-SHA256 Credential=AKSANDBOX/20261129/us-east-1/sts/aws4_request, \
                         SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
                         Signature=243135661f8419826d29f592e3a5ceb14fc59d9fa13b46f3835c1fe36ff0e327",
                    ),
                ],
                body: "Action=GetCallerIdentity&Version=2011-06-15",
                scope: ["sts", "us-east-1"],
                token: Some("tok/en+=="),
            },
            Signed {
                call: "GET https://acme.s3.eu-central-1.amazonaws.com/a%20b/%C3%BC?list-type=2&prefix=a%2Fb",
                headers: vec![
                    date,
                    ("x-amz-content-sha256", EMPTY),
                    (
                        "authorization",
                        "AWS4-HMAC-SHA256 Credential=AKSANDBOX/20261129/eu-central-1/s3/aws4_request, \
                         SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
                         Signature=53e2b6ff9865a26524544d53272078e8a30652dca16491fb52a8a1fcd565da7a",
                    ),
                ],
                body: "",
                scope: ["s3", "eu-central-1"],
                token: None,
            },
        ]
    }

    impl Signed {
        fn request(&self) -> Request {
            let (method, url) = self.call.split_once(" https://").unwrap();
            let (host, path) = url.split_at(url.find('/').unwrap());
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_str(host).unwrap());
            for (name, value) in &self.headers {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            Request::new(method, host, &path.parse().unwrap(), headers, &Bytes::from_static(self.body.as_bytes()))
        }

        fn judge_at(&self, request: &Request, secret: &str, now: u64) -> Result<(), SignatureFault> {
            let key = KnownKey { secret, session_token: self.token };
            Signature::parse(request)?.verify(request, &key, self.scope[0], self.scope[1], now)
        }

        fn judge(&self, request: &Request) -> Result<(), SignatureFault> {
            self.judge_at(request, SECRET, SIGNED_AT)
        }
    }

    #[test]
    fn what_botocore_signed_is_accepted_and_nothing_else() {
        for signed in signed() {
            let request = signed.request();
            assert_eq!(signed.judge(&request), Ok(()), "{}", signed.call);
            assert_eq!(signed.judge_at(&request, "another", SIGNED_AT), Err(SignatureFault::Mismatch));
            assert_eq!(signed.judge_at(&request, SECRET, SIGNED_AT + 900), Ok(()));
            assert_eq!(signed.judge_at(&request, SECRET, SIGNED_AT + 901), Err(SignatureFault::Expired));
            assert_eq!(signed.judge_at(&request, SECRET, SIGNED_AT - 901), Err(SignatureFault::NotYet));
            let other = Signed { scope: ["iam", signed.scope[1]], ..signed };
            assert_eq!(other.judge(&request), Err(SignatureFault::Scope));
        }
    }

    #[test]
    fn every_part_of_the_request_is_signed() {
        for signed in signed() {
            let changed = |change: &dyn Fn(&mut Request)| {
                let mut request = signed.request();
                change(&mut request);
                signed.judge(&request)
            };
            assert_eq!(changed(&|it| it.body = Bytes::from_static(b"{}")), Err(SignatureFault::Mismatch), "{}", signed.call);
            assert_eq!(changed(&|it| it.method = "PUT".to_owned()), Err(SignatureFault::Mismatch));
            assert_eq!(changed(&|it| it.raw_path.push('x')), Err(SignatureFault::Mismatch));
            assert_eq!(changed(&|it| it.raw_query.push_str("&a=b")), Err(SignatureFault::Mismatch));
            let other = HeaderValue::from_static("other.example");
            assert_eq!(changed(&|it| drop(it.headers.insert("host", other.clone()))), Err(SignatureFault::Mismatch));
            let added = HeaderValue::from_static("added");
            assert_eq!(changed(&|it| drop(it.headers.insert("x-amz-meta-a", added.clone()))), Err(SignatureFault::Headers));
            assert_eq!(changed(&|it| drop(it.headers.insert("x-amz-security-token", added.clone()))), Err(SignatureFault::Key));
            assert_eq!(changed(&|it| drop(it.headers.remove("x-amz-date"))), Err(SignatureFault::Incomplete));
            assert_eq!(changed(&|it| drop(it.headers.remove("authorization"))), Err(SignatureFault::Missing));
            let bearer = HeaderValue::from_static("Bearer x");
            assert_eq!(changed(&|it| drop(it.headers.insert("authorization", bearer.clone()))), Err(SignatureFault::Incomplete));
        }
    }
}
