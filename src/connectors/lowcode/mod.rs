//! The `lowcode` engine: sources that are a manifest of Airbyte's, over the egress of one attempt.
//!
//! A family brings its manifest and what a manifest does not know about its vendor: [`form`], read once into
//! a [`spec`]. A source of one's own brings the manifest alone: [`own`]. Both become one [`binding`]: the
//! config, the hosts, the list of POSTs. [`open`] then runs the interpreter over [`host`]: [`identity`],
//! [`privilege`], discover, health, tiny sync. What an answer that is no data means is said by [`errors`],
//! what a vendor's own budget leaves by [`limits`].

pub mod address;
pub mod binding;
pub mod calls;
pub mod custom_source;
pub mod errors;
pub mod family_spec;
pub mod host;
pub mod identity;
pub mod limits;
pub mod open;
pub mod privilege;
pub mod spec;

use super::{Engine, Family, Need, Opened, Target};
use crate::clock::Clock;
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::model::{Failure, Posts};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use limits::Windows;
use std::sync::Arc;

/// Serves every family whose engine is `lowcode`, and sources of one's own.
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

/// It is one engine for many: what it is for a family says `Served`.
impl Engine for LowcodeEngine {
    fn accepts(&self, resource_id: &str) -> Result<(), Failure> {
        Err(binding::unserved(resource_id))
    }

    fn need(&self, _resource_id: &str) -> Need {
        Need::Required
    }

    fn account(&self, _resource_id: &str, _policy: &Policy) -> String {
        String::new()
    }

    fn planned_calls(&self, _resource_id: &str, _policy: &Policy) -> Vec<PlannedCall> {
        Vec::new()
    }

    fn open(&self, target: Target) -> BoxFuture<'_, Result<Opened, Failure>> {
        Box::pin(async move { Err(binding::unserved(&target.resource_id)) })
    }

    fn serving(&self, family: &Arc<Family>, policy: &Policy) -> Option<Arc<dyn Engine>> {
        let (clock, windows) = (Arc::clone(&self.clock), Arc::clone(&self.windows));
        Some(Arc::new(Served { source: binding::Source::of(family, policy), clock, windows }))
    }
}

/// The engine as it serves one family under one policy.
struct Served {
    source: binding::Source,
    clock: Arc<dyn Clock>,
    windows: Arc<Windows>,
}

impl Engine for Served {
    fn accepts(&self, resource_id: &str) -> Result<(), Failure> {
        self.source.accepts(resource_id)
    }

    fn need(&self, _resource_id: &str) -> Need {
        self.source.need()
    }

    fn account(&self, resource_id: &str, _policy: &Policy) -> String {
        self.source.account(resource_id, &self.clock)
    }

    fn planned_calls(&self, resource_id: &str, _policy: &Policy) -> Vec<PlannedCall> {
        self.source.planned(resource_id, &self.clock)
    }

    fn posts(&self, resource_id: &str, _policy: &Policy, credential: Option<&Credential>) -> Posts {
        self.source.posts(resource_id, credential, &self.clock)
    }

    fn open(&self, target: Target) -> BoxFuture<'_, Result<Opened, Failure>> {
        Box::pin(async move {
            let binding = self.source.bind(&target.resource_id, target.credential.as_ref(), &self.clock)?;
            open::open(binding, target, Arc::clone(&self.clock), Arc::clone(&self.windows)).await
        })
    }
}
