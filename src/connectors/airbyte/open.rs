//! An open connector: its steps as commands of the process.

use super::catalog;
use super::config::Described;
use super::failures::{self, TroubleContext};
use super::hosts::Hosts;
use super::kept;
use super::places::{OwnPaths, Places};
use super::program;
use super::rotation::Rotation;
use super::run::{Invocation, Ran, Setup, Shared, StepClock};
use super::secret_fields::SecretFields;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::credentials::{Credential, redact};
use crate::egress::{Session, Traffic};
use crate::families::Family;
use crate::memory_budget::size_text;
use crate::model::{Catalog, Class, Digest, Evidence, Failure, Privilege};
use crate::policy::{ConnectorPolicy, Policy};
use airbyte_protocol::{Answer, Catalog as Discovered, Command, Record, Records, Stream, configured_catalog};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// The maximum number of streams that one tiny sync reads: further ones only if the first cannot be read or are empty.
const MAX_STREAMS: usize = 3;
const MAX_MESSAGE_CHARS: usize = 300;

/// Everything that is needed to open a connector, except the session.
pub struct Binding {
    pub shared: Arc<Shared>,
    /// The files of AAM, which the connector must not be able to read.
    pub own: Arc<OwnPaths>,
    pub policy: Arc<Policy>,
    pub family: Arc<Family>,
    pub connector: ConnectorPolicy,
    pub resource_id: String,
    pub hosts: Arc<Hosts>,
    pub credential: Option<Credential>,
    /// The config as policy, resource id and credential make it.
    pub config: Value,
}

/// An open connector.
struct Resource {
    setup: Setup,
    family: Arc<Family>,
    resource_id: String,
    has_credential: bool,
    config: Value,
    secret_fields: Arc<SecretFields>,
    rotation: Option<Rotation>,
    /// The evidence of the `check` that opened the connector.
    check: Evidence,
    discovered: Mutex<Option<Arc<Discovered>>>,
}

/// Opens the connector: asks for its specification, and checks the connection.
///
/// # Errors
/// Returns `Misconfigured` if the connector is not installed or its config lacks a key, and the failures of [`failures::failure`].
pub async fn open(binding: Binding, session: Session) -> Result<Opened, Failure> {
    let Binding { shared, own, policy, family, connector, resource_id, hosts, credential, config } = binding;
    let (airbyte, rules, name) = (policy.airbyte.clone(), connector.clone(), Arc::clone(&family.id));
    let dir = std::path::absolute(&airbyte.dir).unwrap_or_else(|_| airbyte.dir.clone());
    let of_policy = Arc::clone(&policy);
    let find = move || program::find(&airbyte, &rules, &name, &Places::new(&of_policy, &own));
    let found = tokio::task::spawn_blocking(find).await;
    let program = found.unwrap_or_else(|error| {
        let fix = "report it with the detail; other connections are not affected";
        Err(Failure::new(Class::Bug, "looking for a connector ended in a panic", fix).detail(error.to_string()))
    })?;
    // The connector has error handlers of its own, so it sees each status.
    let session = Arc::new(session.without_status_retries());
    let name = Arc::clone(&family.id);
    let setup = Setup { shared, policy, connector, name, dir, program, hosts, session };
    let clock = StepClock::start(&setup);
    let described = described(&setup, &family, &resource_id, &clock).await?;
    let config = described.typed(config);
    described.complete(&config, &setup.name)?;
    let secret_fields = Arc::new(SecretFields::new(&described, &setup.connector));
    let rotation = Rotation::new(&setup.dir, &setup.name, credential.as_ref(), &config, &secret_fields);
    let has_credential = credential.is_some();
    let mut resource = Resource {
        setup,
        family,
        resource_id,
        has_credential,
        config,
        secret_fields,
        rotation,
        check: Evidence::new(),
        discovered: Mutex::default(),
    };
    let ran = resource.command(Command::Check, None, 0, &clock).await?;
    resource.check = resource.checked(&ran);
    let identity = resource.check.clone();
    let reason = "a connector does not say what its credential may do; AAM sends only what reads".to_string();
    Ok(Opened { connector: Box::new(resource), identity, privilege: Privilege::Unknown { reason }, removal: Vec::new() })
}

/// Returns the specification of the connector, which is asked for once.
async fn described(setup: &Setup, family: &Family, resource_id: &str, clock: &StepClock) -> Result<Arc<Described>, Failure> {
    let kept = &setup.shared.kept;
    if let Some(described) = kept.spec(&setup.program.stamp) {
        return Ok(described);
    }
    let invocation = Invocation { command: Command::Spec, config: None, catalog: None, records: 0 };
    let ran = setup.run(invocation, clock, None).await?;
    let context = context(setup, family, resource_id, Command::Spec);
    if let Some(failure) = failures::failure(&ran, &context) {
        return Err(failure);
    }
    let Ok(Answer::Spec(spec)) = ran.result else { return Err(unexpected(&setup.name, Command::Spec)) };
    let described = Arc::new(Described::new(spec));
    kept.keep_spec(&setup.program.stamp, &described);
    Ok(described)
}

fn context<'a>(setup: &'a Setup, family: &'a Family, resource_id: &'a str, command: Command) -> TroubleContext<'a> {
    TroubleContext {
        name: &setup.name,
        resource: resource_id,
        least_privilege: &family.least_privilege,
        command,
        memory: setup.connector.memory,
    }
}

fn unexpected(name: &str, command: Command) -> Failure {
    let title = format!("{name} answered {} with something else", command.as_str());
    Failure::new(Class::Remote, title, "use another version of the connector")
}

impl Resource {
    /// Runs one command with the config that is valid now. Only one command at a time uses a credential.
    ///
    /// # Errors
    /// Returns the failure of the run, or of what the connector reports.
    async fn command(
        &self,
        command: Command,
        catalog: Option<String>,
        records: usize,
        clock: &StepClock,
    ) -> Result<Ran, Failure> {
        let memory = self.setup.session.memory();
        let _lock = match &self.rotation {
            Some(rotation) => Some(memory.wait_for(self.setup.shared.locks.lock(rotation.id())).await),
            None => None,
        };
        let config = match &self.rotation {
            Some(rotation) => rotation.config().await?,
            None => self.config.clone(),
        };
        self.secret_fields.learn(&config);
        let invocation = Invocation { command, config: Some(&config), catalog, records };
        let ran = self.setup.run(invocation, clock, self.rotation.as_ref()).await?;
        match failures::failure(&ran, &context(&self.setup, &self.family, &self.resource_id, command)) {
            Some(failure) => Err(failure),
            None => Ok(ran),
        }
    }

    /// The evidence of a run that answered.
    fn evidence(&self, ran: &Ran) -> Evidence {
        let mut evidence = Evidence::new();
        let Setup { connector, .. } = &self.setup;
        evidence.insert("connector".into(), connector.run.message().into());
        if !connector.version.is_empty() {
            evidence.insert("version".into(), connector.version.as_str().into());
        }
        evidence.insert(
            "process".into(),
            json!({
                "ms": u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX),
                "memory": size_text(ran.peak),
                "requests": ran.observed.sent(),
                "noise_lines": ran.counts.noise_lines,
            }),
        );
        let refused = ran.observed.refused();
        if !refused.is_empty() {
            evidence.insert("refused".into(), refused.into());
        }
        if !ran.logs.is_empty() {
            evidence.insert("log".into(), ran.logs.clone().into());
        }
        if !ran.weaker.is_empty() {
            evidence.insert("not_confined".into(), ran.weaker.clone().into());
        }
        let replaced = self.rotation.as_ref().map(Rotation::replaced).unwrap_or_default();
        if !replaced.is_empty() {
            evidence.insert("replaced_by_the_connector".into(), replaced.into());
        }
        evidence
    }

    fn checked(&self, ran: &Ran) -> Evidence {
        let mut evidence = self.evidence(ran);
        let message = match &ran.result {
            Ok(Answer::Check(passed)) => passed.message.as_deref().unwrap_or_default(),
            _ => "",
        };
        evidence.insert("check".into(), "succeeded".into());
        if !message.is_empty() {
            evidence.insert("message".into(), redact::scrub_and_cut(message, MAX_MESSAGE_CHARS).into());
        }
        evidence
    }

    /// What identifies program and config, for the streams that are kept.
    fn key(&self) -> Digest {
        let hosts = self.setup.hosts.message();
        Digest::from_parts(&[
            self.setup.program.stamp.as_bytes(),
            b"\0",
            self.config.to_string().as_bytes(),
            b"\0",
            hosts.as_bytes(),
        ])
    }

    async fn discovered(&self, bounds: Bounds) -> Result<Discovery, Failure> {
        let kept = &self.setup.shared.kept;
        let known = kept.catalog(self.key());
        let mut evidence = Evidence::new();
        let discovered = match known {
            Some(discovered) => {
                evidence.insert("kept".into(), "an attempt before this one discovered the streams and then failed".into());
                discovered
            }
            None => {
                let clock = StepClock::start(&self.setup);
                let ran = self.command(Command::Discover, None, 0, &clock).await?;
                evidence = self.evidence(&ran);
                let Ok(Answer::Discover(discovered)) = ran.result else {
                    return Err(unexpected(&self.setup.name, Command::Discover));
                };
                Arc::new(discovered)
            }
        };
        let memory = self.setup.session.memory();
        let bytes = u64::try_from(kept::size(&discovered)).unwrap_or(u64::MAX);
        let what = format!("the catalog of {}", self.setup.name);
        memory.keep(memory.reserve(bytes).await.map_err(|bound| bound.failure(&what))?);
        kept.keep_catalog(self.key(), &discovered);
        let catalog = catalog::catalog(&discovered, bounds);
        evidence.insert("discovered".into(), discovered.streams.len().into());
        *self.discovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(discovered);
        Ok(Discovery { catalog, evidence, warning: None })
    }

    async fn sampled(&self, catalog: &Catalog, max_items: usize) -> Result<Sample, Failure> {
        let discovered = self.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        let clock = StepClock::start(&self.setup);
        let (mut read, mut not_read, mut others) = (serde_json::Map::new(), serde_json::Map::new(), 0);
        let (mut evidence, mut first, mut rows) = (Evidence::new(), None, 0);
        let streams = catalog::in_order(&discovered, &self.setup.connector.streams, catalog);
        for stream in streams.into_iter().take(MAX_STREAMS) {
            match self.command(Command::Read, Some(configured_catalog(&[stream])), max_items, &clock).await {
                Ok(ran) => {
                    let (count, of_others) = match &ran.result {
                        Ok(Answer::Read(records)) => counted(records, stream, max_items),
                        _ => (0, 0),
                    };
                    others += of_others;
                    evidence = self.evidence(&ran);
                    rows = count;
                    read.insert(stream.name.clone(), count.into());
                    if count > 0 {
                        break;
                    }
                }
                Err(failure) if is_of_stream(&failure) => {
                    not_read.insert(stream.name.clone(), failure.title.as_str().into());
                    first = first.or(Some(failure));
                }
                Err(failure) => return Err(failure),
            }
        }
        if let (true, Some(failure)) = (read.is_empty(), first.clone()) {
            return Err(failure);
        }
        self.setup.shared.kept.forget_catalog(self.key());
        evidence.insert("streams".into(), read.into());
        if !not_read.is_empty() {
            evidence.insert("not_readable".into(), not_read.into());
        }
        if others > 0 {
            evidence.insert("records_of_other_streams".into(), others.into());
        }
        if rows == 0 {
            let note = "the connector returns no records: there are none, or none that this credential can see";
            evidence.insert("note".into(), note.into());
        }
        Ok(Sample { warning: first, ..Sample::new(u64::try_from(rows).unwrap_or(u64::MAX), evidence) })
    }
}

/// Returns the number of records of the stream, at most `max_items`, and the number of records that were not asked for.
fn counted(records: &Records, stream: &Stream, max_items: usize) -> (usize, usize) {
    let of_namespace = |record: &Record| match (&record.namespace, &stream.namespace) {
        (Some(of_record), Some(of_stream)) => of_record == of_stream,
        // Many connectors leave the namespace out of their records.
        _ => true,
    };
    let is_of_stream = |record: &&Record| record.stream == stream.name && of_namespace(record);
    let count = records.records.iter().filter(is_of_stream).count();
    (count.min(max_items), records.records.len().saturating_sub(count))
}

/// Whether other streams are tried after this failure.
fn is_of_stream(failure: &Failure) -> bool {
    matches!(failure.class, Class::PermissionDenied | Class::NotFound | Class::EgressRefused)
}

impl Connector for Resource {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(self.discovered(bounds))
    }

    /// The `check` of this attempt is the probe. A second one would take seconds and spend a token that may be used once.
    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        let mut evidence = Evidence::new();
        for key in ["check", "message"] {
            evidence.extend(self.check.get(key).map(|value| (key.to_string(), value.clone())));
        }
        evidence.insert("note".into(), "the check of the step upsert".into());
        Box::pin(async move { Ok(evidence) })
    }

    fn accepted_credential(&self) -> bool {
        self.has_credential
    }

    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(self.sampled(catalog, usize::try_from(max_items).unwrap_or(usize::MAX)))
    }

    fn traffic(&self) -> Traffic {
        self.setup.session.traffic()
    }
}
