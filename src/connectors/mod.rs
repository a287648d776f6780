//! The interface between the pipeline and the sources, and the mapping from families to engines.
//!
//! A family is data ([`crate::families`]); an engine is the code that speaks a protocol. The pipeline asks an
//! [`Engine`] to bind a resource id once. The [`BoundResource`] knows the account, the planned calls and whether a
//! credential is needed; with a credential and a [`Session`] it becomes a [`Connector`]. All network traffic goes
//! through the session; a connector never opens a socket itself.

pub mod airbyte;
pub mod airbyte_platform;
pub mod call_counts;
pub mod concurrent;
pub mod driver_session;
pub mod file;
pub mod json_memory;
pub mod local_reads;
pub mod lowcode;
pub mod mongo;
pub mod object;
pub mod openapi;
pub mod redshift;
pub mod roots;
pub mod snowflake;
pub mod sql;
pub mod supabase;

pub use call_counts::CallCounts;

use crate::credentials::Credential;
use crate::egress::{PlannedCall, Session};
use crate::families::Family;
use crate::model::catalog::SkippedStream;
use crate::model::{Catalog, Evidence, Failure, Posts, Privilege, Recipient, Scope};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Whether a resource needs a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialNeed {
    /// The intent may leave out the credential. If it names one, the credential must resolve.
    Optional,
    /// Without a credential, the attempt ends in the state AWAITING_CREDENTIALS.
    Required,
}

/// What an engine needs to bind one resource id.
pub struct BindRequest<'a> {
    pub family: &'a Arc<Family>,
    pub policy: &'a Arc<Policy>,
    pub resource_id: &'a str,
}

/// Code that speaks one protocol.
pub trait Engine: Send + Sync {
    /// Parses the resource id of `request` and keeps everything that its family and the policy say about it. Pure:
    /// no network, no file and no credential, so that `aam plan` and the allowlist step use it too.
    ///
    /// # Errors
    /// Returns `NotMappable` with the accepted forms if the family does not understand the resource id, `Misconfigured` if
    /// the policy entry of the family is not valid, or `Unsupported` with the name of the dialect and an alternative.
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure>;
}

/// A parsed resource id, with everything that follows from it, its family and the policy.
pub trait BoundResource: Send + Sync {
    fn credential_need(&self) -> CredentialNeed;

    /// Returns the vendor account whose quota the calls use, for example the host.
    fn account(&self) -> &str;

    /// Returns the hosts that the resource id chose and that the credential would be sent to. A host that the family, the
    /// policy or a literal address of a manifest names is left out, because it was reviewed.
    fn free_hosts(&self) -> Vec<Recipient>;

    /// Returns every call that an attempt may make, for `aam plan`. A value that is only known from a response of the
    /// source is written as `{placeholder}`.
    fn planned_calls(&self) -> Vec<PlannedCall>;

    /// Returns how many calls an attempt of `scope` makes at most if the source's lists fit into one page each, or 0 if this is
    /// not known.
    fn calls(&self, _scope: Scope) -> u32 {
        0
    }

    /// Adds the credential. This does not make any call yet.
    ///
    /// # Errors
    /// Returns `CredentialMissing`, which names the missing fields, or `Misconfigured`.
    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure>;
}

type OpenFn = Box<dyn FnOnce(Session) -> BoxFuture<'static, Result<Opened, Failure>> + Send>;

/// A bound resource with its credential. It needs only a session to be opened.
pub struct AuthorizedResource {
    /// The POST requests that only read. Most sources do not have any.
    pub posts: Posts,
    /// As [`BoundResource::free_hosts`], for hosts that are known only with the credential.
    pub free_hosts: Vec<Recipient>,
    open: OpenFn,
}

impl AuthorizedResource {
    /// Creates a resource that is opened by `open` and does not send POST requests.
    #[must_use]
    pub fn new(open: impl FnOnce(Session) -> BoxFuture<'static, Result<Opened, Failure>> + Send + 'static) -> AuthorizedResource {
        AuthorizedResource { posts: Posts::default(), free_hosts: Vec::new(), open: Box::new(open) }
    }

    /// Sets the list of the resource's read-only POST requests.
    #[must_use]
    pub fn with_posts(self, posts: Posts) -> AuthorizedResource {
        AuthorizedResource { posts, ..self }
    }

    /// Sets the hosts that the resource id chose.
    #[must_use]
    pub fn with_free_hosts(self, free_hosts: Vec<Recipient>) -> AuthorizedResource {
        AuthorizedResource { free_hosts, ..self }
    }

    /// Opens the resource over `session` and proves that it is the one the resource id names.
    ///
    /// # Errors
    /// Returns the failure of the source or of the egress layer.
    pub async fn open(self, session: Session) -> Result<Opened, Failure> {
        (self.open)(session).await
    }
}

/// An open resource with its proof of identity.
pub struct Opened {
    pub connector: Box<dyn Connector>,
    /// How the source identifies itself: server version, database, user, bucket, title.
    pub identity: Evidence,
    pub privilege: Privilege,
    /// Statements that take the excess privileges away, for an administrator of the source. Empty if there is no excess, or
    /// if the source does not show what to write; the family's `removal` says it then.
    pub removal: Vec<String>,
}

/// An open resource. Every call is read-only and may be repeated.
pub trait Connector: Send + Sync {
    /// Reads metadata only.
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>>;

    /// Makes an authenticated call and reports what was checked.
    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>>;

    /// Whether the last successful [`Connector::health`] made a call with the credential that the source accepted. It is
    /// false only for a source that answers the probe also without a credential.
    fn accepted_credential(&self) -> bool {
        true
    }

    /// Returns what a person should look at although the resource was opened, for example that the source did not ask for the
    /// credential.
    fn warning(&self) -> Option<Failure> {
        None
    }

    /// Reads at most `max_items` items of one stream and counts them.
    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>>;

    /// Returns the number of calls and bytes so far, for the evidence of the steps.
    fn traffic(&self) -> crate::egress::Traffic;
}

/// The engines of this build, by the name that family files refer to them with.
#[derive(Clone, Default)]
pub struct Engines {
    by_name: Vec<(&'static str, Arc<dyn Engine>)>,
}

impl Engines {
    /// Creates a set of exactly these engines.
    #[must_use]
    pub fn from_list(by_name: Vec<(&'static str, Box<dyn Engine>)>) -> Engines {
        Engines { by_name: by_name.into_iter().map(|(name, engine)| (name, Arc::from(engine))).collect() }
    }

    /// Adds an engine.
    #[must_use]
    pub fn with(mut self, name: &'static str, engine: Box<dyn Engine>) -> Engines {
        self.by_name.push((name, Arc::from(engine)));
        self
    }

    /// Returns the names that a family file may give as its engine.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.iter().map(|(name, _)| *name)
    }

    /// Returns the engine that serves `family`, or `None` if this build does not have it.
    #[must_use]
    pub fn find(&self, family: &Family) -> Option<&dyn Engine> {
        self.named(&family.engine)
    }

    /// Returns the engine that serves `family` under `policy`: AAM's own, a connector that runs as a process, or the company's
    /// own Airbyte.
    #[must_use]
    pub fn in_force(&self, family: &Family, policy: &Policy) -> Option<&dyn Engine> {
        self.named(policy.engine(&family.id).engine_name().unwrap_or(&family.engine))
    }

    fn named(&self, engine: &str) -> Option<&dyn Engine> {
        self.by_name.iter().find(|(name, _)| *name == engine).map(|(_, engine)| &**engine)
    }
}

/// The limits of discovery. When discovery reaches one, it sets `Catalog::truncated`.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub time: Duration,
    pub streams: usize,
    /// The maximum number of columns of one stream.
    pub columns: usize,
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { time: Duration::from_secs(15), streams: 1000, columns: 500, bytes: 16 << 20 }
    }
}

/// What discovery found.
pub struct Discovery {
    pub catalog: Catalog,
    pub evidence: Evidence,
    /// What a person should look at although discovery succeeded, for example what had to be guessed.
    pub warning: Option<Failure>,
}

/// What the tiny sync read.
pub struct Sample {
    /// The number of items that were read, at most `max_items`. Zero is a valid result, which the evidence mentions.
    pub rows: u64,
    pub evidence: Evidence,
    /// What a person should look at although items were read, for example what could not be read.
    pub warning: Option<Failure>,
    /// The streams whose records the source refused, while it returned others.
    pub denied: Vec<SkippedStream>,
    /// Why the source was only described and its records were not looked at. Such a sample counted nothing.
    pub metadata_only: Option<String>,
}

impl Sample {
    /// A sample of `rows` items, with nothing that a person should look at.
    #[must_use]
    pub fn new(rows: u64, evidence: Evidence) -> Self {
        Self { rows, evidence, warning: None, denied: Vec::new(), metadata_only: None }
    }
}
