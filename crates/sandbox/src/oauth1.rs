//! Requests that are signed with OAuth 1.0a (RFC 5849). The only signature method is HMAC-SHA256, which is the one that NetSuite
//! accepts.

use crate::assertions::UsedIds;
use crate::config::Credential;
use crate::request::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use ring::hmac;
use serde_json::Value;

/// Keeps the unreserved characters of RFC 3986 (RFC 5849, section 3.6).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The keys that a credential of such a scheme has besides its value, which is the token.
pub const CREDENTIAL_KEYS: [&str; 3] = ["consumer_key", "consumer_secret", "token_secret"];

/// What is wrong with a signed request, as the suffix of an answer's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OAuth1Fault {
    Malformed,
    Method,
    Version,
    ConsumerKey,
    Realm,
    Timestamp,
    Signature,
    Nonce,
}

impl OAuth1Fault {
    pub fn as_str(self) -> &'static str {
        match self {
            OAuth1Fault::Malformed => "malformed",
            OAuth1Fault::Method => "method",
            OAuth1Fault::Version => "version",
            OAuth1Fault::ConsumerKey => "consumer_key",
            OAuth1Fault::Realm => "realm",
            OAuth1Fault::Timestamp => "timestamp",
            OAuth1Fault::Signature => "signature",
            OAuth1Fault::Nonce => "nonce",
        }
    }
}

/// The parameters of the header `Authorization` after `OAuth `.
pub struct SignedHeader {
    parameters: Vec<(String, String)>,
}

impl SignedHeader {
    /// Parses `name="value"` pairs that are separated by commas. Returns `None` if a pair has another form or a name is twice.
    pub fn parse(text: &str) -> Option<SignedHeader> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in text.split(',') {
            let (name, value) = pair.trim().split_once('=')?;
            let value = value.strip_prefix('"')?.strip_suffix('"')?;
            let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(String::from);
            let (name, value) = (decoded(name)?, decoded(value)?);
            if parameters.iter().any(|(known, _)| *known == name) {
                return None;
            }
            parameters.push((name, value));
        }
        Some(SignedHeader { parameters })
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a signature is checked against.
pub struct SignatureCheck<'a> {
    /// The realm that the header must name, if the vendor has one.
    pub realm: Option<String>,
    /// The number of seconds by which the clocks may differ.
    pub window: u64,
    /// The origins by which the caller may know the vendor, for example `https://1234567.suitetalk.api.netsuite.com`.
    pub origins: &'a [String],
    pub now: u64,
    pub seen: &'a UsedIds,
}

impl SignatureCheck<'_> {
    /// Checks the signature of `request`, whose header names the token of `credential`.
    ///
    /// # Errors
    /// Returns the first thing that is wrong. A nonce is used up only by a request whose signature is right.
    pub fn check(&self, header: &SignedHeader, request: &Request, credential: &Credential) -> Result<(), OAuth1Fault> {
        let secret = |name: &str| credential.data.get(name).and_then(Value::as_str).unwrap_or_default();
        if header.get("oauth_signature_method") != Some("HMAC-SHA256") {
            return Err(OAuth1Fault::Method);
        }
        if header.get("oauth_version").is_some_and(|version| version != "1.0") {
            return Err(OAuth1Fault::Version);
        }
        if header.get("oauth_consumer_key") != Some(secret("consumer_key")) {
            return Err(OAuth1Fault::ConsumerKey);
        }
        if self.realm.as_deref().is_some_and(|realm| header.get("realm") != Some(realm)) {
            return Err(OAuth1Fault::Realm);
        }
        let made_at: u64 = header.get("oauth_timestamp").and_then(|text| text.parse().ok()).ok_or(OAuth1Fault::Timestamp)?;
        if made_at.abs_diff(self.now) > self.window {
            return Err(OAuth1Fault::Timestamp);
        }
        let nonce = header.get("oauth_nonce").unwrap_or_default();
        // [V] docs.oracle.com, NetSuite online help, "The Authorization Headers": 6 to 64 characters.
        if !(6..=64).contains(&nonce.chars().count()) {
            return Err(OAuth1Fault::Nonce);
        }
        let signature = header.get("oauth_signature").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        let key = format!("{}&{}", encoded(secret("consumer_secret")), encoded(secret("token_secret")));
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let fits = |origin: &String| hmac::verify(&key, base_string(header, request, origin).as_bytes(), &signature).is_ok();
        if !self.origins.iter().any(fits) {
            return Err(OAuth1Fault::Signature);
        }
        let id = format!("oauth1 {} {made_at} {nonce}", credential.value);
        // The nonce is remembered for as long as its time is accepted.
        if self.seen.note(id, made_at + self.window + 1, self.now) { Ok(()) } else { Err(OAuth1Fault::Nonce) }
    }
}

/// The text that is signed (RFC 5849, section 3.4.1). The realm and the signature itself are not part of it.
fn base_string(header: &SignedHeader, request: &Request, origin: &str) -> String {
    let own = header.parameters.iter().filter(|(name, _)| name != "realm" && name != "oauth_signature");
    let all = own.chain(&request.query).chain(&request.form);
    let mut pairs: Vec<(String, String)> = all.map(|(name, value)| (encoded(name), encoded(value))).collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}&{}&{}", request.method, encoded(&format!("{origin}{}", request.raw_path)), encoded(&pairs.join("&")))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}
