//! The `sql` engine: the families `jdbc` and `postgres`.
//!
//! Reading order: `uri` (what a resource id means), `login` (the credential), `gate` (the way out),
//! then one folder per protocol: `postgres`, `mysql`, `sqlite`. Every statement is a constant of the
//! code and runs in a session in which the database itself refuses writes.

pub mod dialects;
pub mod gate;
pub mod limits;
pub mod login;
pub mod mysql;
pub mod postgres;
mod properties;
pub mod quote;
mod server;
pub mod sqlite;
pub mod tls;
pub mod types;
pub mod uri;

use super::{Engine, Need, Opened, Target};
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::model::Failure;
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use gate::Gate;
use std::sync::Arc;
use uri::{Place, Wire};

/// The engine; it has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct SqlEngine;

impl SqlEngine {
    /// As [`Engine::open`], through any gate.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn open_through(
        &self,
        gate: Arc<dyn Gate>,
        resource_id: &str,
        credential: Option<&Credential>,
        policy: Arc<Policy>,
    ) -> Result<Opened, Failure> {
        let server = match uri::parse(resource_id)? {
            Place::Sqlite(path) => return sqlite::open(gate, &path, policy).await,
            Place::Server(server) => server,
        };
        let login = login::from_credential(credential, &server)?;
        match server.wire {
            Wire::Postgres => postgres::open(&gate, &server, &login, &policy).await,
            Wire::Mysql => mysql::open(&gate, &server, &login, &policy).await,
        }
    }
}

impl Engine for SqlEngine {
    fn accepts(&self, resource_id: &str) -> Result<(), Failure> {
        uri::parse(resource_id).map(|_| ())
    }

    fn need(&self, resource_id: &str) -> Need {
        match uri::parse(resource_id) {
            Ok(Place::Sqlite(_)) => Need::Optional,
            _ => Need::Required,
        }
    }

    fn account(&self, resource_id: &str, _policy: &Policy) -> String {
        match uri::parse(resource_id) {
            Ok(Place::Sqlite(path)) => path,
            Ok(Place::Server(server)) => server.authority(),
            // The text itself may hold a password.
            Err(_) => "unreadable resource id".to_string(),
        }
    }

    fn planned_calls(&self, resource_id: &str, _policy: &Policy) -> Vec<PlannedCall> {
        match uri::parse(resource_id) {
            Ok(Place::Sqlite(path)) => vec![PlannedCall { method: "READ FILE".into(), host: "local".into(), path }],
            Ok(Place::Server(server)) => {
                vec![PlannedCall {
                    method: "SQL READ ONLY".into(),
                    host: server.authority(),
                    path: format!("/{}", server.database),
                }]
            }
            Err(_) => Vec::new(),
        }
    }

    fn open(&self, target: Target) -> BoxFuture<'_, Result<Opened, Failure>> {
        Box::pin(async move {
            let gate: Arc<dyn Gate> = Arc::new(target.session);
            self.open_through(gate, &target.resource_id, target.credential.as_ref(), target.policy).await
        })
    }
}

/// A policy with the defaults of the design, for the tests of this engine.
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
        network: Network { allow_private: Vec::new(), proxy: None, ca_file: None },
        files: Files { roots },
        caps: Caps { default: Cap { per_second: 5.0, burst: 10, per_day: 2000, concurrency: 2 }, families: Default::default() },
        backoff: Backoff { initial: Duration::from_secs(5), max: Duration::from_secs(900), jitter: 0.2 },
        breaker: Breaker { failures: 5, open_for: Duration::from_secs(30) },
        recheck: Recheck {
            health: Duration::from_secs(21_600),
            drift: Duration::from_secs(86_400),
            awaiting_credentials: Duration::from_secs(300),
        },
        reconcile: Reconcile { concurrency: 64, resync: Duration::from_secs(30) },
        families: Default::default(),
        manifests: Manifests::default(),
        api: Api::default(),
        digest: crate::model::Digest::default(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
