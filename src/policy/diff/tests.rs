use super::*;

/// The texts of the changes.
fn diff(was: &LoadedPolicy, is: &LoadedPolicy, connections: Option<&[ConnectionLine]>) -> Vec<String> {
    super::diff(was, is, connections, None).into_iter().map(|change| change.text).collect()
}

use crate::policy::parse::parse;

fn policy(body: &str) -> LoadedPolicy {
    let parsed = parse(&format!("version: 1\n{body}\n"), "p");
    LoadedPolicy::new(parsed.unwrap_or_else(|problems| panic!("{body}: {problems:#?}")))
}

fn line(source_type: &str, resource: &str) -> ConnectionLine {
    let resource_ids = vec![resource.to_string()];
    ConnectionLine {
        id: ConnectionId::derive("autonomy", source_type, &resource_ids),
        namespace: "autonomy".to_string(),
        source_type: source_type.to_string(),
        resource_ids,
        risk: Risk::Low,
        is_understood: true,
        evidence_status: "Sanctioned".to_string(),
        confidence: 0.9,
        state: State::Active,
        origins: vec![Origin::folder("a.json")],
        locator: None,
    }
}

const ALL: &str = "allowlist: [slack, github, filesource, jdbc]";

#[test]
fn equal_policies_have_no_difference() {
    let lines = [line("slack", "acme")];
    assert!(diff(&policy(ALL), &policy(ALL), Some(&lines)).is_empty());
    let other_bytes = policy("# a comment\nallowlist: [jdbc, filesource, github, slack]");
    assert!(diff(&policy(ALL), &other_bytes, Some(&lines)).is_empty());
}

#[test]
fn a_family_that_leaves_names_its_connections() {
    let lines = [line("slack", "acme"), line("github", "acme"), line("slack", "beta")];
    let found = diff(&policy(ALL), &policy("allowlist: [github, filesource, jdbc]"), Some(&lines));
    let expected = format!(
        "slack removed from the allowlist; 2 connections become UNSUPPORTED: {} (autonomy/slack/acme), {} (autonomy/slack/beta)",
        lines[0].id, lines[2].id
    );
    assert_eq!(found, [expected]);
}

#[test]
fn a_family_that_enters_splits_the_eligible_from_the_refused() {
    let mut shadow = line("slack", "shadow");
    shadow.evidence_status = "Unsanctioned".to_string();
    let found =
        diff(&policy("allowlist: [github]"), &policy("allowlist: [github, slack]"), Some(&[line("slack", "acme"), shadow]));
    assert!(found[0].starts_with("slack added to the allowlist (wider); 1 connection would be tried: "), "{found:?}");
    assert!(
        found[0].contains("; 1 connection would be REJECTED: ") && found[0].ends_with("(autonomy/slack/shadow)"),
        "{found:?}"
    );
    assert_eq!(found[1], "2 connections would be checked again at once: 2 slack");
}

#[test]
fn retired_and_demo_connections_are_left_out() {
    let (mut retired, mut demo) = (line("slack", "old"), line("slack", "demo"));
    retired.state = State::Retired;
    demo.namespace = "demo".to_string();
    let found = diff(&policy(ALL), &policy("allowlist: [github]"), Some(&[retired, demo]));
    assert!(found.contains(&"slack removed from the allowlist; affects 0 connections".to_string()), "{found:?}");
}

#[test]
fn a_stricter_rule_names_who_is_refused_and_a_wider_one_who_is_tried() {
    let mut risky = line("slack", "risky");
    risky.risk = Risk::High;
    let lines = [risky, line("github", "acme")];
    let (wide, strict) = (policy(ALL), policy(&format!("{ALL}\neligibility: {{max_risk: med}}")));
    let found = diff(&wide, &strict, Some(&lines));
    assert!(
        found[0].starts_with("max_risk changes from high to med; 1 connection with risk above med would be REJECTED: "),
        "{found:?}"
    );
    assert!(found[0].contains("slack/risky") && !found[0].contains("github"), "{found:?}");
    let back = diff(&strict, &wide, Some(&lines));
    assert!(back[0].starts_with("max_risk changes from med to high (wider); 1 connection would be tried: "), "{back:?}");
}

#[test]
fn who_stays_refused_for_another_reason_is_not_promised_a_try() {
    let mut line = line("slack", "acme");
    (line.risk, line.confidence) = (Risk::High, 0.1);
    let strict = policy(&format!("{ALL}\neligibility: {{max_risk: med, min_confidence: 0.5}}"));
    let found = diff(&strict, &policy(&format!("{ALL}\neligibility: {{min_confidence: 0.5}}")), Some(&[line]));
    assert_eq!(found[0], "max_risk changes from med to high (wider); affects 0 connections");
}

#[test]
fn without_a_registry_the_effect_is_unknown() {
    let found = diff(&policy(ALL), &policy("allowlist: [github, filesource, jdbc]"), None);
    assert_eq!(found, ["slack removed from the allowlist; effect on connections unknown"]);
}

#[test]
fn ranges_are_told_apart_from_what_still_covers_them() {
    let net = |list: &str| policy(&format!("{ALL}\nnetwork: {{allow_private: [{list}]}}"));
    assert_eq!(
        diff(&net("10.0.0.0/8"), &net(""), Some(&[])),
        ["10.0.0.0/8 removed from network.allow_private; private addresses in it are no longer allowed"]
    );
    assert_eq!(
        diff(&net("10.1.0.0/16, 10.0.0.0/8"), &net("10.0.0.0/8"), Some(&[])),
        ["10.1.0.0/16 removed from network.allow_private; still allowed as part of 10.0.0.0/8"]
    );
    let narrower = diff(&net("10.0.0.0/8"), &net("10.1.0.0/16"), Some(&[]));
    assert_eq!(
        narrower[0],
        "10.0.0.0/8 removed from network.allow_private; of it, only 10.1.0.0/16 and other listed ranges are still allowed"
    );
    assert_eq!(
        diff(&net(""), &net("127.0.0.0/8"), Some(&[])),
        ["127.0.0.0/8 added to network.allow_private; all addresses in it are allowed, including private ones (wider)"]
    );
}

#[test]
fn a_weaker_login_is_named_as_what_it_allows() {
    let weak = |list: &str| policy(&format!("{ALL}\nnetwork: {{allow_weak_login: [{list}]}}"));
    assert_eq!(
        diff(&weak(""), &weak("db.example, \"old.example:5432\""), Some(&[])),
        [
            "db.example added to network.allow_weak_login; it may receive database passwords in clear text or as an MD5 digest without verified TLS (wider)",
            "old.example:5432 added to network.allow_weak_login; it may receive database passwords in clear text or as an MD5 digest without verified TLS (wider)"
        ]
    );
    assert_eq!(
        diff(&weak("db.example"), &weak(""), Some(&[])),
        [
            "db.example removed from network.allow_weak_login; without verified TLS it no longer receives a password that it could use"
        ]
    );
    let lines = [line("jdbc", "jdbc:postgresql://db.example/app")];
    let found = diff(&weak(""), &weak("db.example"), Some(&lines));
    assert!(found.last().is_some_and(|last| last.contains("1 connection would be checked again at once")), "{found:?}");
}

#[test]
fn roots_name_the_files_that_lose_their_place() {
    let files = |list: &str| policy(&format!("{ALL}\nfiles: {{roots: [{list}]}}"));
    let lines = [
        line("filesource", "seeds/data/a.csv"),
        line("jdbc", "jdbc:sqlite:seeds/data/b.db"),
        line("filesource", "seeds/database/c.csv"),
    ];
    let found = diff(&files("seeds/data, var"), &files("var"), Some(&lines));
    assert!(found[0].starts_with("files below seeds/data may no longer be read; 2 connections lose their source: "), "{found:?}");
    assert!(!found[0].contains("database"), "a prefix of the name is not a folder: {found:?}");
}

#[test]
fn a_long_list_is_cut_and_counted() {
    let lines: Vec<_> = (0..25).map(|n| line("slack", &format!("w{n}"))).collect();
    let found = diff(&policy(ALL), &policy("allowlist: []"), Some(&lines));
    let slack = found.iter().find(|line| line.starts_with("slack")).unwrap();
    assert!(slack.contains("25 connections become UNSUPPORTED") && slack.ends_with("and 15 more"), "{slack}");
}

#[test]
fn a_change_of_everything_reads_well() {
    let token = |digit: &str, scopes: &str| {
        format!("{{name: aod, sha256: \"{}\", scopes: [{scopes}], namespaces: [autonomy]}}", digit.repeat(64))
    };
    let old = policy(&format!(
        "{ALL}\nnetwork: {{allow_private: [10.0.0.0/8]}}\nfiles: {{roots: [seeds/data]}}\ncaps: {{families: {{github: {{per_second: 1, burst: 12, per_day: 2000, concurrency: 2}}, jdbc: {{per_second: 1, burst: 12, per_day: 2000, concurrency: 2}}}}}}\napi: {{tokens: [{}]}}",
        token("1", "registry:read")
    ));
    let new = policy(&format!(
        "allowlist: [github, filesource, jdbc, s3]\nnamespace: live\nslo: {{coverage: 0.95}}\neligibility: {{evidence: [Sanctioned, Tolerated], max_risk: med, min_confidence: 0.5}}\nsafe_mode: {{max_items: 5, step_timeout: 10s}}\nnetwork: {{allow_private: [192.168.0.0/16], proxy: \"http://proxy.example:3128\", ca_file: ca.pem}}\nfiles: {{roots: [data]}}\ncaps: {{default: {{per_day: 100}}, families: {{github: {{per_second: 1, burst: 12, per_day: 500, concurrency: 1}}, s3: {{per_second: 1, burst: 12, per_day: 500, concurrency: 1}}}}}}\nbackoff: {{initial: 1s}}\nrecheck: {{health: 1h}}\nfamilies: {{github: {{base_url: \"https://ghe.acme.example/api/v3\"}}, openapi: {{health_path: /healthz, deny_operations: [purge]}}}}\napi: {{tokens: [{}, {{name: ops, sha256: \"{}\", scopes: [ops:heal], namespaces: [autonomy, live]}}]}}",
        token("2", "intents:write"),
        "3".repeat(64)
    ));
    let mut risky = line("jdbc", "jdbc:postgresql://db.example/app");
    risky.risk = Risk::High;
    let mut unsure = line("github", "side-project");
    unsure.confidence = 0.2;
    let mut tolerated = line("github", "tolerated");
    tolerated.evidence_status = "Tolerated".to_string();
    let lines = [line("slack", "acme"), line("github", "acme"), line("filesource", "seeds/data/a.csv"), risky, unsure, tolerated];
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("policy_diff", diff(&old, &new, Some(&lines)).join("\n"));
    });
}

#[test]
fn a_service_names_what_changes_and_whom_it_concerns() {
    let services = |list: &str| policy(&format!("allowlist: [openapi]\nfamilies: {{openapi: {{services: [{list}]}}}}"));
    let lines = [line("openapi", "https://a.example/openapi.json"), line("openapi", "https://b.example/openapi.json")];
    let was = services("{match: \"https://a.example/*\", health_path: /x}");
    let is = services("{match: \"https://a.example/*\", health_path: /y, auth: {header: X-Key}}");
    let found = diff(&was, &is, Some(&lines));
    let expected = format!(
        "openapi: service https://a.example/*: health_path changes from /x to /y (wider), auth changes from (not set) to header X-Key (wider); \
         1 connection is concerned: {} (autonomy/openapi/https://a.example/openapi.json)",
        lines[0].id
    );
    assert_eq!(found[0], expected);
    assert!(diff(&was, &was, Some(&lines)).is_empty());
}

#[test]
fn a_wider_right_to_send_credentials_is_marked() {
    let token = |more: &str| {
        let sha256 = "0".repeat(64);
        policy(&format!(
            "{ALL}\napi: {{tokens: [{{name: aod, sha256: \"{sha256}\", scopes: [intents:write], namespaces: [autonomy]{more}}}]}}"
        ))
    };
    let mut pushed = line("slack", "acme");
    pushed.origins = vec![Origin::api("aod")];
    pushed.locator = Some(Locator::Env("SLACK_TOKEN".to_string()));
    let lines = [pushed];
    let (none, some) = (token(""), token(", locators: [\"env:SLACK_TOKEN\"], hosts: [a.example]"));
    let wider = diff(&none, &some, Some(&lines)).join("\n");
    assert!(wider.contains("token aod may now use env:SLACK_TOKEN (wider)"), "{wider}");
    assert!(wider.contains("token aod may now send its credentials to a.example (wider)"), "{wider}");
    assert!(wider.contains("1 connection may use its credential now"), "{wider}");
    assert!(wider.contains("1 connection would be checked again at once: 1 slack"), "{wider}");
    let narrower = diff(&some, &none, Some(&lines)).join("\n");
    assert!(!narrower.contains("wider"), "{narrower}");
    assert!(narrower.contains("1 connection becomes AWAITING_CREDENTIALS"), "{narrower}");
    let all = token(", locators: [\"env:*\"], hosts: [a.example]");
    assert!(diff(&some, &all, None).join("\n").contains("may now use env:* (wider)"));
    let within = token(", locators: [\"env:*\", \"env:SLACK_TOKEN\"], hosts: [a.example]");
    assert!(!diff(&all, &within, None).join("\n").contains("wider"), "what a wider pattern covers is not wider");
    let bound = policy(&format!("{ALL}\ncredentials: {{namespaces: {{autonomy: [\"env:A_*\"]}}}}"));
    assert!(!diff(&policy(ALL), &bound, None).join("\n").contains("wider"));
    assert!(diff(&bound, &policy(ALL), None).join("\n").contains(
        "limit of the namespace autonomy to env:A_* is removed, and namespaces that are not listed may use them (wider)"
    ));
    let added = diff(&policy(ALL), &some, None).join("\n");
    assert!(added.contains("token aod added; scopes: intents:write; namespaces: autonomy; credentials: env:SLACK_TOKEN, to hosts that the policy or the family names and to a.example (wider)"), "{added}");
}

#[test]
fn the_places_of_credentials_and_what_is_asked_there_are_named() {
    let with = |credentials: &str| policy(&format!("{ALL}\ncredentials: {credentials}"));
    let vault = "vault: {address: \"https://vault.example:8200\", login: {method: token, token: \"env:VAULT_LOGIN\"}}";
    let graph = "graph: {kind: entra, tenant: acme, client_id: app, secret: \"env:GRAPH_SECRET\"}";
    let narrower = graph.replace("kind: entra,", "kind: entra, scopes: [Sites.Selected],");
    let hub = "hub: {family: github, client_id: iv1, redirect: \"https://aam.example/consent/callback\", scopes: [read:org]}";
    let mut used = line("github", "acme");
    used.locator = Some(Locator::ServicePrincipal("graph".to_string()));
    let lines = [used];
    let text = |was: &str, is: &str| diff(&with(was), &with(is), Some(&lines)).join("\n");
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("policy_diff_places", [
            text("{}", &format!("{{files: [/etc/aam], secrets_dir: /run/secrets, {vault}, principals: {{{graph}}}, consents: {{{hub}}}}}")),
            text(&format!("{{principals: {{{graph}}}}}"), &format!("{{principals: {{{narrower}}}}}")),
            text(&format!("{{{vault}}}"), &format!("{{{}}}", vault.replace(":8200", ""))),
            text(&format!("{{files: [/etc/aam], {vault}, principals: {{{graph}}}, consents: {{{hub}}}}}"), "{}"),
        ].join("\n---\n"));
    });
}

#[test]
fn pages_of_other_sites_are_marked_where_they_may_do_more() {
    let with = |api: &str| policy(&format!("allowlist: [jdbc]\napi: {{{api}}}"));
    let open = with(
        "cors: {origins: [\"https://a.example\", \"https://b.example\"]}, frame_ancestors: [self], api_key_header: true, enforce_slo: true",
    );
    let less = with("cors: {origins: [\"https://b.example\"]}");
    assert_eq!(
        diff(&less, &open, None),
        [
            "pages of https://a.example may now call the API with a token (wider)",
            "pages of 'self' may now show the dashboard in a frame (wider)",
            "a token may now also be sent in the header X-API-Key (wider)",
            "GET /metrics/funnel now answers 503 while the SLO is not met",
        ]
    );
    assert_eq!(
        diff(&open, &less, None),
        [
            "pages of https://a.example may no longer call the API with a token",
            "pages of 'self' may no longer show the dashboard in a frame",
            "a token may no longer be sent in the header X-API-Key",
            "GET /metrics/funnel now answers 200 even while the SLO is not met",
        ]
    );
}
