//! OAuth 1.0a signatures with HMAC-SHA256 (RFC 5849, with the signature method that NetSuite and others use instead of HMAC-SHA1).

use super::Secret;
use super::signer::{RequestSigner, SignedResponse, UnsignedRequest};
use crate::model::{Class, Failure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use url::Url;
use zeroize::Zeroizing;

/// Keeps the unreserved characters of RFC 3986 (RFC 5849, section 3.6).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The keys of a client and of the token that lets it act for a user.
pub struct Keys {
    pub consumer_key: Secret,
    pub consumer_secret: Secret,
    pub token: Secret,
    pub token_secret: Secret,
}

/// The bytes of randomness of a nonce. NetSuite wants 6 to 64 characters and recommends 20 \[V\].
const NONCE_BYTES: usize = 16;

/// Signs requests with the keys of a client and a token. It does not know what the refusals of a vendor mean.
pub struct KeySigner {
    pub keys: Keys,
    /// The realm of the header, which is not signed. For NetSuite it is the account.
    pub realm: String,
}

impl RequestSigner for KeySigner {
    fn scheme(&self) -> &'static str {
        "OAuth 1.0a"
    }

    fn headers(&self, request: &UnsignedRequest<'_>) -> Result<Vec<(String, Secret)>, Failure> {
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Failure::new(Class::Bug, "the system gives no random numbers", "check /dev/urandom of this machine"))?;
        let nonce = data_encoding::HEXLOWER.encode(&nonce);
        Ok(vec![("authorization".to_string(), authorization(request, &self.keys, &self.realm, &nonce))])
    }

    fn refusal(&self, _: &SignedResponse<'_>) -> Option<Failure> {
        None
    }

    fn secrets(&self) -> Vec<Secret> {
        let Keys { consumer_key, consumer_secret, token, token_secret } = &self.keys;
        [consumer_key, consumer_secret, token, token_secret].into_iter().cloned().collect()
    }
}

/// Returns the value of the header `Authorization` for `request`.
#[must_use]
pub fn authorization(request: &UnsignedRequest<'_>, keys: &Keys, realm: &str, nonce: &str) -> Secret {
    let timestamp = request.now.0.div_euclid(1000).to_string();
    let own: [(&str, &str); 6] = [
        ("oauth_consumer_key", keys.consumer_key.expose()),
        ("oauth_nonce", nonce),
        ("oauth_signature_method", "HMAC-SHA256"),
        ("oauth_timestamp", &timestamp),
        ("oauth_token", keys.token.expose()),
        ("oauth_version", "1.0"),
    ];
    let base = base_string(request, &own);
    let key = Zeroizing::new(format!("{}&{}", encoded(keys.consumer_secret.expose()), encoded(keys.token_secret.expose())));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), base.as_bytes());
    let signature = STANDARD.encode(signature);
    // The realm is not signed (RFC 5849, section 3.4.1.3.1).
    let mut header = format!("OAuth realm=\"{}\"", encoded(realm));
    for (name, value) in own.iter().chain([&("oauth_signature", signature.as_str())]) {
        header.push_str(&format!(", {name}=\"{}\"", encoded(value)));
    }
    Secret::new(header)
}

/// The text that is signed: method, address and parameters (RFC 5849, section 3.4.1).
fn base_string(request: &UnsignedRequest<'_>, own: &[(&str, &str)]) -> Zeroizing<String> {
    let mut pairs: Vec<(String, String)> = own.iter().map(|(name, value)| (encoded(name), encoded(value))).collect();
    let query = request.url.query().unwrap_or_default().as_bytes();
    let form = request.form().unwrap_or_default().as_bytes();
    for (name, value) in url::form_urlencoded::parse(query).chain(url::form_urlencoded::parse(form)) {
        pairs.push((encoded(&name), encoded(&value)));
    }
    pairs.sort();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Zeroizing::new(format!("{}&{}&{}", request.method, encoded(&address(request.url)), encoded(&pairs.join("&"))))
}

/// Scheme, host, port unless it is the scheme's own, and path (RFC 5849, section 3.4.1.2). The `url` crate has normalized all
/// of them.
fn address(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn request<'a>(method: &'a str, url: &'a Url, form: Option<&'a str>, seconds: i64) -> UnsignedRequest<'a> {
        let headers: &[(&str, &str)] = match form {
            Some(_) => &[("content-type", "application/x-www-form-urlencoded")],
            None => &[],
        };
        let (body, now) = (form.unwrap_or_default().as_bytes(), Timestamp(seconds * 1000 + 999));
        UnsignedRequest { method, url, headers, body, now }
    }

    /// The example of RFC 5849, section 3.4.1.1, with the nonce and the other parameters of that section.
    #[test]
    fn the_base_string_is_that_of_the_standard() {
        let url = Url::parse("http://EXAMPLE.COM:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b").unwrap();
        let own = [
            ("oauth_consumer_key", "9djdj82h48djs9d2"),
            ("oauth_token", "kkk9d7dh3k39sjv7"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131201"),
            ("oauth_nonce", "7d8f3e4a"),
        ];
        let base = base_string(&request("POST", &url, Some("c2&a3=2+q"), 0), &own);
        assert_eq!(
            *base,
            "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26c2%3D\
             %26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1\
             %26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
        );
    }

    #[test]
    fn ports_that_are_not_the_schemes_own_are_signed() {
        for (url, expected) in [
            ("https://A.example:443/x", "https://a.example/x"),
            ("http://a.example:8080", "http://a.example:8080/"),
            ("https://a.example:80/x%20y?q", "https://a.example:80/x%20y"),
        ] {
            assert_eq!(address(&Url::parse(url).unwrap()), expected);
        }
    }

    #[test]
    fn the_header_names_everything_but_the_secrets() {
        let secret = |text: &str| Secret::new(text.to_string());
        let keys = Keys {
            consumer_key: secret("ck+1"),
            consumer_secret: secret("consumer-secret"),
            token: secret("tk"),
            token_secret: secret("token-secret"),
        };
        let url = Url::parse("https://1234567.suitetalk.api.netsuite.com/services/rest/record/v1/customer?limit=1").unwrap();
        let header = authorization(&request("GET", &url, None, 1_700_000_000), &keys, "1234567_SB1", "fjaLirsIcCGVZWzBX0pg");
        let header = header.expose();
        assert!(header.starts_with("OAuth realm=\"1234567_SB1\", oauth_consumer_key=\"ck%2B1\""), "{header}");
        assert!(header.contains("oauth_timestamp=\"1700000000\"") && header.contains("oauth_signature_method=\"HMAC-SHA256\""));
        assert!(!header.contains("secret"), "{header}");
        let other = authorization(&request("GET", &url, None, 1_700_000_000), &keys, "1234567", "fjaLirsIcCGVZWzBX0pg");
        let signature = |header: &str| header.split("oauth_signature=").nth(1).map(str::to_string);
        assert_eq!(signature(header), signature(other.expose()), "the realm is not signed");
        let later = authorization(&request("GET", &url, None, 1_700_000_001), &keys, "1234567", "fjaLirsIcCGVZWzBX0pg");
        assert_ne!(signature(header), signature(later.expose()));
    }
}
