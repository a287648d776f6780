//! The `sql` engine: the families `jdbc` and `postgres`.
//!
//! Reading order: `uri` (what a resource id means), `login` (the credential), `driver_session` (the interface to egress),
//! then one folder per protocol: `postgres`, `mysql`, `sqlite`. Every statement is a constant in the code and runs in a
//! session in which the database itself refuses writes.

pub mod dialects;
pub mod limits;
pub mod login;
pub mod mysql;
pub mod postgres;
mod properties;
pub mod quote;
pub mod sampling;
mod server;
pub mod sqlite;
pub mod tls;
pub mod types;
pub mod uri;

pub use super::driver_session;
use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine, Opened};
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::model::{Failure, Recipient};
use crate::policy::Policy;
use driver_session::DriverSession;
use std::sync::Arc;
use uri::{DatabaseLocation, Protocol};

/// The engine; it has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqlEngine;

impl SqlEngine {
    /// Parses `resource_id`, as [`Engine::bind`] does.
    ///
    /// # Errors
    /// Same as [`Engine::bind`].
    pub fn bind_database(&self, resource_id: &str, policy: Arc<Policy>) -> Result<BoundDatabase, Failure> {
        let place = uri::parse(resource_id)?;
        let account = match &place {
            DatabaseLocation::Sqlite(path) => path.clone(),
            DatabaseLocation::Server(server) => server.authority(),
        };
        Ok(BoundDatabase { place, account, policy })
    }

    /// Binds `resource_id` and opens it over any driver session.
    ///
    /// # Errors
    /// Same as [`Engine::bind`] and [`AuthorizedResource::open`].
    pub async fn open_through(
        &self,
        session: Arc<dyn DriverSession>,
        resource_id: &str,
        credential: Option<&Credential>,
        policy: Arc<Policy>,
    ) -> Result<Opened, Failure> {
        self.bind_database(resource_id, policy)?.open(session, credential).await
    }
}

impl Engine for SqlEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        Ok(Box::new(self.bind_database(request.resource_id, Arc::clone(request.policy))?))
    }
}

/// A parsed resource id: a SQLite file, or one database of a server.
pub struct BoundDatabase {
    place: DatabaseLocation,
    /// The path of the file, or the host and port of the server.
    account: String,
    policy: Arc<Policy>,
}

impl BoundDatabase {
    async fn open(self, session: Arc<dyn DriverSession>, credential: Option<&Credential>) -> Result<Opened, Failure> {
        let server = match self.place {
            DatabaseLocation::Sqlite(path) => return sqlite::open(session, &path, self.policy).await,
            DatabaseLocation::Server(server) => server,
        };
        let login = login::from_credential(credential, &server)?;
        match server.wire {
            Protocol::Postgres => postgres::open(&session, &server, &login, &self.policy).await,
            Protocol::Mysql => mysql::open(&session, &server, &login, &self.policy).await,
        }
    }
}

impl BoundResource for BoundDatabase {
    fn credential_need(&self) -> CredentialNeed {
        match self.place {
            DatabaseLocation::Sqlite(_) => CredentialNeed::Optional,
            DatabaseLocation::Server(_) => CredentialNeed::Required,
        }
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        match &self.place {
            DatabaseLocation::Sqlite(_) => Vec::new(),
            DatabaseLocation::Server(server) => {
                vec![Recipient::new(&server.host, server.port, server.wire.default_port(), false)]
            }
        }
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let (method, host, path) = match &self.place {
            DatabaseLocation::Sqlite(path) => ("READ FILE", "local".to_string(), path.clone()),
            DatabaseLocation::Server(server) => ("SQL READ ONLY", server.authority(), format!("/{}", server.database)),
        };
        vec![PlannedCall { method: method.to_string(), host, path }]
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        Ok(AuthorizedResource::new(move |session| {
            Box::pin(async move { self.open(Arc::new(session), credential.as_ref()).await })
        }))
    }
}

/// A policy with the default values, for the tests of this engine.
#[cfg(test)]
fn test_policy(roots: Vec<std::path::PathBuf>) -> Policy {
    use crate::policy::*;
    use std::time::Duration;
    Policy {
        version: 1,
        namespace: "autonomy".into(),
        slo: Slo { coverage: 0.9 },
        eligibility: Eligibility { evidence: vec!["Sanctioned".into()], max_risk: crate::model::Risk::High, min_confidence: 0.0 },
        safe_mode: SafeMode { max_items: 20, step_timeout: Duration::from_secs(20), attempt_timeout: Duration::from_secs(60) },
        allowlist: Default::default(),
        network: Network { allow_private: Vec::new(), proxy: None, ca_file: None, allow_weak_login: Vec::new() },
        files: Files { roots },
        caps: Caps { default: Cap { per_second: 5.0, burst: 10, per_day: 2000, concurrency: 2 }, families: Default::default() },
        backoff: Backoff { initial: Duration::from_secs(5), max: Duration::from_secs(900), jitter: 0.2 },
        breaker: Breaker { failures: 5, open_for: Duration::from_secs(30) },
        recheck: Recheck {
            health: Duration::from_secs(21_600),
            drift: Duration::from_secs(86_400),
            awaiting_credentials: Duration::from_secs(300),
        },
        reconcile: Reconcile {
            concurrency: 64,
            resync: Duration::from_secs(30),
            memory: 256 << 20,
            max_retire: None,
            confirm: Vec::new(),
        },
        families: Default::default(),
        manifests: Manifests::default(),
        airbyte: crate::policy::Airbyte::default(),
        credentials: Default::default(),
        handoff: Default::default(),
        notify: Vec::new(),
        evidence: Default::default(),
        registry: Default::default(),
        api: Api::default(),
        digest: crate::model::Digest::default(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
