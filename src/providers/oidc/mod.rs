//! Who a person is, by OpenID Connect: what the sign-in of the pages asks of the issuer of `api.oidc`.
//!
//! - [`OidcClient::discover`] reads the discovery document, which names the addresses of the issuer
//! - [`Discovered::authorization_url`] is where the browser goes
//! - [`OidcClient::identify`] exchanges the code of the callback and checks the ID token
//!
//! The calls go through egress like those to every token endpoint: the documents are read with GET, and the request for the
//! token is the one POST, to exactly the address that the issuer's document names. No token is kept.

mod discovery;
mod exchange;
mod id_token;
mod keys;

use super::Providers;
pub use super::consent::CallbackQuery;
use crate::egress::{Caller, Session};
use crate::model::{CallPurpose, ConnectionId, Posts, Timestamp};
use crate::policy::{OidcPolicy, Policy};
pub use discovery::{Authorization, Discovered};
pub use exchange::Begun;
use keys::Keys;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use url::Url;

/// The documents of the issuer, so that visitors of the page do not cause a call each.
#[derive(Default)]
pub struct OidcDocuments {
    /// With the address that it was read from.
    discovered: Mutex<Option<(String, Timestamp, Arc<Discovered>)>>,
    keys: Mutex<Option<(Url, Timestamp, Arc<Keys>)>>,
}

/// AAM as a client of the issuer.
pub struct OidcClient {
    providers: Arc<Providers>,
    policy: Arc<Policy>,
    settings: OidcPolicy,
}

impl OidcClient {
    /// Creates the client that the policy describes. `None` if it describes none.
    #[must_use]
    pub fn new(providers: &Arc<Providers>, policy: &Arc<Policy>) -> Option<OidcClient> {
        let settings = policy.api.oidc.clone()?;
        Some(OidcClient { providers: Arc::clone(providers), policy: Arc::clone(policy), settings })
    }

    /// The settings of the policy.
    #[must_use]
    pub fn settings(&self) -> &OidcPolicy {
        &self.settings
    }

    /// What stands for the connection in the record of the calls.
    fn connection(&self) -> ConnectionId {
        ConnectionId::derive("", "oidc", std::slice::from_ref(&self.settings.issuer))
    }

    /// Creates a session for calls to the origin of `url`. It has a budget of its own, so that visitors of the page cannot use
    /// up that of the service principals of the same server.
    fn session(&self, url: &Url, posts: Posts) -> Session {
        self.providers.egress.session(Caller {
            connection: self.connection(),
            family: CallPurpose::Token.as_str().into(),
            purpose: CallPurpose::Token,
            account: format!("{} (sign-in)", url.origin().ascii_serialization()),
            cap: self.policy.credentials.caps.tokens.clone(),
            policy: Arc::clone(&self.policy),
            posts: Arc::new(posts),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
