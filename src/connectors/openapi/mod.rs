//! The `openapi` engine: any HTTP service that describes itself with OpenAPI 3.0 or 3.1.
//!
//! An attempt runs through the modules in this order: [`address`] -> [`load`] ([`document`], [`refs`]) -> [`server`] ->
//! [`operations`] ([`schema`], [`records`], [`streams`]) -> [`select`] and [`auth`] -> one GET -> [`classify`].
//! Only GET requests are sent. A description comes from outside and is not trusted: its size, depth and
//! references are bounded, and it cannot direct AAM or a credential to another host.

pub mod address;
pub mod auth;
pub mod classify;
pub mod document;
pub mod load;
pub mod operations;
pub mod parameters;
pub mod parse;
pub mod privilege;
pub mod records;
pub mod refs;
pub mod schema;
pub mod select;
pub mod server;
pub mod service;
pub mod streams;
pub mod wire;

#[cfg(test)]
mod hostile;

use super::{Engine, Need, Opened, Target};
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::model::Failure;
use crate::policy::Policy;
use address::{Address, host_of};
use futures_util::future::BoxFuture;
use service::Service;
use std::sync::Arc;
use url::Url;
use wire::Wire;

/// The name of the family and of its entry in the policy.
const FAMILY: &str = "openapi";

/// Opens services by their OpenAPI description.
pub struct OpenApiEngine;

impl OpenApiEngine {
    /// As [`Engine::open`], over any wire.
    ///
    /// # Errors
    /// Those of [`load::load`] and [`server::Servers::read`]; `CredentialMissing`, naming the scheme, if the
    /// readable operations need a credential.
    pub async fn open_over(
        wire: Arc<dyn Wire>,
        resource_id: &str,
        credential: Option<Credential>,
        policy: &Policy,
    ) -> Result<Opened, Failure> {
        let address = Address::parse(resource_id)?;
        let loaded = load::load(wire.as_ref(), &address, credential.as_ref()).await?;
        Service::open(wire, loaded, credential, &policy.family(FAMILY)).await
    }
}

impl Engine for OpenApiEngine {
    fn accepts(&self, resource_id: &str) -> Result<(), Failure> {
        Address::parse(resource_id).map(|_| ())
    }

    /// Only the description knows, and it is not read yet; `open` answers `CredentialMissing`.
    fn need(&self, _resource_id: &str) -> Need {
        Need::Optional
    }

    fn account(&self, resource_id: &str, _policy: &Policy) -> String {
        Address::parse(resource_id).map(|address| address.host()).unwrap_or_default()
    }

    fn planned_calls(&self, resource_id: &str, policy: &Policy) -> Vec<PlannedCall> {
        let Ok(address) = Address::parse(resource_id) else {
            return Vec::new();
        };
        let call = |host: String, path: &str| PlannedCall { method: "GET".into(), host, path: path.into() };
        let mut calls: Vec<PlannedCall> = address.candidates.iter().map(|url| call(host_of(url), url.path())).collect();
        calls.push(call(address.host(), "GET operations of the description"));
        let elsewhere = policy.family(FAMILY).base_url.and_then(|text| Url::parse(&text).ok()).map(|url| host_of(&url));
        if let Some(host) = elsewhere.filter(|host| *host != address.host()) {
            calls.push(call(host, "GET operations of the description, if its servers name this host"));
        }
        calls
    }

    fn open(&self, target: Target) -> BoxFuture<'_, Result<Opened, Failure>> {
        Box::pin(async move {
            let Target { resource_id, credential, policy, session, .. } = target;
            OpenApiEngine::open_over(Arc::new(session), &resource_id, credential, &policy).await
        })
    }
}
