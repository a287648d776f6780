//! What a source looks like to the pipeline, and which engine serves which family.
//!
//! A family is data ([`crate::families`]); an engine is the code that speaks a protocol. The pipeline asks an
//! [`Engine`] to bind a resource id once. The [`BoundResource`] knows the account, the planned calls and the
//! need for a credential; with a credential and a [`Session`] it becomes a [`Connector`]. All network goes
//! through the session; a connector never opens a socket of its own.

pub mod concurrent;
pub mod file;
pub mod local_reads;
pub mod lowcode;
pub mod object;
pub mod openapi;
pub mod sql;

use crate::credentials::Credential;
use crate::egress::{PlannedCall, Session};
use crate::families::Family;
use crate::model::{Catalog, Evidence, Failure, Posts, Privilege};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Whether a resource needs a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialNeed {
    /// The intent may name no credential. If it names one, the credential must resolve.
    Optional,
    /// Without a credential the attempt ends AWAITING_CREDENTIALS.
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
    /// `Unsupported` (it names the dialect and what would serve) or `Misconfigured`.
    fn bind(&self, request: BindRequest<'_>) -> Result<Box<dyn BoundResource>, Failure>;
}

/// A resource id that was parsed once, with everything that follows from it, its family and the policy.
pub trait BoundResource: Send + Sync {
    fn credential_need(&self) -> CredentialNeed;

    /// The vendor account whose quota the calls use, for example the host.
    fn account(&self) -> &str;

    /// Every call that an attempt may make, for `aam plan`. What only an answer of the source tells is written as
    /// `{placeholder}`.
    fn planned_calls(&self) -> Vec<PlannedCall>;

    /// Adds the credential. Nothing is called yet.
    ///
    /// # Errors
    /// `CredentialMissing`, which names the missing fields, or `Misconfigured`.
    fn authorize(self: Box<Self>, credential: Option<Credential>) -> Result<AuthorizedResource, Failure>;
}

type OpenFn = Box<dyn FnOnce(Session) -> BoxFuture<'static, Result<Opened, Failure>> + Send>;

/// A bound resource with its credential. A session is all that it needs to be opened.
pub struct AuthorizedResource {
    /// The POSTs that only read. Most sources have none.
    pub posts: Posts,
    open: OpenFn,
}

impl AuthorizedResource {
    /// A resource that is opened by `open` and sends no POST.
    #[must_use]
    pub fn new(open: impl FnOnce(Session) -> BoxFuture<'static, Result<Opened, Failure>> + Send + 'static) -> AuthorizedResource {
        AuthorizedResource { posts: Posts::default(), open: Box::new(open) }
    }

    /// The same resource with the list of its read-only POSTs.
    #[must_use]
    pub fn with_posts(self, posts: Posts) -> AuthorizedResource {
        AuthorizedResource { posts, ..self }
    }

    /// Opens the resource over `session` and proves that it is the one the resource id names.
    ///
    /// # Errors
    /// What the source or the egress layer answers.
    pub async fn open(self, session: Session) -> Result<Opened, Failure> {
        (self.open)(session).await
    }
}

/// An open resource with its proof of identity.
pub struct Opened {
    pub connector: Box<dyn Connector>,
    /// What the source says it is: server version, database, user, bucket, title.
    pub identity: Evidence,
    pub privilege: Privilege,
}

/// An open resource. Every call is read-only and may be repeated.
pub trait Connector: Send + Sync {
    /// Reads metadata only.
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>>;

    /// Makes an authenticated call and reports what was checked.
    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>>;

    /// Reads at most `max_items` items of one stream and counts them.
    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>>;

    /// Calls and bytes so far, for the evidence of the steps.
    fn traffic(&self) -> crate::egress::Traffic;
}

/// The engines of this build, by the name that family files use.
#[derive(Default)]
pub struct Engines {
    by_name: Vec<(&'static str, Box<dyn Engine>)>,
}

impl Engines {
    /// These engines and no others.
    #[must_use]
    pub fn from_list(by_name: Vec<(&'static str, Box<dyn Engine>)>) -> Engines {
        Engines { by_name }
    }

    /// The names that a family file may give as its engine.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.iter().map(|(name, _)| *name)
    }

    /// The engine that serves `family`; `None` if this build has none.
    #[must_use]
    pub fn find(&self, family: &Family) -> Option<&dyn Engine> {
        self.by_name.iter().find(|(name, _)| *name == family.engine).map(|(_, engine)| &**engine)
    }
}

/// How far discovery may go. Discovery that reaches a bound sets `Catalog::truncated`.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub time: Duration,
    pub streams: usize,
    /// The number of columns of one stream.
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
}

/// What the tiny sync read.
pub struct Sample {
    /// Items that were read, at most `max_items`. Zero is a valid result; the evidence notes it.
    pub rows: u64,
    pub evidence: Evidence,
}
