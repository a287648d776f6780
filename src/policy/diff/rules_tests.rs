//! Every key that the parser knows has a rule, and every rule an example that the comparison describes as the rule says.

use super::super::*;
use super::*;
use crate::policy::parse::{parse, seen};
use crate::policy::read::Seen;
use std::collections::BTreeSet;

/// A policy with every mapping that the parser reads.
const WHOLE: &str = r#"version: 1
allowlist: [openapi]
slo: {coverage: 0.9}
eligibility: {max_risk: low}
safe_mode: {max_items: 1}
network: {allow_private: []}
files: {roots: []}
caps: {default: {burst: 1}, families: {github: {per_second: 1, burst: 1, per_day: 1, concurrency: 1}}}
backoff: {jitter: 0.1}
breaker: {failures: 1}
recheck: {health: 1h}
reconcile: {max_retire: {connections: 1}}
families: {openapi: {services: [{match: "https://a.example/*"}]}}
manifests: {dir: m, sources: {acme: {identity: {stream: a, field: /b}}}}
airbyte: {connectors: {okta: {run: airbyte-source-okta, version: 0.3.26}}, platform: {url: "https://a.example/api", workspace: 2155ae5a-de39-4808-af6a-16fe7b8b4ed2, credential: "env:AIRBYTE"}}
credentials:
  namespaces: {a: ["env:A"]}
  vault: {address: "https://v.example", login: {method: token, token: "env:V"}}
  principals: {p: {kind: entra, tenant: acme, client_id: app, secret: "env:S"}}
  consents: {c: {family: github, client_id: i, redirect: "https://aam.example/consent/callback"}}
  consent_store: {file: c.json}
  caps: {vault: {per_second: 1, burst: 1, per_day: 1, concurrency: 1}, tokens: {per_second: 1, burst: 1, per_day: 1, concurrency: 1}}
evidence: {keep_calls: 90d}
registry: {keep: 30d}
handoff: {vendors: {v: {source_type: github, resource_ids: [a], owner: {user: a@b.example}}}, statuses: {x: y}, namespaces: {t: n}}
notify: [{url: "https://w.example/x", secret: "env:W", on: [drift]}]
api: {rate: {burst: 1}, cors: {origins: []}, oidc: {issuer: "https://l.example", client_id: c, roles: [{claim: g, value: v, scopes: [registry:read], namespaces: [a]}]}, tokens: [{name: t, sha256: "0000000000000000000000000000000000000000000000000000000000000000", scopes: [registry:read], namespaces: [a]}]}
"#;

/// The keys that the parser reads from [`WHOLE`], without those whose values are mappings that it reads too.
fn keys() -> BTreeSet<String> {
    let seen = seen(WHOLE);
    let names: BTreeSet<&str> =
        seen.iter().filter_map(|one| if let Seen::Names(at) = one { Some(at.as_str()) } else { None }).collect();
    let lists: BTreeSet<&str> =
        seen.iter().filter_map(|one| if let Seen::List(at) = one { Some(at.as_str()) } else { None }).collect();
    let path = |pointer: &str| {
        let (mut path, mut at) = (Vec::new(), String::new());
        for segment in pointer.split('/').skip(1) {
            match () {
                () if names.contains(at.as_str()) => path.push("*"),
                () if lists.contains(at.as_str()) => {}
                () => path.push(segment),
            }
            at = format!("{at}/{segment}");
        }
        path.join(".")
    };
    let mut all = BTreeSet::new();
    for one in &seen {
        match one {
            Seen::Keys(at, keys) => all.extend(keys.iter().map(|key| path(&format!("{at}/{key}")))),
            Seen::Names(at) => drop(all.insert(path(&format!("{at}/x")))),
            Seen::List(_) => {}
        }
    }
    all.iter().filter(|key| !all.iter().any(|other| other.starts_with(&format!("{key}.")))).cloned().collect()
}

fn covers(rule: &Rule, key: &str) -> bool {
    rule.key == key || rule.key.strip_suffix(".*").is_some_and(|stem| key.starts_with(&format!("{stem}.")))
}

#[test]
fn every_key_of_the_policy_has_a_rule() {
    let keys = keys();
    assert!(keys.len() > 80 && keys.contains("api.tokens.expires"), "{keys:?}");
    let missing: Vec<&String> = keys.iter().filter(|key| !RULES.iter().any(|rule| covers(rule, key))).collect();
    assert!(missing.is_empty(), "add rows to RULES in src/policy/diff/rules.rs, and describe a change of: {missing:?}");
    let is_known = |key: &&'static str| keys.iter().any(|known| covers(&Rule { key, wider: "" }, known));
    let dead: Vec<&str> = RULES.iter().map(|rule| rule.key).filter(|key| !is_known(key)).collect();
    // The key itself, because it may be `none` instead of a mapping.
    assert_eq!(dead, ["reconcile.max_retire"], "the parser does not know these keys");
}

#[test]
fn the_documentation_has_every_rule() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policy-changes.md")).expect("the page");
    let rows: String = RULES.iter().map(|rule| format!("| `{}` | {} |\n", rule.key, rule.wider)).collect();
    assert!(docs.contains(&rows), "the table in docs/policy-changes.md must be:\n{rows}");
}

/// What the change back is.
#[derive(Clone, Copy, PartialEq)]
enum Back {
    Narrower,
    Wider,
}
use Back::{Narrower as N, Wider as W};

fn token(more: &str) -> String {
    format!(
        "api: {{tokens: [{{name: t, sha256: \"{}\", scopes: [registry:read], namespaces: [a]{more}}}, {}]}}",
        "0".repeat(64),
        other()
    )
}

fn other() -> String {
    format!("{{name: other, sha256: \"{}\", scopes: [registry:read], namespaces: [a]}}", "1".repeat(64))
}

fn oidc(more: &str) -> String {
    format!("api: {{oidc: {{issuer: \"https://l.example\", client_id: c, roles: [{}]{more}}}}}", role("v"))
}

fn role(value: &str) -> String {
    format!("{{claim: g, value: {value}, scopes: [registry:read], namespaces: [a]}}")
}

fn connector(more: &str) -> String {
    format!("airbyte: {{connectors: {{acme: {{run: [/opt/a], config: {{}}{more}}}}}}}")
}

fn hook(more: &str) -> String {
    format!("notify: [{{name: h, {more}}}]")
}

/// A rule, a policy, one that is wider by this rule, and what the change back is.
fn examples() -> Vec<(&'static str, String, String, Back)> {
    let mut all: Vec<(&str, String, String, Back)> = Vec::new();
    let mut add = |key, from: &str, to: &str, back| all.push((key, from.to_string(), to.to_string(), back));
    let never = [
        ("slo.coverage", "slo: {coverage: X}", "0.5", "0.9"),
        ("safe_mode.step_timeout", "safe_mode: {step_timeout: X}", "1s", "2s"),
        ("safe_mode.attempt_timeout", "safe_mode: {attempt_timeout: X}", "61s", "62s"),
        ("backoff.initial", "backoff: {initial: X}", "1s", "2s"),
        ("backoff.max", "backoff: {max: X}", "10m", "20m"),
        ("backoff.jitter", "backoff: {jitter: X}", "0.1", "0.2"),
        ("breaker.failures", "breaker: {failures: X}", "1", "2"),
        ("breaker.open_for", "breaker: {open_for: X}", "1s", "2s"),
        ("recheck.health", "recheck: {health: X}", "1h", "2h"),
        ("recheck.drift", "recheck: {drift: X}", "1h", "2h"),
        ("recheck.awaiting_credentials", "recheck: {awaiting_credentials: X}", "1h", "2h"),
        ("reconcile.concurrency", "reconcile: {concurrency: X}", "1", "2"),
        ("reconcile.resync", "reconcile: {resync: X}", "1s", "2s"),
        ("reconcile.memory", "reconcile: {memory: X}", "32MiB", "64MiB"),
        ("registry.keep", "registry: {keep: X}", "30d", "60d"),
        ("api.enforce_slo", "api: {enforce_slo: X}", "false", "true"),
        ("manifests.sources.*.resource", "manifests: {dir: m, sources: {acme: {resource: X}}}", "a", "b"),
        ("airbyte.memory", "airbyte: {memory: X}", "1GiB", "2GiB"),
    ];
    let raised = [
        ("eligibility.evidence", "eligibility: {evidence: X}", "[Sanctioned]", "[Sanctioned, Shadow]"),
        ("eligibility.max_risk", "eligibility: {max_risk: X}", "low", "med"),
        ("eligibility.min_confidence", "eligibility: {min_confidence: X}", "0.5", "0.4"),
        ("safe_mode.max_items", "safe_mode: {max_items: X}", "1", "2"),
        ("allowlist", "allowlist: [X]", "github", "github, slack"),
        ("network.allow_private", "network: {allow_private: [X]}", "10.1.0.0/16", "10.0.0.0/8"),
        ("network.ca_file", "network: {ca_file: X}", "null", "a.pem"),
        ("network.allow_weak_login", "network: {allow_weak_login: [X]}", "", "db.example"),
        ("files.roots", "files: {roots: [X]}", "a/b", "a"),
        ("caps.default.per_second", "caps: {default: {per_second: X}}", "1", "2"),
        ("caps.default.burst", "caps: {default: {burst: X}}", "1", "2"),
        ("caps.default.per_day", "caps: {default: {per_day: X}}", "1", "2"),
        ("caps.default.concurrency", "caps: {default: {concurrency: X}}", "1", "2"),
        (
            "caps.families.*.per_second",
            "caps: {families: {github: {per_second: X, burst: 1, per_day: 1, concurrency: 1}}}",
            "1",
            "2",
        ),
        ("caps.families.*.burst", "caps: {families: {github: {per_second: 1, burst: X, per_day: 1, concurrency: 1}}}", "1", "2"),
        (
            "caps.families.*.per_day",
            "caps: {families: {github: {per_second: 1, burst: 1, per_day: X, concurrency: 1}}}",
            "1",
            "2",
        ),
        (
            "caps.families.*.concurrency",
            "caps: {families: {github: {per_second: 1, burst: 1, per_day: 1, concurrency: X}}}",
            "1",
            "2",
        ),
        ("reconcile.max_retire", "reconcile: {max_retire: X}", "{connections: 5}", "none"),
        ("reconcile.max_retire.connections", "reconcile: {max_retire: {connections: X}}", "1", "2"),
        ("reconcile.max_retire.percent", "reconcile: {max_retire: {percent: X}}", "1", "2"),
        ("reconcile.confirm", "reconcile: {confirm: [X]}", "", "\"3f2a9c1b7d20\""),
        ("evidence.keep_calls", "evidence: {keep_calls: X}", "90d", "30d"),
        ("families.*.hosts", "families: {gitlab: {hosts: [X]}}", "", "gitlab.acme.example"),
        ("families.*.health_path", "families: {openapi: {health_path: X}}", "null", "/x"),
        ("families.*.deny_operations", "families: {openapi: {deny_operations: [X]}}", "purge", ""),
        (
            "families.*.services.match",
            "families: {openapi: {services: [X]}}",
            "",
            "{match: \"https://a.example/*\", health_path: /x}",
        ),
        (
            "families.*.services.health_path",
            "families: {openapi: {services: [{match: \"https://a.example/*\", health_path: X}]}}",
            "null",
            "/x",
        ),
        (
            "families.*.services.deny_operations",
            "families: {openapi: {services: [{match: \"https://a.example/*\", deny_operations: [X]}]}}",
            "purge",
            "",
        ),
        (
            "families.*.services.auth",
            "families: {openapi: {services: [{match: \"https://a.example/*\", auth: X}]}}",
            "none",
            "bearer",
        ),
        ("manifests.dir", "manifests: {dir: X}", "null", "m"),
        ("manifests.sources.*.hosts", "manifests: {dir: m, sources: {acme: {hosts: [X]}}}", "a.example", "a.example, b.example"),
        ("manifests.sources.*.hosts", "manifests: {dir: m, sources: {acme: {hosts: [X]}}}", "a.example", ""),
        (
            "manifests.sources.*.posts",
            "manifests: {dir: m, sources: {acme: {posts: [X]}}}",
            "",
            "{url: \"https://a.example/x\", why: it reads, body: none}",
        ),
        ("families.*.engine", "families: {github: {engine: X}}", "native", "auto"),
        ("airbyte.allow_weaker_confinement", "airbyte: {allow_weaker_confinement: X}", "false", "true"),
        ("credentials.files", "credentials: {files: [X]}", "", "/srv/a"),
        (
            "credentials.vault.kv_ttl",
            "credentials: {vault: {address: \"https://v.example\", login: {method: token, token: \"env:V\"}, kv_ttl: X}}",
            "1h",
            "2h",
        ),
        (
            "credentials.vault.ca_file",
            "credentials: {vault: {address: \"https://v.example\", login: {method: token, token: \"env:V\"}, ca_file: X}}",
            "null",
            "a.pem",
        ),
        (
            "credentials.principals.*",
            "credentials: {principals: {X}}",
            "",
            "p: {kind: entra, tenant: a, client_id: b, secret: \"env:S\"}",
        ),
        (
            "credentials.principals.*",
            "credentials: {principals: {p: {kind: entra, tenant: a, client_id: b, secret: \"env:S\", scopes: [X]}}}",
            "A.Read",
            "A.Read, B.Read",
        ),
        (
            "credentials.consents.*",
            "credentials: {consents: {X}}",
            "",
            "c: {family: github, client_id: i, redirect: \"https://aam.example/consent/callback\"}",
        ),
        (
            "credentials.consents.*",
            "credentials: {consents: {c: {family: openapi, client_id: a, authorize_url: \"https://a.example/x\", token_url: \"https://a.example/t\", redirect: \"https://aam.example/consent/callback\", scopes: [X]}}}",
            "read",
            "read, write",
        ),
        (
            "credentials.caps.vault.*",
            "credentials: {caps: {vault: {per_second: X, burst: 1, per_day: 1, concurrency: 1}}}",
            "1",
            "2",
        ),
        (
            "credentials.caps.tokens.*",
            "credentials: {caps: {tokens: {per_second: X, burst: 1, per_day: 1, concurrency: 1}}}",
            "1",
            "2",
        ),
        ("handoff.vendors.*", "handoff: {vendors: {X}}", "", "v: {source_type: github, resource_ids: [a], owner: a@b.example}"),
        ("handoff.statuses.*", "handoff: {statuses: {X}}", "", "shadow: Sanctioned"),
        ("api.hosts", "api: {hosts: [X]}", "", "aam.example"),
        ("api.rate.per_second", "api: {rate: {per_second: X}}", "1", "2"),
        ("api.rate.burst", "api: {rate: {burst: X}}", "1", "2"),
        ("api.cors.origins", "api: {cors: {origins: [X]}}", "", "\"https://a.example\""),
        ("api.frame_ancestors", "api: {frame_ancestors: [X]}", "", "self"),
        ("api.api_key_header", "api: {api_key_header: X}", "false", "true"),
        ("api.mcp", "api: {mcp: X}", "false", "true"),
    ];
    let both = [
        ("namespace", "namespace: X\ncredentials: {namespaces: {a: [\"env:A\"], b: [\"env:B\"]}}", "a", "b"),
        ("evidence.head_file", "evidence: {head_file: X}", "/var/log/a", "/var/log/b"),
        (
            "evidence.head_webhook",
            "notify: [{name: a, url: \"https://a.example/x\", secret: \"env:S\", on: [drift]}]\nevidence: {X}",
            "",
            "head_webhook: a",
        ),
        ("network.proxy", "network: {proxy: X}", "null", "\"http://p.example:3128\""),
        ("families.*.base_url", "families: {github: {base_url: X}}", "null", "\"https://ghe.example\""),
        ("families.*.region", "families: {s3: {region: X}}", "null", "eu-west-1"),
        (
            "families.*.services.base_url",
            "families: {openapi: {services: [{match: \"https://a.example/*\", base_url: X}]}}",
            "null",
            "\"https://b.example\"",
        ),
        (
            "manifests.sources.*.identity.stream",
            "manifests: {dir: m, sources: {acme: {identity: {stream: X, field: /b}}}}",
            "a",
            "b",
        ),
        (
            "manifests.sources.*.identity.field",
            "manifests: {dir: m, sources: {acme: {identity: {stream: a, field: X}}}}",
            "/a",
            "/b",
        ),
        ("airbyte.dir", "airbyte: {dir: X}", "a", "b"),
        ("credentials.namespaces.*", "credentials: {namespaces: {a: [X]}}", "\"env:A\"", "\"env:*\""),
        ("credentials.secrets_dir", "credentials: {secrets_dir: X}", "a", "b"),
        (
            "credentials.vault.address",
            "credentials: {vault: {address: X, login: {method: token, token: \"env:V\"}}}",
            "\"https://v.example\"",
            "\"https://w.example\"",
        ),
        (
            "credentials.vault.namespace",
            "credentials: {vault: {address: \"https://v.example\", login: {method: token, token: \"env:V\"}, namespace: X}}",
            "null",
            "n",
        ),
        (
            "credentials.vault.path",
            "credentials: {vault: {address: \"https://v.example\", login: {method: token, token: \"env:V\"}, path: X}}",
            "null",
            "secret/aam",
        ),
        (
            "credentials.vault.login.*",
            "credentials: {vault: {address: \"https://v.example\", login: {method: token, token: X}}}",
            "\"env:V\"",
            "\"env:W\"",
        ),
        ("credentials.consent_store.file", "credentials: {consent_store: {file: X}}", "a", "b"),
        ("credentials.consent_store.key", "credentials: {consent_store: {key: X}}", "null", "\"env:K\""),
        ("handoff.namespaces.*", "handoff: {namespaces: {X}}", "", "t: n"),
    ];
    for (examples, back) in [(&never[..], N), (&raised[..], N), (&both[..], W)] {
        for (key, text, from, to) in examples {
            add(*key, &text.replace('X', from), &text.replace('X', to), back);
        }
    }
    let standard = "url: \"https://a.example/x\", secret: \"env:S\", on: [drift]";
    let stored = "form: teams, url_locator: \"env:U\", host: a.example, on: [drift]";
    add("notify.name", "notify: []", &hook(standard), N);
    add("notify.url", &hook(standard), &hook(&standard.replace("/x", "/y")), W);
    add("notify.url_locator", &hook(stored), &hook(&stored.replace(":U", ":V")), W);
    add("notify.host", &hook(stored), &hook(&stored.replace("a.ex", "b.ex")), W);
    add("notify.form", &hook(stored), &hook(&stored.replace("teams", "slack")), N);
    add("notify.secret", &hook(standard), &hook(&standard.replace(":S", ":T")), W);
    add("notify.on", &hook(standard), &hook(&standard.replace("[drift", "[drift, slo_missed")), N);
    add("notify.namespaces", &hook(&format!("{standard}, namespaces: [a]")), &hook(standard), N);
    let process = connector("");
    add("airbyte.connectors.*.run", "", &process, N);
    add("airbyte.connectors.*.run", &process, &process.replace("/opt/a", "/opt/b"), W);
    add("airbyte.connectors.*.version", &connector(", version: 1.0.0"), &connector(", version: 1.0.1"), W);
    let (zeros, ones) = (format!(", sha256: \"{}\"", "0".repeat(64)), format!(", sha256: \"{}\"", "1".repeat(64)));
    add("airbyte.connectors.*.sha256", &connector(&zeros), &connector(&ones), W);
    add("airbyte.connectors.*.sha256", &connector(&zeros), &process, N);
    add("airbyte.connectors.*.config", &process, &process.replace("config: {}", "config: {a: b}"), W);
    add("airbyte.connectors.*.hosts", &process, &connector(", hosts: [a.example]"), N);
    let post = ", posts: [{url: \"https://a.example/x\", why: it reads, body: none}]";
    add("airbyte.connectors.*.posts", &process, &connector(post), N);
    add("airbyte.connectors.*.memory", &connector(", memory: 64MiB"), &connector(", memory: 128MiB"), N);
    add("airbyte.connectors.*.streams", &connector(", streams: [a]"), &connector(", streams: [a, b]"), N);
    add("airbyte.connectors.*.streams", &connector(", streams: [a]"), &process, N);
    add("airbyte.connectors.*.readable", &process, &connector(", readable: [/opt/b]"), N);
    let platform = "airbyte: {platform: {url: \"https://a.example/api\", workspace: 2155ae5a-de39-4808-af6a-16fe7b8b4ed2, credential: \"env:A\"}}";
    add("airbyte.platform.url", "", platform, N);
    add("airbyte.platform.url", platform, &platform.replace("a.example", "b.example"), W);
    add("airbyte.platform.workspace", platform, &platform.replace("2155", "3155"), W);
    add("airbyte.platform.credential", platform, &platform.replace("env:A", "env:B"), W);
    let people = oidc("");
    add("api.oidc.issuer", "", &people, N);
    add("api.oidc.issuer", &people, &people.replace("l.example", "m.example"), W);
    add("api.oidc.client_id", &people, &people.replace("client_id: c", "client_id: d"), W);
    add("api.oidc.client_secret", &people, &oidc(", client_secret: \"env:S\""), W);
    add("api.oidc.redirect", &people, &oidc(", redirect: \"https://aam.example/ui/oidc/callback\""), W);
    add("api.oidc.scopes", &oidc(", scopes: [email]"), &oidc(", scopes: [email, groups]"), N);
    add("api.oidc.roles.claim", &people, &people.replace("roles: [", &format!("roles: [{}, ", role("w"))), N);
    add("api.oidc.roles.value", &people, &people.replace("value: v", "value: w"), W);
    add("api.oidc.roles.scopes", &people, &people.replace("[registry:read]", "[registry:read, \"ops:heal\"]"), N);
    add("api.oidc.roles.namespaces", &people, &people.replace("[a]", "[a, b]"), N);
    let plain = token("");
    add("api.tokens.name", &format!("api: {{tokens: [{}]}}", other()), &plain, N);
    add("api.tokens.name", "", &plain, W);
    add("api.tokens.sha256", &plain, &plain.replace(&"0".repeat(64), &"2".repeat(64)), W);
    add("api.tokens.scopes", &plain, &plain.replacen("registry:read", "registry:read, ops:heal", 1), N);
    add("api.tokens.namespaces", &plain, &plain.replacen("[a]", "[a, b]", 1), N);
    add("api.tokens.expires", &token(", expires: 2027-01-01"), &token(", expires: 2027-01-02"), N);
    add("api.tokens.expires", &token(", expires: 2027-01-01"), &plain, N);
    add("api.tokens.locators", &plain, &token(", locators: [\"env:A\"]"), N);
    add("api.tokens.hosts", &token(", locators: [\"env:A\"]"), &token(", locators: [\"env:A\"], hosts: [a.example]"), N);
    all
}

#[test]
fn every_rule_holds_for_its_example() {
    let policy = |body: &str| {
        let allowlist = if body.starts_with("allowlist") { "" } else { "allowlist: []\n" };
        let text = format!("version: 1\n{allowlist}{body}\n");
        LoadedPolicy::new(parse(&text, "p").unwrap_or_else(|problems| panic!("{body}: {problems:#?}")))
    };
    let examples = examples();
    for rule in RULES.iter().filter(|rule| rule.key != "version") {
        assert!(examples.iter().any(|(key, ..)| *key == rule.key), "{} has no example", rule.key);
    }
    for (key, from, to, back) in &examples {
        let rule = RULES.iter().find(|rule| rule.key == *key).unwrap_or_else(|| panic!("{key} has no rule"));
        let (from, to) = (policy(from), policy(to));
        let forth = diff(&from, &to, None, None);
        let expected = if rule.wider == NEVER { Verdict::Narrower } else { Verdict::Wider };
        assert_eq!(Verdict::over(&forth), expected, "{key}: {forth:?}");
        assert_eq!(forth.iter().any(|change| change.text.contains(" (wider)")), expected == Verdict::Wider, "{key}: {forth:?}");
        let section = key.split('.').next().unwrap_or_default();
        assert!(forth.iter().any(|change| change.key.starts_with(section)), "{key}: {forth:?}");
        assert!(!forth.iter().any(|change| change.text.contains("does not describe")), "{key}: {forth:?}");
        let returned = diff(&to, &from, None, None);
        let expected = if *back == Back::Wider { Verdict::Wider } else { Verdict::Narrower };
        assert_eq!(Verdict::over(&returned), expected, "{key} back: {returned:?}");
    }
}

#[test]
fn a_section_without_a_description_is_shown_as_wider() {
    let parsed =
        |body: &str| parse(&format!("version: 1\nallowlist: []\n{body}"), "p").unwrap_or_else(|problems| panic!("{problems:#?}"));
    let (old, new) = (parsed(""), parsed("slo: {coverage: 0.5}\n"));
    let mut changes = Changes::default();
    undescribed(&old, &new, &mut changes);
    assert_eq!(changes.0.len(), 1, "{changes:?}");
    assert_eq!((changes.0[0].effect, changes.0[0].key.as_str()), (Effect::Wider, "slo"));
    // The order of lists and entries without content have no meaning.
    let mut changes = Changes::default();
    undescribed(&parsed("files: {roots: [a, b]}\nfamilies: {github: {}}\n"), &parsed("files: {roots: [b, a]}\n"), &mut changes);
    assert!(changes.0.is_empty(), "{changes:?}");
}
