//! The `airbyte` engine: connectors of Airbyte that run as processes of their own.
//!
//! A connector is code that AAM did not write, so it can do nothing by itself. It starts confined (`run`, `watch`, the crate
//! `confinement`): it sees its own files, has an empty environment, and finds a network with one proxy in it. The proxy ends
//! TLS with an authority that is made for the run (`authorities`), and hands each request to the `gate`, which sends it
//! through the session of the attempt: the read-only rule, the guard, the caps, the redaction and the call log hold for it as
//! for a request of AAM's own engines. Only `hosts` of the policy are called.
//!
//! The steps of an attempt are commands of the connector: upsert and health are `check`, discovery is `discover`
//! (`catalog`), and the tiny sync is a `read` that ends after a few records (`open`). The memory of all connectors is
//! limited by a `pool`. What a connector replaces in its config is kept by `rotation`, encrypted (`rotated`), if it
//! is secret (`secret_fields`). `places` are what no connector may read. A package
//! runs only if its installation is complete and was not changed since (`environment`).

mod authorities;
mod catalog;
pub mod config;
pub mod environment;
mod failures;
mod gate;
mod hosts;
mod kept;
mod open;
mod places;
mod pool;
mod program;
mod rotated;
mod rotation;
mod run;
mod run_folder;
mod secret_fields;
mod watch;

use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine};
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::families::Family;
use crate::model::{Class, Failure, Posts, Recipient};
use crate::policy::{ConnectorPolicy, Policy, Run};
use environment::Compared;
use hosts::Hosts;
use run::Shared;
use std::path::PathBuf;
use std::sync::Arc;

pub use confinement::Launcher;
pub use places::OwnPaths;
pub use run_folder::{remove_all as remove_runs, sweep_at_start as sweep_runs};

/// The first argument with which AAM starts itself again to confine a connector.
pub const LAUNCH_ARGUMENT: &str = "confine-launch";

/// Serves every source type whose engine is `airbyte` under the policy.
pub struct AirbyteEngine {
    shared: Arc<Shared>,
    own: Arc<OwnPaths>,
    compared: Arc<Compared>,
}

impl Default for AirbyteEngine {
    fn default() -> AirbyteEngine {
        AirbyteEngine::new()
    }
}

impl AirbyteEngine {
    /// Creates the engine for this program, whose `main` calls `confinement::launch` if it gets [`LAUNCH_ARGUMENT`].
    #[must_use]
    pub fn new() -> AirbyteEngine {
        // The link leads to this program also after its file was replaced by another version.
        let program = PathBuf::from("/proc/self/exe");
        AirbyteEngine::with_launcher(Launcher { program, arguments: vec![LAUNCH_ARGUMENT.to_string()] })
    }

    /// Creates the engine with another launcher.
    #[must_use]
    pub fn with_launcher(launcher: Launcher) -> AirbyteEngine {
        let shared = Shared { launcher, pool: Arc::default(), kept: kept::Kept::default(), locks: rotation::Locks::default() };
        AirbyteEngine { shared: Arc::new(shared), own: Arc::default(), compared: Arc::default() }
    }

    /// Returns the engine, which refuses a connector that could read these files of AAM.
    #[must_use]
    pub fn keeping(self, own: OwnPaths) -> AirbyteEngine {
        AirbyteEngine { own: Arc::new(own), ..self }
    }
}

impl Engine for AirbyteEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        let BindRequest { family, policy, resource_id } = request;
        let name = &family.id;
        let Some(connector) = policy.airbyte.connector(name) else {
            return Err(Failure::new(
                Class::Misconfigured,
                format!("the policy does not name a connector for {name}"),
                format!("write airbyte.connectors.{name} into the policy, or families.{name}.engine: native"),
            ));
        };
        if let Run::Image(image) = &connector.run {
            return Err(program::unsupported_image(image, name));
        }
        let hosts = Hosts::new(connector, resource_id, &|_| None, name)?;
        let account = hosts.origins().next().map_or_else(|| name.to_string(), str::to_string);
        Ok(Box::new(BoundConnector {
            shared: Arc::clone(&self.shared),
            own: Arc::clone(&self.own),
            compared: Arc::clone(&self.compared),
            policy: Arc::clone(policy),
            family: Arc::clone(family),
            connector: connector.clone(),
            resource_id: resource_id.to_string(),
            hosts,
            account,
        }))
    }
}

/// A connector with one resource id under one policy.
struct BoundConnector {
    shared: Arc<Shared>,
    own: Arc<OwnPaths>,
    compared: Arc<Compared>,
    policy: Arc<Policy>,
    family: Arc<Family>,
    connector: ConnectorPolicy,
    resource_id: String,
    /// The hosts that are known without the credential.
    hosts: Hosts,
    account: String,
}

impl BoundConnector {
    /// Returns the POST rules of the policy.
    fn posts(&self) -> Posts {
        let list = format!("airbyte.connectors.{}.posts in the policy", self.family.id);
        Posts { list, rules: self.connector.posts.clone() }
    }
}

impl BoundResource for BoundConnector {
    fn credential_need(&self) -> CredentialNeed {
        match self.connector.credential_fields().iter().any(|field| !field.is_optional) {
            true => CredentialNeed::Required,
            false => CredentialNeed::Optional,
        }
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        self.hosts.free().to_vec()
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let host = |origin: &str| origin.split_once("://").map_or(origin, |(_, host)| host).to_string();
        let call =
            |method: &str, host: String, path: &str| PlannedCall { method: method.to_string(), host, path: path.to_string() };
        let mut calls = vec![call("RUN", "local".to_string(), &self.connector.run.message())];
        calls.extend(self.hosts.origins().map(|origin| call("GET", host(origin), "/{path of the connector}")));
        for rule in &self.connector.posts {
            if let Ok(url) = url::Url::parse(&rule.url) {
                calls.push(call("POST", host(&url.origin().ascii_serialization()), url.path()));
            }
        }
        calls
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        let posts = self.posts();
        let BoundConnector { shared, own, compared, policy, family, connector, resource_id, .. } = *self;
        let config = config::fill(&connector, &resource_id, credential.as_ref(), &family.id)?;
        let hosts = Hosts::new(&connector, &resource_id, &config::lookup(&connector, credential.as_ref()), &family.id)?;
        let free_hosts = hosts.free().to_vec();
        let hosts = Arc::new(hosts);
        let binding = open::Binding { shared, own, policy, family, connector, resource_id, hosts, credential, config };
        let open = move |session| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(async move {
                compared.check(&binding.policy.airbyte, &binding.connector, &binding.family.id).await?;
                open::open(binding, session).await
            })
        };
        Ok(AuthorizedResource::new(open).with_posts(posts).with_free_hosts(free_hosts))
    }
}

#[cfg(test)]
#[path = "bind_tests.rs"]
mod tests;
