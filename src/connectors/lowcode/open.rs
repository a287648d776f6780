//! An open resource. The interpreter performs all of its steps: identity, privilege, discovery, health and tiny sync.
//! The module `judge` decides which responses it gets.

use super::binding::Binding;
use super::errors::{self, ErrorContext};
use super::family_spec::Identity;
use super::host::{CallerMode, KeptResponse, Rules, SessionHost, failure_of};
use super::judge;
use super::limits::Windows;
use crate::clock::Clock;
use crate::connectors::concurrent::Limits as Concurrency;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::credentials::redact;
use crate::egress::{Session, Signing, Traffic};
use crate::model::{Catalog, Class, Evidence, Failure};
use crate::policy::Policy;
use ::lowcode::bounds::Bounds as Limits;
use ::lowcode::context::{Context, Limits as Stops, Run};
use ::lowcode::error::{Failed, FailureType};
use ::lowcode::secrets::Secrets;
use ::lowcode::source::{Source, SourceBuilder};
use ::lowcode::spec;
use ::lowcode::stream::Stream as Reader;
use ::lowcode::tokens::SharedLogins;
use ::lowcode::value::Value;
use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The maximum number of streams that one tiny sync reads.
pub(super) const MAX_STREAMS: usize = 3;
/// The maximum number of slices and of pages of one stream to read: enough for a sample even if the pages are short.
const MAX_SLICES: usize = 5;
const MAX_PAGES: usize = 12;

/// The maximum number of streams that a source may list for `generated`.
const MAX_LISTED_STREAMS: usize = 20_000;

/// An open resource.
pub(super) struct Resource {
    pub(super) binding: Binding,
    pub(super) host: SessionHost,
    pub(super) bounds: Limits,
    secrets: Secrets,
    /// The access tokens that logins returned, which all streams and steps of the attempt share.
    logins: Arc<SharedLogins>,
    /// The sources built from the manifest so far, by the names of their streams; an empty list of names stands for all
    /// streams. The steps share them, and with them the access tokens that OAuth clients hold.
    pub(super) built: Mutex<Vec<(Vec<String>, Arc<Source>)>>,
    /// Whether a response has proven the identity of the resource.
    pub(super) proven: AtomicBool,
    /// The number of streams that the source generates, of which only some are described.
    pub(super) generated_total: AtomicUsize,
    /// Whether the vendor has accepted the credential for the identity call.
    pub(super) accepted: AtomicBool,
    /// The call that proved the identity, if several can.
    pub(super) proven_by: Mutex<Option<Identity>>,
    /// The note of an empty stream, once the identity record is known.
    pub(super) empty_note: Mutex<Option<String>>,
    /// The streams of the health step that could not be read although others could.
    pub(super) unhealthy: Mutex<BTreeMap<String, Failure>>,
}

/// Opens the resource and checks that the response of the identity call is for the resource that the id names.
///
/// # Errors
/// Returns the errors of `Resource::failure` and `identity::prove`.
pub async fn open(
    binding: Binding,
    session: Session,
    policy: Arc<Policy>,
    clock: Arc<dyn Clock>,
    windows: Arc<Windows>,
) -> Result<Opened, Failure> {
    let records = usize::try_from(policy.safe_mode.max_items).unwrap_or(20);
    let time = policy.safe_mode(&session.caller.family).step_timeout;
    // A source may list far more streams than are described: their names are read, but only the chosen ones are built.
    let streams = if binding.generated.is_some() { MAX_LISTED_STREAMS } else { Limits::default().streams };
    // What a source writes stays a text in the calls of a family. A custom manifest is read as Airbyte's CDK reads it.
    let plain_texts = binding.errors.is_some();
    let bounds = Limits { records, time, calls: 40, streams, plain_texts, ..Limits::default() };
    let rules = Rules {
        mode: CallerMode::Daemon,
        origins: binding.origins.clone(),
        limits: binding.limits.clone(),
        windows,
        account: binding.account.clone(),
        secrets_by_spec: binding.secrets_by_spec,
        hosts_fix: binding.hosts_fix.clone(),
        user_agent: binding.user_agent.clone(),
        max_bytes: bounds.body_bytes as u64,
    };
    let session = match &binding.signer {
        Some(signer) => session.with_signing(Some(Signing::new(signer.clone()))),
        None => session,
    };
    let host = SessionHost::new(session, clock, rules);
    let secrets = Secrets::of(&binding.manifest.root, &binding.config);
    let (logins, built, proven, accepted, generated_total, proven_by, empty_note, unhealthy) = Default::default();
    let mut resource = Resource {
        binding,
        host,
        bounds,
        secrets,
        logins,
        built,
        proven,
        accepted,
        generated_total,
        proven_by,
        empty_note,
        unhealthy,
    };
    let Binding { manifest, config, .. } = &resource.binding;
    // A manifest without a spec accepts every config.
    if manifest.root.get("spec").is_some_and(Value::truthy) {
        spec::validate_config(manifest, config).map_err(|failed| resource.failure("", failed))?;
    }
    let (identity, privilege) = match resource.introduced().await {
        Err(failure) if failure.class == resource.binding.otherwise_if && resource.use_other_method() => {
            // The first method says why the credential does not work, unless the second one shows that it is valid there.
            let first = failure.class;
            match resource.introduced().await {
                Err(other)
                    if resource.accepted.load(Ordering::Relaxed)
                        || judge::accepts_credential(&other)
                        || first != Class::CredentialRejected && other.class != first =>
                {
                    return Err(other);
                }
                introduced => introduced.map_err(|_| failure)?,
            }
        }
        introduced => introduced?,
    };
    Ok(Opened { connector: Box::new(resource), identity, privilege, removal: Vec::new() })
}

impl Resource {
    fn context(&self) -> Context<'_> {
        let Binding { manifest, config, .. } = &self.binding;
        manifest.context(config, self, &self.bounds)
    }

    pub(super) fn sources(&self) -> SourceBuilder<'_> {
        self.binding.manifest.builder(self.context())
    }

    pub(super) fn run(&self) -> Run<'_> {
        let mut run = Run::keeping(&self.context(), self.secrets.clone());
        run.logins = Some(Arc::clone(&self.logins));
        run.limits = Stops { slices: Some(MAX_SLICES), pages: Some(MAX_PAGES), records: None };
        // What the vendor of a family documents is known. A custom source may leave out an empty list.
        run.needs_lists = self.binding.errors.is_some();
        run
    }

    /// Returns a source with the streams `names`, building it if necessary.
    pub(super) fn named(&self, names: &[String]) -> Result<Arc<Source>, Failure> {
        if let Some(known) = self.known(names) {
            return Ok(known);
        }
        let built = self.sources().named_streams(names).map_err(|failed| self.failure("", failed))?;
        Ok(self.keep(names, built.ok_or_else(|| self.empty(&names.join(", ")))?))
    }

    pub(super) fn known(&self, names: &[String]) -> Option<Arc<Source>> {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.iter().find(|(of, _)| of == names).map(|(_, source)| Arc::clone(source))
    }

    /// Returns the streams that have been built so far.
    pub(super) fn built(&self) -> Vec<Arc<Reader>> {
        let built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        built.iter().flat_map(|(_, source)| source.streams.iter().cloned()).collect()
    }

    pub(super) fn keep(&self, names: &[String], source: Source) -> Arc<Source> {
        let source = Arc::new(source);
        self.built.lock().unwrap_or_else(PoisonError::into_inner).push((names.to_vec(), Arc::clone(&source)));
        source
    }

    /// Reads at most `most` records of `stream`, one slice after the other.
    ///
    /// # Errors
    /// Returns the failure of a call, and that of a response that is not data. An error status that the manifest ignores is a
    /// failure unless `may_ignore` is true.
    pub(super) async fn read(
        &self,
        run: &Run<'_>,
        stream: &Reader,
        most: usize,
        may_ignore: bool,
    ) -> Result<Vec<Value>, Failure> {
        let read = self.read_records(run, stream, most, may_ignore).await;
        if read.is_err() {
            self.host.forget(&stream.name);
        }
        read
    }

    async fn read_records(&self, run: &Run<'_>, stream: &Reader, most: usize, may_ignore: bool) -> Result<Vec<Value>, Failure> {
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
        // A manifest may ignore an error status for its data, but a probe that got one proves nothing.
        let ignored = self.host.last_response(&stream.name).filter(|kept| match kept.response.status {
            200..300 => false,
            status => status < 400 || !may_ignore,
        });
        match ignored.and_then(|kept| self.not_data(&kept.view(), &stream.name)) {
            Some(failure) => Err(failure),
            None => Ok(found),
        }
    }

    /// Reads at most `most` records of the stream `name` and returns them with the last response.
    pub(super) async fn probe(&self, name: &str, most: usize) -> Result<(Vec<Value>, Option<Arc<KeptResponse>>), Failure> {
        let source = self.named(&[name.to_string()])?;
        let stream = source.streams.first().ok_or_else(|| self.empty(name))?;
        let found = self.read(&self.run(), stream, most, false).await?;
        Ok((found, self.host.last_response(name)))
    }

    pub(super) fn empty(&self, name: &str) -> Failure {
        let Binding { title, list_of_streams, .. } = &self.binding;
        Failure::new(
            Class::Misconfigured,
            format!("the manifest of {title} does not have the stream {name}"),
            format!("name a stream of the manifest: {list_of_streams}"),
        )
    }

    /// Returns how many of `streams` may be read at the same time: only one if each of them would get a token of its own, or
    /// if the manifest limits the rate of its requests.
    pub(super) fn concurrency(&self, streams: &[&Reader]) -> Concurrency {
        let Binding { manifest, config, .. } = &self.binding;
        let names = streams.iter().map(|stream| stream.name.as_str());
        let several = streams.len() > 1 && self.host.concurrency() > 1;
        let calls = if several && manifest.reads_are_independent(config, names) { self.host.concurrency() } else { 1 };
        Concurrency::in_step(calls, self.bounds.time)
    }

    /// Converts the interpreter's error to a failure. A failure of egress is returned unchanged, and an error response of
    /// the vendor is classified. For anything else, the failure has the message of the interpreter.
    pub(super) fn failure(&self, stream: &str, failed: Failed) -> Failure {
        if let Some(failure) = failed.host_error.as_ref().and_then(failure_of) {
            return failure;
        }
        if failed.is_missing_list() {
            let kept = self.host.failed_response(stream, failed.status);
            let kept = kept.filter(|kept| failed.url.as_ref() == Some(&kept.response.url));
            let call = kept.as_ref().map(|kept| errors::call(&kept.view()));
            return errors::no_list(call.as_deref(), &failed.message, &self.error_context(stream));
        }
        if failed.is_refused_name() {
            return Failure::new(
                Class::Remote,
                format!("{} was not called for {}: {}", self.binding.title, named(stream), failed.message),
                "rename it at the source if it has to be read; AAM puts names of a source into an address only if they do not change it",
            );
        }
        if failed.is_unsupported() {
            return Failure::new(
                Class::Misconfigured,
                format!("AAM does not run what {} of {} uses", named(stream), self.binding.title),
                "see the detail; name the native component that does the same in an overlay beside the manifest, or read other streams",
            )
            .detail(redact::scrub_and_cut(&failed.message, 400));
        }
        let kept = self.host.failed_response(stream, failed.status);
        if let Some(failure) = kept.as_ref().and_then(|kept| self.not_data(&kept.view(), &kept.stream)) {
            return failure;
        }
        let title = &self.binding.title;
        let failure = match (failed.failure_type, &kept) {
            // The message never contains the key.
            _ if failed.message.starts_with("Failed to sign token") => Failure::new(
                Class::CredentialMissing,
                format!("the private key in the credential of {title} cannot be used to sign"),
                "store the private key as the vendor gave it to you, in PEM format and without a passphrase, behind credential_locator",
            ),
            (FailureType::ConfigError, _) => Failure::new(
                Class::Misconfigured,
                format!("{title} cannot be read with this config"),
                "see the detail; a key of the config is missing or has an invalid value",
            ),
            (_, None) => Failure::new(
                Class::Misconfigured,
                format!("the manifest of {title} fails with this config before a call is made"),
                "see the detail; correct the manifest, or the keys of its config in resource_ids and in the credential",
            ),
            (_, Some(_)) => Failure::new(
                Class::Remote,
                format!("the response of {title} cannot be read"),
                "see the detail; the API may have changed, or the manifest may be wrong",
            ),
        };
        // A template fails where the source writes null for a field, so its text says which field that is.
        let place = failed.internal.as_deref().map(|place| format!(" ({place})")).unwrap_or_default();
        let message = redact::scrub_and_cut(&format!("{}{place}", failed.message), 400);
        let of = if stream.is_empty() { String::new() } else { format!("{stream}: ") };
        let to = kept.map(|kept| format!(" ({})", errors::summary(&kept.view()))).unwrap_or_default();
        failure.detail(format!("{of}{message}{to}"))
    }

    pub(super) fn last_response(&self, stream: &str) -> Option<Arc<KeptResponse>> {
        self.host.last_response(stream)
    }

    /// Returns the permission that the last response of `stream` names as missing.
    pub(super) fn missing(&self, stream: &str) -> Option<String> {
        let kept = self.host.last_response(stream)?;
        errors::missing(self.binding.errors, &kept.view(), &self.error_context(stream))
    }

    pub(super) fn error_context<'c>(&'c self, stream: &'c str) -> ErrorContext<'c> {
        let Binding { title, resource, least_privilege, base_url, auth, kind, parts, .. } = &self.binding;
        let proven = self.proven.load(Ordering::Relaxed);
        ErrorContext { title, resource, least_privilege, stream, proven, base_url, auth, kind, parts }
    }
}

/// Returns true if the other streams are still read after this failure. It concerns one stream; all other failures
/// concern the connection or the login.
pub(super) fn skippable(failure: &Failure) -> bool {
    matches!(
        failure.class,
        Class::PermissionDenied | Class::NotFound | Class::Remote | Class::WrongService | Class::Misconfigured
    )
}

/// Returns the name of a stream, or what stands for one that has no name of its own.
pub(super) fn named(stream: &str) -> &str {
    match stream {
        "" => "the list of its streams",
        "dynamic_properties" => "the fields of a stream",
        name => name,
    }
}

pub(super) fn reason(failure: &Failure) -> String {
    match failure.detail.is_empty() {
        true => failure.title.clone(),
        false => format!("{}; {}", failure.title, failure.detail),
    }
}

pub(super) fn json(value: &Value) -> Json {
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
