//! What a policy allows, as lists that a reviewer can read without knowing the file. Pure.

use crate::families::{self, Family};
use crate::model::text::counted;
use crate::model::{Cap, Timestamp};
use crate::page::parts::percent;
use crate::policy::duration_text::format as duration;
use crate::policy::{OidcRole, Policy, Token, Webhook};

/// What a policy allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub allowlist: Vec<String>,
    /// The rules that apply to every connection, each with its name.
    pub rules: Vec<(String, String)>,
    /// The call budgets of the allowed families.
    pub caps: Vec<CapLine>,
    /// Addresses and folders beyond those of the vendors, by the key of the policy that lists them.
    pub hosts: Vec<(String, Vec<String>)>,
    /// The places of credentials, by the key of the policy that lists them. Locators and names, never values.
    pub credentials: Vec<(String, Vec<String>)>,
    /// The tokens, and then the roles of people who sign in with OpenID Connect.
    pub tokens: Vec<TokenLine>,
    pub webhooks: Vec<WebhookLine>,
}

/// The call budget of one account of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct CapLine {
    pub family: String,
    pub cap: Cap,
    /// Whether the policy sets it. Otherwise it is the default of the family.
    pub is_set: bool,
}

/// A token, without anything that proves it.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLine {
    pub name: String,
    pub scopes: Vec<String>,
    pub namespaces: Vec<String>,
    pub expires: Option<Timestamp>,
    /// The locators that its intents may name.
    pub locators: Vec<String>,
    /// The hosts that these credentials may be sent to, if the resource id chooses the host.
    pub hosts: Vec<String>,
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookLine {
    pub name: String,
    pub host: String,
    pub form: String,
    pub events: Vec<String>,
    /// Empty for all namespaces.
    pub namespaces: Vec<String>,
}

impl Summary {
    /// Reads what `policy` allows.
    #[must_use]
    pub fn new(policy: &Policy) -> Summary {
        Summary {
            allowlist: policy.allowlist.iter().cloned().collect(),
            rules: rules(policy),
            caps: policy.allowlist.iter().map(|family| cap(policy, family)).collect(),
            hosts: hosts(policy),
            credentials: credentials(policy),
            tokens: policy.api.tokens.iter().map(token).chain(roles(policy)).collect(),
            webhooks: policy.notify.iter().map(webhook).collect(),
        }
    }

    /// Leaves out what concerns all namespaces.
    #[must_use]
    pub fn without_registry(self) -> Summary {
        Summary { allowlist: self.allowlist, rules: self.rules, caps: self.caps, ..Summary::default() }
    }
}

fn rules(policy: &Policy) -> Vec<(String, String)> {
    let (eligibility, mode, reconcile) = (&policy.eligibility, &policy.safe_mode, &policy.reconcile);
    let items = counted(usize::try_from(mode.max_items).unwrap_or(usize::MAX), "item");
    let leaving = match reconcile.max_retire {
        None => "any number of connections may leave at once".to_string(),
        Some(limit) => format!(
            "more than {}, or {} % of a namespace, are held until a person confirms it",
            counted(limit.connections, "connection"),
            limit.percent
        ),
    };
    let rules = [
        ("Service level", format!("{} of the eligible connections are active", percent(policy.slo.coverage))),
        (
            "Eligible",
            format!(
                "evidence {}; risk at most {}; confidence in the owner at least {}",
                eligibility.evidence.join(" or "),
                eligibility.max_risk.as_str(),
                eligibility.min_confidence
            ),
        ),
        (
            "Safe Mode",
            format!(
                "a first sync reads at most {items} of each stream; a step takes at most {}, an attempt {}; AAM never writes to a source",
                duration(&mode.step_timeout),
                duration(&mode.attempt_timeout)
            ),
        ),
        (
            "Checks",
            format!(
                "health every {}, schema every {}, a missing credential every {}",
                duration(&policy.recheck.health),
                duration(&policy.recheck.drift),
                duration(&policy.recheck.awaiting_credentials)
            ),
        ),
        ("Attempts at the same time", reconcile.concurrency.to_string()),
        ("Leaving at once", leaving),
        (
            "Recorded calls",
            format!("kept for {}", counted(usize::try_from(policy.evidence.keep_calls).unwrap_or(usize::MAX), "day")),
        ),
    ];
    rules.into_iter().map(|(name, text)| (name.to_string(), text)).collect()
}

fn cap(policy: &Policy, family: &str) -> CapLine {
    let default = families::find(family).map_or_else(|| Family::custom(family).cap, |known| known.cap.clone());
    CapLine {
        family: family.to_string(),
        cap: policy.cap(family, Some(&default)).clone(),
        is_set: policy.caps.families.contains_key(family),
    }
}

/// Keeps the entries that list something.
fn listed(entries: Vec<(String, Vec<String>)>) -> Vec<(String, Vec<String>)> {
    entries.into_iter().filter(|(_, values)| !values.is_empty()).collect()
}

fn hosts(policy: &Policy) -> Vec<(String, Vec<String>)> {
    let (network, api) = (&policy.network, &policy.api);
    let mut entries = vec![
        ("network.allow_private".to_string(), network.allow_private.iter().map(ToString::to_string).collect()),
        ("network.allow_weak_login".to_string(), network.allow_weak_login.iter().map(ToString::to_string).collect()),
        ("network.proxy".to_string(), network.proxy.iter().cloned().collect()),
        ("files.roots".to_string(), policy.files.roots.iter().map(|root| root.display().to_string()).collect()),
    ];
    for (family, own) in &policy.families {
        entries.push((format!("families.{family}.base_url"), own.base_url.iter().cloned().collect()));
        entries.push((format!("families.{family}.hosts"), own.hosts.iter().map(ToString::to_string).collect()));
    }
    for (name, source) in &policy.manifests.sources {
        entries.push((format!("manifests.sources.{name}.hosts"), source.hosts.clone()));
    }
    for (name, connector) in &policy.airbyte.connectors {
        let run = format!("{} {}", connector.run.message(), connector.version);
        entries.push((format!("airbyte.connectors.{name}.run"), vec![run.trim_end().to_string()]));
        entries.push((format!("airbyte.connectors.{name}.hosts"), connector.hosts.clone()));
    }
    let platform = policy.airbyte.platform.iter().map(|platform| platform.url.to_string());
    entries.push(("airbyte.platform.url".to_string(), platform.collect()));
    entries.push(("api.oidc.issuer".to_string(), api.oidc.iter().map(|oidc| oidc.issuer.clone()).collect()));
    entries.push(("api.hosts".to_string(), api.hosts.clone()));
    entries.push(("api.cors.origins".to_string(), api.cors_origins.clone()));
    entries.push(("api.frame_ancestors".to_string(), api.frame_ancestors.clone()));
    listed(entries)
}

fn credentials(policy: &Policy) -> Vec<(String, Vec<String>)> {
    let credentials = &policy.credentials;
    let mut entries = vec![
        ("credentials.secrets_dir".to_string(), vec![credentials.secrets_dir.display().to_string()]),
        ("credentials.files".to_string(), credentials.files.iter().map(|folder| folder.display().to_string()).collect()),
        ("credentials.vault.address".to_string(), credentials.vault.iter().map(|vault| vault.address.clone()).collect()),
        ("credentials.principals".to_string(), credentials.principals.keys().map(|name| format!("sp:{name}")).collect()),
        ("credentials.consents".to_string(), credentials.consents.keys().map(|name| format!("consent:{name}")).collect()),
    ];
    for (namespace, patterns) in &credentials.namespaces {
        let patterns = patterns.iter().map(|pattern| pattern.as_str().to_string()).collect();
        entries.push((format!("credentials.namespaces.{namespace}"), patterns));
    }
    listed(entries)
}

fn token(token: &Token) -> TokenLine {
    TokenLine {
        name: token.name.clone(),
        scopes: token.scopes.iter().map(|scope| scope.as_str().to_string()).collect(),
        namespaces: token.namespaces.iter().cloned().collect(),
        expires: token.expires,
        locators: token.grant.locators.iter().map(|pattern| pattern.as_str().to_string()).collect(),
        hosts: token.grant.hosts.iter().map(|pattern| pattern.as_str().to_string()).collect(),
    }
}

/// What people may do who sign in with OpenID Connect. Their sessions end, but a role does not.
fn roles(policy: &Policy) -> Vec<TokenLine> {
    let roles = policy.api.oidc.iter().flat_map(|oidc| &oidc.roles);
    let line = |role: &OidcRole| TokenLine {
        name: format!("people whose {} is {}", role.claim, role.value),
        scopes: role.scopes.iter().map(|scope| scope.as_str().to_string()).collect(),
        namespaces: role.namespaces.iter().cloned().collect(),
        expires: None,
        locators: Vec::new(),
        hosts: Vec::new(),
    };
    roles.map(line).collect()
}

fn webhook(webhook: &Webhook) -> WebhookLine {
    WebhookLine {
        name: webhook.name.clone(),
        host: webhook.address.host(),
        form: webhook.form.as_str().to_string(),
        events: webhook.types().into_iter().map(|kind| kind.as_str().to_string()).collect(),
        namespaces: webhook.namespaces.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::parse::parse;

    #[test]
    fn a_summary_names_what_is_allowed_and_no_digest_of_a_token() {
        let digest = "ab".repeat(32);
        let text = format!(
            "version: 1\nallowlist: [jdbc, acme_crm]\nmanifests: {{dir: manifests}}\nnetwork: {{allow_private: [10.4.0.0/16]}}\ncaps: {{families: {{jdbc: {{per_second: 1, burst: 2, per_day: 30, concurrency: 1}}}}}}\napi:\n  tokens:\n    - {{name: ci, sha256: \"{digest}\", scopes: [\"registry:read\"], namespaces: [a], expires: \"2026-12-01T00:00:00Z\"}}\n"
        );
        let policy = parse(&text, "policy.yaml").expect("a policy");
        let summary = Summary::new(&policy);
        assert_eq!(summary.allowlist, ["acme_crm", "jdbc"]);
        assert!(summary.hosts.contains(&("network.allow_private".to_string(), vec!["10.4.0.0/16".to_string()])));
        assert!(summary.hosts.iter().all(|(_, values)| !values.is_empty()));
        let caps: Vec<(u64, bool)> = summary.caps.iter().map(|line| (line.cap.per_day, line.is_set)).collect();
        assert_eq!(caps, [(500, false), (30, true)]);
        let token = summary.tokens.first().expect("a token");
        assert_eq!(
            (token.name.as_str(), token.expires.map(Timestamp::rfc3339).as_deref()),
            ("ci", Some("2026-12-01T00:00:00.000Z"))
        );
        assert!(!format!("{summary:?}").contains(&digest));
        let other = summary.without_registry();
        assert!(other.tokens.is_empty() && other.hosts.is_empty() && other.credentials.is_empty() && !other.caps.is_empty());
    }
}
