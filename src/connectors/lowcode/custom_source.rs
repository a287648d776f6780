//! A custom source: a manifest from the policy's folder, bound to a resource id and a credential.
//!
//! AAM knows nothing about the vendor of a custom source, so it can prove little about it. Calls may go only to the
//! hosts that the manifest names with this config and to those that the policy lists. A resource id without `=` sets
//! one key of the config; if the config does not have such a key, the id must be one of these hosts. Whose data the
//! source returns is proven only if the policy names an identity call.

use super::binding::{Authorization, Binding, custom_identity, list_of_streams};
use super::calls::{self, Address, OfflineHost, Reading};
use super::login::TokenFacts;
use crate::clock::Clock;
use crate::connectors::CredentialNeed;
use crate::credentials::Credential;
use crate::families::{CredentialField, Family, Login};
use crate::model::{Class, Failure, Posts, Recipient};
use crate::policy::{Policy, SourcePolicy};
use ::lowcode::bounds::Bounds;
use ::lowcode::load::Manifest;
use ::lowcode::source::SharedManifest;
use ::lowcode::value::{Dict, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The config keys that a resource id without `=` sets, unless the policy names a key: the first of these that the
/// config has.
const RESOURCE_KEYS: [&str; 16] = [
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
/// A loaded manifest, with the values that all of its resources share.
struct PreparedManifest {
    manifest: Arc<SharedManifest>,
    addresses: Vec<Address>,
    /// The streams that the manifest's `check` reads, without those that AAM cannot read.
    check: Vec<String>,
    /// True if the manifest's spec marks fields as secret.
    secrets: bool,
}

impl PreparedManifest {
    fn new(manifest: &Arc<SharedManifest>) -> PreparedManifest {
        PreparedManifest {
            addresses: calls::addresses(&manifest.root),
            check: manifest.checked_streams().streams,
            secrets: properties(manifest).is_some_and(|all| all.values().any(has_secret)),
            manifest: Arc::clone(manifest),
        }
    }
}

/// A custom source under one policy.
pub struct CustomSource {
    family: Arc<Family>,
    rules: SourcePolicy,
    folder: String,
}

/// A parsed resource id of a custom source.
pub struct CustomResource {
    source: CustomSource,
    prepared: PreparedManifest,
    id: String,
    /// The part of the config that the resource id sets.
    config: Dict,
    /// True if the resource id does not set any key of the config and so must be a host that the manifest calls.
    bare: bool,
    pub account: String,
}

impl CustomSource {
    #[must_use]
    pub fn new(family: &Arc<Family>, policy: &Policy) -> CustomSource {
        CustomSource {
            family: Arc::clone(family),
            rules: policy.manifests.source(&family.id),
            folder: policy.manifests.dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default(),
        }
    }

    /// Parses the resource id `id`.
    ///
    /// # Errors
    /// Returns `Unsupported` if there is no manifest, and `NotMappable` if `id` sets keys that its config does not have, or
    /// is not a host that the manifest calls.
    pub fn parse(self, id: &str, clock: &Arc<dyn Clock>) -> Result<CustomResource, Failure> {
        let prepared = self.prepare()?;
        let (config, bare) = self.config_of(&prepared.manifest, id)?;
        let mut resource = CustomResource { source: self, prepared, id: id.to_string(), config, bare, account: short(id) };
        if let Some(origin) = resource.bind(Authorization::Unknown, clock)?.origins.into_iter().next() {
            resource.account = origin;
        }
        Ok(resource)
    }

    fn prepare(&self) -> Result<PreparedManifest, Failure> {
        let name = &self.family.id;
        let manifest = self.family.manifest.as_ref().ok_or_else(|| {
            let title = format!("the manifest of {name} was not found");
            Failure::new(Class::Unsupported, title, format!("put it into {}/{name}.yaml", self.folder))
        })?;
        Ok(PreparedManifest::new(&manifest.manifest))
    }

    /// Returns the path of the manifest, for messages.
    fn file(&self) -> &str {
        self.family.manifest.as_ref().map_or("", |manifest| manifest.file.as_str())
    }

    /// Returns the POST rules that the policy lists for this source.
    fn posts(&self) -> Posts {
        Posts { list: format!("manifests.sources.{}.posts in the policy", self.family.id), rules: self.rules.posts.clone() }
    }

    fn origins(&self, prepared: &PreparedManifest, config: &Value, clock: &Arc<dyn Clock>) -> BTreeSet<String> {
        if !self.rules.hosts.is_empty() {
            return self.rules.hosts.iter().cloned().collect();
        }
        let (still, bounds) = (OfflineHost(Arc::clone(clock)), Bounds::default());
        let reading = Reading { manifest: &prepared.manifest.root, config, host: &still, bounds: &bounds };
        reading.origins(&prepared.addresses)
    }

    /// Returns the config keys that the resource id sets, and true if it does not set any and so must be a host.
    fn config_of(&self, manifest: &Manifest, id: &str) -> Result<(Dict, bool), Failure> {
        let empty = Dict::default();
        let known = properties(manifest).unwrap_or(&empty);
        let mut config = Dict::default();
        if !id.contains('=') {
            let key = self.rules.resource.as_deref().or(RESOURCE_KEYS.into_iter().find(|key| known.contains_key(*key)));
            if let Some(key) = key {
                config.insert(key.into(), Value::str(id));
            }
            return Ok((config, key.is_none()));
        }
        for pair in id.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let invalid = |title: String, fix: String| Err(Failure::new(Class::NotMappable, title, fix));
            let names = || known.keys().map(|key| &**key).collect::<Vec<_>>().join(", ");
            match known.get(key) {
                // Without a spec, the keys of the config are not known, so every key is accepted.
                None if known.is_empty() => config.insert(key.into(), Value::str(value)),
                None => {
                    return invalid(
                        format!("the config of {} does not have the key {}", self.family.id, short(key)),
                        format!("its keys are {}", names()),
                    );
                }
                Some(property) if has_secret(property) => {
                    return invalid(
                        format!("{key} of {} is a secret", self.family.id),
                        "store it behind credential_locator".to_string(),
                    );
                }
                Some(property) => config.insert(key.into(), typed(property, value)),
            };
        }
        Ok((config, false))
    }

    /// Checks that the config has every required key.
    fn complete(&self, config: &Dict, manifest: &Manifest) -> Result<(), Failure> {
        let required = specification(manifest).and_then(|spec| spec.get("required")).and_then(Value::as_list).unwrap_or_default();
        let missing: Vec<&str> = required.iter().filter_map(Value::as_str).filter(|key| !config.contains_key(*key)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let secret = properties(manifest).and_then(|all| all.get(*first)).is_some_and(has_secret);
        let (class, title) = match secret {
            true => {
                (Class::CredentialMissing, format!("the credential of {} does not have {}", self.family.id, missing.join(", ")))
            }
            false => (Class::Misconfigured, format!("the config of {} does not have {}", self.family.id, missing.join(", "))),
        };
        Err(Failure::new(
            class,
            title,
            format!(
                "store a JSON object with {} behind credential_locator, or write NAME=VALUE into resource_ids for what is not secret",
                missing.join(", ")
            ),
        ))
    }
}

impl CustomResource {
    #[must_use]
    pub fn credential_need(&self) -> CredentialNeed {
        if self.prepared.secrets { CredentialNeed::Required } else { CredentialNeed::Optional }
    }

    /// Returns the hosts that the resource id chose: those of the manifest's addresses that are different without it. If
    /// the policy lists the hosts of the source, there are none.
    ///
    /// # Errors
    /// Returns `CredentialMissing` if the credential does not fit the config.
    pub fn free_hosts(&self, credential: Option<&Credential>, clock: &Arc<dyn Clock>) -> Result<Vec<Recipient>, Failure> {
        let CustomResource { source, prepared, .. } = self;
        // Addresses that do not depend on the config are the same with and without the resource id.
        if !source.rules.hosts.is_empty() || !prepared.addresses.iter().any(Address::is_template) {
            return Ok(Vec::new());
        }
        let (host, bounds) = (OfflineHost(Arc::clone(clock)), Bounds::default());
        let filled = |mut config: Dict| -> Result<Value, Failure> {
            if let Some(credential) = credential {
                add_credential(&mut config, credential, &prepared.manifest, &source.family.id)?;
            }
            defaults(&mut config, &prepared.manifest);
            Ok(Value::Dict(config))
        };
        let (with, without) = (filled(self.config.clone())?, filled(Dict::default())?);
        let reading = |config| Reading { manifest: &prepared.manifest.root, config, host: &host, bounds: &bounds };
        let origins = reading(&with).origins_unlike(&reading(&without), &prepared.addresses);
        Ok(origins.iter().filter_map(|origin| Recipient::from_url(&url::Url::parse(origin).ok()?)).collect())
    }

    /// Puts the credential into the config.
    ///
    /// # Errors
    /// Returns `Misconfigured` or `CredentialMissing`, with the names of the config keys, or `NotMappable` if the resource
    /// id is not a host that the manifest calls.
    pub fn bind(&self, authorization: Authorization<'_>, clock: &Arc<dyn Clock>) -> Result<Binding, Failure> {
        let CustomResource { source, prepared, id, .. } = self;
        let manifest = &prepared.manifest;
        let mut config = self.config.clone();
        if let Authorization::Known(Some(credential)) = authorization {
            add_credential(&mut config, credential, manifest, &source.family.id)?;
        }
        defaults(&mut config, manifest);
        let is_attempt = matches!(authorization, Authorization::Known(_));
        if is_attempt {
            source.complete(&config, manifest)?;
        }
        let config = Value::Dict(config);
        let origins = source.origins(prepared, &config, clock);
        let hosts: Vec<&str> = origins.iter().map(|origin| origin.split("://").last().unwrap_or_default()).collect();
        // Without the credential, the hosts are certain only if they do not depend on the config.
        let certain = is_attempt || !source.rules.hosts.is_empty() || !prepared.addresses.iter().any(Address::is_template);
        if self.bare && certain && !hosts.iter().any(|host| host.eq_ignore_ascii_case(id)) {
            return Err(Failure::new(
                Class::NotMappable,
                format!("the manifest of {} does not call the host {}", source.family.id, short(id)),
                format!("write {}, or NAME=VALUE for a key of its config", hosts.join(" or ")),
            ));
        }
        let wanted = source.rules.resource.as_ref().and_then(|key| config.get(key)).map_or(id.clone(), Value::to_str);
        Ok(Binding {
            title: source.family.id.to_string(),
            resource: short(id),
            least_privilege: source.family.least_privilege.clone(),
            account: origins.iter().next().cloned().unwrap_or_else(|| short(id)),
            posts: source.posts(),
            signer: None,
            limits: Vec::new(),
            hosts_fix: HOSTS_FIX.to_string(),
            user_agent: String::new(),
            streams: Vec::new(),
            generated: None,
            dynamic: false,
            described: None,
            more: BTreeMap::new(),
            sampled: Vec::new(),
            health: prepared.check.clone(),
            keeps_health: false,
            auth: String::new(),
            token: TokenFacts::default(),
            first: None,
            then_base_url: None,
            otherwise: None,
            otherwise_if: Class::CredentialRejected,
            kind: String::new(),
            base_url: format!("url_base in the manifest {}, or the config keys it uses (resource_ids)", source.file()),
            list_of_streams: list_of_streams(manifest),
            parts: BTreeMap::new(),
            identity: source.rules.identity.as_ref().map(|rule| custom_identity(&rule.stream, &rule.field, &wanted)),
            privilege: None,
            errors: None,
            schemas: &[],
            blind: None,
            empty: None,
            ends: None,
            method_ends: None,
            probes: false,
            secrets_by_spec: prepared.secrets,
            manifest: Arc::clone(manifest),
            config,
            origins,
        })
    }
}

/// How to allow calls to another host of a custom source.
pub const HOSTS_FIX: &str = "if the API has several hosts, list them as hosts of the source under manifests.sources in the policy; \
                             if not, correct the URL in the manifest";

/// Puts the fields of the credential into the config. A credential that is not JSON becomes the value of the only
/// secret key, and so does a minted token if no field has the name of that key.
fn add_credential(config: &mut Dict, credential: &Credential, manifest: &Manifest, name: &str) -> Result<(), Failure> {
    let empty = Dict::default();
    let known = properties(manifest).unwrap_or(&empty);
    let secrets: Vec<&Arc<str>> = known.iter().filter(|(_, property)| is_secret(property)).map(|(key, _)| key).collect();
    // A secret of a vault that has one field is a plain value and a field; the field says which key it is.
    let names_a_key = credential.field_names().iter().any(|field| known.contains_key(*field));
    if let Some(plain) = credential.plain().filter(|_| !names_a_key) {
        let [key] = secrets.as_slice() else {
            let names: Vec<&str> = known.keys().map(|key| &**key).collect();
            let fix = match names.as_slice() {
                [] => "store a JSON object with the config keys of the manifest behind credential_locator".to_string(),
                names => format!("store a JSON object with some of {} behind credential_locator", names.join(", ")),
            };
            return Err(Failure::new(
                Class::CredentialMissing,
                format!("a credential that is not JSON does not say which key of the config of {name} it is"),
                fix,
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
    // A credential with a token type is a token that AAM minted. A manifest may call it by any name.
    if let ([key], Some(token), Some(_)) = (secrets.as_slice(), credential.field("access_token"), credential.field("token_type"))
        && credential.field(key).is_none()
    {
        config.insert(Arc::clone(key), Value::str(token.expose().trim()));
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

/// Converts `text` to the type that `property` declares.
fn typed(property: &Value, text: &str) -> Value {
    let kind = property.get("type").and_then(Value::as_str).unwrap_or("string");
    match kind {
        "string" => Value::str(text),
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::str(text)),
    }
}

/// Returns the way to log in that the spec of a custom source's manifest describes, or `None` if the manifest has no secret.
/// A text that is not JSON is the value of the only secret.
#[must_use]
pub fn login(manifest: &Manifest) -> Option<Login> {
    let known = properties(manifest)?;
    let required = specification(manifest)?.get("required").and_then(Value::as_list).unwrap_or_default();
    let is_required = |key: &str| required.iter().any(|name| name.as_str() == Some(key));
    let secrets: Vec<&str> = known.iter().filter(|(_, property)| has_secret(property)).map(|(key, _)| &**key).collect();
    let only = known.iter().filter(|(_, property)| is_secret(property)).count() == 1;
    // The token of a service principal or a consent fits only where the manifest expects a token.
    let is_token = only && secrets.iter().all(|key| key.contains("token") && !key.contains("refresh"));
    let fields = known.iter().map(|(key, property)| {
        let secret = has_secret(property);
        let text = ["description", "title"].iter().find_map(|name| property.get(name)?.as_str()).unwrap_or("a key of the config");
        let place = if secret { "" } else { " (not a secret: resource_ids may set it)" };
        CredentialField {
            name: short(key),
            about: format!("{}{place}", short(text)),
            optional: !(secret && (is_required(key) || secrets.len() == 1)),
        }
    });
    let fields: Vec<CredentialField> = fields.collect();
    (!secrets.is_empty()).then(|| Login {
        name: "config".to_string(),
        about: "the config of the manifest".to_string(),
        fields,
        plain: only.then(|| secrets.iter().map(|key| short(key).to_ascii_uppercase()).collect()),
        principals: if is_token { vec!["oauth2_client".to_string(), "token".to_string()] } else { Vec::new() },
        settings: BTreeMap::new(),
        consent: is_token,
    })
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

/// Returns true if the property or a nested one is a secret.
fn has_secret(property: &Value) -> bool {
    // The loader bounds the depth of a manifest, and with it this recursion.
    is_secret(property)
        || property.get("properties").and_then(Value::as_dict).is_some_and(|all| all.values().any(has_secret))
        || property.get("oneOf").and_then(Value::as_list).is_some_and(|all| all.iter().any(has_secret))
}

/// Cuts an untrusted text so that it fits on one line.
#[must_use]
pub fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}
