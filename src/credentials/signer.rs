//! Credentials that sign each request instead of being sent: OAuth 1.0a (RFC 5849) and DPoP (RFC 9449).
//!
//! Such a credential carries a [`Signer`]. The session of the resource adds its headers to every request that goes to the
//! signer's origin, and to no other request (`egress::signing`). The engines do not take part in this.

use super::secret::Secret;
use crate::model::{Failure, Timestamp};
use std::fmt;
use std::sync::Arc;
use url::Url;

/// A request as it is about to be sent.
pub struct UnsignedRequest<'a> {
    /// In upper case.
    pub method: &'a str,
    pub url: &'a Url,
    /// The headers that are sent, without those that the signature adds. Names are in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    pub now: Timestamp,
}

impl<'a> UnsignedRequest<'a> {
    /// Returns the value of the first header called `name`, which must be in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// Returns the body if it is a form (`application/x-www-form-urlencoded`).
    #[must_use]
    pub fn form(&self) -> Option<&'a str> {
        let media = self.header("content-type")?.split(';').next().unwrap_or_default().trim();
        std::str::from_utf8(self.body).ok().filter(|_| media.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    }
}

/// The response to a signed request.
pub struct SignedResponse<'a> {
    pub status: u16,
    /// Header names are in lower case.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    pub now: Timestamp,
}

impl SignedResponse<'_> {
    /// Returns the value of the first header called `name`, which must be in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the value of the parameter `name` of a challenge in `WWW-Authenticate` (RFC 9110, section 11.6.1), for
    /// example of `error="invalid_token"`. The text is not scrubbed.
    #[must_use]
    pub fn challenge_parameter(&self, name: &str) -> Option<&str> {
        let mut challenges = self.headers.iter().filter(|(key, _)| key == "www-authenticate");
        challenges.find_map(|(_, value)| parameter(value, name))
    }
}

/// Finds `name=value` or `name="value"` outside of quoted texts.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = challenge;
    while let Some(at) = rest.find(['=', '"']) {
        let (before, from) = rest.split_at(at);
        if let Some(inside) = from.strip_prefix('"') {
            rest = inside.split_once('"')?.1;
            continue;
        }
        let key = before.rsplit([' ', ',', '\t']).next().unwrap_or_default();
        let value = from.get(1..).unwrap_or_default();
        let (value, behind) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_at(value.find([',', ' ']).unwrap_or(value.len())),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = behind;
    }
    None
}

/// A way to sign requests.
pub trait RequestSigner: Send + Sync {
    /// The name of the way to sign, for messages: `DPoP`.
    fn scheme(&self) -> &'static str;

    /// Returns the headers to set. They replace headers of the same name. Each call makes a new nonce, because servers
    /// refuse one that was used before.
    ///
    /// # Errors
    /// Returns `Bug` if the system has no random numbers.
    fn headers(&self, request: &UnsignedRequest<'_>) -> Result<Vec<(String, Secret)>, Failure>;

    /// Whether the server refused the request only because it wants another signature, for example one with a nonce that it
    /// has just named. The server has not processed such a request, so it may be sent again.
    fn wants_another(&self, _response: &SignedResponse<'_>) -> bool {
        false
    }

    /// Returns what is wrong with the signature, if the response says so.
    fn refusal(&self, response: &SignedResponse<'_>) -> Option<Failure>;

    /// Returns the secret texts that are part of the headers or of the key.
    fn secrets(&self) -> Vec<Secret>;
}

/// A [`RequestSigner`] and the only origins whose requests it signs.
#[derive(Clone)]
pub struct Signer {
    origins: Vec<String>,
    signer: Arc<dyn RequestSigner>,
}

impl Signer {
    /// Creates a signer for requests to the origin (scheme, host and port) of `url`.
    #[must_use]
    pub fn new(url: &Url, signer: Arc<dyn RequestSigner>) -> Signer {
        Signer { origins: vec![url.origin().ascii_serialization()], signer }
    }

    /// Creates a signer for requests to several origins, each of which is scheme, host and port.
    #[must_use]
    pub fn for_origins(origins: Vec<String>, signer: Arc<dyn RequestSigner>) -> Signer {
        Signer { origins, signer }
    }

    /// Returns scheme, host and port of each origin, for example `https://acme.okta.com`, separated by commas.
    #[must_use]
    pub fn origin(&self) -> String {
        self.origins.join(", ")
    }

    /// Whether a request to `url` is signed.
    #[must_use]
    pub fn covers(&self, url: &Url) -> bool {
        url.origin().is_tuple() && self.origins.contains(&url.origin().ascii_serialization())
    }
}

impl std::ops::Deref for Signer {
    type Target = dyn RequestSigner;

    fn deref(&self) -> &Self::Target {
        &*self.signer
    }
}

impl PartialEq for Signer {
    fn eq(&self, other: &Signer) -> bool {
        self.origins == other.origins && self.signer.secrets() == other.signer.secrets()
    }
}

impl Eq for Signer {}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.signer.scheme(), self.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_challenges_are_found_outside_of_quotes() {
        let challenge = r#"OAuth realm="1234567, error=\"x", error="token_rejected", error_description="Invalid login attempt.""#;
        assert_eq!(parameter(challenge, "error"), None, "a challenge with broken quotes says nothing");
        let challenge = r#"DPoP algs="ES256 RS256", error="use_dpop_nonce", error_description="a nonce, please", max=5"#;
        assert_eq!(parameter(challenge, "error"), Some("use_dpop_nonce"));
        assert_eq!(parameter(challenge, "error_description"), Some("a nonce, please"));
        assert_eq!(parameter(challenge, "max"), Some("5"));
        assert_eq!(parameter(r#"Basic realm="error=1""#, "error"), None);
        assert_eq!(parameter("Bearer error=invalid_token", "ERROR"), Some("invalid_token"));
        assert_eq!(parameter("", "error"), None);
    }
}
