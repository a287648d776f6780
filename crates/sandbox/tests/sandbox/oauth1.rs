//! Requests that are signed with OAuth 1.0a.

use crate::support::{Answer, Running, VENDOR, now, start};
use bytes::Bytes;
use hyper::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use sandbox::assertions::UsedIds;
use sandbox::oauth1::{OAuth1Fault, SignatureCheck, SignedHeader};
use sandbox::request::Request;

const SIGNED: &str = "https://acme.vendor.test/v1/signed";
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// A header for GET of [`SIGNED`] without a query, with changes to the parameters.
fn header(key: &str, changes: &[(&str, &str)]) -> String {
    let (time, nonce) = (now().to_string(), format!("{:032x}", fastrand::u128(..)));
    let mut parameters = vec![
        ("oauth_consumer_key", "ck-1"),
        ("oauth_nonce", nonce.as_str()),
        ("oauth_signature_method", "HMAC-SHA256"),
        ("oauth_timestamp", &time),
        ("oauth_token", "tk-1"),
        ("oauth_version", "1.0"),
    ];
    for parameter in &mut parameters {
        if let Some((_, value)) = changes.iter().find(|(name, _)| *name == parameter.0) {
            parameter.1 = *value;
        }
    }
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let base = format!("GET&{}&{}", encoded(SIGNED), encoded(&pairs.join("&")));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), base.as_bytes());
    let signature = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, signature);
    let changed = |name: &str| changes.iter().find(|(changed, _)| *changed == name).map(|(_, value)| *value);
    let realm = changed("realm").unwrap_or("ACME");
    let signature = changed("oauth_signature").unwrap_or(&signature);
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}=\"{}\"", encoded(value))).collect();
    format!("OAuth realm=\"{realm}\", {}, oauth_signature=\"{}\"", pairs.join(", "), encoded(signature))
}

async fn get(running: &Running, url: &str, header: &str) -> Answer {
    running.send(running.request("GET", url).header("authorization", header)).await
}

#[tokio::test]
async fn a_signed_request_is_accepted_once() {
    let running = start().await;
    let header = header("cs%261&ts%2B1", &[]);
    let answer = get(&running, SIGNED, &header).await;
    assert_eq!((answer.status, answer.json["name"].as_str()), (200, Some("signer")), "{}", answer.text);
    let again = get(&running, SIGNED, &header).await;
    assert_eq!((again.status, again.error()), (401, "nonce"), "{}", again.text);
    assert!(running.violations().await.is_empty());
}

#[tokio::test]
async fn each_part_of_a_signature_is_checked() {
    let running = start().await;
    let late = (now() - 400).to_string();
    for (changes, error) in [
        (("oauth_signature_method", "HMAC-SHA1"), "bad_signature"),
        (("oauth_version", "2.0"), "bad_signature"),
        (("oauth_consumer_key", "ck-2"), "bad_signature"),
        (("oauth_token", "tk-2"), "unauthorized"),
        (("oauth_timestamp", &late), "bad_signature"),
        (("oauth_nonce", "short"), "nonce"),
        (("oauth_signature", "AAAA"), "bad_signature"),
        (("realm", "OTHER"), "bad_signature"),
    ] {
        let answer = get(&running, SIGNED, &header("cs%261&ts%2B1", &[changes])).await;
        assert_eq!((answer.status, answer.error()), (401, error), "{changes:?}");
    }
    for key in ["cs%261&ts%2B2", "cs%262&ts%2B1", "cs&1&ts+1"] {
        assert_eq!(get(&running, SIGNED, &header(key, &[])).await.error(), "bad_signature", "{key}");
    }
    let good = header("cs%261&ts%2B1", &[]);
    // Another address than the one that was signed, and headers that are not of the form.
    assert_eq!(get(&running, &format!("{SIGNED}?a=1"), &good).await.error(), "bad_signature");
    for broken in ["OAuth realm=ACME".to_owned(), format!("{good}, oauth_token=\"tk-1\"")] {
        assert_eq!(get(&running, SIGNED, &broken).await.error(), "bad_signature", "{broken}");
    }
}

/// The header was made by oauthlib 4.0.1, with `SIGNATURE_HMAC_SHA256`.
#[test]
fn a_signature_of_oauthlib_is_accepted() {
    let text = "realm=\"ACME\", oauth_nonce=\"0123456789abcdef\", oauth_timestamp=\"1700000000\", oauth_version=\"1.0\", \
                oauth_signature_method=\"HMAC-SHA256\", oauth_consumer_key=\"ck-1\", oauth_token=\"tk-1\", \
                oauth_body_hash=\"vyGp6PvFo4RvsFtPoIWeCReyIC8%3D\", \
                oauth_signature=\"Gn5a%2B%2B7Zc7l0iMVXnR%2BbkCsSQjxevYc9KiJ6ot%2B2A7g%3D\"";
    let vendor = sandbox::config::parse("vendor.yaml", VENDOR).unwrap();
    let credential = vendor.credentials.iter().find(|own| own.name == "signer").unwrap();
    let uri: hyper::Uri = "/v1/search?q=a%20b&q=%C3%A9+c&limit=1".parse().unwrap();
    let request = |method: &str| Request::new(method, "acme.vendor.test", &uri, HeaderMap::new(), &Bytes::from_static(b"{}"));
    let (seen, origins) = (UsedIds::default(), ["https://acme.vendor.test".to_owned()]);
    let check = |method: &str, now: u64| {
        let check = SignatureCheck { realm: Some("ACME".to_owned()), window: 300, origins: &origins, now, seen: &seen };
        check.check(&SignedHeader::parse(text).unwrap(), &request(method), credential)
    };
    assert_eq!(check("GET", 1_700_000_000), Err(OAuth1Fault::Signature), "the method is signed too");
    assert_eq!(check("POST", 1_700_000_301), Err(OAuth1Fault::Timestamp));
    assert_eq!(check("POST", 1_700_000_300), Ok(()));
    assert_eq!(check("POST", 1_700_000_300), Err(OAuth1Fault::Nonce));
}
