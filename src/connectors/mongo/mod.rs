//! The `mongo` engine: MongoDB and servers that speak its protocol.
//!
//! Reading order: `uri` and `options` (what a resource id means), `login` (the credential), `command` (everything that AAM can
//! send), `message` and `reply` (bytes of a server that is not trusted), `connection` and `dial` (one server), `topology` (which
//! server is read), `scram` and `auth` (the login), `session` and `privileges` (the proof), `shape`, `fields` and `catalog` (what is
//! read). Why the engine has a client of its own: decision 47.

mod auth;
mod catalog;
mod command;
mod connection;
mod dial;
mod errors;
mod fields;
mod hello;
mod limits;
pub mod login;
mod message;
mod options;
mod privileges;
mod removal;
mod reply;
mod sample;
mod scram;
mod session;
mod shape;
mod tls;
mod topology;
mod uri;

use super::driver_session::DriverSession;
use super::{AuthorizedResource, BindRequest, BoundResource, CredentialNeed, Engine, Opened};
use super::{Bounds, Connector, Discovery, Sample};
use crate::credentials::Credential;
use crate::egress::{PlannedCall, Traffic};
use crate::model::{Catalog, Evidence, Failure, Privilege, Recipient};
use crate::policy::Policy;
use auth::LoggedIn;
pub use command::READ_ONLY_COMMANDS;
use futures_util::future::BoxFuture;
use privileges::Status;
use session::MongoSession;
use std::sync::Arc;
use std::time::Duration;
use uri::{DEFAULT_PORT, Location, Seeds};

/// The engine; it has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct MongoEngine;

impl MongoEngine {
    /// Parses `resource_id`, as [`Engine::bind`] does.
    ///
    /// # Errors
    /// Same as [`Engine::bind`].
    pub fn bind_deployment(&self, resource_id: &str, policy: Arc<Policy>) -> Result<BoundDeployment, Failure> {
        let location = uri::parse(resource_id)?;
        let account = location.authority();
        Ok(BoundDeployment { location, account, policy })
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
        self.bind_deployment(resource_id, policy)?.open(session, credential).await
    }
}

impl Engine for MongoEngine {
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure> {
        Ok(Box::new(self.bind_deployment(request.resource_id, Arc::clone(request.policy))?))
    }
}

/// A parsed resource id: one database of a deployment.
pub struct BoundDeployment {
    location: Location,
    account: String,
    policy: Arc<Policy>,
}

impl BoundDeployment {
    async fn open(self, session: Arc<dyn DriverSession>, credential: Option<&Credential>) -> Result<Opened, Failure> {
        let login = login::from_credential(credential, &self.location.to_string())?;
        let session = MongoSession::open(&session, &self.location, &login, &self.policy.network).await?;
        let status = session.status().await?;
        session.prove_database(&status).await?;
        let (identity, privilege) = (session.identity(), privilege(&session.logged_in, &status));
        let removal = match privilege {
            Privilege::Over { .. } => removal::statements(&status, &self.location.database),
            _ => Vec::new(),
        };
        let sample_time = session::usable(self.policy.safe_mode.step_timeout);
        Ok(Opened { connector: Box::new(Database { session, sample_time }), identity, privilege, removal })
    }
}

/// The verdict. Without a login, a server that lets AAM read has no access control, whether the intent names a credential or not.
fn privilege(logged_in: &LoggedIn, status: &Status) -> Privilege {
    match logged_in {
        LoggedIn::Scram { .. } | LoggedIn::X509 => status.verdict(),
        LoggedIn::NotAsked | LoggedIn::Anonymous => Privilege::Over {
            grants: vec!["every command without a login: access control is not enabled on the server".to_string()],
        },
    }
}

impl BoundResource for BoundDeployment {
    fn credential_need(&self) -> CredentialNeed {
        // A server without access control is read without a login, and flagged for it.
        CredentialNeed::Optional
    }

    fn account(&self) -> &str {
        &self.account
    }

    fn free_hosts(&self) -> Vec<Recipient> {
        let recipient = |host: &str, port| Recipient::new(host, port, DEFAULT_PORT, false);
        match &self.location.seeds {
            Seeds::Listed(members) => members.iter().map(|member| recipient(&member.host, member.port)).collect(),
            // The SRV records can only name hosts of the same domain.
            Seeds::Service(host) => vec![recipient(host, DEFAULT_PORT)],
        }
    }

    fn planned_calls(&self) -> Vec<PlannedCall> {
        let call = |method: &str, host: String, path: String| PlannedCall { method: method.to_string(), host, path };
        let path = format!("/{}", self.location.database);
        let read = |host: String| call("MONGODB READ ONLY", host, path.clone());
        match &self.location.seeds {
            Seeds::Listed(members) => members.iter().map(|member| read(member.to_string())).collect(),
            Seeds::Service(host) => {
                let service = self.location.options.service_name.as_deref().unwrap_or("mongodb");
                let domain = host.split_once('.').map_or(host.as_str(), |(_, domain)| domain);
                vec![call("DNS SRV", format!("_{service}._tcp.{host}"), String::new()), read(format!("{{member}}.{domain}"))]
            }
        }
    }

    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure> {
        Ok(AuthorizedResource::new(move |session| {
            Box::pin(async move { self.open(Arc::new(session), credential.as_ref()).await })
        }))
    }
}

/// An open database.
struct Database {
    session: MongoSession,
    /// The time for the tiny sync.
    sample_time: Duration,
}

impl Connector for Database {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(catalog::discover(&self.session, bounds))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(async move {
            let status = self.session.status().await?;
            self.session.prove_database(&status).await?;
            Ok(self.session.identity())
        })
    }

    fn accepted_credential(&self) -> bool {
        matches!(self.session.logged_in, LoggedIn::Scram { .. } | LoggedIn::X509)
    }

    fn warning(&self) -> Option<Failure> {
        (self.session.logged_in == LoggedIn::NotAsked).then(|| self.session.unused_credential())
    }

    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(sample::read(&self.session, catalog, max_items, self.sample_time))
    }

    fn traffic(&self) -> Traffic {
        self.session.call.traffic()
    }
}
