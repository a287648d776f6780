//! The `lowcode` engine: sources that are described by an Airbyte low-code manifest.
//!
//! A family file contains a manifest and the settings that a manifest cannot express ([`family_spec`]). It is parsed
//! once into a [`spec`]. A custom source ([`custom_source`]) has only a manifest. Both are turned into a [`binding`],
//! which holds the config, the hosts and the list of POSTs. [`open`] then runs the interpreter, which sends its calls
//! through [`host`], for the checks of [`identity`] and [`privilege`], discovery, health and the tiny sync. [`errors`]
//! classifies error responses, and [`limits`] tracks the vendor's own rate limit.

pub mod address;
mod auth_spec;
pub mod binding;
mod blind_spec;
mod body_excerpt;
mod body_format;
pub mod calls;
mod challenge;
mod credential_url;
pub mod custom_source;
mod described_schema;
#[cfg(test)]
mod desk_tests;
mod discovery;
pub mod errors;
mod family_location;
pub mod family_spec;
#[cfg(test)]
mod files_tests;
mod grant_spec;
mod grants;
#[cfg(test)]
mod graph_tests;
mod health;
mod hidden_error;
pub mod host;
pub mod identity;
mod introduction;
mod judge;
mod limit_spec;
pub mod limits;
pub mod login;
pub mod open;
mod planned;
pub mod privilege;
mod reuse;
mod signing_spec;
pub mod spec;
pub mod spelling;
mod text_spec;
pub mod wrong_kind;

use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine};
use crate::clock::Clock;
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::model::{Failure, Recipient, Scope};
use crate::policy::Policy;
use binding::{Authorization, ParsedResource};
use limits::Windows;
use std::sync::Arc;

/// Serves every family whose engine is `lowcode`, and custom sources.
pub struct LowcodeEngine {
    clock: Arc<dyn Clock>,
    windows: Arc<Windows>,
}

impl LowcodeEngine {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> LowcodeEngine {
        LowcodeEngine { clock, windows: Arc::default() }
    }
}

impl Engine for LowcodeEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        Ok(Box::new(BoundSource {
            resource: ParsedResource::parse(request.family, request.policy, request.resource_id, &self.clock)?,
            policy: Arc::clone(request.policy),
            clock: Arc::clone(&self.clock),
            windows: Arc::clone(&self.windows),
        }))
    }
}

/// A resource of a family or of a custom source, bound under one policy.
struct BoundSource {
    resource: ParsedResource,
    policy: Arc<Policy>,
    clock: Arc<dyn Clock>,
    windows: Arc<Windows>,
}

impl BoundResource for BoundSource {
    fn credential_need(&self) -> CredentialNeed {
        self.resource.credential_need()
    }

    fn account(&self) -> &str {
        self.resource.account()
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        // Without the credential, nothing that could fail is read.
        self.resource.free_hosts(None, &self.clock).unwrap_or_default()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        self.resource.planned_calls(&self.clock)
    }

    fn calls(&self, scope: Scope) -> u32 {
        self.resource.calls().map_or(0, |calls| calls.of_attempt(scope))
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        let BoundSource { resource, policy, clock, windows } = *self;
        let binding = resource.bind(Authorization::Known(credential.as_ref()), &clock)?;
        let posts = binding.posts.clone();
        let free_hosts = resource.free_hosts(credential.as_ref(), &clock)?;
        let open = move |session| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(open::open(binding, session, policy, clock, windows))
        };
        Ok(AuthorizedResource::new(open).with_posts(posts).with_free_hosts(free_hosts))
    }
}
