//! A source of one's own: a manifest from the policy's folder, bound to a resource id and a credential.
//!
//! Without knowledge of the vendor little can be proven. The hosts that may be called are those that the
//! manifest names with this config, or those that the policy lists; a bare resource id fills one key of the
//! config or must be such a host; whose data it is shows only a call that the policy names as identity.

use super::binding::{Authorization, Binding, custom_identity};
use super::calls::{self, Address, OfflineHost, Reading};
use crate::clock::Clock;
use crate::connectors::{CredentialNeed, Family};
use crate::credentials::Credential;
use crate::model::{Class, Digest, Failure, Place, Posts, Problem};
use crate::policy::{self, Policy, SourcePolicy};
use ::lowcode::bounds::Bounds;
use ::lowcode::load::{self, Manifest};
use ::lowcode::problem::{self, Severity};
use ::lowcode::value::{Dict, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Keys of a config that a bare resource id may fill, the likeliest first.
const PLACES: [&str; 16] = [
    "base_url",
    "api_url",
    "url",
    "host",
    "domain",
    "domain_name",
    "subdomain",
    "site",
    "instance",
    "instance_url",
    "shop",
    "workspace",
    "organization",
    "account",
    "account_name",
    "tenant",
];
/// Manifests that are kept ready.
const KEPT: usize = 256;

/// A manifest, and what each resource of it needs to know.
struct Ready {
    manifest: Arc<Manifest>,
    addresses: Vec<Address>,
    /// The streams that its `check` reads.
    check: Vec<String>,
    /// Its spec marks secrets.
    secrets: bool,
}

impl Ready {
    fn new(manifest: Manifest) -> Ready {
        let check = manifest.root.get("check").and_then(|check| check.get("stream_names")).and_then(Value::as_list);
        Ready {
            addresses: calls::addresses(&manifest.root),
            check: check.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_string).collect(),
            secrets: properties(&manifest).is_some_and(|all| all.values().any(has_secret)),
            manifest: Arc::new(manifest),
        }
    }
}

type Loaded = Result<Arc<Ready>, Vec<Problem>>;

/// Read manifests, by the digest of their text.
static LOADED: LazyLock<Mutex<BTreeMap<Digest, Loaded>>> = LazyLock::new(Mutex::default);

/// A source of one's own under one policy.
pub struct CustomSource {
    name: &'static str,
    least_privilege: &'static str,
    rules: SourcePolicy,
    found: Option<Arc<policy::Manifest>>,
    folder: String,
}

/// A resource id of a custom source, parsed.
pub struct CustomResource {
    source: CustomSource,
    ready: Arc<Ready>,
    id: String,
    /// What the resource id says of the config.
    config: Dict,
    /// The resource id fills no key of the config, so it must be a host that the manifest calls.
    bare: bool,
    pub account: String,
}

/// Everything that is wrong with a manifest, for the list of problems.
#[must_use]
pub fn problems(manifest: &policy::Manifest) -> Vec<Problem> {
    loaded(manifest).err().unwrap_or_default()
}

fn loaded(manifest: &policy::Manifest) -> Loaded {
    let mut all = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.get(&manifest.digest) {
        return known.clone();
    }
    let bounds = Bounds::default();
    let read = load::load(&manifest.text, &manifest.file, &bounds)
        .and_then(|read| read.runnable().map(|()| Arc::new(Ready::new(read))))
        .map_err(|problems| problems.iter().map(|problem| told(problem, &manifest.file)).collect());
    if all.len() >= KEPT {
        all.clear();
    }
    all.insert(manifest.digest, Loaded::clone(&read));
    read
}

/// The problem in the words of all other problems.
fn told(problem: &problem::Problem, file: &str) -> Problem {
    let what = match problem.severity {
        Severity::Unsupported => format!("not supported: {}", problem.message),
        Severity::Warning | Severity::Error => problem.message.clone(),
    };
    let found = problem.found.as_ref().map(|found| format!("; found {found}")).unwrap_or_default();
    let hint = match (&problem.nearest, problem.allowed.is_empty()) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, false) => format!("allowed: {}", problem.allowed.join(", ")),
        (None, true) => String::new(),
    };
    let told = Problem::new(problem.path.clone(), format!("{what}{found}")).in_file(file).hint(hint);
    match problem.place {
        Some(place) => told.at(Place { line: place.line, column: place.column }),
        None => told,
    }
}

impl CustomSource {
    #[must_use]
    pub fn new(family: &'static Family, policy: &Policy) -> CustomSource {
        CustomSource {
            name: family.id,
            least_privilege: family.least_privilege,
            rules: policy.manifests.source(family.id),
            found: policy.manifests.found.get(family.id).cloned(),
            folder: policy.manifests.dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default(),
        }
    }

    /// Parses the resource id `id`.
    ///
    /// # Errors
    /// `Unsupported` without a manifest; `Misconfigured` for the manifest, or for keys that its config does not have.
    pub fn parse(self, id: &str, clock: &Arc<dyn Clock>) -> Result<CustomResource, Failure> {
        let ready = self.ready()?;
        let (config, bare) = self.config_of(&ready.manifest, id)?;
        let mut resource = CustomResource { source: self, ready, id: id.to_string(), config, bare, account: short(id) };
        if let Some(origin) = resource.bind(Authorization::Unknown, clock)?.origins.into_iter().next() {
            resource.account = origin;
        }
        Ok(resource)
    }

    fn ready(&self) -> Result<Arc<Ready>, Failure> {
        let Some(found) = &self.found else {
            let title = format!("there is no manifest for {}", self.name);
            return Err(Failure::new(Class::Unsupported, title, format!("put it into {}/{}.yaml", self.folder, self.name)));
        };
        loaded(found).map_err(|problems| {
            let words: Vec<String> = problems.iter().take(5).map(ToString::to_string).collect();
            let title = format!("the manifest {} cannot be used: {} problem(s)", found.file, problems.len());
            Failure::new(Class::Misconfigured, title, "mend the manifest; aam check shows all of them").detail(words.join("; "))
        })
    }

    /// The POSTs that the policy lists.
    fn posts(&self) -> Posts {
        Posts { list: format!("manifests.sources.{}.posts in the policy", self.name), rules: self.rules.posts.clone() }
    }

    fn origins(&self, ready: &Ready, config: &Value, clock: &Arc<dyn Clock>) -> BTreeSet<String> {
        if !self.rules.hosts.is_empty() {
            return self.rules.hosts.iter().cloned().collect();
        }
        let (still, bounds) = (OfflineHost(Arc::clone(clock)), Bounds::default());
        let reading = Reading { manifest: &ready.manifest.root, config, host: &still, bounds: &bounds };
        reading.origins(&ready.addresses)
    }

    /// What the resource id says of the config; true when it fills no key and must be a host.
    fn config_of(&self, manifest: &Manifest, id: &str) -> Result<(Dict, bool), Failure> {
        let empty = Dict::default();
        let known = properties(manifest).unwrap_or(&empty);
        let mut config = Dict::default();
        if !id.contains('=') {
            let key = self.rules.resource.as_deref().or(PLACES.into_iter().find(|key| known.contains_key(*key)));
            if let Some(key) = key {
                config.insert(key.into(), Value::str(id));
            }
            return Ok((config, key.is_none()));
        }
        for pair in id.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = |words: String, fix: String| Err(Failure::new(Class::Misconfigured, words, fix));
            let names = || known.keys().map(|key| &**key).collect::<Vec<_>>().join(", ");
            match known.get(key) {
                // A manifest without a spec does not say what its config holds.
                None if known.is_empty() => config.insert(key.into(), Value::str(value)),
                None => {
                    return wrong(
                        format!("the config of {} has no {}", self.name, short(key)),
                        format!("its keys are {}", names()),
                    );
                }
                Some(property) if has_secret(property) => {
                    return wrong(format!("{key} of {} is a secret", self.name), "put it behind credential_locator".to_string());
                }
                Some(property) => config.insert(key.into(), typed(property, value)),
            };
        }
        Ok((config, false))
    }

    /// Every required key is there.
    fn complete(&self, config: &Dict, manifest: &Manifest) -> Result<(), Failure> {
        let required = specification(manifest).and_then(|spec| spec.get("required")).and_then(Value::as_list).unwrap_or_default();
        let missing: Vec<&str> = required.iter().filter_map(Value::as_str).filter(|key| !config.contains_key(*key)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let secret = properties(manifest).and_then(|all| all.get(*first)).is_some_and(has_secret);
        let (class, title) = match secret {
            true => (Class::CredentialMissing, format!("the credential of {} lacks {}", self.name, missing.join(", "))),
            false => (Class::Misconfigured, format!("the config of {} lacks {}", self.name, missing.join(", "))),
        };
        Err(Failure::new(
            class,
            title,
            format!(
                "a JSON object with {} behind the locator, or NAME=VALUE in resource_ids for what is no secret",
                missing.join(", ")
            ),
        ))
    }
}

impl CustomResource {
    #[must_use]
    pub fn credential_need(&self) -> CredentialNeed {
        if self.ready.secrets { CredentialNeed::Required } else { CredentialNeed::Optional }
    }

    /// Puts the credential into the config.
    ///
    /// # Errors
    /// `Misconfigured` and `CredentialMissing`, which name the keys of the config.
    pub fn bind(&self, authorization: Authorization<'_>, clock: &Arc<dyn Clock>) -> Result<Binding, Failure> {
        let CustomResource { source, ready, id, .. } = self;
        let manifest = &ready.manifest;
        let mut config = self.config.clone();
        if let Authorization::Known(Some(credential)) = authorization {
            add_credential(&mut config, credential, manifest, source.name)?;
        }
        defaults(&mut config, manifest);
        let is_attempt = matches!(authorization, Authorization::Known(_));
        if is_attempt {
            source.complete(&config, manifest)?;
        }
        let config = Value::Dict(config);
        let origins = source.origins(ready, &config, clock);
        let hosts: Vec<&str> = origins.iter().map(|origin| origin.split("://").last().unwrap_or_default()).collect();
        if self.bare && is_attempt && !hosts.iter().any(|host| host.eq_ignore_ascii_case(id)) {
            return Err(Failure::new(
                Class::Misconfigured,
                format!("the manifest of {} does not call the host {}", source.name, short(id)),
                format!("write {}, or NAME=VALUE for a key of its config", hosts.join(" or ")),
            ));
        }
        let wanted = source.rules.resource.as_ref().and_then(|key| config.get(key)).map_or(id.clone(), Value::to_str);
        Ok(Binding {
            title: source.name.to_string(),
            resource: short(id),
            least_privilege: source.least_privilege.to_string(),
            account: origins.iter().next().cloned().unwrap_or_else(|| short(id)),
            posts: source.posts(),
            limits: Vec::new(),
            streams: Vec::new(),
            health: ready.check.clone(),
            auth: String::new(),
            parts: BTreeMap::new(),
            identity: source.rules.identity.as_ref().map(|rule| custom_identity(&rule.stream, &rule.field, &wanted)),
            privilege: None,
            errors: None,
            probes: false,
            secrets_by_spec: ready.secrets,
            manifest: Arc::clone(manifest),
            config,
            origins,
        })
    }
}

/// Puts the fields of the credential in; a value that is no JSON is the only secret there is.
fn add_credential(config: &mut Dict, credential: &Credential, manifest: &Manifest, name: &str) -> Result<(), Failure> {
    let empty = Dict::default();
    let known = properties(manifest).unwrap_or(&empty);
    if let Some(plain) = credential.plain() {
        let secrets: Vec<&Arc<str>> = known.iter().filter(|(_, property)| is_secret(property)).map(|(key, _)| key).collect();
        let [key] = secrets.as_slice() else {
            let names: Vec<&str> = known.keys().map(|key| &**key).collect();
            return Err(Failure::new(
                Class::CredentialMissing,
                format!("a plain credential does not say which key of the config of {name} it is"),
                format!("a JSON object with some of {} behind the locator", names.join(", ")),
            ));
        };
        config.insert(Arc::clone(key), Value::str(plain.expose().trim()));
        return Ok(());
    }
    for field in credential.field_names() {
        match (known.get(field), credential.field(field)) {
            (Some(property), Some(value)) => config.insert(field.into(), typed(property, value.expose())),
            (None, Some(value)) if known.is_empty() => config.insert(field.into(), Value::str(value.expose())),
            _ => None,
        };
    }
    Ok(())
}

fn defaults(config: &mut Dict, manifest: &Manifest) {
    for (key, property) in properties(manifest).into_iter().flatten() {
        if let Some(default) = property.get("default").filter(|_| !config.contains_key(key)) {
            config.insert(Arc::clone(key), default.clone());
        }
    }
}

/// A text as the property wants it.
fn typed(property: &Value, text: &str) -> Value {
    let kind = property.get("type").and_then(Value::as_str).unwrap_or("string");
    match kind {
        "string" => Value::str(text),
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::str(text)),
    }
}

fn specification(manifest: &Manifest) -> Option<&Value> {
    manifest.root.get("spec")?.get("connection_specification")
}

fn properties(manifest: &Manifest) -> Option<&Dict> {
    specification(manifest)?.get("properties")?.as_dict()
}

fn is_secret(property: &Value) -> bool {
    property.get("airbyte_secret").is_some_and(Value::truthy)
}

/// The property or one below it is a secret.
fn has_secret(property: &Value) -> bool {
    // The loader bounds the depth of a manifest.
    is_secret(property)
        || property.get("properties").and_then(Value::as_dict).is_some_and(|all| all.values().any(has_secret))
        || property.get("oneOf").and_then(Value::as_list).is_some_and(|all| all.iter().any(has_secret))
}

/// A stranger's text, short enough for one line.
#[must_use]
pub fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
