use super::*;
use crate::clock::SystemClock;
use crate::connectors::lowcode::spec::Spec;
use crate::model::Intent;
use crate::policy::parse::parse as parse_policy;
use std::collections::BTreeSet;

fn policy_file(name: &str) -> String {
    let path = format!("{}/policy/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// The families that AAM ships, without those of the tests.
pub(super) fn shipped() -> impl Iterator<Item = &'static Arc<Family>> {
    all().iter().filter(|family| TEXTS.iter().any(|(name, _)| *name == &*family.id))
}

#[test]
fn every_file_parses_and_has_the_name_of_its_family() {
    for (name, text) in TEXTS.iter().chain(TEST_TEXTS) {
        let family = parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&*family.id, *name);
        Spec::from_family(&family).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(all().len(), TEXTS.len() + TEST_TEXTS.len(), "a family that was left out, or that two files describe");
    assert!(ids().eq(all().iter().map(|family| &*family.id)));
    assert!(ids().all(exists) && !exists("Slack") && !exists(""));
    assert!(find("slack").is_some() && find("Slack").is_none());
}

/// The build script embeds all files of the folder, so that there is no list to maintain.
#[test]
fn every_file_of_the_folder_is_embedded() {
    let folder = format!("{}/src/families", env!("CARGO_MANIFEST_DIR"));
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_string_lossy().strip_suffix(".yaml").map(str::to_string))
        .collect();
    assert_eq!(files, TEXTS.iter().map(|(name, _)| (*name).to_string()).collect());
}

/// The family in `tests/data/families` is one YAML file. No code refers to it, and no list or count includes it.
#[test]
fn one_file_is_all_that_a_family_needs() {
    let family = find("acme_wiki").expect("the family of the test folder");
    assert_eq!(all().len(), shipped().count() + TEST_TEXTS.len());

    // The policy accepts it wherever a family may stand, and suggests it for a name that is nearly right.
    let text = "version: 1\nallowlist: [acme_wiki]\nfamilies: {acme_wiki: {base_url: \"https://wiki.acme.example\"}}\n\
                caps: {families: {acme_wiki: {per_second: 1, burst: 2, per_day: 3, concurrency: 4}}}\n";
    let policy = parse_policy(text, "policy.yaml").unwrap();
    let misspelt = parse_policy("version: 1\nallowlist: [acme_wikki]\n", "policy.yaml").unwrap_err();
    assert_eq!(misspelt[0].hint, "did you mean acme_wiki?");

    // `aam families` and `aam check --effective` print it.
    let (lines, values) = crate::cli::families::list();
    assert!(lines.lines().any(|line| line.starts_with("acme_wiki ") && line.ends_with("Acme Wiki")), "{lines}");
    assert!(values.iter().any(|value| value.id == "acme_wiki" && value.connects));
    let bare = parse_policy("version: 1\nallowlist: []\n", "policy.yaml").unwrap();
    assert!(crate::policy::effective::effective(&bare, &caps()).contains("# acme_wiki: {per_second: 1, burst: 12"));

    // `aam plan` finds its engine and the calls of an attempt.
    let engines = crate::daemon::engines(Arc::new(SystemClock));
    let intent: Intent = serde_json::from_value(serde_json::json!({
        "source_type": "acme_wiki", "resource_ids": ["handbook"], "scopes_mode": "safe_readonly",
        "credential_locator": "env:ACME_WIKI_TOKEN", "namespace": "autonomy", "risk_level": "low",
        "evidence": {"status": "Sanctioned", "source": "IdP", "ts": "2026-11-08T18:00:00Z"},
        "owner": {"user": "owner@acme.example", "confidence": 0.9, "why": "admin"}
    }))
    .unwrap();
    let policy = Arc::new(policy);
    let bound = crate::pipeline::bind(&engines, &policy, &CustomSources::default(), &intent).expect("an eligible intent");
    assert_eq!(&bound.family, family);
    let resources = bound.resources().expect("an engine");
    let calls: BTreeSet<String> =
        resources[0].planned_calls().into_iter().map(|call| format!("{} {}{}", call.method, call.host, call.path)).collect();
    let expected = ["/me", "/spaces/handbook", "/spaces/handbook/pages"].map(|path| format!("GET wiki.acme.example{path}"));
    assert_eq!(calls, expected.into());
    let invalid = Intent { resource_ids: vec!["Not A Space".to_string()], ..intent };
    assert!(crate::pipeline::bind(&engines, &policy, &CustomSources::default(), &invalid).is_err());
}

#[test]
fn every_engine_that_a_file_names_is_registered() {
    let engines = crate::daemon::engines(Arc::new(SystemClock));
    for family in all().iter().filter(|family| !family.engine.is_empty()) {
        assert!(engines.names().any(|name| name == family.engine), "{} names the engine {}", family.id, family.engine);
    }
}

#[test]
fn keys_of_the_engine_lowcode_belong_to_its_families_only() {
    let text = TEXTS.iter().find(|(name, _)| *name == "slack").unwrap().1;
    let error = parse(&text.replace("engine: \"lowcode\"", "engine: \"sql\"")).unwrap_err();
    assert!(error.contains("other engines do not have them"), "{error}");
    assert!(parse(&format!("{text}\nextra: 1\n")).unwrap_err().contains("unknown field `extra`"));
}

#[test]
fn every_fact_names_its_source() {
    for family in all() {
        let Family { title, resource_ids, cap_source, least_privilege, privilege_source, .. } = &**family;
        for text in [title, resource_ids, cap_source, least_privilege, privilege_source] {
            assert!(!text.trim().is_empty(), "{}", family.id);
        }
        assert!(privilege_source.starts_with('['), "{} has no mark", family.id);
    }
}

/// An onboarding is about 12 calls. It must fit into the burst, unless the file says that it waits and why.
#[test]
fn an_onboarding_fits_into_a_burst() {
    for family in all() {
        let Cap { per_second, burst, per_day, concurrency } = family.cap;
        assert!(burst >= 12 || family.cap_source.contains("an onboarding waits"), "{}: cap_source must say so", family.id);
        assert!(per_second > 0.0 && burst > 0 && concurrency > 0, "{}", family.id);
        assert!(per_day >= 12 * 10, "{}: ten onboardings a day", family.id);
        assert!(u64::from(burst) <= per_day, "{}", family.id);
    }
}

#[test]
fn the_shipped_policy_lists_the_families_that_are_on_by_default() {
    let policy = parse_policy(&policy_file("policy.yaml"), "policy/policy.yaml").unwrap();
    assert_eq!(policy.allowlist, shipped().filter(|family| family.on_by_default).map(|family| family.id.to_string()).collect());
    let mut bare = parse_policy("version: 1\nallowlist: []\n", "bare").unwrap();
    (bare.allowlist, bare.digest) = (policy.allowlist.clone(), policy.digest);
    assert_eq!(policy, bare, "everything else that it shows is the default");
}

#[test]
fn the_smoke_policy_lists_what_smoke_needs() {
    let policy = parse_policy(&policy_file("smoke.yaml"), "policy/smoke.yaml").unwrap();
    assert_eq!(policy.allowlist, ["filesource", "jdbc", "openapi"].map(str::to_string).into());
    assert_eq!(policy.files.roots, ["seeds/data", "var/smoke"].map(std::path::PathBuf::from));
    assert_eq!(policy.network.allow_private, ["127.0.0.0/8".parse().unwrap()]);
    assert!(policy.api.tokens.is_empty());
}

#[test]
fn caps_read_well() {
    let line =
        |family: &Arc<Family>| format!("{:17} {:13} {}\n", family.id, family.engine, crate::policy::effective::cap(&family.cap));
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("family_caps", shipped().map(line).collect::<String>());
    });
}

#[test]
fn the_risk_of_a_source_is_never_below_that_of_its_family() {
    let mut family = Family::custom("acme");
    assert_eq!(family.risk(Risk::Low), Risk::Low);
    family.risk = Some(LeastRisk { least: Risk::Med, why: "it holds names".to_string() });
    for (of_intent, expected) in [(Risk::Low, Risk::Med), (Risk::Med, Risk::Med), (Risk::High, Risk::High)] {
        assert_eq!(family.risk(of_intent), expected);
    }
    assert_eq!(super::risk("acme", Risk::Low), Risk::Low, "a custom source has no least risk");
    assert_eq!(super::risk("workday", Risk::Low), Risk::High);
    assert_eq!(super::risk("github", Risk::Low), Risk::Low);
}
