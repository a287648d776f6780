//! The `sql` engine: the families `jdbc` and `postgres`.
//!
//! Reading order: `uri` (what a resource id means), `login` (the credential), `gate` (the way out),
//! then one folder per protocol: `postgres`, `mysql`, `sqlite`. Every statement is a constant of the
//! code and runs where the database itself refuses writes.

pub mod dialects;
pub mod gate;
pub mod limits;
pub mod login;
pub mod mysql;
pub mod postgres;
mod properties;
pub mod quote;
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
        let login = login::login(credential, &server)?;
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
            Ok(Place::Sqlite(path)) => vec![PlannedCall { method: "READ FILE".into(), host: String::new(), path }],
            Ok(Place::Server(server)) => {
                vec![PlannedCall { method: "SQL READ ONLY".into(), host: server.authority(), path: format!("/{}", server.database) }]
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
