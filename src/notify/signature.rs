//! Signatures of Standard Webhooks (github.com/standard-webhooks/standard-webhooks, "Signature scheme"): HMAC-SHA256 over
//! `id.timestamp.body`, in the header `webhook-signature` with the version `v1`. Pure.

use crate::credentials::Secret;
use crate::model::{Class, Failure, Timestamp};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

/// The prefix of a secret whose rest is the key in base64.
const ENCODED: &str = "whsec_";

/// Returns the headers of a message that is sent at `at`. `locator` names the secret in failures.
///
/// # Errors
/// Returns `CredentialMissing` if the secret begins with `whsec_` and the rest is not base64, or if there is no key.
pub fn headers(secret: &Secret, locator: &str, id: &str, at: Timestamp, body: &[u8]) -> Result<Vec<(String, Secret)>, Failure> {
    let key = key(secret.expose().trim(), locator)?;
    let timestamp = at.0.div_euclid(1000).to_string();
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        context.update(part);
    }
    let signature = format!("v1,{}", BASE64_STANDARD.encode(context.sign().as_ref()));
    let pairs = [("webhook-id", id.to_string()), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
    Ok(pairs.into_iter().map(|(name, value)| (name.to_string(), Secret::new(value))).collect())
}

fn key(secret: &str, locator: &str) -> Result<Vec<u8>, Failure> {
    let key = match secret.strip_prefix(ENCODED) {
        Some(encoded) => BASE64_STANDARD.decode(encoded).ok(),
        None => Some(secret.as_bytes().to_vec()),
    };
    key.filter(|key| !key.is_empty()).ok_or_else(|| {
        let fix = "store whsec_ and the key in base64, as the receiver shows it, or any other text, whose bytes are then the key";
        Failure::new(Class::CredentialMissing, format!("the secret {locator} is not valid base64 after {ENCODED}"), fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(secret: &str) -> Option<String> {
        let at = Timestamp(1_614_265_330_999);
        let body = br#"{"test": 2432232314}"#;
        let pairs = headers(&Secret::new(secret.to_string()), "env:X", "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body).ok()?;
        assert_eq!(pairs[1].1.expose(), "1614265330", "seconds");
        Some(pairs[2].1.expose().to_string())
    }

    /// The message, the secret and the signature are the example of the specification.
    #[test]
    fn the_example_of_the_specification_is_signed() {
        let secret = concat!("whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(signature(secret).unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(signature(&format!("{secret}\n")), signature(secret), "a line feed at the end of a file is not part of it");
    }

    #[test]
    fn a_secret_without_the_prefix_is_the_key_itself() {
        let encoded = format!("whsec_{}", BASE64_STANDARD.encode("correct horse"));
        assert_eq!(signature("correct horse"), signature(&encoded));
        assert!(signature("correct horse").is_some());
        assert_eq!((signature("whsec_***"), signature("whsec_"), signature(" ")), (None, None, None));
    }
}
