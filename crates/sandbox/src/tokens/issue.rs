//! The token itself: its scopes, its form, and the answer.

use super::client::Asking;
use super::{TokenError, refused};
use crate::access::belongs;
use crate::config::{Credential, Dpop, Refresh, TokenEndpoint};
use crate::dpop::{ProofError, proof};
use crate::exchange::Exchange;
use crate::jwt;
use crate::keys;
use crate::minted::{Grant, MintedToken};
use crate::reply::Reply;
use crate::template::{Scope, text};
use serde_json::{Value, json};

/// How long a refresh token lives, in seconds.
const REFRESH_LIFETIME: u64 = 90 * 86_400;

impl Exchange<'_> {
    pub(super) fn issue_token(&mut self, endpoint: &TokenEndpoint) -> Result<Reply, TokenError> {
        let grant_type = self.grant_type(endpoint)?;
        let mut asking = self.authenticate_client(endpoint)?;
        if let Some(error) = &asking.client.error {
            return refused(error, "client");
        }
        self.find_account(&asking)?;
        self.check_expected(endpoint, &asking)?;
        // A proof without a nonce is sent again with one, so it is checked before a code is used up.
        let key = self.key_of_caller(endpoint, &asking)?;
        let grant = self.grant(endpoint, &grant_type, &mut asking)?;
        if grant.dpop.is_some() && grant.dpop != key {
            return refused("invalid_dpop_proof", "key");
        }
        if self.account.is_none()
            && let Some(account) = grant.account.as_deref().and_then(|name| self.vendor.accounts.find(name))
        {
            self.account = Some(account);
        }
        let scopes = self.scopes(endpoint, &asking, &grant)?;
        if grant_type == "refresh_token" {
            self.spend_refresh_token(endpoint)?;
        }
        let scope = self.mint(endpoint, &asking, &grant, scopes, key)?;
        let mut reply = Reply::new(endpoint.status);
        reply.set_body(&endpoint.answer.render(&scope)?.unwrap_or(Value::Null));
        reply.add_headers(&endpoint.headers, &scope)?;
        // RFC 6749, 5.1.
        if reply.header("cache-control").is_none() {
            reply.headers.push(("cache-control".to_owned(), "no-store".to_owned()));
        }
        Ok(reply)
    }

    /// The account that the token is for: the request's, which has to be one of the client's, or the client's own.
    fn find_account(&mut self, asking: &Asking) -> Result<(), TokenError> {
        match &self.account {
            Some(account) if !belongs(&self.vendor.accounts, &asking.client.credential, account) => {
                refused("invalid_client", "other_account")
            }
            Some(_) => Ok(()),
            None => {
                let first = asking.client.credential.accounts.first();
                self.account = first.and_then(|name| self.vendor.accounts.find(name));
                Ok(())
            }
        }
    }

    fn scopes(&self, endpoint: &TokenEndpoint, asking: &Asking, grant: &Grant) -> Result<Vec<String>, TokenError> {
        let split = |text: &str| -> Vec<String> {
            let parts = text.split(endpoint.scope_separator.as_str());
            parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
        };
        let asked = match &endpoint.scope_from {
            Some(from) => match from.render(&self.token_scope(&asking.client, asking.jwt.as_ref()))? {
                Some(Value::Array(list)) => list.iter().map(text).collect(),
                Some(one) => split(&text(&one)),
                None => Vec::new(),
            },
            None => self.parameter(endpoint, "scope").map(|scope| split(&scope)).unwrap_or_default(),
        };
        if asked.is_empty() {
            if endpoint.scope_required {
                return refused("invalid_scope", "missing");
            }
            return Ok(grant.scopes.clone());
        }
        let (known, unknown): (Vec<String>, Vec<String>) = asked.into_iter().partition(|scope| grant.scopes.contains(scope));
        match (&endpoint.scope_unknown, unknown.first()) {
            (Some(error), Some(scope)) => refused(error, scope),
            _ => Ok(known),
        }
    }

    /// The key that the caller proves to have, if the token is to be bound to it.
    fn key_of_caller(&self, endpoint: &TokenEndpoint, asking: &Asking) -> Result<Option<String>, TokenError> {
        if endpoint.dpop == Dpop::None {
            return Ok(None);
        }
        let by_client = asking.client.credential.data.get("dpop").and_then(Value::as_str) == Some("required");
        let is_required = endpoint.dpop == Dpop::Required || by_client;
        let inward = |text: &str| self.sandbox.inward(text);
        match proof(self.request, None, endpoint.dpop_nonce, self.now(), &self.sandbox.minted.seen, &inward) {
            Ok(key) => Ok(Some(key)),
            Err(ProofError::Missing) if !is_required => Ok(None),
            Err(ProofError::Missing) => refused("invalid_dpop_proof", "missing"),
            Err(ProofError::Invalid(reason)) => refused("invalid_dpop_proof", reason),
            Err(ProofError::Nonce) => refused("use_dpop_nonce", "nonce"),
        }
    }

    /// Makes the token, and returns the names that the answer uses.
    fn mint(
        &mut self,
        endpoint: &TokenEndpoint,
        asking: &Asking,
        grant: &Grant,
        scopes: Vec<String>,
        key: Option<String>,
    ) -> Result<Scope, TokenError> {
        let issue = &endpoint.issue;
        let accounts: Vec<String> = match &self.account {
            Some(account) => vec![account.key.clone()],
            None => asking.client.credential.accounts.clone(),
        };
        let mut scope = self.token_scope(&asking.client, asking.jwt.as_ref());
        let token_type = if key.is_some() { "DPoP" } else { "Bearer" };
        let mut token = json!({"type": token_type, "expires_in": issue.expires_in, "scopes": scopes, "kind": issue.kind, "id": self.sandbox.random_text(22)});
        scope.set_json("token", &token);
        let value = match &issue.claims {
            Some(claims) => self.signed(claims.render(&scope)?.unwrap_or(Value::Null), issue.expires_in, key.as_deref()),
            None => format!("{}{}", issue.prefix, self.sandbox.random_text(43)),
        };
        let refresh = self.refresh(endpoint, asking, grant, &scopes, key.as_deref());
        let credential = self.credential_of(asking, accounts, scopes, issue.kind.clone(), value.clone());
        let minted = &self.sandbox.minted;
        if issue.replaces {
            minted.end_those_of(self.index, &asking.client.id, &credential.accounts);
        }
        let ends_at = self.now() + issue.expires_in;
        let client = asking.client.id.clone();
        let bound = MintedToken { credential, client, ends_at, dpop: key, dpop_nonce: endpoint.dpop_api_nonce };
        minted.add(self.index, value.clone(), bound, self.now());
        if let Value::Object(token) = &mut token {
            token.insert("value".to_owned(), value.into());
            if let Some(refresh) = refresh {
                token.insert("refresh".to_owned(), refresh.into());
            }
        }
        scope.set_json("token", &token);
        Ok(scope)
    }

    fn credential_of(
        &self,
        asking: &Asking,
        accounts: Vec<String>,
        scopes: Vec<String>,
        kind: String,
        value: String,
    ) -> Credential {
        let own = &asking.client.credential;
        let mut data = own.data.clone();
        if let Value::Object(data) = &mut data {
            data.insert("scopes".to_owned(), scopes.as_slice().into());
            data.insert("kind".to_owned(), kind.as_str().into());
            data.insert("client_id".to_owned(), asking.client.id.as_str().into());
            if let Some(jwt) = &asking.jwt {
                data.insert("subject".to_owned(), jwt.claims.get("sub").cloned().unwrap_or(Value::Null));
            }
        }
        Credential { kind, value, accounts, scopes, data, ..own.clone() }
    }

    /// A JWT of the vendor. Claims that every vendor sets are added.
    fn signed(&self, mut claims: Value, expires_in: u64, key: Option<&str>) -> String {
        let now = self.now();
        if let Value::Object(claims) = &mut claims {
            claims.entry("iat").or_insert_with(|| now.into());
            claims.entry("exp").or_insert_with(|| (now + expires_in).into());
            claims.entry("jti").or_insert_with(|| self.sandbox.random_text(22).into());
            if let Some(key) = key {
                claims.insert("cnf".to_owned(), json!({"jkt": key}));
            }
        }
        let pair = keys::pair("issuer");
        pair.and_then(|pair| jwt::sign(pair, &json!({"kid": "sandbox"}), &claims)).unwrap_or_default()
    }

    fn refresh(
        &self,
        endpoint: &TokenEndpoint,
        asking: &Asking,
        grant: &Grant,
        scopes: &[String],
        key: Option<&str>,
    ) -> Option<String> {
        let by_user = self.parameter(endpoint, "grant_type").is_some_and(|name| {
            ["authorization_code", "password"].contains(&name.as_str())
                || name == "refresh_token" && endpoint.issue.refresh == Refresh::Rotating
        });
        if endpoint.issue.refresh == Refresh::None || !by_user {
            return None;
        }
        let value = self.sandbox.random_text(48);
        let next = Grant {
            client: asking.client.id.clone(),
            account: self.account.as_ref().map(|account| account.key.clone()).or_else(|| grant.account.clone()),
            scopes: scopes.to_vec(),
            ends_at: self.now() + REFRESH_LIFETIME,
            redirect_uri: None,
            challenge: None,
            // RFC 9449, 5: refresh tokens of public clients are bound too.
            dpop: key.filter(|_| asking.client.secret.is_none()).map(str::to_owned),
        };
        self.sandbox.minted.add_refresh(self.index, value.clone(), next, self.now());
        Some(value)
    }
}
