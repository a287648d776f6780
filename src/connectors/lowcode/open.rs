//! An open resource. The interpreter performs all of its steps: identity, privilege, discovery, health and tiny sync.

use super::binding::Binding;
use super::errors::{self, ErrorContext, ResponseView};
use super::host::{CallerMode, Rules, SessionHost, failure_of};
use super::limits::Windows;
use super::{identity, privilege};
use crate::clock::Clock;
use crate::connectors::concurrent::{self, Limits as Concurrency};
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::credentials::redact;
use crate::egress::{Session, Traffic};
use crate::model::catalog::{SkippedStream, Stream, SyncMode};
use crate::model::{Catalog, Class, Evidence, Failure, Privilege};
use crate::policy::Policy;
use ::lowcode::bounds::Bounds as Limits;
use ::lowcode::catalog;
use ::lowcode::context::{Context, Limits as Stops, Run};
use ::lowcode::error::{Failed, FailureType};
use ::lowcode::host::HostResponse;
use ::lowcode::secrets::Secrets;
use ::lowcode::source::{Source, SourceBuilder};
use ::lowcode::spec;
use ::lowcode::stream::Stream as Reader;
use ::lowcode::value::Value;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The maximum number of streams that one tiny sync reads.
const MAX_STREAMS: usize = 3;
/// The maximum number of slices and of pages of one stream to read: enough for a sample even if the pages are short.
const MAX_SLICES: usize = 5;
const MAX_PAGES: usize = 12;

/// An open resource.
struct Resource {
    binding: Binding,
    host: SessionHost,
    bounds: Limits,
    secrets: Secrets,
    /// The sources built from the manifest so far, by the names of their streams; an empty list of names stands for all
    /// streams. The steps share them, and with them the access tokens that they hold.
    built: Mutex<Vec<(Vec<String>, Arc<Source>)>>,
}

/// Opens the resource and checks that the response of the identity call is for the resource that the id names.
///
/// # Errors
/// Returns the errors of `Resource::failure` and [`identity::prove`].
pub async fn open(
    binding: Binding,
    session: Session,
    policy: Arc<Policy>,
    clock: Arc<dyn Clock>,
    windows: Arc<Windows>,
) -> Result<Opened, Failure> {
    let records = usize::try_from(policy.safe_mode.max_items).unwrap_or(20);
    let time = policy.safe_mode.step_timeout;
    let bounds = Limits { records, time, calls: 40, ..Limits::default() };
    let rules = Rules {
        mode: CallerMode::Daemon,
        origins: binding.origins.clone(),
        limits: binding.limits.clone(),
        windows,
        account: binding.account.clone(),
        secrets_by_spec: binding.secrets_by_spec,
        max_bytes: bounds.body_bytes as u64,
    };
    let host = SessionHost::new(session, clock, rules);
    let secrets = Secrets::of(&binding.manifest.root, &binding.config);
    let resource = Resource { binding, host, bounds, secrets, built: Mutex::default() };
    spec::validate_config(&resource.binding.manifest, &resource.binding.config).map_err(|failed| resource.failure("", failed))?;
    let (identity, privilege) = resource.met().await?;
    Ok(Opened { connector: Box::new(resource), identity, privilege })
}

impl Resource {
    fn context(&self) -> Context<'_> {
        let Binding { manifest, config, .. } = &self.binding;
        manifest.context(config, &self.host, &self.bounds)
    }

    fn sources(&self) -> SourceBuilder<'_> {
        self.binding.manifest.builder(self.context())
    }

    fn run(&self) -> Run<'_> {
        let mut run = Run::keeping(&self.context(), self.secrets.clone());
        run.limits = Stops { slices: Some(MAX_SLICES), pages: Some(MAX_PAGES), records: None };
        run
    }

    /// Returns a source with the streams `names`, building it if necessary.
    fn named(&self, names: &[String]) -> Result<Arc<Source>, Failure> {
        if let Some(known) = self.known(names) {
            return Ok(known);
        }
        let built = self.sources().named_streams(names).map_err(|failed| self.failure("", failed))?;
        Ok(self.keep(names, built.ok_or_else(|| self.empty(&names.join(", ")))?))
    }

    fn known(&self, names: &[String]) -> Option<Arc<Source>> {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.iter().find(|(of, _)| of == names).map(|(_, source)| Arc::clone(source))
    }

    /// Returns the streams that have been built so far.
    fn built(&self) -> Vec<Arc<Reader>> {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.iter().flat_map(|(_, source)| source.streams.iter().cloned()).collect()
    }

    fn keep(&self, names: &[String], source: Source) -> Arc<Source> {
        let source = Arc::new(source);
        self.built.lock().unwrap_or_else(PoisonError::into_inner).push((names.to_vec(), Arc::clone(&source)));
        source
    }

    /// Reads at most `most` records of `stream`, one slice after the other.
    async fn read(&self, run: &Run<'_>, stream: &Reader, most: usize) -> Result<Vec<Value>, Failure> {
        let failed = |failed| self.failure(&stream.name, failed);
        let mut found = Vec::new();
        let mut slices = stream.slices(run).map_err(failed)?;
        while found.len() < most {
            let Some(slice) = slices.next().await.map_err(failed)? else { break };
            let mut records = stream.records(run, slice).await.map_err(failed)?;
            while found.len() < most {
                match records.next().await.map_err(failed)? {
                    Some(record) => found.push(record),
                    None => break,
                }
            }
        }
        Ok(found)
    }

    /// Reads the first record of the stream `name` and returns it with its response.
    async fn probe(&self, name: &str) -> Result<(Json, Option<Arc<HostResponse>>), Failure> {
        let source = self.named(&[name.to_string()])?;
        let stream = source.streams.first().ok_or_else(|| self.empty(name))?;
        let found = self.read(&self.run(), stream, 1).await?;
        let record = found.first().map(json).unwrap_or(Json::Null);
        Ok((record, self.host.last_response(name)))
    }

    fn empty(&self, name: &str) -> Failure {
        Failure::new(
            Class::Misconfigured,
            format!("the manifest of {} does not have the stream {name}", self.binding.title),
            "name a stream of the manifest",
        )
    }

    async fn met(&self) -> Result<(Evidence, Privilege), Failure> {
        let binding = &self.binding;
        let mut evidence = Evidence::new();
        let hosts: Vec<&str> = binding.origins.iter().map(String::as_str).collect();
        evidence.insert("hosts".into(), hosts.join(", ").into());
        if !binding.auth.is_empty() {
            evidence.insert("auth".into(), binding.auth.clone().into());
        }
        let Some(rule) = &binding.identity else {
            evidence.extend(self.checked().await?);
            let note = format!(
                "matched: host and check; no call proves whose data it is (manifests.sources.{}.identity in the policy names one)",
                binding.title
            );
            evidence.insert("identity".into(), note.into());
            let reason = "a custom manifest does not say how to read the grants".to_string();
            return Ok((evidence, Privilege::Unknown { reason }));
        };
        let (record, kept) = self.probe(&rule.stream).await?;
        if let Some(failure) = kept.as_ref().and_then(|kept| self.classified(kept)) {
            return Err(failure);
        }
        evidence.extend(identity::prove(rule, &record, &binding.parts, &binding.title)?);
        let privilege = match binding.privilege {
            Some(rules) => privilege::verdict(rules, privilege::grants(rules, kept.as_deref(), &record).as_deref()),
            None => Privilege::Unknown { reason: "a custom manifest does not say how to read the grants".to_string() },
        };
        Ok((evidence, privilege))
    }

    /// Returns how many of `streams` may be read at the same time: only one if they share a token, a parent or a rate
    /// limit, because concurrent reads would then make more calls.
    fn concurrency(&self, streams: &[&Reader]) -> Concurrency {
        let Binding { manifest, config, .. } = &self.binding;
        let names = streams.iter().map(|stream| stream.name.as_str());
        let several = streams.len() > 1 && self.host.concurrency() > 1;
        let calls = if several && manifest.reads_are_independent(config, names) { self.host.concurrency() } else { 1 };
        Concurrency::in_step(calls, self.bounds.time)
    }

    /// Reads one record of each stream of the health step.
    async fn checked(&self) -> Result<Evidence, Failure> {
        let names = &self.binding.health;
        let source = match names.is_empty() {
            true => Arc::new(self.sources().first_streams(&self.run(), 1, &[]).await.map_err(|failed| self.failure("", failed))?),
            false => self.named(names)?,
        };
        let run = &self.run();
        let streams: Vec<&Reader> = source.streams.iter().take(MAX_STREAMS).map(|stream| &**stream).collect();
        let reads = streams.iter().map(|stream| self.check(run, stream)).collect();
        let found = concurrent::all(self.concurrency(&streams), reads).await?;
        let records: usize = found.iter().map(|(records, _)| records).sum();
        let read: Vec<String> = found.into_iter().filter_map(|(_, read)| read).collect();
        let mut evidence = Evidence::new();
        evidence.insert("read".into(), read.join(", ").into());
        evidence.insert("records".into(), records.into());
        Ok(evidence)
    }

    /// Reads at most one record of `stream`. Returns the number of records, and a text with the stream's name and the
    /// status of its response.
    fn check<'s>(&'s self, run: &'s Run<'_>, stream: &'s Reader) -> BoxFuture<'s, Result<(usize, Option<String>), Failure>> {
        Box::pin(async move {
            let records = self.read(run, stream, 1).await?.len();
            let kept = self.host.last_response(&stream.name);
            match kept.as_ref().and_then(|kept| self.classified(kept)) {
                Some(failure) => Err(failure),
                None => Ok((records, kept.map(|kept| format!("{} ({})", stream.name, kept.status)))),
            }
        })
    }

    /// Converts the interpreter's error to a failure. A failure of egress is returned unchanged, and an error response of
    /// the vendor is classified. For anything else, the failure has the message of the interpreter.
    fn failure(&self, stream: &str, failed: Failed) -> Failure {
        if let Some(failure) = failed.host_error.as_ref().and_then(failure_of) {
            return failure;
        }
        let kept = self.host.failed_response(stream, failed.status);
        if let Some(failure) = kept.as_ref().and_then(|kept| self.classified(kept)) {
            return failure;
        }
        let title = &self.binding.title;
        let page = kept.as_ref().and_then(|kept| kept.header("content-type")).is_some_and(|kind| kind.starts_with("text/html"));
        let failure = match (page, failed.failure_type) {
            (true, _) => Failure::new(
                Class::WrongService,
                format!("{title} answered with an HTML page"),
                "check whether a sign-in page, a portal or a proxy is in between, and that base_url is that of the API",
            ),
            (_, FailureType::ConfigError) => Failure::new(
                Class::Misconfigured,
                format!("{title} cannot be read with this config"),
                "see the detail; a key of the config is missing or has an invalid value",
            ),
            (_, FailureType::SystemError | FailureType::TransientError) => Failure::new(
                Class::Remote,
                format!("the response of {title} cannot be read"),
                "see the detail; the API may have changed, or the manifest may be wrong",
            ),
        };
        let message: String = redact::scrub(&failed.message).chars().take(400).collect();
        let of = if stream.is_empty() { String::new() } else { format!("{stream}: ") };
        failure.detail(format!("{of}{message}"))
    }

    /// Classifies a response. Returns `None` if it is data.
    fn classified(&self, kept: &HostResponse) -> Option<Failure> {
        let heard = ResponseView { status: kept.status, headers: &kept.headers, body: &kept.body, url: &kept.url };
        let Binding { title, resource, least_privilege, errors, .. } = &self.binding;
        let failure = errors::classify(*errors, &heard, &ErrorContext { title, resource, least_privilege })?;
        if failure.class != Class::Throttled {
            return Some(failure);
        }
        // Only the family's rules recognize this rate limit, so egress must be informed: no call of this account is sent
        // until the wait is over.
        let wait = Duration::from_millis(failure.retry_after_ms.unwrap_or(60_000));
        Some(self.host.throttled(wait, &failure.detail))
    }

    async fn streams(&self) -> Result<Arc<Source>, Failure> {
        let names = &self.binding.streams;
        if !names.is_empty() {
            return self.named(names);
        }
        if let Some(known) = self.known(names) {
            return Ok(known);
        }
        let built = self.built();
        let all = self.sources().first_streams(&self.run(), usize::MAX, &built).await;
        Ok(self.keep(names, all.map_err(|failed| self.failure("", failed))?))
    }

    async fn discovered(&self, bounds: Bounds) -> Result<Discovery, Failure> {
        let source = self.streams().await?;
        let run = &self.run();
        let mut catalog = Catalog::default();
        let mut denied = None;
        let streams: Vec<&Reader> =
            source.streams.iter().map(|stream| &**stream).filter(|stream| self.is_data(&stream.name)).collect();
        let mut streams = streams.into_iter();
        // A skipped stream does not count towards the bound, so another one takes its place.
        while catalog.streams.len() < bounds.streams {
            let next: Vec<&Reader> = streams.by_ref().take(bounds.streams - catalog.streams.len()).collect();
            if next.is_empty() {
                break;
            }
            // Without probes, streams are described one after the other, because they may share the calls that this makes.
            let limits = self.concurrency(if self.binding.probes { &next } else { &[] });
            let describe = next.iter().map(|stream| self.described(run, stream, bounds).map(or_skipped).boxed()).collect();
            for (stream, described) in next.iter().zip(concurrent::all(limits, describe).await?) {
                match described {
                    Ok(described) => catalog.streams.push(described),
                    Err(failure) => {
                        catalog.skipped.push(SkippedStream::new(stream.name.as_str(), reason(&failure)));
                        denied = denied.or(Some(failure));
                    }
                }
            }
        }
        catalog.truncated |= streams.next().is_some();
        if let (true, Some(failure)) = (catalog.streams.is_empty(), denied) {
            return Err(failure);
        }
        let mut evidence = Evidence::new();
        evidence.insert("skipped".into(), catalog.skipped.len().into());
        Ok(Discovery { catalog: catalog.sorted(), evidence, warning: None })
    }

    /// Returns false for the identity stream of a custom manifest. The streams that a family lists are all data.
    fn is_data(&self, name: &str) -> bool {
        let probe = self.binding.identity.as_ref().is_some_and(|rule| rule.stream == name);
        !self.binding.streams.is_empty() || !probe
    }

    async fn described(&self, run: &Run<'_>, stream: &Reader, bounds: Bounds) -> Result<Stream, Failure> {
        let failed = |failed| self.failure(&stream.name, failed);
        if self.binding.probes {
            self.read(run, stream, 1).await?;
        }
        let schema = stream.schema.get(run).await.map_err(failed)?;
        let mut json_schema = json(&schema);
        if let Some(properties) = json_schema.get_mut("properties").and_then(Json::as_object_mut)
            && properties.len() > bounds.columns
        {
            let kept = std::mem::take(properties).into_iter().take(bounds.columns);
            properties.extend(kept);
        }
        let key = catalog::primary_key(Some(&stream.primary_key)).map_err(failed)?;
        Ok(Stream {
            name: stream.name.clone(),
            namespace: None,
            json_schema,
            supported_sync_modes: match stream.cursor {
                Some(_) => vec![SyncMode::FullRefresh, SyncMode::Incremental],
                None => vec![SyncMode::FullRefresh],
            },
            source_defined_primary_key: key.into_iter().map(|field| vec![field]).collect(),
            row_estimate: None,
        })
    }

    async fn sampled(&self, catalog: &Catalog, max_items: usize) -> Result<Sample, Failure> {
        let source = self.streams().await?;
        let known = |name: &str| catalog.streams.iter().any(|stream| stream.name == name);
        let run = self.run();
        let (mut rows, mut read, mut skipped) = (0, serde_json::Map::new(), serde_json::Map::new());
        let mut denied = None;
        for stream in self.in_order(&source).into_iter().filter(|stream| known(&stream.name)) {
            if rows >= max_items || read.len() + skipped.len() >= MAX_STREAMS {
                break;
            }
            match self.read(&run, stream, max_items - rows).await {
                Ok(found) => {
                    rows += found.len();
                    read.insert(stream.name.clone(), found.len().into());
                }
                Err(failure) if skippable(&failure) => {
                    skipped.insert(stream.name.clone(), reason(&failure).into());
                    denied = denied.or(Some(failure));
                }
                Err(failure) => return Err(failure),
            }
        }
        if let (true, Some(failure)) = (read.is_empty(), denied) {
            return Err(failure);
        }
        let mut evidence = Evidence::new();
        evidence.insert("streams".into(), read.into());
        if !skipped.is_empty() {
            evidence.insert("skipped".into(), skipped.into());
        }
        if rows == 0 {
            evidence.insert(
                "note".into(),
                "the source returns empty lists: it has no records, or none that this credential can see".into(),
            );
        }
        Ok(Sample { rows: rows as u64, evidence, warning: None })
    }

    /// Returns the streams in the order of the family. For a custom manifest, the streams that `check` reads come first.
    fn in_order<'s>(&self, source: &'s Source) -> Vec<&'s Reader> {
        let wanted = if self.binding.streams.is_empty() { &self.binding.health } else { &self.binding.streams };
        let mut streams: Vec<&Reader> =
            source.streams.iter().map(|stream| &**stream).filter(|stream| self.is_data(&stream.name)).collect();
        streams.sort_by_key(|stream| wanted.iter().position(|name| *name == stream.name).unwrap_or(usize::MAX));
        streams
    }
}

/// Returns true if the other streams are still read after this failure.
fn skippable(failure: &Failure) -> bool {
    matches!(failure.class, Class::PermissionDenied | Class::NotFound)
}

/// Returns the description of a stream, or the failure for which it is skipped. Other failures stay errors.
fn or_skipped(described: Result<Stream, Failure>) -> Result<Result<Stream, Failure>, Failure> {
    match described {
        Err(failure) if !skippable(&failure) => Err(failure),
        described => Ok(described),
    }
}

fn reason(failure: &Failure) -> String {
    match failure.detail.is_empty() {
        true => failure.title.clone(),
        false => format!("{}; {}", failure.title, failure.detail),
    }
}

fn json(value: &Value) -> Json {
    serde_json::to_value(value).unwrap_or(Json::Null)
}

impl Connector for Resource {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(self.discovered(bounds))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(self.checked())
    }

    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        Box::pin(self.sampled(catalog, usize::try_from(max_items).unwrap_or(usize::MAX)))
    }

    fn traffic(&self) -> Traffic {
        self.host.traffic()
    }
}
