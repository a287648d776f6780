//! Which client asks, and whether it proves that.

use super::{TokenError, refused};
use crate::access::Presented;
use crate::assertions::{CheckError, check, is_issued_by};
use crate::config::{Client, ClientAuthentication, JWT_BEARER, TokenEndpoint};
use crate::exchange::Exchange;
use crate::jwt::Jwt;
use crate::pattern::decoded;
use crate::request::basic;
use std::sync::Arc;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client and what it sent to prove itself.
pub struct Asking {
    pub client: Client,
    way: ClientAuthentication,
    secret: Option<String>,
    pub jwt: Option<Jwt>,
}

impl Exchange<'_> {
    /// The client that a request names, by the first way of the endpoint that the request uses. `None` if it uses none.
    ///
    /// # Errors
    /// Fails if the client does not exist, or if a template fails.
    pub(super) fn find_client(&self, endpoint: &TokenEndpoint) -> Result<Option<Asking>, TokenError> {
        let parameter = |name: &str| self.parameter(endpoint, name).filter(|value| !value.is_empty());
        for way in &endpoint.client_authentication {
            let (id, secret, jwt) = match way {
                ClientAuthentication::Basic => {
                    let header = self.request.header("authorization").unwrap_or_default();
                    let Some(pair) = header.strip_prefix("Basic ").and_then(basic) else { continue };
                    let (id, secret) = pair.split_once(':').unwrap_or((&pair, ""));
                    // RFC 6749, 2.3.1: both are form-encoded first. Clients that do not encode are understood too.
                    let plain = |text: &str| decoded(&text.replace('+', " "));
                    let is_plain = self.client(id).is_some_and(|client| client.secret.as_deref() == Some(secret));
                    if is_plain {
                        (Some(id.to_owned()), Some(secret.to_owned()), None)
                    } else {
                        (Some(plain(id)), Some(plain(secret)), None)
                    }
                }
                ClientAuthentication::Post => match (parameter("client_id"), parameter("client_secret")) {
                    (id, Some(secret)) => (id, Some(secret), None),
                    _ => continue,
                },
                ClientAuthentication::PrivateKeyJwt => {
                    let Some(text) = parameter("client_assertion") else { continue };
                    if parameter("client_assertion_type").as_deref() != Some(ASSERTION_TYPE) {
                        return refused("invalid_client", "assertion_type");
                    }
                    let Some(jwt) = Jwt::parse(&text) else { return refused("invalid_client", "malformed") };
                    // NetSuite's assertions have no subject; a vendor that wants one checks it afterwards.
                    let id = jwt.claim("sub").or_else(|| jwt.claim("iss")).map(str::to_owned);
                    // RFC 7521, 4.2: if client_id is sent too, it is the same.
                    if parameter("client_id").is_some_and(|own| Some(&own) != id.as_ref()) {
                        return refused("invalid_client", "subject");
                    }
                    (id, None, Some(jwt))
                }
                ClientAuthentication::JwtBearer => {
                    if parameter("grant_type").as_deref() != Some(JWT_BEARER) {
                        continue;
                    }
                    let Some(text) = parameter("assertion") else { return refused("invalid_request", "assertion") };
                    let Some(jwt) = Jwt::parse(&text) else { return refused("invalid_grant", "malformed") };
                    return self.find_issuer(endpoint, jwt).map(Some);
                }
                ClientAuthentication::None => match (parameter("client_id"), parameter("client_secret")) {
                    // A client that sends an assertion is not a public one.
                    (Some(id), None) if parameter("client_assertion").is_none() => (Some(id), None, None),
                    _ => continue,
                },
            };
            let Some(client) = id.as_deref().and_then(|id| self.client(id)) else {
                return refused("invalid_client", "unknown");
            };
            return Ok(Some(Asking { client: client.clone(), way: *way, secret, jwt }));
        }
        Ok(None)
    }

    fn client(&self, id: &str) -> Option<&Client> {
        self.vendor.clients.iter().find(|client| client.id == id)
    }

    fn find_issuer(&self, endpoint: &TokenEndpoint, jwt: Jwt) -> Result<Asking, TokenError> {
        let scope = self.scope(self.account.as_ref());
        for client in &self.vendor.clients {
            let Some(assertion) = &endpoint.assertion else { break };
            if is_issued_by(assertion, &jwt, client, &scope)? {
                let way = ClientAuthentication::JwtBearer;
                return Ok(Asking { client: client.clone(), way, secret: None, jwt: Some(jwt) });
            }
        }
        refused("invalid_grant", "issuer")
    }

    /// The client of a request that has proved who it is.
    ///
    /// # Errors
    /// Fails with the error that the endpoint answers.
    pub(super) fn authenticate_client(&mut self, endpoint: &TokenEndpoint) -> Result<Asking, TokenError> {
        if let Some(kind) = &endpoint.authenticated_by {
            return self.client_of_credential(kind);
        }
        let is_basic = self.request.header("authorization").is_some_and(|value| value.starts_with("Basic "));
        if is_basic && self.request.form("client_secret").is_some() {
            return refused("invalid_request", "two_authentications");
        }
        let asking = match self.find_client(endpoint)? {
            Some(asking) => asking,
            None => return refused("invalid_client", "missing"),
        };
        self.credential = Some(asking.client.credential.clone());
        match asking.way {
            ClientAuthentication::Basic | ClientAuthentication::Post => {
                if asking.client.secret.is_none() || asking.client.secret != asking.secret {
                    return refused("invalid_client", "secret");
                }
            }
            ClientAuthentication::None if asking.client.secret.is_some() => return refused("invalid_client", "missing"),
            ClientAuthentication::None => {}
            ClientAuthentication::PrivateKeyJwt => self.check_assertion(endpoint, &asking, "invalid_client")?,
            ClientAuthentication::JwtBearer => self.check_assertion(endpoint, &asking, "invalid_grant")?,
        }
        Ok(asking)
    }

    /// Checks the assertion that a client sent. `code` is the error of a wrong one.
    pub(super) fn check_assertion(&self, endpoint: &TokenEndpoint, asking: &Asking, code: &str) -> Result<(), TokenError> {
        let (Some(assertion), Some(jwt)) = (&endpoint.assertion, &asking.jwt) else { return refused(code, "malformed") };
        let scope = self.scope(self.account.as_ref());
        let inward = |text: &str| self.sandbox.inward(text);
        match check(assertion, jwt, &asking.client, &scope, self.now(), &self.sandbox.minted.seen, &inward) {
            Ok(()) => Ok(()),
            Err(CheckError::Fault(fault)) => refused(code, fault.as_str()),
            Err(CheckError::Template(error)) => Err(error.into()),
        }
    }

    fn client_of_credential(&mut self, kind: &str) -> Result<Asking, TokenError> {
        let credential = match self.present() {
            Presented::Known(credential) if credential.kind == kind => match &credential.state {
                Some(state) => return Err(TokenError::Named(state.clone())),
                None => credential,
            },
            Presented::Refused(name) => return Err(TokenError::Named(name)),
            Presented::Known(_) | Presented::WrongKind(_) => return Err(TokenError::Named("wrong_kind".to_owned())),
            Presented::Nothing | Presented::Unknown => return Err(TokenError::Named("unauthorized".to_owned())),
        };
        let vendor = Arc::clone(&self.vendor);
        let client = vendor.clients.iter().find(|client| client.credential.name == credential.name);
        self.credential = Some(*credential);
        match client {
            Some(client) => Ok(Asking { client: client.clone(), way: ClientAuthentication::None, secret: None, jwt: None }),
            None => Err(TokenError::Named("unauthorized".to_owned())),
        }
    }
}
