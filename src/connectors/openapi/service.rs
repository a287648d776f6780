//! An open service: discovery, health check and tiny sync.

use super::address::host_of;
use super::auth::CallAuth;
use super::load::{Loaded, offload};
use super::operations::{self, Operation, Operations};
use super::privilege;
use super::refs::DocumentSet;
use super::select::{self, Candidates, CredentialFit};
use super::server::Servers;
use super::settings::ServiceSettings;
use super::streams;
use super::wire::HttpTransport;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::credentials::Credential;
use crate::egress::Traffic;
use crate::memory_budget::MemoryMeter;
use crate::model::{Catalog, Class, Evidence, Failure};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// The memory that is reserved for the operations of a description at first.
const FIRST_OPERATIONS_BYTES: u64 = 256 << 10;

fn still_read() -> Failure {
    Failure::new(Class::Bug, "the description is still being read", "report this as a defect of AAM")
}

/// A described service that can be called.
pub struct Service {
    pub(super) wire: Arc<dyn HttpTransport>,
    pub(super) documents: DocumentSet,
    pub(super) operations: Operations,
    pub(super) servers: Servers,
    pub(super) settings: ServiceSettings,
    pub(super) credential: Option<Credential>,
    /// The URL of the description.
    pub(super) description: Url,
    /// The time that one step may take.
    pub(super) step_timeout: Duration,
    /// The schemes for which most operations accept this credential. They are needed because a plain value does not show
    /// which scheme it is for.
    main_schemes: Vec<String>,
    learned: Mutex<Learned>,
}

/// What the calls of this attempt have shown.
#[derive(Default)]
struct Learned {
    /// How the service accepted the credential, if its description does not say so.
    auth: Option<CallAuth>,
    /// The names of the operations that failed.
    failed: BTreeSet<String>,
    /// Whether a successful call of the health check was sent with the credential.
    accepted: bool,
}

impl Service {
    /// Reads servers and operations, and checks that the credential satisfies the operation of the health check.
    ///
    /// # Errors
    /// The errors of [`Servers::read`], [`select::health_candidates`] and [`super::auth::authorize`].
    pub async fn open(
        wire: Arc<dyn HttpTransport>,
        loaded: Loaded,
        credential: Option<Credential>,
        settings: ServiceSettings,
        step_timeout: Duration,
    ) -> Result<Opened, Failure> {
        let Loaded { description, documents, protected, memory: documents_memory } = loaded;
        let servers = Servers::read(documents.root(), &description.url, &settings)?;
        let server = servers.base().unwrap_or_else(|_| description.url.clone());
        let read_from = Arc::new((documents, servers, settings));
        let what = format!("the description of {}", host_of(&description.url));
        let read = |memory: MemoryMeter| {
            let read_from = Arc::clone(&read_from);
            offload(move || operations::read(&read_from.0, &read_from.1, &read_from.2, &memory))
        };
        let (operations, memory) = wire.memory().metered_held(&what, FIRST_OPERATIONS_BYTES, read).await?;
        wire.memory().keep(memory);
        // No other task holds a copy, because `read` has ended.
        let (mut documents, servers, settings) = Arc::try_unwrap(read_from).map_err(|_| still_read())?;
        documents.keep_security();
        drop(documents_memory);
        let mut service = Service {
            wire,
            documents,
            operations,
            servers,
            settings,
            credential,
            description: description.url.clone(),
            step_timeout,
            main_schemes: Vec::new(),
            learned: Mutex::default(),
        };
        service.main_schemes = service.main_schemes();
        let candidates = service.health_candidates()?;
        let auth = candidates.first().map_or_else(|| Ok(CallAuth::default()), |operation| service.authorize(operation))?;
        let mut identity = Evidence::new();
        identity.insert("title".into(), description.title.into());
        identity.insert("version".into(), description.version.into());
        identity.insert("openapi".into(), description.openapi.into());
        identity.insert("description".into(), format!("{}{}", host_of(&description.url), description.url.path()).into());
        identity.insert("description_sha256".into(), description.digest.to_string().into());
        identity.insert("description_protected".into(), protected.into());
        identity.insert("documents".into(), service.documents.count().into());
        identity.insert("server".into(), format!("{}://{}{}", server.scheme(), host_of(&server), server.path()).into());
        identity.insert("get_operations".into(), service.operations.reading.into());
        identity.insert("writing_operations".into(), service.operations.writing.len().into());
        let privilege = privilege::assess(&auth, &service.operations, service.credential.is_some());
        Ok(Opened { connector: Box::new(service), identity, privilege, removal: Vec::new() })
    }

    pub(super) fn health_candidates(&self) -> Result<Candidates<'_>, Failure> {
        let extension = self.documents.root().text("x-aam-health");
        select::health_candidates(&self.operations, &self.settings, &self.servers, extension, |operation| self.fit(operation))
    }

    pub(super) fn fit(&self, operation: &Operation) -> CredentialFit {
        match self.authorize(operation) {
            Ok(auth) if auth.schemes.is_empty() => CredentialFit::NoCredential,
            Ok(auth) if auth.schemes == self.main_schemes => CredentialFit::MainScheme,
            Ok(_) => CredentialFit::OtherScheme,
            Err(_) => CredentialFit::Unsatisfied,
        }
    }

    fn main_schemes(&self) -> Vec<String> {
        let mut votes: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for operation in &self.operations.list {
            if let Ok(auth) = self.authorize(operation) {
                *votes.entry(auth.schemes).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .filter(|(schemes, _)| !schemes.is_empty())
            .max_by_key(|(_, count)| *count)
            .map(|(schemes, _)| schemes)
            .unwrap_or_default()
    }

    /// How the service accepted the credential in an earlier call, if its description does not say so.
    pub(super) fn learned_auth(&self) -> Option<CallAuth> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).auth.clone()
    }

    pub(super) fn learn_auth(&self, auth: &CallAuth) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).auth = Some(auth.clone());
    }

    pub(super) fn remember_acceptance(&self, with_credential: bool) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).accepted = with_credential;
    }

    pub(super) fn remember_failure(&self, name: &str) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).failed.insert(name.to_string());
    }

    pub(super) fn has_failed(&self, name: &str) -> bool {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).failed.contains(name)
    }
}

impl Connector for Service {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(async move {
            let catalog = streams::catalog(&self.operations, &self.settings, bounds);
            let callable = self.operations.list.iter().filter(|operation| select::callable(operation, &self.settings).is_ok());
            let mut evidence = Evidence::new();
            evidence.insert("streams".into(), catalog.streams.len().into());
            evidence.insert("skipped".into(), catalog.skipped.len().into());
            evidence.insert("callable".into(), callable.count().into());
            Ok(Discovery { catalog, evidence, warning: None })
        })
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(self.check_health())
    }

    fn accepted_credential(&self) -> bool {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).accepted
    }

    fn tiny_sync<'a>(&'a self, _catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(self.sample(max_items))
    }

    fn traffic(&self) -> Traffic {
        self.wire.traffic()
    }
}
