//! What a client shows to get a token: nothing but itself, an assertion, a code, a refresh token or a password.

use super::client::Asking;
use super::{TokenError, refused};
use crate::assertions::fits;
use crate::config::{JWT_BEARER, Refresh, TokenEndpoint};
use crate::exchange::Exchange;
use crate::jwt::{Jwt, hash};
use crate::minted::Grant;
use serde_json::Value;

impl Exchange<'_> {
    /// The name of the grant.
    pub(super) fn grant_type(&self, endpoint: &TokenEndpoint) -> Result<String, TokenError> {
        if endpoint.authenticated_by.is_some() {
            return Ok(String::new());
        }
        let Some(name) = self.parameter(endpoint, "grant_type").filter(|name| !name.is_empty()) else {
            return refused("invalid_request", "grant_type");
        };
        if endpoint.grants.contains(&name) { Ok(name) } else { refused("unsupported_grant_type", "unknown") }
    }

    /// Checks what the grant needs, and says what it allows at most.
    pub(super) fn grant(&mut self, endpoint: &TokenEndpoint, name: &str, asking: &mut Asking) -> Result<Grant, TokenError> {
        let allowed = asking.client.credential.data.get("grants").and_then(Value::as_array);
        // Another credential than that of the client proves who asks, so no grant is named.
        let is_named = !name.is_empty();
        if is_named
            && allowed.is_some_and(|list| !list.iter().any(|own| own == name || (own == "jwt_bearer" && name == JWT_BEARER)))
        {
            return refused("unauthorized_client", "grant");
        }
        match name {
            JWT_BEARER => self.assertion_grant(endpoint, asking)?,
            "authorization_code" => return self.code_grant(endpoint, asking),
            "refresh_token" => return self.refresh_grant(endpoint, asking),
            "password" => self.password_grant(endpoint, asking)?,
            _ => {}
        }
        Ok(Grant {
            client: asking.client.id.clone(),
            account: self.account.as_ref().map(|account| account.key.clone()),
            scopes: asking.client.credential.scopes.clone(),
            ends_at: self.now() + 86_400,
            redirect_uri: None,
            challenge: None,
            dpop: None,
        })
    }

    /// The assertion of a client that proved itself in another way is checked here; else it was the proof.
    fn assertion_grant(&self, endpoint: &TokenEndpoint, asking: &mut Asking) -> Result<(), TokenError> {
        if asking.jwt.is_some() {
            return Ok(());
        }
        let Some(text) = self.parameter(endpoint, "assertion") else { return refused("invalid_request", "assertion") };
        asking.jwt = Jwt::parse(&text);
        self.check_assertion(endpoint, asking, "invalid_grant")
    }

    fn code_grant(&self, endpoint: &TokenEndpoint, asking: &Asking) -> Result<Grant, TokenError> {
        let code = self.parameter(endpoint, "code").unwrap_or_default();
        let Some(grant) = self.sandbox.minted.take_code(self.index, &code) else {
            return refused("invalid_grant", "code");
        };
        if grant.client != asking.client.id {
            return refused("invalid_grant", "client");
        }
        if grant.ends_at <= self.now() {
            return refused("invalid_grant", "expired");
        }
        if grant.redirect_uri != self.parameter(endpoint, "redirect_uri") {
            return refused("invalid_grant", "redirect_uri");
        }
        let verifier = self.parameter(endpoint, "code_verifier");
        match (&grant.challenge, verifier) {
            (None, None) => {}
            // RFC 7636, 4.1: from 43 to 128 characters.
            (Some(challenge), Some(verifier))
                if (43..=128).contains(&verifier.len()) && hash(verifier.as_bytes()) == *challenge => {}
            _ => return refused("invalid_grant", "verifier"),
        }
        Ok(grant)
    }

    fn refresh_grant(&self, endpoint: &TokenEndpoint, asking: &Asking) -> Result<Grant, TokenError> {
        let minted = &self.sandbox.minted;
        let value = self.parameter(endpoint, "refresh_token").unwrap_or_default();
        let is_written = asking.client.refresh_tokens.contains(&value) && !minted.is_spent(self.index, &value);
        let grant = match minted.find_refresh(self.index, &value) {
            Some(grant) => grant,
            None if is_written => Grant {
                client: asking.client.id.clone(),
                account: asking.client.credential.accounts.first().cloned(),
                scopes: asking.client.credential.scopes.clone(),
                ends_at: u64::MAX,
                redirect_uri: None,
                challenge: None,
                dpop: None,
            },
            None => return refused("invalid_grant", "refresh_token"),
        };
        if grant.client != asking.client.id {
            return refused("invalid_grant", "client");
        }
        if grant.ends_at <= self.now() {
            return refused("invalid_grant", "expired");
        }
        Ok(grant)
    }

    /// Ends the refresh token of the request, if it is used once. Nothing else can refuse the request any more.
    pub(super) fn spend_refresh_token(&self, endpoint: &TokenEndpoint) -> Result<(), TokenError> {
        let value = self.parameter(endpoint, "refresh_token").unwrap_or_default();
        let is_used_once = endpoint.issue.refresh != Refresh::Stays;
        if is_used_once && !self.sandbox.minted.spend_refresh(self.index, &value) {
            return refused("invalid_grant", "refresh_token");
        }
        Ok(())
    }

    fn password_grant(&self, endpoint: &TokenEndpoint, asking: &Asking) -> Result<(), TokenError> {
        let own = |key: &str| asking.client.credential.data.get(key).map(crate::template::text);
        let is_right = |key: &str| own(key).is_some() && own(key) == self.parameter(endpoint, key);
        if is_right("username") && is_right("password") { Ok(()) } else { refused("invalid_grant", "password") }
    }

    /// Parameters that have to be what the vendor's file says.
    pub(super) fn check_expected(&self, endpoint: &TokenEndpoint, asking: &Asking) -> Result<(), TokenError> {
        let scope = self.token_scope(&asking.client, asking.jwt.as_ref());
        for (name, expected) in &endpoint.parameters {
            let sent = self.parameter(endpoint, name).map(Value::from);
            if !fits(expected, sent.as_ref(), &scope)? {
                return refused("invalid_request", name);
            }
        }
        Ok(())
    }
}
