//! The access token of a grant in a store that several replicas use.
//!
//! Without it, each replica would refresh the grant for itself, and every refresh of a vendor that rotates refresh tokens is a
//! chance to lose the grant. The access token is encrypted and bound to the version of the grant, so that it is gone as soon as
//! another refresh begins.

use super::exchange::Tokens;
use super::format::{StoredGrant, bound};
use super::keys::{NoRandomness, StoreKeys};
use crate::credentials::Secret;
use crate::model::Timestamp;
use crate::providers::cache::Fetched;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;
use zeroize::Zeroizing;

/// What is left of the time of an access token so that another replica uses it: longer than the time before its end at which the
/// cache asks for another one, and longer than the clocks of two machines differ.
const MIN_REMAINING: Duration = Duration::from_secs(120);

/// An access token and when it ends. `None`: it has no end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    token: Secret,
    ends: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedAccess<'a> {
    token: Cow<'a, str>,
    ends: Option<Timestamp>,
}

impl AccessToken {
    /// The access token that a vendor issued at `now`.
    #[must_use]
    pub fn new(tokens: &Tokens, now: Timestamp) -> AccessToken {
        AccessToken { token: tokens.access.clone(), ends: tokens.valid_for.map(|valid| now.plus(valid)) }
    }

    /// The token, if enough of its time is left at `now`.
    #[must_use]
    pub fn usable(self, now: Timestamp) -> Option<Fetched<Secret>> {
        let valid_for = self.ends.map(|ends| ends.since(now));
        let is_long = valid_for.is_none_or(|left| left >= MIN_REMAINING);
        is_long.then_some(Fetched { value: self.token, valid_for })
    }
}

impl StoredGrant {
    /// The same grant with its access token.
    ///
    /// # Errors
    /// Returns [`NoRandomness`].
    pub fn with_access(mut self, keys: &StoreKeys, access: &AccessToken) -> Result<StoredGrant, NoRandomness> {
        let sealed = SealedAccess { token: access.token.expose().into(), ends: access.ends };
        let plain = Zeroizing::new(serde_json::to_vec(&sealed).unwrap_or_default());
        self.access = Some(keys.seal(&bound("access", &self.facts), &plain)?);
        Ok(self)
    }

    /// Decrypts the access token. `None` if the grant does not have one, or if it was changed.
    #[must_use]
    pub fn access(&self, keys: &StoreKeys) -> Option<AccessToken> {
        let plain = keys.open(&bound("access", &self.facts), self.access.as_deref()?)?;
        let SealedAccess { token, ends } = serde_json::from_slice(&plain).ok()?;
        Some(AccessToken { token: Secret::new(token.into_owned()), ends })
    }
}
