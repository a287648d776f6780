//! A source of one's own: a manifest from the policy's folder, bound to a resource id and a credential.
//!
//! Without knowledge of the vendor little can be proven. The hosts that may be called are those that the
//! manifest names with this config, or those that the policy lists; a bare resource id fills one key of the
//! config or must be such a host; whose data it is shows only a call that the policy names as identity.

use super::binding::{Binding, own_identity};
use super::calls::{self, Address, OfflineHost, Reading};
use crate::clock::Clock;
use crate::connectors::Need;
use crate::credentials::Credential;
use crate::families::Family;
use crate::model::{Class, Failure, Posts};
use crate::policy::{Policy, SourcePolicy};
use ::lowcode::bounds::Bounds;
use ::lowcode::load::Manifest;
use ::lowcode::source::SharedManifest;
use ::lowcode::value::{Dict, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
/// A manifest, and what each resource of it needs to know.
struct Ready {
    manifest: Arc<SharedManifest>,
    addresses: Vec<Address>,
    /// The streams that its `check` reads.
    check: Vec<String>,
    /// Its spec marks secrets.
    secrets: bool,
}

impl Ready {
    fn of(manifest: &Arc<SharedManifest>) -> Ready {
        let check = manifest.root.get("check").and_then(|check| check.get("stream_names")).and_then(Value::as_list);
        Ready {
            addresses: calls::addresses(&manifest.root),
            check: check.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_string).collect(),
            secrets: properties(manifest).is_some_and(|all| all.values().any(has_secret)),
            manifest: Arc::clone(manifest),
        }
    }
}

/// A source of one's own under one policy.
pub struct CustomSource {
    family: Arc<Family>,
    rules: SourcePolicy,
    folder: String,
}

impl CustomSource {
    #[must_use]
    pub fn of(family: &Arc<Family>, policy: &Policy) -> CustomSource {
        CustomSource {
            family: Arc::clone(family),
            rules: policy.manifests.source(&family.id),
            folder: policy.manifests.dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default(),
        }
    }

    fn ready(&self) -> Result<Ready, Failure> {
        let name = &self.family.id;
        let manifest = self.family.manifest.as_ref().ok_or_else(|| {
            let title = format!("there is no manifest for {name}");
            Failure::new(Class::Unsupported, title, format!("put it into {}/{name}.yaml", self.folder))
        })?;
        Ok(Ready::of(&manifest.manifest))
    }

    /// # Errors
    /// `Misconfigured`: the manifest, or pairs that its config does not have.
    pub fn accepts(&self, id: &str) -> Result<(), Failure> {
        self.named(&self.ready()?.manifest, id).map(|_| ())
    }

    #[must_use]
    pub fn need(&self) -> Need {
        match self.ready() {
            Ok(ready) if ready.secrets => Need::Required,
            _ => Need::Optional,
        }
    }

    #[must_use]
    pub fn account(&self, id: &str, clock: &Arc<dyn Clock>) -> String {
        let hosts = self.bind(id, None, clock).map(|binding| binding.origins).unwrap_or_default();
        hosts.into_iter().next().unwrap_or_else(|| shown(id))
    }

    /// The POSTs that the policy lists.
    #[must_use]
    pub fn posts(&self) -> Posts {
        Posts { list: format!("manifests.sources.{}.posts in the policy", self.family.id), rules: self.rules.posts.clone() }
    }

    /// Binds `id`; without a credential for the plan only.
    ///
    /// # Errors
    /// `Misconfigured` and `CredentialMissing`, naming keys of the config.
    pub fn bind(&self, id: &str, credential: Option<Option<&Credential>>, clock: &Arc<dyn Clock>) -> Result<Binding, Failure> {
        let ready = self.ready()?;
        let manifest = &ready.manifest;
        let (mut config, bare) = self.named(manifest, id)?;
        if let Some(credential) = credential.flatten() {
            add_credential(&mut config, credential, manifest, &self.family.id)?;
        }
        defaults(&mut config, manifest);
        if credential.is_some() {
            self.complete(&config, manifest)?;
        }
        let config = Value::Dict(config);
        let origins = self.origins(&ready, &config, clock);
        let hosts: Vec<&str> = origins.iter().map(|origin| origin.split("://").last().unwrap_or_default()).collect();
        if bare && credential.is_some() && !hosts.iter().any(|host| host.eq_ignore_ascii_case(id)) {
            return Err(Failure::new(
                Class::Misconfigured,
                format!("{} is no host of the manifest of {}", shown(id), self.family.id),
                format!("write {}, or NAME=VALUE for a key of its config", hosts.join(" or ")),
            ));
        }
        let wanted = self.rules.resource.as_ref().and_then(|key| config.get(key)).map_or(id.to_string(), Value::to_str);
        Ok(Binding {
            title: self.family.id.to_string(),
            resource: shown(id),
            least_privilege: self.family.least_privilege.clone(),
            account: origins.iter().next().cloned().unwrap_or_else(|| shown(id)),
            posts: self.posts(),
            limits: Vec::new(),
            streams: Vec::new(),
            health: ready.check.clone(),
            auth: String::new(),
            parts: BTreeMap::new(),
            identity: self.rules.identity.as_ref().map(|rule| own_identity(&rule.stream, &rule.field, &wanted)),
            privilege: None,
            errors: None,
            probes: false,
            secrets_by_spec: ready.secrets,
            manifest: Arc::clone(manifest),
            config,
            origins,
        })
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
    fn named(&self, manifest: &Manifest, id: &str) -> Result<(Dict, bool), Failure> {
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
                        format!("the config of {} has no {}", self.family.id, shown(key)),
                        format!("its keys are {}", names()),
                    );
                }
                Some(property) if has_secret(property) => {
                    return wrong(
                        format!("{key} of {} is a secret", self.family.id),
                        "put it behind credential_locator".to_string(),
                    );
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
            true => (Class::CredentialMissing, format!("the credential of {} lacks {}", self.family.id, missing.join(", "))),
            false => (Class::Misconfigured, format!("the config of {} lacks {}", self.family.id, missing.join(", "))),
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
pub fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
