//! Mints that a vendor refused. Many connections share a principal, and vendors lock clients that send the same wrong secret
//! again and again, so a refusal is kept for a while.

use super::MintContext;
use crate::model::{Class, Digest, Failure};
use crate::policy::credentials::{Principal, Setting};
use crate::providers::cache::Moment;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a refusal is kept, unless the secret or the policy changes before.
const REFUSAL_VALIDITY: Duration = Duration::from_secs(60);

/// The refusals of the last [`REFUSAL_VALIDITY`].
#[derive(Default)]
pub struct Refusals {
    /// By the key of the mint and the digest of its secrets.
    kept: Mutex<HashMap<String, (Failure, Moment)>>,
}

impl Refusals {
    /// Returns the refusal of the same mint, if it is still kept at `now`.
    pub fn find(&self, key: &str, now: Moment) -> Option<Failure> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(_, until)| !until.has_come(now)).map(|(failure, _)| failure.clone())
    }

    /// Keeps `failure` if the vendor refused, and returns it with the time at which the vendor was asked. A vendor that cannot
    /// be reached or fails says nothing about the secret.
    pub fn keep(&self, key: String, failure: Failure, now: Moment) -> Failure {
        if !matches!(
            failure.class,
            Class::CredentialMissing | Class::CredentialRejected | Class::PermissionDenied | Class::Misconfigured
        ) {
            return failure;
        }
        let seconds = REFUSAL_VALIDITY.as_secs();
        let asked = format!("asked at {}; AAM asks again after {seconds} s, or when the secret or the policy changes", now.wall);
        let detail = if failure.detail.is_empty() { asked } else { format!("{}; {asked}", failure.detail) };
        let failure = Failure { detail, ..failure };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (_, until)| !until.has_come(now));
        kept.insert(key, (failure.clone(), now.plus(REFUSAL_VALIDITY)));
        failure
    }
}

/// Whether a refusal of the same secrets would be repeated. What a platform keeps in a file or behind a URL can change at any
/// time, and is read at each mint.
#[must_use]
pub fn is_certain(principal: &Principal) -> bool {
    let of_platform =
        ["federated_token_file", "web_identity_token_file", "subject_token_file", "subject_token_url", "source", "federation"];
    !of_platform.iter().any(|key| principal.settings.contains_key(key))
}

/// Returns the digest of everything that is stored for the principal.
///
/// # Errors
/// Returns the failure of a locator.
pub async fn digest_of_secrets(context: &MintContext<'_>) -> Result<Digest, Failure> {
    let mut parts = Vec::new();
    for (key, setting) in &context.principal.settings {
        if matches!(setting, Setting::Locator(_)) {
            let secret = context.secret(key).await?;
            parts.push(Digest::from_bytes(key.as_bytes()));
            parts.extend(secret.values().map(|value| Digest::from_bytes(value.expose().as_bytes())));
        }
    }
    let parts: Vec<&[u8]> = parts.iter().map(|digest| digest.0.as_slice()).collect();
    Ok(Digest::from_parts(&parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_refusal_is_kept_for_a_minute_and_an_outage_is_not() {
        let (refusals, now) = (Refusals::default(), Moment::now(&SystemClock));
        let failure = |class| Failure::new(class, "invalid_client", "correct the secret");
        let kept = refusals.keep("a".to_string(), failure(Class::CredentialRejected), now);
        assert!(kept.detail.contains(&format!("asked at {}", now.wall)), "{kept:?}");
        assert_eq!(refusals.find("a", now.plus(REFUSAL_VALIDITY - Duration::from_secs(1))), Some(kept));
        assert_eq!(refusals.find("a", now.plus(REFUSAL_VALIDITY)), None);
        assert_eq!(refusals.find("b", now), None, "another secret or policy is tried at once");
        for class in [Class::Network, Class::Remote, Class::Throttled, Class::BreakerOpen] {
            assert_eq!(refusals.keep("c".to_string(), failure(class), now), failure(class));
            assert_eq!(refusals.find("c", now), None);
        }
    }
}
