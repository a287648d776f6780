//! Prints a policy with all defaults filled in. `parse` turns the text back into an equal policy.

mod airbyte;
mod credentials;

use super::duration_text::format as duration;
use super::grants::{HostPattern, LocatorPattern};
use super::{
    ApiRate, Cap, EvidencePolicy, FamilyPolicy, Handoff, OidcPolicy, Policy, ServiceAuth, ServicePolicy, Token, Webhook,
    WebhookAddress, size_text,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Returns the text of `policy`. `family_caps` are the default budgets of the families (`families::caps()`); those that
/// the policy does not override are printed as comments under `caps`, ready to be copied.
#[must_use]
pub fn effective(policy: &Policy, family_caps: &[(&str, &Cap)]) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("# All values in force. Policy {}.", policy.digest.short()));
    line(format!("version: {}", policy.version));
    line(format!("namespace: {}", quoted(&policy.namespace)));
    line(format!("slo: {{coverage: {}}}", policy.slo.coverage));
    let eligibility = &policy.eligibility;
    line(format!(
        "eligibility: {{evidence: {}, max_risk: {}, min_confidence: {}}}",
        list(&eligibility.evidence),
        eligibility.max_risk,
        eligibility.min_confidence
    ));
    let mode = &policy.safe_mode;
    let (step, attempt) = (duration(&mode.step_timeout), duration(&mode.attempt_timeout));
    line(format!("safe_mode: {{max_items: {}, step_timeout: {step}, attempt_timeout: {attempt}}}", mode.max_items));
    line(allowlist(policy));
    line(network(policy));
    line(format!("files: {{roots: {}}}", list(policy.files.roots.iter().map(|root| root.to_string_lossy()))));
    line(caps(policy, family_caps));
    let backoff = &policy.backoff;
    line(format!(
        "backoff: {{initial: {}, max: {}, jitter: {}}}",
        duration(&backoff.initial),
        duration(&backoff.max),
        backoff.jitter
    ));
    line(format!("breaker: {{failures: {}, open_for: {}}}", policy.breaker.failures, duration(&policy.breaker.open_for)));
    let recheck = &policy.recheck;
    let [health, drift, awaiting] =
        [&recheck.health, &recheck.drift, &recheck.awaiting_credentials].map(|wait: &Duration| duration(wait));
    line(format!("recheck: {{health: {health}, drift: {drift}, awaiting_credentials: {awaiting}}}"));
    let reconcile = &policy.reconcile;
    let (resync, memory) = (duration(&reconcile.resync), size_text::format(&reconcile.memory));
    let max_retire = reconcile
        .max_retire
        .map_or("none".to_string(), |limit| format!("{{connections: {}, percent: {}}}", limit.connections, limit.percent));
    // Digests are quoted, because some consist of digits only.
    let confirm: Vec<String> = reconcile.confirm.iter().map(|digest| format!("\"{digest}\"")).collect();
    line(format!(
        "reconcile:\n  concurrency: {}\n  resync: {resync}\n  memory: {memory}\n  max_retire: {max_retire}\n  confirm: [{}]",
        reconcile.concurrency,
        confirm.join(", ")
    ));
    line(families(policy));
    line(manifests(policy));
    line(airbyte::airbyte(&policy.airbyte));
    line(credentials::credentials(&policy.credentials));
    line(handoff(&policy.handoff));
    line(notify(policy));
    line(evidence(&policy.evidence));
    line(format!("registry: {{keep: {}}}", policy.registry.keep.map_or("null".to_string(), |days| format!("{days}d"))));
    line(api(policy));
    out
}

fn allowlist(policy: &Policy) -> String {
    if policy.allowlist.is_empty() {
        return "allowlist: []".to_string();
    }
    policy.allowlist.iter().fold("allowlist:".to_string(), |text, family| format!("{text}\n  - {family}"))
}

fn network(policy: &Policy) -> String {
    let network = &policy.network;
    let or_null = |text: Option<String>| text.map_or("null".to_string(), |text| quoted(&text));
    format!(
        "network:\n  allow_private: {}\n  proxy: {}\n  ca_file: {}\n  allow_weak_login: {}",
        list(network.allow_private.iter().map(ToString::to_string)),
        or_null(network.proxy.clone()),
        or_null(network.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned())),
        list(network.allow_weak_login.iter().map(ToString::to_string))
    )
}

/// A budget on one line, as in the policy.
#[must_use]
pub fn cap(cap: &Cap) -> String {
    format!(
        "{{per_second: {}, burst: {}, per_day: {}, concurrency: {}}}",
        cap.per_second, cap.burst, cap.per_day, cap.concurrency
    )
}

fn caps(policy: &Policy, family_caps: &[(&str, &Cap)]) -> String {
    let mut text = format!("caps:\n  default: {}\n", cap(&policy.caps.default));
    let overrides = &policy.caps.families;
    text.push_str(if overrides.is_empty() { "  families: {}" } else { "  families:" });
    for (family, entry) in overrides {
        let _ = write!(text, "\n    {family}: {}", cap(entry));
    }
    let rest: Vec<_> = family_caps.iter().filter(|(family, _)| !overrides.contains_key(*family)).collect();
    if !rest.is_empty() {
        text.push_str("\n    # The defaults of the families, in force unless an entry above overrides them:");
    }
    for (family, entry) in rest {
        let _ = write!(text, "\n    # {family}: {}", cap(entry));
    }
    text
}

fn families(policy: &Policy) -> String {
    if policy.families.is_empty() {
        return "families: {}".to_string();
    }
    let entry = |text: String, (family, set): (&String, &FamilyPolicy)| {
        let services: String = if family == "openapi" { services(&set.services) } else { String::new() };
        format!(
            "{text}\n  {family}:\n    engine: {}\n    base_url: {}\n    hosts: {}\n    region: {}\n    health_path: {}\n    deny_operations: {}{services}",
            set.engine.as_str(),
            or_null(set.base_url.as_ref()),
            list(set.hosts.iter().map(ToString::to_string)),
            or_null(set.region.as_ref()),
            or_null(set.health_path.as_ref()),
            list(&set.deny_operations)
        )
    };
    policy.families.iter().fold("families:".to_string(), entry)
}

fn services(services: &[ServicePolicy]) -> String {
    if services.is_empty() {
        return "\n    services: []".to_string();
    }
    let entry = |text: String, service: &ServicePolicy| {
        let auth = match &service.auth {
            None => "null".to_string(),
            Some(ServiceAuth::Header(name)) => format!("{{header: {}}}", quoted(name)),
            Some(auth) => auth.as_str().to_string(),
        };
        format!(
            "{text}\n      - match: {}\n        base_url: {}\n        health_path: {}\n        deny_operations: {}\n        auth: {auth}",
            quoted(&service.pattern),
            or_null(service.base_url.as_ref()),
            or_null(service.health_path.as_ref()),
            list(&service.deny_operations)
        )
    };
    services.iter().fold("\n    services:".to_string(), entry)
}

fn or_null(value: Option<&String>) -> String {
    value.map_or("null".to_string(), |value| quoted(value))
}

fn manifests(policy: &Policy) -> String {
    let or_null = |value: Option<String>| value.map_or("null".to_string(), |value| quoted(&value));
    let dir = or_null(policy.manifests.dir.as_ref().map(|dir| dir.to_string_lossy().into_owned()));
    if policy.manifests.sources.is_empty() {
        return format!("manifests: {{dir: {dir}, sources: {{}}}}");
    }
    let mut text = format!("manifests:\n  dir: {dir}\n  sources:");
    for (name, source) in &policy.manifests.sources {
        let _ = write!(
            text,
            "\n    {name}:\n      hosts: {}\n      resource: {}",
            list(&source.hosts),
            or_null(source.resource.clone())
        );
        let identity = source.identity.as_ref().map_or("null".to_string(), |identity| {
            format!("{{stream: {}, field: {}}}", quoted(&identity.stream), quoted(&identity.field))
        });
        let _ = write!(text, "\n      identity: {identity}\n      posts:");
        if source.posts.is_empty() {
            text.push_str(" []");
        }
        for post in &source.posts {
            // JSON is valid YAML.
            let _ = write!(text, "\n        - {}", serde_json::to_string(post).unwrap_or_default());
        }
    }
    text
}

fn handoff(handoff: &Handoff) -> String {
    let pairs = |map: &BTreeMap<String, String>| {
        let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    let mut text = "handoff:\n  vendors:".to_string();
    if handoff.vendors.is_empty() {
        text.push_str(" {}");
    }
    for (name, vendor) in &handoff.vendors {
        let owner = &vendor.owner;
        let locator = or_null(vendor.credential_locator.as_ref().map(ToString::to_string).as_ref());
        let _ = write!(
            text,
            "\n    {}:\n      source_type: {}\n      resource_ids: {}\n      credential_locator: {locator}\n      owner: {{user: {}, confidence: {}, why: {}}}\n      risk_level: {}\n      evidence_source: {}",
            quoted(name),
            quoted(&vendor.source_type),
            list(&vendor.resource_ids),
            quoted(&owner.user),
            owner.confidence,
            quoted(&owner.why),
            vendor.risk_level,
            quoted(&vendor.evidence_source)
        );
    }
    let _ = write!(text, "\n  statuses: {}\n  namespaces: {}", pairs(&handoff.statuses), pairs(&handoff.namespaces));
    text
}

fn notify(policy: &Policy) -> String {
    if policy.notify.is_empty() {
        return "notify: []".to_string();
    }
    let entry = |text: String, webhook: &Webhook| {
        let address = match &webhook.address {
            WebhookAddress::Url(url) => format!("url: {}", quoted(url.as_str())),
            WebhookAddress::Stored { url_locator, host } => {
                format!("url_locator: {}\n    host: {}", quoted(&url_locator.to_string()), quoted(host))
            }
        };
        let secret = webhook.secret.as_ref().map(|secret| format!("\n    secret: {}", quoted(&secret.to_string())));
        format!(
            "{text}\n  - name: {}\n    {address}\n    form: {}{}\n    on: {}\n    namespaces: {}",
            quoted(&webhook.name),
            webhook.form.as_str(),
            secret.unwrap_or_default(),
            list(webhook.on.iter().map(|kind| kind.as_str())),
            list(&webhook.namespaces)
        )
    };
    policy.notify.iter().fold("notify:".to_string(), entry)
}

fn evidence(evidence: &EvidencePolicy) -> String {
    let file = or_null(evidence.head_file.as_ref().map(|file| file.to_string_lossy().into_owned()).as_ref());
    let webhook = or_null(evidence.head_webhook.as_ref());
    format!("evidence: {{keep_calls: {}d, head_file: {file}, head_webhook: {webhook}}}", evidence.keep_calls)
}

fn api(policy: &Policy) -> String {
    let ApiRate { per_second, burst } = policy.api.rate;
    let api = &policy.api;
    let head = format!(
        "api:\n  hosts: {}\n  rate: {{per_second: {per_second}, burst: {burst}}}\n  cors: {{origins: {}}}\n  frame_ancestors: {}\n  api_key_header: {}\n  enforce_slo: {}\n  mcp: {}\n  oidc:{}\n  tokens:",
        list(&api.hosts),
        list(&api.cors_origins),
        list(api.frame_ancestors.iter().map(|ancestor| ancestor.trim_matches('\''))),
        api.api_key_header,
        api.enforce_slo,
        api.mcp,
        api.oidc.as_ref().map_or(" null".to_string(), oidc)
    );
    if policy.api.tokens.is_empty() {
        return head + " []";
    }
    let entry = |text: String, token: &Token| {
        let scopes = list(token.scopes.iter().map(|scope| scope.as_str()));
        let (name, namespaces) = (quoted(&token.name), list(&token.namespaces));
        let expires = token.expires.map(|end| format!(", expires: {}", quoted(&end.rfc3339()))).unwrap_or_default();
        let locators = list(token.grant.locators.iter().map(LocatorPattern::as_str));
        let hosts = list(token.grant.hosts.iter().map(HostPattern::as_str));
        format!(
            "{text}\n    - {{name: {name}, sha256: \"{}\", scopes: {scopes}, namespaces: {namespaces}{expires}, locators: {locators}, hosts: {hosts}}}",
            token.sha256
        )
    };
    policy.api.tokens.iter().fold(head, entry)
}

fn oidc(oidc: &OidcPolicy) -> String {
    let secret = or_null(oidc.client_secret.as_ref().map(ToString::to_string).as_ref());
    let mut text = format!(
        "\n    issuer: {}\n    client_id: {}\n    client_secret: {secret}\n    redirect: {}\n    scopes: {}\n    roles:",
        quoted(&oidc.issuer),
        quoted(&oidc.client_id),
        or_null(oidc.redirect.as_ref()),
        list(&oidc.scopes)
    );
    for role in &oidc.roles {
        let scopes = list(role.scopes.iter().map(|scope| scope.as_str()));
        let (claim, value, namespaces) = (quoted(&role.claim), quoted(&role.value), list(&role.namespaces));
        let _ = write!(text, "\n      - {{claim: {claim}, value: {value}, scopes: {scopes}, namespaces: {namespaces}}}");
    }
    text
}

fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// `text` as a YAML scalar: plain if every YAML parser reads it as this text, otherwise quoted.
pub(crate) fn quoted(text: &str) -> String {
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !text.ends_with(':')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':'))
        && !matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    if bare {
        return text.to_string();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
