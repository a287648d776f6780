mod oidc;

use super::*;
use crate::model::Locator;
use crate::model::{Digest, Risk, Timestamp};
use crate::policy::credentials::{
    ConsentPolicy, ConsentStore, CredentialCaps, Credentials, EXPIRES, KIND_SPECS, KeyForm, Principal, Setting, VaultLogin,
    VaultPolicy,
};
use crate::policy::grants::{CredentialGrant, HostPattern, LocatorPattern};
use crate::policy::handoff::{EVIDENCE_SOURCES, HandoffOwner, OWNER_REASONS, vendor_key};
use crate::policy::parse::parse;
use crate::policy::{
    Api, ApiRate, Backoff, Breaker, Caps, Eligibility, Files, HandoffVendor, LoginHost, MaxRetire, Network, Recheck, Reconcile,
    RegistryPolicy, SafeMode, Slo, TokenScope,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn family() -> impl Strategy<Value = String> {
    proptest::sample::select(crate::families::ids().collect::<Vec<_>>()).prop_map(str::to_string)
}

fn wait() -> impl Strategy<Value = Duration> {
    prop_oneof![1u64..5000, (1u64..400).prop_map(|n| n * 60_000)].prop_map(Duration::from_millis)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z:/._-]{0,12}",
        "[ -~]{1,12}",
        "[^\\p{Cc}]{1,8}",
        proptest::sample::select(vec![
            "no", "null", "~", "1", "1e3", "true", "- a", "a: b", "#x", "a #b", ":", "[", "\u{2028}", "\u{feff}"
        ])
        .prop_map(str::to_string)
    ]
}

fn unique<T: PartialEq + std::fmt::Debug>(items: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    vec(items, 0..4).prop_map(|items| {
        items.into_iter().fold(Vec::new(), |mut kept, item| {
            if !kept.contains(&item) {
                kept.push(item);
            }
            kept
        })
    })
}

fn range() -> impl Strategy<Value = ipnet::IpNet> {
    let v4 = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(ip, bits)| ipnet::Ipv4Net::new(ip.into(), bits).unwrap().trunc().into());
    let v6 = (any::<[u8; 16]>(), 0u8..=128).prop_map(|(ip, bits)| ipnet::Ipv6Net::new(ip.into(), bits).unwrap().trunc().into());
    prop_oneof![v4, v6]
}

fn login_host() -> impl Strategy<Value = LoginHost> {
    let texts = prop_oneof![
        "[a-z0-9_.-]{1,12}(:[1-9][0-9]{0,3})?",
        any::<[u8; 16]>().prop_map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        (any::<[u8; 16]>(), 1u16..).prop_map(|(ip, port)| format!("[{}]:{port}", std::net::Ipv6Addr::from(ip)))
    ];
    texts.prop_map(|text| LoginHost::parse(&text).unwrap_or_else(|| panic!("{text}")))
}

fn caps_entry() -> impl Strategy<Value = Cap> {
    let positive = (1u64..=1_000_000_000).prop_map(|n| n as f64 / 10_000.0);
    (positive, 1u32..=1_000_000, 1u64..=1_000_000_000_000, 1u32..=10_000)
        .prop_map(|(per_second, burst, per_day, concurrency)| Cap { per_second, burst, per_day, concurrency })
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9._-]{0,10}".prop_filter("demo is never new work", |name| name != "demo")
}

fn locators() -> impl Strategy<Value = Vec<LocatorPattern>> {
    let text =
        proptest::sample::select(vec!["env:A_TOKEN", "env:SALES_*", "env:*", "vault:aam/*", "vault:a\"b", "sp:x#y", "consent:1"]);
    unique(text.prop_map(|text| LocatorPattern::parse(text).unwrap()))
}

fn locator() -> impl Strategy<Value = Locator> {
    let text = proptest::sample::select(vec!["env:A_TOKEN", "file:a/b", "vault:secret/a#b", "vault://secret/a", "vault:a\"b: c"]);
    text.prop_filter_map("a locator has no blanks", |text| Locator::parse(text).ok())
}

fn url() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["https://a.example", "http://127.0.0.1:8200", "https://a.example:8443/x/y"])
        .prop_map(str::to_string)
}

fn setting(form: KeyForm) -> BoxedStrategy<Setting> {
    match form {
        KeyForm::Text | KeyForm::File => {
            text().prop_filter("a text is not empty", |text| text != "~").prop_map(Setting::Text).boxed()
        }
        KeyForm::Choice(choices) => {
            proptest::sample::select(choices).prop_map(|choice| Setting::Text(choice.to_string())).boxed()
        }
        KeyForm::Url => url().prop_map(Setting::Text).boxed(),
        KeyForm::Locator => locator().prop_map(Setting::Locator).boxed(),
        KeyForm::List => unique(text()).prop_map(Setting::List).boxed(),
        KeyForm::Flag => any::<bool>().prop_map(Setting::Flag).boxed(),
        KeyForm::Date => Just(Setting::Text("2027-06-30".to_string())).boxed(),
    }
}

/// Gives the keys of the kind `aws` values that are valid together.
fn make_consistent(settings: &mut std::collections::BTreeMap<&'static str, Setting>) {
    if settings.contains_key("web_identity_token_file") {
        settings.remove("external_id");
    }
    settings.insert("role_arn", Setting::Text(String::new()));
    for (key, valid) in [
        ("role_arn", "arn:aws:iam::111122223333:role/reader"),
        ("external_id", "a:b"),
        ("session_name", "aam@acme"),
        ("region", "eu-west-1"),
    ] {
        if let Some(setting) = settings.get_mut(key) {
            *setting = Setting::Text(valid.to_string());
        }
    }
}

/// A principal with every required key, one key of each group, and some of the others.
fn principal() -> impl Strategy<Value = Principal> {
    (0..KIND_SPECS.len(), any::<[bool; 16]>(), any::<usize>()).prop_flat_map(|(at, wanted, choice)| {
        let spec = &KIND_SPECS[at];
        let mut settings: BoxedStrategy<std::collections::BTreeMap<&'static str, Setting>> = Just(Default::default()).boxed();
        for (key, wanted) in spec.keys.iter().chain([&EXPIRES]).zip(wanted) {
            let group = spec.one_of.iter().find(|group| group.contains(&key.name));
            let written = match group {
                Some(group) => group[choice % group.len()] == key.name,
                None => key.required || wanted,
            };
            if written {
                settings = (settings, setting(key.form))
                    .prop_map(move |(mut settings, value)| {
                        settings.insert(key.name, value);
                        settings
                    })
                    .boxed();
            }
        }
        settings.prop_map(move |mut settings| {
            if spec.name == "aws" {
                make_consistent(&mut settings);
            }
            Principal { kind: spec.name, settings }
        })
    })
}

/// The secrets of the login to the vault are not in the vault.
fn login_locator() -> impl Strategy<Value = Locator> {
    locator().prop_filter("not in the vault", |locator| !matches!(locator, Locator::Vault(_)))
}

fn vault() -> impl Strategy<Value = VaultPolicy> {
    let login = prop_oneof![
        login_locator().prop_map(|token| VaultLogin::Token { token }),
        Just(VaultLogin::TokenFile { file: "/run/token".into() }),
        (name(), login_locator(), login_locator()).prop_map(|(mount, role_id, secret_id)| VaultLogin::Approle {
            mount,
            role_id,
            secret_id
        }),
        (name(), name()).prop_map(|(mount, role)| VaultLogin::Kubernetes { mount, role, token_file: "/run/jwt".into() }),
        (name(), name(), login_locator()).prop_map(|(mount, role, token)| VaultLogin::Jwt {
            mount,
            role,
            token: Some(token),
            token_file: None
        }),
    ];
    (proptest::option::of(name()), proptest::option::of("k[a-z]{1,5}/[a-z]{1,5}"), login, wait()).prop_map(
        |(namespace, path, login, kv_ttl)| VaultPolicy {
            address: "https://vault.example:8200".to_string(),
            ca_file: namespace.clone().map(PathBuf::from),
            namespace,
            path,
            login,
            kv_ttl,
        },
    )
}

/// A consent of a family without an OAuth 2 server of its own: its addresses and scopes must be written.
fn consent() -> impl Strategy<Value = ConsentPolicy> {
    let auth =
        proptest::sample::select(vec![None, Some("client_secret_basic".to_string()), Some("client_secret_post".to_string())]);
    let scopes = unique(name()).prop_filter("a list without scopes is not valid", |scopes| !scopes.is_empty());
    (name(), proptest::option::of(locator()), auth, scopes, url(), proptest::option::of(url())).prop_map(
        |(client_id, client_secret, auth, scopes, url, other)| ConsentPolicy {
            family: "openapi".to_string(),
            client_id,
            client_secret,
            auth,
            redirect: "https://aam.example/consent/callback".to_string(),
            scopes: Some(scopes),
            authorize_url: Some(url.clone()),
            token_url: Some(url),
            revoke_url: other.clone(),
            issuer: other,
            values: BTreeMap::new(),
        },
    )
}

fn credentials() -> impl Strategy<Value = Credentials> {
    let maps =
        (btree_map("[A-Za-z0-9][A-Za-z0-9_./-]{0,8}", principal(), 0..3), btree_map("[a-z][a-z0-9]{0,8}", consent(), 0..3));
    let parts = (maps, proptest::option::of(vault()), proptest::option::of(locator()), caps_entry(), caps_entry());
    let credentials = parts.prop_map(|((principals, consents), vault, key, vault_cap, tokens)| Credentials {
        secrets_dir: "var/other secrets".into(),
        files: vec!["/etc/aam".into(), "a".into()],
        consent_store: ConsentStore { key, ..Default::default() },
        vault,
        principals,
        consents,
        caps: CredentialCaps { vault: vault_cap, tokens },
        ..Default::default()
    });
    credentials.prop_filter("a vault that is named is described", |credentials| {
        let named = serde_json::json!([credentials.principals, credentials.consents, credentials.consent_store]).to_string();
        credentials.vault.is_some() || !named.contains("vault:")
    })
}

fn grant() -> impl Strategy<Value = CredentialGrant> {
    let text =
        proptest::sample::select(vec!["a.example", "*.a.example:8443", "*", "http://10.0.0.7:8080", "[::1]:*", "bücher.example"]);
    let hosts = unique(text.prop_map(|text| HostPattern::parse(text).unwrap()));
    (locators(), hosts).prop_map(|(locators, hosts)| {
        let hosts = if locators.is_empty() { Vec::new() } else { hosts };
        CredentialGrant { locators, hosts }
    })
}

fn tokens() -> impl Strategy<Value = Vec<Token>> {
    let scopes = btree_set(proptest::sample::select(TokenScope::ALL.to_vec()), 1..=3);
    let token = (any::<[u8; 32]>(), scopes, btree_set(name(), 1..3), grant());
    btree_map(name().prop_filter("reserved", |name| name != "admin"), token, 0..3).prop_map(|tokens| {
        type Parts = ([u8; 32], BTreeSet<TokenScope>, BTreeSet<String>, CredentialGrant);
        let token = |(name, (sha256, scopes, namespaces, grant)): (String, Parts)| {
            let end = Timestamp(1_800_000_000_000 + i64::from(sha256[0]) * 1000);
            let expires = (sha256[1] % 2 == 0).then_some(end);
            Token { name, sha256: Digest(sha256), scopes, namespaces, expires, grant }
        };
        tokens.into_iter().map(token).collect()
    })
}

fn set() -> impl Strategy<Value = FamilyPolicy> {
    let url = proptest::option::of(
        "https?://[a-z]{1,8}(:[1-9][0-9]{1,3})?(/[a-z%0-9]{0,6})?".prop_filter("an address", |url| url::Url::parse(url).is_ok()),
    );
    let path = proptest::option::of("/[a-z?=&%~]{0,8}");
    (url, proptest::option::of(name()), path, unique(text())).prop_map(|(base_url, region, health_path, deny_operations)| {
        FamilyPolicy {
            engine: Default::default(),
            base_url,
            hosts: Vec::new(),
            region,
            health_path,
            deny_operations,
            services: Vec::new(),
        }
    })
}

fn services() -> impl Strategy<Value = Vec<ServicePolicy>> {
    let auth = prop_oneof![
        Just(ServiceAuth::None),
        Just(ServiceAuth::Bearer),
        Just(ServiceAuth::Basic),
        "[A-Za-z][A-Za-z0-9-]{0,8}".prop_map(|name| ServiceAuth::Header(format!("X-{name}")))
    ];
    let one = ("https?://(\\*\\.)?[a-z]{1,8}(:[1-9][0-9]{1,3})?(/[a-z%0-9*?=]{0,6})?", set(), proptest::option::of(auth))
        .prop_map(|(pattern, set, auth)| ServicePolicy {
            pattern,
            base_url: set.base_url,
            health_path: set.health_path,
            deny_operations: set.deny_operations,
            auth,
        });
    vec(one, 0..3).prop_map(|services| {
        services.into_iter().fold(Vec::new(), |mut kept: Vec<ServicePolicy>, service| {
            if !kept.iter().any(|known| known.pattern == service.pattern) {
                kept.push(service);
            }
            kept
        })
    })
}

prop_compose! {
    fn outer()(
        network in (unique(range()), proptest::option::of(Just("http://proxy.example:3128".to_string())), proptest::option::of(text()), unique(login_host())),
        roots in unique(text().prop_map(PathBuf::from).prop_filter("not the whole file system", |path| path.parent().is_some())),
        evidence in vec(text(), 1).prop_map(|all| all),
        risk in proptest::sample::select(vec![Risk::Low, Risk::Med, Risk::High]),
        shares in (0.0f64..=1.0, 0.0f64..=1.0, 0.0f64..=1.0),
        tokens in tokens(),
        api in (unique("[a-z][a-z0-9-]{0,5}(\\.[a-z]{1,4})?(:[1-9][0-9]{1,3})?"), 1u32..=1_000_000, 1u32..=10_000_000, any::<bool>()),
        oidc in proptest::option::of(oidc::oidc()),
        pages in (unique("https://[a-z][a-z0-9-]{0,5}(:[1-9]0{3})?"), unique("('self'|http://[a-z]{1,4}(:[1-9]1{3})?)"), any::<bool>(), any::<bool>()),
    ) -> (Network, Files, Eligibility, Slo, f64, Api) {
        let (allow_private, proxy, ca_file, allow_weak_login) = network;
        (
            Network { allow_private, proxy, ca_file: ca_file.map(PathBuf::from), allow_weak_login },
            Files { roots },
            Eligibility { evidence, max_risk: risk, min_confidence: shares.0 },
            Slo { coverage: shares.1 },
            shares.2,
            Api {
                hosts: api.0,
                rate: ApiRate { per_second: api.1, burst: api.2 },
                cors_origins: pages.0,
                frame_ancestors: pages.1,
                api_key_header: pages.2,
                enforce_slo: pages.3,
                mcp: api.3,
                oidc,
                tokens,
            },
        )
    }
}

prop_compose! {
    fn vendor()(
        source_type in family(),
        resource_ids in unique(text()).prop_filter("at least one", |ids| !ids.is_empty()),
        credential_locator in proptest::option::of(locator()),
        owner in (text(), 0.0f64..=1.0, proptest::sample::select(OWNER_REASONS.to_vec())),
        risk_level in proptest::sample::select(vec![Risk::Low, Risk::Med, Risk::High]),
        source in proptest::sample::select(EVIDENCE_SOURCES.to_vec()),
    ) -> HandoffVendor {
        let owner = HandoffOwner { user: owner.0, confidence: owner.1, why: owner.2.to_string() };
        HandoffVendor { source_type, resource_ids, credential_locator, owner, risk_level, evidence_source: source.to_string() }
    }
}

fn handoff() -> impl Strategy<Value = Handoff> {
    let vendors = btree_map("[A-Z][a-z]{1,6}( [a-z]{1,3})?", vendor(), 0..3).prop_map(|mut vendors| {
        let mut keys = BTreeSet::new();
        vendors.retain(|name, _| keys.insert(vendor_key(name)));
        vendors
    });
    let statuses = btree_map("[a-z]{1,8}( [a-z]{1,3})?", text(), 0..3);
    let namespaces = btree_map("[ -~]{1,12}", name(), 0..3);
    (vendors, statuses, namespaces).prop_map(|(vendors, statuses, namespaces)| Handoff { vendors, statuses, namespaces })
}

prop_compose! {
    fn policies()(
        outer in outer(),
        namespace in name(),
        allowlist in btree_set(family(), 0..5),
        waits in (wait(), wait(), wait(), wait(), wait(), wait(), wait(), wait(), wait()),
        numbers in (1u32..=20, 1u32..=1000, 1usize..=10_000, (16u64 << 10)..=(1 << 30)),
        caps in (caps_entry(), btree_map(family(), caps_entry(), 0..3)),
        mut families in btree_map(family(), set(), 0..3),
        services in services(),
        bound in btree_map(name(), locators(), 0..3),
        credentials in credentials(),
        handoff in handoff(),
        evidence in (1u32..=3650, proptest::option::of("/[a-z]{1,8}")).prop_map(|(keep_calls, file)| EvidencePolicy {
            keep_calls,
            head_file: file.map(Into::into),
            head_webhook: None,
        }),
        keep in proptest::option::of(1u32..=3650),
        retire in (
            proptest::option::of((0usize..=1_000_000, 0u8..=100).prop_map(|(connections, percent)| MaxRetire { connections, percent })),
            unique("[0-9a-f]{12,64}"),
        ),
    ) -> Policy {
        let (network, files, eligibility, slo, jitter, api) = outer;
        if let Some(openapi) = families.get_mut("openapi") {
            openapi.services = services;
        }
        Policy {
            version: 1,
            namespace,
            slo,
            eligibility,
            safe_mode: SafeMode { max_items: numbers.0, step_timeout: waits.0.min(waits.1), attempt_timeout: waits.0.max(waits.1) },
            allowlist,
            network,
            files,
            caps: Caps { default: caps.0, families: caps.1 },
            backoff: Backoff { initial: waits.2.min(waits.3), max: waits.2.max(waits.3), jitter },
            breaker: Breaker { failures: numbers.1, open_for: waits.4 },
            recheck: Recheck { health: waits.5, drift: waits.6, awaiting_credentials: waits.7 },
            reconcile: Reconcile { concurrency: numbers.2, resync: waits.8, memory: numbers.3 << 10, max_retire: retire.0, confirm: retire.1 },
            families,
            manifests: Default::default(),
            airbyte: Default::default(),
            credentials: Credentials { namespaces: bound, ..credentials },
            handoff,
            notify: Vec::new(),
            evidence,
            registry: RegistryPolicy { keep },
            api,
            digest: Digest::default(),
        }
    }
}

fn family_caps() -> Vec<(&'static str, &'static Cap)> {
    crate::families::caps()
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same_policy(policy in policies()) {
        let text = effective(&policy, &family_caps());
        let mut back = parse(&text, "effective.yaml").map_err(|problems| TestCaseError::fail(format!("{text}\n{problems:#?}")))?;
        back.digest = policy.digest;
        prop_assert_eq!(back, policy, "{}", text);
    }
}

#[test]
fn defaults_read_well() {
    let policy = parse("version: 1\nallowlist: [slack, github]\ncaps: {families: {slack: {per_second: 1, burst: 5, per_day: 2000, concurrency: 1}}}\n", "p").unwrap();
    let shipped: Vec<_> = family_caps().into_iter().filter(|(family, _)| *family != "acme_wiki").collect();
    let text = effective(&policy, &shipped);
    assert!(!text.contains("# slack:") && text.contains("# github:"), "an override replaces the family's own line");
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("policy_effective", text);
    });
}

#[test]
fn a_policy_with_everything_reads_back() {
    let policy = parse(crate::policy::parse::tests::DESIGN, "p").unwrap();
    let mut back = parse(&effective(&policy, &[]), "p").unwrap();
    assert_ne!(back.digest, policy.digest, "the digest is of the bytes");
    back.digest = policy.digest;
    assert_eq!(back, policy);
    assert_eq!(policy.api.tokens[0].scopes, BTreeSet::from([TokenScope::IntentsWrite, TokenScope::RegistryRead]));
}
