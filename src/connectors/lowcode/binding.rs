//! Binds one resource to its manifest: the config, the hosts, the POST rules and the probes. Does not use the network.

use super::address::{self, ResourceLocation};
use super::calls::{self, OfflineHost, Reading};
use super::custom_source::{CustomResource, CustomSource};
use super::family_spec::{AuthMethod, Errors, FirstStream, Identity, Limit, Normal, Privilege, ResourceKind};
use super::spec::{self, Spec};
use crate::clock::Clock;
use crate::connectors::CredentialNeed;
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::families::Family;
use crate::model::{Class, Failure, PostRule, Posts, Recipient};
use crate::policy::Policy;
use ::lowcode::bounds::Bounds;
use ::lowcode::source::SharedManifest;
use ::lowcode::value::{Dict, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known about the credential.
#[derive(Clone, Copy)]
pub enum Authorization<'a> {
    /// The credential is not resolved, because only a plan is made. Its fields are written as `{name}`.
    Unknown,
    /// The credential of the intent, if it names one.
    Known(Option<&'a Credential>),
}

/// A parsed resource id of a family or of a custom source.
pub enum ParsedResource {
    Family(FamilyResource),
    Custom(CustomResource),
}

/// A resource of one of AAM's built-in families.
pub struct FamilyResource {
    family: Arc<Family>,
    spec: &'static Spec,
    id: String,
    location: ResourceLocation,
    kind: &'static ResourceKind,
    account: String,
    /// True if the policy names the base URL.
    reviewed_host: bool,
}

/// Everything needed to open a resource.
pub struct Binding {
    pub title: String,
    pub resource: String,
    pub least_privilege: String,
    pub manifest: Arc<SharedManifest>,
    pub config: Value,
    pub origins: BTreeSet<String>,
    pub account: String,
    pub posts: Posts,
    pub limits: Vec<Limit>,
    /// The data streams in the order in which the tiny sync reads them; empty means all streams of the manifest.
    pub streams: Vec<String>,
    /// If present, the streams are generated from a response of the source, and this many of them are described.
    pub generated: Option<usize>,
    /// The streams that the health step reads.
    pub health: Vec<String>,
    /// The name of the authentication method, which the evidence shows.
    pub auth: String,
    /// The stream whose record becomes part of the config before any other stream is built.
    pub first: Option<FirstStream>,
    /// The name of the kind of resource; empty for custom sources.
    pub kind: String,
    /// Where the base address of the calls is configured, as people read it.
    pub base_url: String,
    /// The names of all streams of the manifest, for messages.
    pub list_of_streams: String,
    pub parts: BTreeMap<String, String>,
    pub identity: Option<Identity>,
    pub privilege: Option<&'static Privilege>,
    pub errors: Option<&'static Errors>,
    /// True if discovery reads one record of each stream to find out whether the credential may read it. Only families
    /// do this, because they have few streams.
    pub probes: bool,
    /// True if the manifest's spec marks its secrets, so that other fields of the credential may be part of a URL.
    pub secrets_by_spec: bool,
}

impl Binding {
    /// Returns true if the responses of the static stream `name` must be JSON.
    #[must_use]
    pub fn needs_json(&self, name: &str) -> bool {
        let streams = self.manifest.root.get("streams").and_then(Value::as_list).unwrap_or_default();
        let node = streams.iter().find(|node| node.get("name").and_then(Value::as_str) == Some(name));
        let Some(retriever) = node.and_then(|node| node.get("retriever")) else { return false };
        let decoder = retriever.get("decoder").and_then(|decoder| decoder.get("type")).and_then(Value::as_str);
        retriever.get("type").and_then(Value::as_str) == Some("SimpleRetriever")
            && decoder.is_none_or(|kind| kind == "JsonDecoder")
    }
}

/// Returns the names of the static streams of a manifest.
#[must_use]
pub fn list_of_streams(manifest: &SharedManifest) -> String {
    let streams = manifest.root.get("streams").and_then(Value::as_list).unwrap_or_default();
    let names = streams.iter().filter_map(|node| node.get("name").and_then(Value::as_str));
    names.take(30).collect::<Vec<_>>().join(", ")
}

impl ParsedResource {
    /// Parses `id` for `family` under `policy`.
    ///
    /// # Errors
    /// Returns `NotMappable` with the accepted forms of the id, `Misconfigured` if the base URL in the policy is not valid, or
    /// `Unsupported` if a custom source has no manifest.
    pub fn parse(family: &Arc<Family>, policy: &Policy, id: &str, clock: &Arc<dyn Clock>) -> Result<ParsedResource, Failure> {
        let Some(spec) = spec::find(&family.id) else {
            return CustomSource::new(family, policy).parse(id, clock).map(ParsedResource::Custom);
        };
        let base_url = policy.family(&family.id).base_url;
        let (location, kind) = spec.patterns.locate(&spec.form, id, base_url.as_deref(), &family.title)?;
        let account = address::fill(&spec.form.address.account, &location.parts).map_err(|part| address::unknown_part(&part))?;
        Ok(ParsedResource::Family(FamilyResource {
            family: Arc::clone(family),
            spec,
            id: id.to_string(),
            location,
            kind,
            account,
            reviewed_host: base_url.is_some(),
        }))
    }

    #[must_use]
    pub fn credential_need(&self) -> CredentialNeed {
        match self {
            ParsedResource::Family(_) => CredentialNeed::Required,
            ParsedResource::Custom(resource) => resource.credential_need(),
        }
    }

    #[must_use]
    pub fn account(&self) -> &str {
        match self {
            ParsedResource::Family(resource) => &resource.account,
            ParsedResource::Custom(resource) => &resource.account,
        }
    }

    /// Returns the hosts that the resource id chose.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the credential does not fit the config.
    pub fn free_hosts(&self, credential: Option<&Credential>, clock: &Arc<dyn Clock>) -> Result<Vec<Recipient>, Failure> {
        match self {
            ParsedResource::Family(resource) => Ok(resource.free_hosts()),
            ParsedResource::Custom(resource) => resource.free_hosts(credential, clock),
        }
    }

    /// Adds the credential to the config.
    ///
    /// # Errors
    /// Returns `CredentialMissing` or `Misconfigured`, with the names of the fields.
    pub fn bind(&self, authorization: Authorization<'_>, clock: &Arc<dyn Clock>) -> Result<Binding, Failure> {
        match self {
            ParsedResource::Family(resource) => resource.bind(authorization),
            ParsedResource::Custom(resource) => resource.bind(authorization, clock),
        }
    }

    /// Returns every call that an attempt may make. A value that comes from the credential or from a response is written
    /// as `{name}`.
    #[must_use]
    pub fn planned_calls(&self, clock: &Arc<dyn Clock>) -> Vec<PlannedCall> {
        let Ok(binding) = self.bind(Authorization::Unknown, clock) else { return Vec::new() };
        let host = OfflineHost(Arc::clone(clock));
        let bounds = Bounds::default();
        let reading = Reading { manifest: &binding.manifest.root, config: &binding.config, host: &host, bounds: &bounds };
        let identity = binding.identity.as_ref().map(|identity| identity.stream.as_str());
        let called = |stream: &str| {
            binding.streams.is_empty()
                || identity == Some(stream)
                || [&binding.streams, &binding.health].iter().any(|names| names.iter().any(|name| name == stream))
        };
        let mut calls: Vec<PlannedCall> = Vec::new();
        let listed = binding.posts.rules.iter().filter_map(|rule| calls::planned("POST", &rule.url));
        for call in reading.planned(&called).into_iter().chain(listed) {
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
        calls
    }
}

impl FamilyResource {
    /// The host, unless the policy or the family's file names it.
    fn free_hosts(&self) -> Vec<Recipient> {
        let reviewed = self.reviewed_host || !self.spec.form.address.base_url.contains('{');
        let url = Some(&self.location.base_url).filter(|_| !reviewed).and_then(|text| url::Url::parse(text).ok());
        url.and_then(|url| Recipient::from_url(&url)).into_iter().collect()
    }

    fn bind(&self, authorization: Authorization<'_>) -> Result<Binding, Failure> {
        let (family, form) = (&self.family, &self.spec.form);
        let method = match authorization {
            Authorization::Known(credential) => auth_method(&form.auth, credential, family)?,
            Authorization::Unknown => form.auth.last().ok_or_else(|| unsupported(family))?,
        };
        let mut config = Dict::default();
        config.insert("auth".into(), Value::str(method.name.as_str()));
        for (name, value) in &self.location.parts {
            config.insert(name.as_str().into(), Value::str(value.as_str()));
        }
        let mut fixed = self.location.parts.clone();
        let mut health = vec![method.health.clone()];
        match authorization {
            Authorization::Known(credential) => {
                for name in &method.needs {
                    let value = credential.and_then(|credential| field(credential, name));
                    fixed.extend(value.iter().map(|value| (format!("credential.{name}"), value.clone())));
                    config.insert(name.as_str().into(), Value::str(value.unwrap_or_default()));
                }
            }
            // The authentication method is not known yet, so the plan lists the health calls of all methods.
            Authorization::Unknown => {
                health = form.auth.iter().map(|method| method.health.clone()).collect();
                health.extend(form.auth.iter().filter_map(|method| Some(method.first.as_ref()?.stream.clone())));
                for name in form.auth.iter().flat_map(|method| &method.needs) {
                    fixed.insert(format!("credential.{name}"), format!("{{{name}}}"));
                    config.insert(name.as_str().into(), Value::str(format!("{{{name}}}")));
                }
            }
        }
        let manifest = self.spec.loaded()?;
        let origin = url::Url::parse(&self.location.base_url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        Ok(Binding {
            title: family.title.clone(),
            resource: self.id.clone(),
            least_privilege: family.least_privilege.clone(),
            list_of_streams: list_of_streams(&manifest),
            manifest,
            config: Value::Dict(config),
            origins: BTreeSet::from([origin]),
            account: self.account.clone(),
            posts: posts(family, &form.posts, &fixed),
            limits: form.limits.clone(),
            streams: self.kind.streams.clone(),
            generated: self.kind.generated,
            health,
            auth: method.name.clone(),
            first: method.first.clone(),
            kind: self.kind.name.clone(),
            base_url: format!("families.{}.base_url in the policy (it is {})", family.id, self.location.base_url),
            identity: form.identity.iter().find(|rule| rule.kind == self.kind.name).cloned(),
            privilege: Some(&form.privilege),
            errors: Some(&form.errors),
            parts: self.location.parts.clone(),
            // A generated stream is described by a call of its own, which proves that it may be read.
            probes: self.kind.generated.is_none(),
            secrets_by_spec: false,
        })
    }
}

/// Returns the first method whose fields the credential has.
fn auth_method<'f>(
    methods: &'f [AuthMethod],
    credential: Option<&Credential>,
    family: &Family,
) -> Result<&'f AuthMethod, Failure> {
    let has_fields = |method: &&AuthMethod| {
        credential.is_some_and(|credential| match credential.plain() {
            Some(_) => method.needs.len() == 1,
            None => method.needs.iter().all(|field| credential.field(field).is_some()),
        })
    };
    let has_prefix = |method: &&AuthMethod| {
        let token = method.needs.first().and_then(|name| field(credential?, name)).unwrap_or_default();
        method.prefixes.is_empty() || method.prefixes.iter().any(|prefix| token.starts_with(prefix.as_str()))
    };
    methods.iter().filter(has_fields).find(has_prefix).ok_or_else(|| {
        let mut forms: Vec<String> = methods.iter().map(|method| method.needs.join(" and ")).collect();
        forms.dedup();
        Failure::new(
            Class::CredentialMissing,
            format!("the credential of {} does not have the required fields", family.title),
            format!("store a JSON object with {}; aam families {} explains each field", forms.join(", or with "), family.id),
        )
    })
}

/// Returns a field of the credential. A credential that is not JSON is used as the only field of its method.
fn field(credential: &Credential, name: &str) -> Option<String> {
    let secret = credential.plain().or_else(|| credential.field(name))?;
    Some(secret.expose().trim().to_string())
}

/// Returns the POST rules with the parts filled in. A rule that names a missing part belongs to another authentication
/// method and is left out.
fn posts(family: &Family, rules: &[PostRule], parts: &BTreeMap<String, String>) -> Posts {
    let fill = |is_address: bool, text: &str| match is_address {
        true => address::fill_address(text, parts),
        false => address::fill(text, parts),
    };
    let rules = rules.iter().filter_map(|rule| rule.filled(&fill).ok()).collect();
    Posts { list: format!("posts in families/{}.yaml", family.id), rules }
}

/// Builds the identity rule of a custom source from the policy's settings.
#[must_use]
pub fn custom_identity(stream: &str, field: &str, wanted: &str) -> Identity {
    let matches =
        vec![super::family_spec::Match { field: field.to_string(), equals: wanted.to_string(), normal: Normal::Caseless }];
    Identity { kind: String::new(), stream: stream.to_string(), matches, show: Vec::new() }
}

fn unsupported(family: &Family) -> Failure {
    let title = format!("the file of the family {} has no authentication method", family.id);
    Failure::new(Class::Bug, title, "report this as a defect of AAM")
}
