//! Tokens and codes that token endpoints issued, and what may be used once.

use crate::assertions::UsedIds;
use crate::config::Credential;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// When there are more, those that ended are forgotten, and then all.
const MAX_TOKENS: usize = 50_000;

/// An access token.
#[derive(Clone)]
pub struct MintedToken {
    pub credential: Credential,
    /// The client that it was issued to.
    pub client: String,
    /// Seconds since 1970.
    pub ends_at: u64,
    /// The thumbprint of the key that the caller has to prove with each call.
    pub dpop: Option<String>,
    /// A proof needs a nonce of the server.
    pub dpop_nonce: bool,
}

/// A code that stands for an authorization, or a refresh token.
#[derive(Clone)]
pub struct Grant {
    pub client: String,
    /// The account that the grant was given for, as the request named it.
    pub account: Option<String>,
    pub scopes: Vec<String>,
    pub ends_at: u64,
    pub redirect_uri: Option<String>,
    pub challenge: Option<String>,
    pub dpop: Option<String>,
}

#[derive(Default)]
pub struct Minted {
    access: Mutex<HashMap<(usize, String), MintedToken>>,
    codes: Mutex<HashMap<(usize, String), Grant>>,
    refresh: Mutex<HashMap<(usize, String), Grant>>,
    /// Refresh tokens of the files that were used.
    spent: Mutex<HashMap<(usize, String), ()>>,
    pub seen: UsedIds,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a map bounded.
fn make_room<T>(map: &mut HashMap<(usize, String), T>, is_alive: impl Fn(&T) -> bool) {
    if map.len() >= MAX_TOKENS {
        map.retain(|_, value| is_alive(value));
        if map.len() >= MAX_TOKENS {
            map.clear();
        }
    }
}

impl Minted {
    pub fn add(&self, vendor: usize, value: String, token: MintedToken, now: u64) {
        let mut access = locked(&self.access);
        make_room(&mut access, |token| token.ends_at > now);
        access.insert((vendor, value), token);
    }

    pub fn find(&self, vendor: usize, value: &str) -> Option<MintedToken> {
        locked(&self.access).get(&(vendor, value.to_owned())).cloned()
    }

    /// Ends the access tokens that a client has for an account.
    pub fn end_those_of(&self, vendor: usize, client: &str, accounts: &[String]) {
        locked(&self.access)
            .retain(|(own, _), token| *own != vendor || token.client != client || token.credential.accounts != accounts);
    }

    pub fn add_code(&self, vendor: usize, code: String, grant: Grant, now: u64) {
        let mut codes = locked(&self.codes);
        make_room(&mut codes, |grant| grant.ends_at > now);
        codes.insert((vendor, code), grant);
    }

    /// A code is used once, also if the use fails.
    pub fn take_code(&self, vendor: usize, code: &str) -> Option<Grant> {
        locked(&self.codes).remove(&(vendor, code.to_owned()))
    }

    pub fn add_refresh(&self, vendor: usize, value: String, grant: Grant, now: u64) {
        let mut refresh = locked(&self.refresh);
        make_room(&mut refresh, |grant| grant.ends_at > now);
        refresh.insert((vendor, value), grant);
    }

    pub fn find_refresh(&self, vendor: usize, value: &str) -> Option<Grant> {
        locked(&self.refresh).get(&(vendor, value.to_owned())).cloned()
    }

    /// Ends a refresh token; false if it had ended before.
    pub fn spend_refresh(&self, vendor: usize, value: &str) -> bool {
        let key = (vendor, value.to_owned());
        if locked(&self.refresh).remove(&key).is_some() {
            return true;
        }
        let mut spent = locked(&self.spent);
        make_room(&mut spent, |()| false);
        spent.insert(key, ()).is_none()
    }

    pub fn is_spent(&self, vendor: usize, value: &str) -> bool {
        locked(&self.spent).contains_key(&(vendor, value.to_owned()))
    }
}
