//! Every key of the policy, and when a change of it allows more.
//!
//! A test reads the keys that the parser knows and fails for a key that has no row here, and for a row whose example the
//! comparison does not describe. docs/policy-changes.md shows the table.

use super::super::Policy;
use super::change::{Changes, Effect};
use serde_json::Value;

/// One key of the policy.
#[derive(Debug)]
pub struct Rule {
    /// The path of the key. `*` is the name of an entry; the items of a list have the path of the list.
    pub key: &'static str,
    /// When a change of the key is wider, for people; `never` if it only changes how AAM works.
    pub wider: &'static str,
}

const fn rule(key: &'static str, wider: &'static str) -> Rule {
    Rule { key, wider }
}

const NEVER: &str = "never";
const RAISED: &str = "raised";
const ADDED: &str = "an entry is added";
const CHANGED: &str = "set or changed";

/// The table.
pub const RULES: &[Rule] = &[
    rule("version", NEVER),
    rule("namespace", "the new namespace has credentials of its own"),
    rule("slo.coverage", NEVER),
    rule("eligibility.evidence", ADDED),
    rule("eligibility.max_risk", RAISED),
    rule("eligibility.min_confidence", "lowered"),
    rule("safe_mode.max_items", RAISED),
    rule("safe_mode.step_timeout", NEVER),
    rule("safe_mode.attempt_timeout", NEVER),
    rule("allowlist", "a family is added"),
    rule("network.allow_private", "a range is added that no other range covers"),
    rule("network.proxy", "set, changed or removed"),
    rule("network.ca_file", CHANGED),
    rule("network.allow_weak_login", ADDED),
    rule("files.roots", "a folder is added that no other folder covers"),
    rule("caps.default.per_second", RAISED),
    rule("caps.default.burst", RAISED),
    rule("caps.default.per_day", RAISED),
    rule("caps.default.concurrency", RAISED),
    rule("caps.families.*.per_second", "raised, also above the family's default"),
    rule("caps.families.*.burst", "raised, also above the family's default"),
    rule("caps.families.*.per_day", "raised, also above the family's default"),
    rule("caps.families.*.concurrency", "raised, also above the family's default"),
    rule("backoff.initial", NEVER),
    rule("backoff.max", NEVER),
    rule("backoff.jitter", NEVER),
    rule("breaker.failures", NEVER),
    rule("breaker.open_for", NEVER),
    rule("recheck.health", NEVER),
    rule("recheck.drift", NEVER),
    rule("recheck.awaiting_credentials", NEVER),
    rule("reconcile.concurrency", NEVER),
    rule("reconcile.resync", NEVER),
    rule("reconcile.memory", NEVER),
    rule("reconcile.max_retire", "set to none"),
    rule("reconcile.max_retire.connections", RAISED),
    rule("reconcile.max_retire.percent", RAISED),
    rule("reconcile.confirm", "a held change is confirmed"),
    rule("evidence.keep_calls", "lowered, so that recorded calls are deleted earlier"),
    rule("evidence.head_file", "set, changed or removed"),
    rule("evidence.head_webhook", "set, changed or removed"),
    rule("registry.keep", NEVER),
    rule("families.*.engine", "changed from native to auto or airbyte, or from auto to airbyte"),
    rule("families.*.base_url", "set, changed or removed"),
    rule("families.*.hosts", "a server is added"),
    rule("families.*.region", "set, changed or removed"),
    rule("families.*.health_path", CHANGED),
    rule("families.*.deny_operations", "an operation is removed from the list"),
    rule("families.*.services.match", "an entry with a wider setting is added, or the order changes"),
    rule("families.*.services.base_url", "set, changed or removed"),
    rule("families.*.services.health_path", CHANGED),
    rule("families.*.services.deny_operations", "an operation is removed from the list"),
    rule("families.*.services.auth", "changed to anything but none"),
    rule("manifests.dir", "set or changed, or a manifest in it is added or changed"),
    rule("manifests.sources.*.hosts", "a host is added, or the list is removed, so that the manifest chooses"),
    rule("manifests.sources.*.resource", NEVER),
    rule("manifests.sources.*.identity.stream", "changed, or identity is removed"),
    rule("manifests.sources.*.identity.field", "changed, or identity is removed"),
    rule("manifests.sources.*.posts", "a POST is added or changed"),
    rule("airbyte.dir", "changed"),
    rule("airbyte.memory", NEVER),
    rule("airbyte.allow_weaker_confinement", "set to true"),
    rule("airbyte.connectors.*.run", "a connector is added, or another program runs"),
    rule("airbyte.connectors.*.version", "changed"),
    rule("airbyte.connectors.*.sha256", "changed or removed"),
    rule("airbyte.connectors.*.config", "changed"),
    rule("airbyte.connectors.*.hosts", ADDED),
    rule("airbyte.connectors.*.posts", "a POST is added or changed"),
    rule("airbyte.connectors.*.memory", NEVER),
    rule("airbyte.connectors.*.streams", "a stream is added, or the list is removed, so that the connector chooses"),
    rule("airbyte.connectors.*.readable", ADDED),
    rule("airbyte.platform.url", CHANGED),
    rule("airbyte.platform.workspace", CHANGED),
    rule("airbyte.platform.credential", CHANGED),
    rule("credentials.namespaces.*", "a locator is added, or one stops being reserved for a namespace"),
    rule("credentials.secrets_dir", "changed"),
    rule("credentials.files", "a folder is added that no other folder covers"),
    rule("credentials.vault.address", "set or changed"),
    rule("credentials.vault.ca_file", CHANGED),
    rule("credentials.vault.namespace", "set, changed or removed"),
    rule("credentials.vault.path", "set, changed or removed"),
    rule("credentials.vault.kv_ttl", RAISED),
    rule("credentials.vault.login.*", "changed"),
    rule("credentials.principals.*", "a principal is added or changed, except for expires and for fewer scopes"),
    rule("credentials.consents.*", "a consent is added or changed, except for fewer scopes"),
    rule("credentials.consent_store.file", "changed"),
    rule("credentials.consent_store.key", "set, changed or removed"),
    rule("credentials.caps.vault.*", RAISED),
    rule("credentials.caps.tokens.*", RAISED),
    rule("handoff.vendors.*", "a vendor is added or changed"),
    rule("handoff.statuses.*", "a status is added or changed"),
    rule("handoff.namespaces.*", "a tenant is added, changed or removed"),
    rule("notify.name", "a webhook is added"),
    rule("notify.url", "set or changed"),
    rule("notify.url_locator", "set or changed"),
    rule("notify.host", "set or changed"),
    rule("notify.form", NEVER),
    rule("notify.secret", CHANGED),
    rule("notify.on", "an event is added"),
    rule("notify.namespaces", "a namespace is added, or the list is removed"),
    rule("api.hosts", "a name is added"),
    rule("api.rate.per_second", RAISED),
    rule("api.rate.burst", RAISED),
    rule("api.cors.origins", "an origin is added"),
    rule("api.frame_ancestors", "an origin is added"),
    rule("api.api_key_header", "set to true"),
    rule("api.enforce_slo", NEVER),
    rule("api.mcp", "set to true"),
    rule("api.oidc.issuer", CHANGED),
    rule("api.oidc.client_id", CHANGED),
    rule("api.oidc.client_secret", "set, changed or removed"),
    rule("api.oidc.redirect", "set, changed or removed"),
    rule("api.oidc.scopes", "a scope is added"),
    rule("api.oidc.roles.claim", "a role is added, one is removed and a later one allows more, or the order changes"),
    rule("api.oidc.roles.value", "changed"),
    rule("api.oidc.roles.scopes", "a scope is added"),
    rule("api.oidc.roles.namespaces", "a namespace is added"),
    rule("api.tokens.name", "a token is added, or the last one is removed, so that the admin token counts again"),
    rule("api.tokens.sha256", "changed"),
    rule("api.tokens.scopes", "a scope is added"),
    rule("api.tokens.namespaces", "a namespace is added"),
    rule("api.tokens.expires", "later, or removed"),
    rule("api.tokens.locators", "a locator is added that no other covers"),
    rule("api.tokens.hosts", "a host is added"),
];

/// Marks a section that differs although no change of it was described, so that nothing passes unseen.
pub fn undescribed(old: &Policy, new: &Policy, out: &mut Changes) {
    let (Ok(Value::Object(was)), Ok(Value::Object(is))) = (serde_json::to_value(old), serde_json::to_value(new)) else { return };
    for (section, value) in &is {
        let before = was.get(section).cloned().unwrap_or_default();
        let described = out.0.iter().any(|change| change.key.split('.').next() == Some(section));
        if section != "digest" && !described && normal(before) != normal(value.clone()) {
            out.add(section, Effect::Wider, format!("{section} changes in a way that this version does not describe"));
        }
    }
}

/// Removes what has no meaning: the order of lists, and entries without content.
fn normal(value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(normal).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| (key, normal(value)));
            Value::Object(entries.filter(|(_, value)| !is_empty(value)).collect())
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
