//! Binds one resource to its manifest: the config, the hosts, the POST rules and the probes. Does not use the network.

use super::address::{self, AddressPolicy, ResourceLocation};
use super::custom_source::{CustomResource, CustomSource};
use super::family_spec::{
    AuthMethod, Blind, CallCounts, DescribedSchema, EmptyNote, EndSource, Errors, FirstStream, Identity, Limit, Match, Normal,
    Privilege, ResourceKind,
};
use super::login::{self, TokenFacts, auth_method, fields};
use super::signing_spec;
use super::spec::{self, Spec};
use super::text_spec::WrongKind;
use super::wrong_kind;
use crate::clock::Clock;
use crate::connectors::CredentialNeed;
use crate::credentials::{Credential, Signer};
use crate::families::Family;
use crate::model::{Class, Failure, PostRule, Posts, Recipient, Timestamp};
use crate::policy::{ListedServer, Policy};

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
    pub(super) family: Arc<Family>,
    pub(super) spec: &'static Spec,
    pub(super) id: String,
    pub(super) location: ResourceLocation,
    pub(super) kind: &'static ResourceKind,
    /// `families.NAME.base_url` of the policy.
    pub(super) policy_base_url: Option<String>,
    /// `families.NAME.hosts` of the policy.
    pub(super) policy_hosts: Vec<ListedServer>,
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
    /// Signs the requests, if the family's credentials are not sent as they are.
    pub signer: Option<Signer>,
    pub limits: Vec<Limit>,
    /// What to do if a response names another host.
    pub hosts_fix: String,
    /// The header `User-Agent`; empty for the one of AAM.
    pub user_agent: String,
    /// The data streams in the order in which the tiny sync reads them; empty means all streams of the manifest.
    pub streams: Vec<String>,
    /// If present, the streams are generated from a response of the source, and this many of them are described.
    pub generated: Option<usize>,
    /// True if generated streams are described besides `streams`.
    pub dynamic: bool,
    /// With `dynamic`, the maximum number of generated streams to describe, if there is one.
    pub described: Option<usize>,
    /// With `dynamic`, where responses of streams say that the source has more than was generated.
    pub more: BTreeMap<String, String>,
    /// With `dynamic`, the dynamic streams whose generated streams the tiny sync also reads.
    pub sampled: Vec<String>,
    /// The streams that the health step reads.
    pub health: Vec<String>,
    /// True if the health step reads them besides the call that proved the identity.
    pub keeps_health: bool,
    /// The name of the authentication method, which the evidence shows.
    pub auth: String,
    /// What the access token itself says.
    pub token: TokenFacts,
    /// The stream whose record becomes part of the config before any other stream is built.
    pub first: Option<FirstStream>,
    /// The base URL to use once `first` has been read, as a template.
    pub then_base_url: Option<String>,
    /// The binding to use if the source rejects the credential with this one.
    pub otherwise: Option<Box<Binding>>,
    /// The class of the failure after which `otherwise` is used.
    pub otherwise_if: Class,
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
    pub schemas: &'static [DescribedSchema],
    pub blind: Option<&'static Blind>,
    pub empty: Option<&'static EmptyNote>,
    pub ends: Option<&'static EndSource>,
    /// When the vendor ends all credentials of the authentication method.
    pub method_ends: Option<Timestamp>,
    /// True if discovery reads one record of each stream to find out whether the credential may read it. Only families
    /// do this, because they have few streams.
    pub probes: bool,
    /// True if the manifest's spec marks its secrets, so that other fields of the credential may be part of a URL.
    pub secrets_by_spec: bool,
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
        match spec::find(&family.id) {
            Some(spec) => ParsedResource::with_spec(family, spec, policy, id),
            None => CustomSource::new(family, policy).parse(id, clock).map(ParsedResource::Custom),
        }
    }

    /// Parses `id` for a family with this specification.
    ///
    /// # Errors
    /// As for [`ParsedResource::parse`].
    pub fn with_spec(family: &Arc<Family>, spec: &'static Spec, policy: &Policy, id: &str) -> Result<ParsedResource, Failure> {
        let set = policy.family(&family.id);
        let known =
            AddressPolicy { family: &family.id, title: &family.title, base_url: set.base_url.as_deref(), hosts: &set.hosts };
        let (location, kind) = spec.patterns.locate(&spec.form, id, &known)?;
        Ok(ParsedResource::Family(FamilyResource {
            family: Arc::clone(family),
            spec,
            id: id.to_string(),
            location,
            kind,
            policy_base_url: set.base_url,
            policy_hosts: set.hosts,
        }))
    }

    /// Returns the name of the kind of resource; custom sources have no kinds.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            ParsedResource::Family(resource) => &resource.kind.name,
            ParsedResource::Custom(_) => "",
        }
    }

    /// Returns the part `name` of the resource id.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&str> {
        match self {
            ParsedResource::Family(resource) => resource.location.parts.get(name).map(String::as_str),
            ParsedResource::Custom(_) => None,
        }
    }

    /// Returns the calls of the family's file. A custom source does not say its calls.
    #[must_use]
    pub fn calls(&self) -> Option<CallCounts> {
        match self {
            ParsedResource::Family(resource) => resource.spec.form.calls,
            ParsedResource::Custom(_) => None,
        }
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
            ParsedResource::Family(resource) => &resource.location.account,
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
}

impl FamilyResource {
    /// The authentication methods for this kind of resource.
    pub(super) fn methods(&self) -> Vec<&'static AuthMethod> {
        let fits = |method: &&AuthMethod| method.kinds.is_empty() || method.kinds.contains(&self.kind.name);
        self.spec.form.auth.iter().filter(fits).collect()
    }

    /// The credentials that are of the wrong kind for this kind of resource.
    fn wrong_kinds(&self) -> Vec<WrongKind> {
        let concerns = |wrong: &&WrongKind| wrong.kinds.is_empty() || wrong.kinds.contains(&self.kind.name);
        self.spec.form.wrong_kinds.iter().filter(concerns).cloned().collect()
    }

    fn bind(&self, authorization: Authorization<'_>) -> Result<Binding, Failure> {
        let (family, methods) = (&self.family, self.methods());
        let method = match authorization {
            Authorization::Known(credential) => {
                let wrong = credential.and_then(|credential| wrong_kind::check(&self.wrong_kinds(), credential, family));
                wrong.map_or_else(|| auth_method(&methods, credential, family), Err)?
            }
            Authorization::Unknown => methods.last().ok_or_else(|| unsupported(family))?,
        };
        let mut binding = self.bind_method(method, authorization)?;
        let other = methods.iter().find(|other| method.otherwise.as_ref() == Some(&other.name));
        if let Some(other) = other.filter(|_| matches!(authorization, Authorization::Known(_))) {
            let other = self.bind_method(other, authorization)?;
            binding.origins.extend(other.origins.iter().cloned());
            binding
                .posts
                .rules
                .extend(other.posts.rules.iter().filter(|rule| !binding.posts.rules.contains(rule)).cloned().collect::<Vec<_>>());
            binding.otherwise = Some(Box::new(other));
        }
        Ok(binding)
    }

    fn bind_method(&self, method: &'static AuthMethod, authorization: Authorization<'_>) -> Result<Binding, Failure> {
        let (family, form, methods) = (&self.family, &self.spec.form, self.methods());
        let location = self.location(authorization)?;
        let mut config = Dict::default();
        config.insert("auth".into(), Value::str(method.name.as_str()));
        for (name, value) in &location.parts {
            config.insert(name.as_str().into(), Value::str(value.as_str()));
        }
        for (name, url) in &location.servers {
            config.insert(name.as_str().into(), Value::str(url.as_str()));
        }
        let mut fixed = location.parts.clone();
        let mut health = vec![method.health.clone()];
        let mut token = TokenFacts::default();
        let mut signer = None;
        match authorization {
            Authorization::Known(credential) => {
                let fields = credential.and_then(|credential| fields(method, credential)).unwrap_or_default();
                token = TokenFacts::new(fields.values(), credential);
                signer = login::signer(method, &fields, &location.parts, &location.base_url)?;
                for (name, value) in fields {
                    config.insert(name.as_str().into(), Value::str(value.as_str()));
                    fixed.insert(format!("credential.{name}"), value);
                }
                // What the token says of itself chooses paths: whose roles are asked for, for example.
                if token.claims.is_object()
                    && let Ok(claims) = serde_json::from_value(token.claims.clone())
                {
                    config.insert("claims".into(), claims);
                }
            }
            // The authentication method is not known yet, so the plan lists the health calls of all methods.
            Authorization::Unknown => {
                health = methods.iter().map(|method| method.health.clone()).collect();
                health.extend(methods.iter().filter_map(|method| Some(method.first.as_ref()?.stream.clone())));
                for name in methods.iter().flat_map(|method| &method.needs) {
                    fixed.insert(format!("credential.{name}"), format!("{{{name}}}"));
                    config.insert(name.as_str().into(), Value::str(format!("{{{name}}}")));
                }
            }
        }
        if let Authorization::Known(credential) = authorization
            && !form.signing.is_empty()
        {
            signer = Some(signing_spec::signer(&form.signing, credential, &location.parts)?);
        }
        let manifest = self.spec.loaded()?;
        let then_base_url = self.method_base_url(method).filter(|_| matches!(authorization, Authorization::Known(_)));
        let urls = [&location.base_url].into_iter().chain(location.servers.values()).chain(&then_base_url);
        let origins = urls.filter_map(|text| Some(url::Url::parse(text).ok()?.origin().ascii_serialization())).collect();
        Ok(Binding {
            title: family.title.clone(),
            resource: self.id.clone(),
            least_privilege: family.least_privilege.clone(),
            list_of_streams: list_of_streams(&manifest),
            manifest,
            config: Value::Dict(config),
            origins,
            account: location.account,
            posts: posts(family, &form.posts, &fixed),
            signer,
            limits: form.limits.clone(),
            hosts_fix: format!(
                "a response of {} names that host. If it is the same server under its own name, use the name in resource_ids and \
                 in families.{}.base_url or hosts of the policy; if it is not, check what answers in place of {}",
                family.title, family.id, family.title
            ),
            user_agent: form.user_agent.replace("{version}", env!("CARGO_PKG_VERSION")),
            streams: self.kind.streams.clone(),
            generated: self.kind.generated,
            dynamic: self.kind.dynamic,
            described: self.kind.described,
            more: self.kind.more.clone(),
            sampled: self.kind.sampled.clone(),
            health,
            keeps_health: method.keeps_health,
            auth: method.name.clone(),
            token,
            first: method.first.clone(),
            then_base_url,
            otherwise: None,
            otherwise_if: super::errors::class(&method.otherwise_if).unwrap_or(Class::CredentialRejected),
            kind: self.kind.name.clone(),
            base_url: format!("families.{}.base_url in the policy (it is {})", family.id, location.base_url),
            identity: form.identity.iter().find(|rule| rule.kind == self.kind.name).cloned(),
            privilege: Some(&form.privilege),
            errors: Some(&form.errors),
            schemas: &form.schemas,
            blind: form.blind.as_ref().filter(|blind| blind.kinds.is_empty() || blind.kinds.contains(&self.kind.name)),
            empty: form.empty.as_ref(),
            ends: form.ends.as_ref(),
            method_ends: method.ends.as_deref().and_then(super::identity::end),
            parts: location.parts,
            // A generated stream is described by a call of its own, which proves that it may be read.
            probes: self.kind.generated.is_none(),
            secrets_by_spec: method.is_pair && method.needs.get(1).is_some_and(|field| self.marks_secret(field)),
        })
    }
}

/// Returns the config with another base URL.
#[must_use]
pub fn with_base_url(config: &Value, base_url: &str) -> Value {
    with_text(config, "base_url", base_url)
}

/// Returns the config with another value of `key`.
#[must_use]
pub fn with_text(config: &Value, key: &str, text: &str) -> Value {
    let mut config = config.as_dict().cloned().unwrap_or_else(Dict::default);
    config.insert(key.into(), Value::str(text));
    Value::Dict(config)
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
        vec![Match { field: field.to_string(), equals: wanted.to_string(), normal: Normal::Caseless, ..Match::default() }];
    Identity { stream: stream.to_string(), matches, ..Identity::default() }
}

fn unsupported(family: &Family) -> Failure {
    let title = format!("the file of the family {} has no authentication method", family.id);
    Failure::new(Class::Bug, title, "report this as a defect of AAM")
}
