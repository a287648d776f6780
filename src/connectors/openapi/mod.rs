//! The `openapi` engine: any HTTP service that describes itself with OpenAPI 3.0 or 3.1.
//!
//! An attempt passes through the modules in this order: [`address`] and [`settings`] -> [`load`] ([`document`], [`refs`]) ->
//! [`server`] -> [`operations`] ([`schema`], [`records`], [`side_effects`], [`streams`]) -> [`select`] -> [`probe`] ->
//! [`call`] ([`auth`], [`challenge`], [`redirects`]) -> [`classify`], and [`explain`] if nothing works.
//! Only GET requests are sent. A description comes from outside and is not trusted. Its size, depth and references are
//! limited, and it cannot direct AAM or a credential to another host.

pub mod action_names;
pub mod address;
pub mod auth;
pub mod call;
pub mod challenge;
pub mod classify;
pub mod document;
pub mod explain;
pub mod load;
mod memory;
pub mod operations;
pub mod parameters;
pub mod parse;
pub mod privilege;
pub mod probe;
pub mod records;
pub mod redirects;
pub mod refs;
pub mod repair;
pub mod schema;
pub mod select;
pub mod server;
pub mod service;
pub mod settings;
pub mod side_effects;
pub mod streams;
pub mod wire;

#[cfg(test)]
mod hostile;

use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine, Opened};
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::model::{Failure, Recipient};
use crate::policy::Policy;
use address::{DescriptionLocation, host_of};
use service::Service;
use settings::ServiceSettings;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use wire::HttpTransport;

/// The name of the family and of its entry in the policy.
const FAMILY: &str = "openapi";

/// How a plan writes a path that is known only after the description has been read: the path of an operation, or of a
/// document that the description refers to.
const OPERATION: &str = "/{path of the description}";

/// Opens services by their OpenAPI description.
pub struct OpenApiEngine;

impl OpenApiEngine {
    /// Binds `resource_id` and opens it over any transport.
    ///
    /// # Errors
    /// The errors of [`load::load`] and [`server::Servers::read`]; `CredentialMissing`, naming the scheme, if the
    /// readable operations need a credential.
    pub async fn open_over(
        wire: Arc<dyn HttpTransport>,
        resource_id: &str,
        credential: Option<Credential>,
        policy: &Policy,
    ) -> Result<Opened, Failure> {
        BoundService::parse(resource_id, policy)?.open(wire, credential).await
    }
}

impl Engine for OpenApiEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        Ok(Box::new(BoundService::parse(request.resource_id, request.policy)?))
    }
}

/// A parsed resource id: where the description of a service may be, and what the policy says about the service.
struct BoundService {
    address: DescriptionLocation,
    account: String,
    settings: ServiceSettings,
    step_timeout: Duration,
}

impl BoundService {
    fn parse(resource_id: &str, policy: &Policy) -> Result<BoundService, Failure> {
        let address = DescriptionLocation::parse(resource_id)?;
        let settings = ServiceSettings::resolve(&policy.family(FAMILY), &address);
        Ok(BoundService { account: address.host(), address, settings, step_timeout: policy.safe_mode.step_timeout })
    }

    async fn open(self, wire: Arc<dyn HttpTransport>, credential: Option<Credential>) -> Result<Opened, Failure> {
        let loaded = load::load(wire.as_ref(), &self.address, credential.as_ref(), &self.settings).await?;
        Service::open(wire, loaded, credential, self.settings, self.step_timeout).await
    }
}

impl BoundResource for BoundService {
    /// Only the description says which credential is needed, and it has not been read yet. Opening the service reports a
    /// missing credential.
    fn credential_need(&self) -> CredentialNeed {
        CredentialNeed::Optional
    }

    fn account(&self) -> &str {
        &self.account
    }

    /// The host of the description, unless it is the one that the policy names.
    fn free_hosts(&self) -> Vec<Recipient> {
        let reviewed = || self.settings.base_url.iter().chain(&self.settings.allowed_url);
        let free = |url: &&Url| !reviewed().any(|reviewed| address::same_origin(url, reviewed));
        let mut hosts: Vec<Recipient> = self.address.candidates.iter().filter(free).filter_map(Recipient::from_url).collect();
        hosts.dedup();
        hosts
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let call = |host: String, path: &str| PlannedCall { method: "GET".into(), host, path: path.into() };
        let mut calls: Vec<PlannedCall> = self.address.candidates.iter().map(|url| call(host_of(url), url.path())).collect();
        calls.push(call(self.address.host(), OPERATION));
        let named: BTreeSet<String> = self.settings.base_url.iter().chain(&self.settings.allowed_url).map(host_of).collect();
        calls.extend(named.into_iter().filter(|host| *host != self.account).map(|host| call(host, OPERATION)));
        calls
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        Ok(AuthorizedResource::new(move |session| Box::pin(self.open(Arc::new(session), credential))))
    }
}
