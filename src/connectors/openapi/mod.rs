//! The `openapi` engine: any HTTP service that describes itself with OpenAPI 3.0 or 3.1.
//!
//! An attempt passes through the modules in this order: [`address`] -> [`load`] ([`document`], [`refs`]) -> [`server`] ->
//! [`operations`] ([`schema`], [`records`], [`streams`]) -> [`select`] and [`auth`] -> one GET -> [`classify`].
//! Only GET requests are sent. A description comes from outside and is not trusted. Its size, depth and references are
//! limited, and it cannot direct AAM or a credential to another host.

pub mod address;
pub mod auth;
pub mod classify;
pub mod document;
pub mod load;
mod memory;
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

use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine, Opened};
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::model::{Failure, Recipient};
use crate::policy::{FamilyPolicy, Policy};
use address::{DescriptionLocation, host_of};
use service::Service;
use std::sync::Arc;
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

/// A parsed resource id: where the description of a service may be.
struct BoundService {
    address: DescriptionLocation,
    account: String,
    policy: FamilyPolicy,
}

impl BoundService {
    fn parse(resource_id: &str, policy: &Policy) -> Result<BoundService, Failure> {
        let address = DescriptionLocation::parse(resource_id)?;
        Ok(BoundService { account: address.host(), address, policy: policy.family(FAMILY) })
    }

    async fn open(self, wire: Arc<dyn HttpTransport>, credential: Option<Credential>) -> Result<Opened, Failure> {
        let loaded = load::load(wire.as_ref(), &self.address, credential.as_ref()).await?;
        Service::open(wire, loaded, credential, &self.policy).await
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
        let reviewed = self.policy.base_url.as_ref().and_then(|text| Url::parse(text).ok());
        let free = |url: &&Url| !reviewed.as_ref().is_some_and(|reviewed| address::same_origin(url, reviewed));
        let mut hosts: Vec<Recipient> = self.address.candidates.iter().filter(free).filter_map(Recipient::from_url).collect();
        hosts.dedup();
        hosts
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let call = |host: String, path: &str| PlannedCall { method: "GET".into(), host, path: path.into() };
        let mut calls: Vec<PlannedCall> = self.address.candidates.iter().map(|url| call(host_of(url), url.path())).collect();
        calls.push(call(self.address.host(), OPERATION));
        let named = self.policy.base_url.as_ref().and_then(|text| Url::parse(text).ok()).map(|url| host_of(&url));
        calls.extend(named.filter(|host| *host != self.account).map(|host| call(host, OPERATION)));
        calls
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        Ok(AuthorizedResource::new(move |session| Box::pin(self.open(Arc::new(session), credential))))
    }
}
