//! What a source looks like to the pipeline, and which engine serves which family.
//!
//! A family is data ([`crate::families`]); an engine is code that a protocol needs. The pipeline asks an
//! [`Engine`] to open one resource and then talks to the [`Connector`] it got. All network goes
//! through [`Session`]; a connector never opens a socket of its own.

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
pub enum Need {
    /// None may be given; if one is given it must resolve.
    Optional,
    /// Without one the attempt ends AWAITING_CREDENTIALS.
    Required,
}

/// One resource of one connection, ready to be opened.
pub struct Target {
    pub family: Arc<Family>,
    pub resource_id: String,
    pub credential: Option<Credential>,
    pub policy: Arc<Policy>,
    pub session: Session,
}

/// Code that speaks one protocol.
pub trait Engine: Send + Sync {
    /// Judges a resource id by itself, without network: its form, its dialect, its place.
    ///
    /// # Errors
    /// `Unsupported` (names the dialect and what would serve) or `Misconfigured`.
    fn accepts(&self, resource_id: &str) -> Result<(), Failure>;

    /// Whether this resource needs a secret.
    fn need(&self, resource_id: &str) -> Need;

    /// The vendor account whose quota the calls use, for example the host.
    fn account(&self, resource_id: &str, policy: &Policy) -> String;

    /// Every call that an attempt may make, for `aam plan`.
    fn planned_calls(&self, resource_id: &str, policy: &Policy) -> Vec<PlannedCall>;

    /// The POSTs that only read, for this resource. Most sources need none.
    fn posts(&self, _resource_id: &str, _policy: &Policy, _credential: Option<&Credential>) -> Posts {
        Posts::default()
    }

    /// The engine as it serves `family` under `policy`, where it is one for many; `None`: as it is.
    fn serving(&self, _family: &Arc<Family>, _policy: &Policy) -> Option<Arc<dyn Engine>> {
        None
    }

    /// Opens the resource and proves that it is the one the resource id names.
    fn open(&self, target: Target) -> BoxFuture<'_, Result<Opened, Failure>>;
}

/// An open resource with its proof of identity.
pub struct Opened {
    pub connector: Box<dyn Connector>,
    /// What was met: server version, database, user, bucket, title.
    pub identity: Evidence,
    pub privilege: Privilege,
}

/// An open resource. Every call is read-only and may be repeated.
pub trait Connector: Send + Sync {
    /// Metadata only.
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>>;

    /// A live, authenticated probe.
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

    /// The engine that serves `family` under `policy`, if this build has one.
    #[must_use]
    pub fn of(&self, family: &Arc<Family>, policy: &Policy) -> Option<Serving<'_>> {
        let (_, engine) = self.by_name.iter().find(|(name, _)| *name == family.engine)?;
        Some(engine.serving(family, policy).map_or(Serving::Shared(&**engine), Serving::Own))
    }
}

/// An engine, found for one family.
pub enum Serving<'a> {
    Shared(&'a dyn Engine),
    Own(Arc<dyn Engine>),
}

impl<'a> std::ops::Deref for Serving<'a> {
    type Target = dyn Engine + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Serving::Shared(engine) => *engine,
            Serving::Own(engine) => &**engine,
        }
    }
}

/// How far discovery may go. A met bound sets `Catalog::truncated`.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub time: Duration,
    pub streams: usize,
    /// Columns of one stream.
    pub columns: usize,
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { time: Duration::from_secs(15), streams: 1000, columns: 500, bytes: 16 << 20 }
    }
}

/// What discovery saw.
pub struct Discovery {
    pub catalog: Catalog,
    pub evidence: Evidence,
}

/// What the tiny sync really read.
pub struct Sample {
    /// Items read, at most `max_items`. Zero is a truthful answer and is noted in the evidence.
    pub rows: u64,
    pub evidence: Evidence,
}
