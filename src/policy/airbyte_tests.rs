use super::super::parse::parse;
use super::*;
use crate::policy::LoadedPolicy;
use crate::policy::diff::{Effect, diff as compare};

/// A connector with this config, as JSON, and these hosts.
pub fn connector(config: &str, hosts: &[&str]) -> ConnectorPolicy {
    let hosts = serde_json::to_string(hosts).expect("hosts");
    let text = format!("airbyte: {{connectors: {{acme: {{run: [/opt/source-acme], config: {config}, hosts: {hosts}}}}}}}");
    policy(&text).airbyte.connectors.remove("acme").expect("a connector")
}

fn policy(section: &str) -> Policy {
    let text = format!("version: 1\nallowlist: []\n{section}\n");
    parse(&text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}: {problems:#?}"))
}

const BOTH: &str = "airbyte: {connectors: {okta: {run: airbyte-source-okta, version: 0.3.26}, acme: {run: [/opt/acme], config: {}}}, \
    platform: {url: \"https://airbyte.example/api/public/v1\", workspace: 2155ae5a-de39-4808-af6a-16fe7b8b4ed2, credential: \"env:AIRBYTE\"}}";

#[test]
fn the_engine_is_what_the_policy_lists_unless_a_family_says_otherwise() {
    for (families, name, expected) in [
        ("", "okta", EngineInForce::Process),
        ("", "acme", EngineInForce::Process),
        ("", "github", EngineInForce::Native),
        ("families: {okta: {engine: native}}", "okta", EngineInForce::Native),
        ("families: {okta: {engine: airbyte}}", "okta", EngineInForce::Process),
        ("families: {github: {engine: airbyte}}", "github", EngineInForce::Platform),
        ("families: {github: {engine: auto}}", "github", EngineInForce::Native),
    ] {
        assert_eq!(policy(&format!("{BOTH}\n{families}")).engine(name), expected, "{families} {name}");
    }
}

#[test]
fn source_types_have_the_engine_and_the_logins_of_their_connector() {
    let loaded = LoadedPolicy::new(policy(&format!("{BOTH}\nfamilies: {{github: {{engine: airbyte}}}}")));
    let family = |name: &str| loaded.family(name).unwrap_or_else(|| panic!("{name}"));
    let engines = ["okta", "acme", "github", "slack"].map(|name| family(name).engine.clone());
    assert_eq!(engines, [PROCESS_ENGINE, PROCESS_ENGINE, PLATFORM_ENGINE, "lowcode"]);
    // The connector understands an SSWS token only, and the family two kinds of tokens.
    let names = |name: &str| family(name).login.iter().map(|login| login.name.clone()).collect::<Vec<_>>();
    assert_eq!(names("okta"), ["api_token"]);
    assert!(names("acme").is_empty() && names("github").len() > 1);
    assert!(family("okta").lowcode.is_none() && crate::families::find("okta").is_some_and(|own| own.lowcode.is_some()));
    assert!(loaded.sources.custom("acme").is_some() && loaded.sources.custom("okta").is_none());
}

#[test]
fn a_custom_source_has_the_login_that_its_config_names() {
    let config = "{token: \"{credential.token}\", zone: \"{credential.zone?}\"}";
    let loaded = LoadedPolicy::new(policy(&format!("airbyte: {{connectors: {{acme: {{run: [/opt/acme], config: {config}}}}}}}")));
    let login = &loaded.family("acme").expect("a source").login;
    let [login] = login.as_slice() else { panic!("{login:?}") };
    let fields: Vec<(&str, bool)> = login.fields.iter().map(|field| (field.name.as_str(), field.optional)).collect();
    assert_eq!((fields, login.plain.as_deref()), (vec![("token", false), ("zone", true)], Some("TOKEN")));
}

#[test]
fn a_changed_connector_runs_its_connections_again_and_no_others() {
    let of = |version: &str, name: &str| {
        let text = format!("airbyte: {{connectors: {{okta: {{run: airbyte-source-okta, version: {version}}}}}}}");
        LoadedPolicy::new(policy(&text)).slice(name)
    };
    assert_ne!(of("0.3.26", "okta"), of("0.3.27", "okta"));
    assert_eq!(of("0.3.26", "github"), of("0.3.27", "github"));
    let native = |text: &str| LoadedPolicy::new(policy(text)).slice("okta");
    assert_ne!(native(""), of("0.3.26", "okta"));
}

#[test]
fn an_intent_may_not_name_the_credential_of_the_platform() {
    let reserved = |locator: &str| policy(BOTH).reserved_for(&Locator::parse(locator).expect("a locator")).is_some();
    assert!(reserved("env:AIRBYTE") && !reserved("env:OTHER"));
}

#[test]
fn changes_are_named() {
    let none = LoadedPolicy::new(policy(""));
    let both = LoadedPolicy::new(policy(BOTH));
    let lines = |was: &LoadedPolicy, is: &LoadedPolicy| {
        let changes = compare(was, is, None, None);
        let texts: Vec<String> = changes.iter().map(|change| change.text.clone()).collect();
        (texts.join("\n"), changes.iter().map(|change| change.effect).max().unwrap_or_default())
    };
    let (text, effect) = lines(&none, &both);
    for expected in [
        "okta may be served by the connector airbyte-source-okta 0.3.26, which may call {resource_id.label}.okta.com (wider)",
        "acme may be served by the connector command /opt/acme, which may call no host (wider)",
        "AAM may create sources in the workspace 2155ae5a-de39-4808-af6a-16fe7b8b4ed2 of the Airbyte at https://airbyte.example/",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(effect, Effect::Wider);
    let (text, effect) = lines(&both, &none);
    assert!(text.contains("the connector airbyte-source-okta of okta removed") && effect == Effect::Narrower, "{text}");
    let newer = LoadedPolicy::new(policy(&BOTH.replace("0.3.26", "0.4.0")));
    assert!(lines(&both, &newer).0.contains("connector of okta: version changes from 0.3.26 to 0.4.0 (wider)"));
    assert_eq!(lines(&both, &both), (String::new(), Effect::Neutral));
}
