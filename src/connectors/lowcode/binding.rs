//! One resource, bound to its manifest: config, hosts, POSTs, probes. No network.

use super::address::{self, Place};
use super::calls::{OfflineHost, Planned, Reading};
use super::custom_source::{self, CustomSource};
use super::family_spec::{AuthMethod, Errors, Identity, Limit, Normal, Privilege};
use super::spec::{self, Spec};
use crate::clock::Clock;
use crate::connectors::Need;
use crate::credentials::Credential;
use crate::egress::PlannedCall;
use crate::families::Family;
use crate::model::{Class, Failure, PostRule, Posts};
use crate::policy::Policy;
use ::lowcode::bounds::Bounds;
use ::lowcode::source::SharedManifest;
use ::lowcode::value::{Dict, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A family as this engine serves it under a policy.
pub enum Source {
    /// One of AAM's own, with the policy's base address.
    Family {
        family: Arc<Family>,
        spec: &'static Spec,
        base_url: Option<String>,
    },
    CustomSource(Box<CustomSource>),
}

/// Everything that opening a resource needs.
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
    /// The data, in the order in which the tiny sync reads it; empty: all streams of the manifest.
    pub streams: Vec<String>,
    /// The streams whose reading proves health.
    pub health: Vec<String>,
    /// The way in, for the evidence.
    pub auth: String,
    pub parts: BTreeMap<String, String>,
    pub identity: Option<Identity>,
    pub privilege: Option<&'static Privilege>,
    pub errors: Option<&'static Errors>,
    /// Discovery looks whether each stream may be read. Only where the streams are few.
    pub probes: bool,
    /// The spec marks its secrets, so that other texts of the credential may stand in an address.
    pub secrets_by_spec: bool,
}

impl Source {
    #[must_use]
    pub fn of(family: &Arc<Family>, policy: &Policy) -> Source {
        match spec::find(&family.id) {
            Some(spec) => Source::Family { family: Arc::clone(family), spec, base_url: policy.family(&family.id).base_url },
            None => Source::CustomSource(Box::new(CustomSource::of(family, policy))),
        }
    }

    /// Judges the resource id by itself.
    ///
    /// # Errors
    /// `Misconfigured` with the forms there are, or with what is wrong with the manifest.
    pub fn accepts(&self, id: &str) -> Result<(), Failure> {
        match self {
            Source::Family { .. } => self.place(id).map(|_| ()),
            Source::CustomSource(own) => own.accepts(id),
        }
    }

    #[must_use]
    pub fn need(&self) -> Need {
        match self {
            Source::Family { .. } => Need::Required,
            Source::CustomSource(own) => own.need(),
        }
    }

    #[must_use]
    pub fn account(&self, id: &str, clock: &Arc<dyn Clock>) -> String {
        match self {
            Source::Family { spec, .. } => {
                let place = self.place(id);
                place.ok().and_then(|(place, _)| address::fill(&spec.form.address.account, &place.parts).ok()).unwrap_or_default()
            }
            Source::CustomSource(own) => own.account(id, clock),
        }
    }

    /// Every call of an attempt, without a credential: what it fixes is written as `{name}`.
    #[must_use]
    pub fn planned(&self, id: &str, clock: &Arc<dyn Clock>) -> Vec<PlannedCall> {
        let Ok(binding) = self.bound(id, None, clock) else { return Vec::new() };
        let still = OfflineHost(Arc::clone(clock));
        let bounds = Bounds::default();
        let reading = Reading { manifest: &binding.manifest.root, config: &binding.config, host: &still, bounds: &bounds };
        let wanted = |planned: &Planned| {
            let probe = binding.identity.as_ref().is_some_and(|identity| identity.stream == planned.stream);
            binding.streams.is_empty()
                || probe
                || [&binding.streams, &binding.health].iter().any(|names| names.contains(&planned.stream))
        };
        let mut calls: Vec<PlannedCall> = Vec::new();
        let mut add = |method: String, host: String, path: String| {
            let call = PlannedCall { method, host, path };
            if !calls.contains(&call) {
                calls.push(call);
            }
        };
        for planned in reading.planned().into_iter().filter(wanted) {
            add(planned.method, planned.host, planned.path);
        }
        for post in &binding.posts.rules {
            if let Ok(url) = url::Url::parse(&post.url) {
                let path = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy().into_owned();
                add("POST".to_string(), address::host_of(&url).unwrap_or_default(), path);
            }
        }
        calls
    }

    /// The POSTs of an attempt; none where `id` or the credential does not bind.
    #[must_use]
    pub fn posts(&self, id: &str, credential: Option<&Credential>, clock: &Arc<dyn Clock>) -> Posts {
        match self {
            Source::CustomSource(own) => own.posts(),
            Source::Family { .. } => self.bind(id, credential, clock).map(|binding| binding.posts).unwrap_or_default(),
        }
    }

    /// Binds `id` with the credential.
    ///
    /// # Errors
    /// As [`Source::accepts`]; `CredentialMissing` naming the fields that are not there.
    pub fn bind(&self, id: &str, credential: Option<&Credential>, clock: &Arc<dyn Clock>) -> Result<Binding, Failure> {
        self.bound(id, Some(credential), clock)
    }

    fn bound(&self, id: &str, credential: Option<Option<&Credential>>, clock: &Arc<dyn Clock>) -> Result<Binding, Failure> {
        match self {
            Source::CustomSource(own) => own.bind(id, credential, clock),
            Source::Family { family, spec, .. } => {
                let (place, kind) = self.place(id)?;
                let way = match credential {
                    Some(credential) => way(&spec.form.auth, credential, family)?,
                    None => spec.form.auth.last().ok_or_else(|| unserved(id))?,
                };
                family_binding((family, spec), id, place, kind, (way, credential.flatten()))
            }
        }
    }

    fn place(&self, id: &str) -> Result<(Place, &'static super::family_spec::Kind), Failure> {
        let Source::Family { family, spec, base_url } = self else { return Err(unserved(id)) };
        let place = spec.patterns.place(&spec.form, id, base_url.as_deref(), &family.title)?;
        let kind = spec.form.address.kinds.get(place.kind).ok_or_else(|| unserved(id))?;
        Ok((place, kind))
    }
}

/// The first way in whose fields the credential has.
fn way<'f>(ways: &'f [AuthMethod], credential: Option<&Credential>, family: &Family) -> Result<&'f AuthMethod, Failure> {
    let serves = |way: &&AuthMethod| {
        credential.is_some_and(|credential| match credential.plain() {
            Some(_) => way.needs.len() == 1,
            None => way.needs.iter().all(|field| credential.field(field).is_some()),
        })
    };
    ways.iter().find(serves).ok_or_else(|| {
        let forms: Vec<String> = ways.iter().map(|way| way.needs.join(" and ")).collect();
        Failure::new(
            Class::CredentialMissing,
            format!("the credential of {} lacks what is needed", family.title),
            format!("a JSON object with {}; aam families says what each is", forms.join(", or with ")),
        )
    })
}

/// A field of the credential; a credential that is no JSON is the only field of its way.
fn field(credential: &Credential, name: &str) -> Option<String> {
    let secret = credential.plain().or_else(|| credential.field(name))?;
    Some(secret.expose().trim().to_string())
}

fn family_binding(
    (family, spec): (&Family, &'static Spec),
    id: &str,
    place: Place,
    kind: &'static super::family_spec::Kind,
    (way, credential): (&'static AuthMethod, Option<&Credential>),
) -> Result<Binding, Failure> {
    let form = &spec.form;
    let mut config = Dict::default();
    config.insert("auth".into(), Value::str(way.name.as_str()));
    for (name, value) in &place.parts {
        config.insert(name.as_str().into(), Value::str(value.as_str()));
    }
    let mut fixed = place.parts.clone();
    for name in &way.needs {
        let value = credential.and_then(|credential| field(credential, name));
        fixed.extend(value.iter().map(|value| (format!("credential.{name}"), value.clone())));
        config.insert(name.as_str().into(), Value::str(value.unwrap_or_default()));
    }
    let mut health = vec![way.health.clone()];
    if credential.is_none() {
        // A plan names what any way in would call.
        health = form.auth.iter().map(|way| way.health.clone()).collect();
        for name in form.auth.iter().flat_map(|way| &way.needs) {
            fixed.insert(format!("credential.{name}"), format!("<{name}>"));
        }
    }
    let origin = url::Url::parse(&place.base_url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let account = address::fill(&form.address.account, &place.parts).map_err(|part| address::unfillable(&part))?;
    Ok(Binding {
        title: family.title.to_string(),
        resource: id.to_string(),
        least_privilege: family.least_privilege.to_string(),
        manifest: spec.loaded()?,
        config: Value::Dict(config),
        origins: BTreeSet::from([origin]),
        account,
        posts: posts(family, &form.posts, &fixed),
        limits: form.limits.clone(),
        streams: kind.streams.clone(),
        health,
        auth: way.name.clone(),
        identity: form.identity.iter().find(|rule| rule.kind == kind.name).cloned(),
        privilege: Some(&form.privilege),
        errors: Some(&form.errors),
        parts: place.parts,
        probes: true,
        secrets_by_spec: false,
    })
}

/// The list with its parts filled in; an entry for another way in names what is not there, and falls away.
fn posts(family: &Family, rules: &[PostRule], parts: &BTreeMap<String, String>) -> Posts {
    let fill = |is_address: bool, text: &str| match is_address {
        true => address::fill_address(text, parts),
        false => address::fill(text, parts),
    };
    let rules = rules.iter().filter_map(|rule| rule.filled(&fill).ok()).collect();
    Posts { list: format!("posts in families/{}.yaml", family.id), rules }
}

/// The identity of a source of one's own, from the policy.
#[must_use]
pub fn own_identity(stream: &str, field: &str, wanted: &str) -> Identity {
    let matches =
        vec![super::family_spec::Match { field: field.to_string(), equals: wanted.to_string(), normal: Normal::Caseless }];
    Identity { kind: String::new(), stream: stream.to_string(), matches, show: Vec::new() }
}

/// For an engine that was asked without its family.
#[must_use]
pub fn unserved(id: &str) -> Failure {
    Failure::new(Class::Bug, format!("no family was named for {}", custom_source::shown(id)), "report this as a defect of AAM")
}
