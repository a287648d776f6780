use super::*;
use crate::policy::{Cap, Network};

/// A policy as in the documentation, with every section.
pub const DESIGN: &str = r#"
version: 1
namespace: autonomy
slo: {coverage: 0.90}
eligibility: {evidence: [Sanctioned], max_risk: high, min_confidence: 0.0}
safe_mode: {max_items: 20, step_timeout: 20s, attempt_timeout: 60s}
allowlist: [gworkspace_drive, m365_sharepoint, slack]       # a comment
network: {allow_private: [127.0.0.0/8, "::1/128"], proxy: "http://proxy.example:3128", ca_file: null}
files: {roots: [seeds/data]}
caps:
  default: {per_second: 5, burst: 10, per_day: 2000, concurrency: 2}
  families: {slack: {per_second: 1, burst: 5, per_day: 2000, concurrency: 1}}
backoff: {initial: 5s, max: 15m, jitter: 0.2}
breaker: {failures: 5, open_for: 30s}
recheck: {health: 6h, drift: 24h, awaiting_credentials: 5m}
reconcile: {concurrency: 64, resync: 30s}
families: {github: {base_url: "https://ghe.acme.example/api/v3"}, openapi: {health_path: /healthz, deny_operations: [purge], services: [{match: "https://a.acme.example/*", base_url: "https://api.acme.example/v1", auth: {header: X-Api-Key}}, {match: "https://b.acme.example/openapi.json", auth: bearer}]}}
api: {tokens: [{name: aod, sha256: "ab00000000000000000000000000000000000000000000000000000000000000", scopes: [intents:write, registry:read], namespaces: [autonomy]}]}
"#;

fn problems(text: &str) -> Vec<Problem> {
    parse(text, "policy.yaml").expect_err(text)
}

/// The problems of a policy that is valid except for `section`.
fn with(section: &str) -> Vec<Problem> {
    problems(&format!("version: 1\nallowlist: [slack]\n{section}\n"))
}

#[test]
fn the_documented_form_is_read() {
    let policy = parse(DESIGN, "policy.yaml").unwrap();
    assert_eq!(policy.digest, Digest::from_bytes(DESIGN.as_bytes()));
    assert_eq!(policy.caps.families["slack"], Cap { per_second: 1.0, burst: 5, per_day: 2000, concurrency: 1 });
    assert_eq!(policy.backoff.max, Duration::from_secs(900));
    assert_eq!(policy.network.proxy.as_deref(), Some("http://proxy.example:3128"));
    assert_eq!(policy.network.allow_private[1].to_string(), "::1/128");
    assert_eq!(policy.families["openapi"].deny_operations, ["purge"]);
    let services = &policy.families["openapi"].services;
    assert_eq!(services[0].base_url.as_deref(), Some("https://api.acme.example/v1"));
    assert_eq!(services[0].auth, Some(crate::policy::ServiceAuth::Header("X-Api-Key".to_string())));
    assert_eq!((services[1].auth.clone(), services.len()), (Some(crate::policy::ServiceAuth::Bearer), 2));
    assert_eq!(policy.families["github"].base_url.as_deref(), Some("https://ghe.acme.example/api/v3"));
}

#[test]
fn a_weak_login_is_allowed_for_the_listed_servers_only() {
    let policy =
        parse("version: 1\nallowlist: [jdbc]\nnetwork: {allow_weak_login: [db.example, \"old.example:5432\"]}\n", "p").unwrap();
    let allows = |host: &str, port: u16| policy.network.allows_weak_login(host, port);
    assert!(allows("db.example", 5432) && allows("DB.EXAMPLE", 3306) && allows("old.example", 5432));
    assert!(!allows("old.example", 3306) && !allows("127.0.0.1", 5432) && !allows("other.example", 5432));
    let closed = parse("version: 1\nallowlist: [jdbc]\n", "p").unwrap();
    assert!(!closed.network.allows_weak_login("db.example", 5432));
}

#[test]
fn two_keys_are_enough_and_the_network_is_closed() {
    let policy = parse("version: 1\nallowlist: [slack]\n", "policy.yaml").unwrap();
    assert_eq!(policy.network, Network { allow_private: Vec::new(), proxy: None, ca_file: None, allow_weak_login: Vec::new() });
    assert!(policy.files.roots.is_empty() && policy.api.tokens.is_empty() && policy.families.is_empty());
    assert_eq!(policy.caps.default, Cap { per_second: 5.0, burst: 10, per_day: 2000, concurrency: 2 });
    assert_eq!((policy.slo.coverage, policy.safe_mode.max_items), (0.9, 20));
    assert_eq!(policy.recheck.health, Duration::from_secs(21_600));
}

#[test]
fn all_problems_are_reported_at_once_with_position_and_hint() {
    let text = include_str!("broken.yaml");
    let shown: Vec<String> = problems(text).iter().map(ToString::to_string).collect();
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("policy_problems", shown.join("\n"));
    });
}

#[test]
fn one_mistake_is_one_problem_at_its_place() {
    let found = with("safe_mode: {step_timeout: 20}");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].pointer.as_str(), found[0].place),
        ("/safe_mode/step_timeout", Some(crate::model::FilePlace { line: 3, column: 27 }))
    );
    assert_eq!(found[0].file, "policy.yaml");
    let found = with("netwrok: {}");
    assert_eq!((found.len(), found[0].hint.as_str()), (1, "did you mean network?"));
}

#[test]
fn a_vault_needs_tls_and_a_login_that_does_not_need_the_vault() {
    let vault = |address: &str, login: &str, more: &str| {
        with(&format!("credentials: {{vault: {{address: \"{address}\", login: {login}{more}}}}}"))
    };
    let token = "{method: token, token: \"env:A\"}";
    for address in ["https://vault.example:8200", "http://127.0.0.1:8200", "http://localhost:8200", "http://[::1]:8200"] {
        assert!(
            parse(
                &format!("version: 1\nallowlist: [jdbc]\ncredentials: {{vault: {{address: \"{address}\", login: {token}}}}}\n"),
                "p"
            )
            .is_ok(),
            "{address}"
        );
    }
    for (address, login, more, part) in [
        ("http://vault.example:8200", token, "", "without TLS"),
        ("http://10.0.0.7:8200", token, "", "without TLS"),
        ("https://vault.example/v1", token, "", "the URL has a path"),
        ("https://vault.example", "{method: token, token: \"vault:a/b#c\"}", "", "cannot be read from the vault"),
        ("https://vault.example", "{method: jwt, role: aam, token: \"vault:a/b#c\"}", "", "cannot be read from the vault"),
        ("https://vault.example", token, ", path: secret/../x", "not a path of a vault"),
        ("https://vault.example", token, ", path: auth/token", "not a path of a vault"),
        ("https://vault.example", token, ", path: \"secret#a\"", "not a path of a vault"),
    ] {
        let found = vault(address, login, more);
        assert!(found.first().is_some_and(|problem| problem.message.contains(part)), "{address} {login} {more}: {found:?}");
    }
}

#[test]
fn each_of_these_is_exactly_one_problem() {
    for (section, pointer) in [
        ("slo: {coverage: 1.1}", "/slo/coverage"),
        ("slo: {coverage: \"0.9\"}", "/slo/coverage"),
        ("slo: {coverage: .nan}", "/slo/coverage"),
        ("slo:", "/slo"),
        ("slo: [0.9]", "/slo"),
        ("slo: {coverage: 0.9, coverage: 0.8}", "/slo/coverage"),
        ("slo: {coverage: 0.9}\nslo: {coverage: 0.9}", "/slo"),
        ("slo: &s {coverage: 0.9}", "/slo"),
        ("slo: !x {coverage: 0.9}", "/slo"),
        ("namespace: demo", "/namespace"),
        ("namespace: Ünsafe", "/namespace"),
        ("eligibility: {max_risk: medium}", "/eligibility/max_risk"),
        ("eligibility: {evidence: []}", "/eligibility/evidence"),
        ("eligibility: {min_confidence: -0.1}", "/eligibility/min_confidence"),
        ("safe_mode: {max_items: 21}", "/safe_mode/max_items"),
        ("safe_mode: {max_items: 0}", "/safe_mode/max_items"),
        ("safe_mode: {max_items: 2.5}", "/safe_mode/max_items"),
        ("safe_mode: {step_timeout: 20sec}", "/safe_mode/step_timeout"),
        ("safe_mode: {step_timeout: 0s}", "/safe_mode/step_timeout"),
        ("safe_mode: {step_timeout: 99999999999999999999s}", "/safe_mode/step_timeout"),
        ("safe_mode: {step_timeout: 18446744073709551615d}", "/safe_mode/step_timeout"),
        ("safe_mode: {step_timeout: 2m}", "/safe_mode"),
        ("network: {allow_private: [10.0.0.1/8]}", "/network/allow_private/0"),
        ("network: {allow_private: [10.0.0.0/8, 10.0.0.0/8]}", "/network/allow_private/1"),
        ("network: {allow_private: [10.0.0.1]}", "/network/allow_private/0"),
        ("network: {allow_private: 10.0.0.0/8}", "/network/allow_private"),
        ("network: {proxy: \"socks5://p.example\"}", "/network/proxy"),
        ("network: {allow_weak_login: db.example}", "/network/allow_weak_login"),
        ("network: {allow_weak_login: [\"*.example\"]}", "/network/allow_weak_login/0"),
        ("network: {allow_weak_login: [10.0.0.0/8]}", "/network/allow_weak_login/0"),
        ("network: {allow_weak_login: [\"postgresql://db.example\"]}", "/network/allow_weak_login/0"),
        ("network: {allow_weak_login: [db.example, DB.example]}", "/network/allow_weak_login/1"),
        ("network: {proxy: \"http://u:p@p.example\"}", "/network/proxy"),
        ("files: {roots: [/]}", "/files/roots/0"),
        ("caps: {default: {per_second: 0}}", "/caps/default/per_second"),
        ("caps: {families: {slak: {per_second: 1, burst: 1, per_day: 1, concurrency: 1}}}", "/caps/families/slak"),
        ("caps: {families: {slack: {per_second: 1, burst: 1, per_day: 1}}}", "/caps/families/slack"),
        ("backoff: {jitter: 2}", "/backoff/jitter"),
        ("backoff: {initial: 1h, max: 1s}", "/backoff"),
        ("breaker: {failures: 0}", "/breaker/failures"),
        ("reconcile: {concurrency: 0}", "/reconcile/concurrency"),
        ("reconcile: {memory: 256}", "/reconcile/memory"),
        ("reconcile: {memory: 256MB}", "/reconcile/memory"),
        ("reconcile: {memory: 1MiB}", "/reconcile/memory"),
        ("reconcile: {memory: 99999999GiB}", "/reconcile/memory"),
        ("families: {unknown: {}}", "/families/unknown"),
        ("families: {openapi: {health_path: //evil.example}}", "/families/openapi/health_path"),
        ("families: {github: {base_url: ftp://x.example}}", "/families/github/base_url"),
        ("api: {hosts: [\"https://aam.example\"]}", "/api/hosts/0"),
        ("api: {hosts: [a.example, A.example]}", "/api/hosts/1"),
        ("api: {rate: {burst: 0}}", "/api/rate/burst"),
        ("api: {cors: {origins: [\"*\"]}}", "/api/cors/origins/0"),
        ("api: {cors: {origins: [portal.example]}}", "/api/cors/origins/0"),
        ("api: {cors: {origins: [\"https://a.example\", \"https://A.example:443\"]}}", "/api/cors/origins/1"),
        ("api: {frame_ancestors: [\"https://a.example/portal\"]}", "/api/frame_ancestors/0"),
        ("api: {api_key_header: \"true\"}", "/api/api_key_header"),
        ("families: {github: {services: []}}", "/families/github/services"),
        ("families: {openapi: {services: [{health_path: /x}]}}", "/families/openapi/services/0"),
        ("families: {openapi: {services: [{match: \"https://a.example*\"}]}}", "/families/openapi/services/0/match"),
        ("families: {openapi: {services: [{match: \"https://*/x\"}]}}", "/families/openapi/services/0/match"),
        ("families: {openapi: {services: [{match: \"a.example/x\"}]}}", "/families/openapi/services/0/match"),
        ("families: {openapi: {services: [{match: \"https://u:p@a.example/x\"}]}}", "/families/openapi/services/0/match"),
        (
            "families: {openapi: {services: [{match: \"https://a.example/x\"}, {match: \"https://a.example/x\"}]}}",
            "/families/openapi/services/1",
        ),
        (
            "families: {openapi: {services: [{match: \"https://a.example/x\", auth: {query: key}}]}}",
            "/families/openapi/services/0/auth/query",
        ),
        (
            "families: {openapi: {services: [{match: \"https://a.example/x\", auth: {header: Host}}]}}",
            "/families/openapi/services/0/auth/header",
        ),
        (
            "families: {openapi: {services: [{match: \"https://a.example/x\", auth: digest}]}}",
            "/families/openapi/services/0/auth",
        ),
        ("api: {tokens: [{}]}", "/api/tokens/0"),
    ] {
        let found = with(section);
        let expected = if section.starts_with("api: {tokens") { 4 } else { 1 };
        assert_eq!(found.len(), expected, "{section}: {found:#?}");
        assert_eq!(found[0].pointer, pointer, "{section}");
        assert!(found[0].place.is_some_and(|place| place.line >= 3), "{section}: {:?}", found[0].place);
    }
}

#[test]
fn tokens_must_be_distinct() {
    let token = |name: &str, digit: char| {
        let sha256 = digit.to_string().repeat(64);
        format!("{{name: {name}, sha256: \"{sha256}\", scopes: [ops:heal], namespaces: [autonomy]}}")
    };
    let found = with(&format!("api: {{tokens: [{}, {}]}}", token("a", '1'), token("a", '2')));
    assert!(found.len() == 1 && found[0].message.contains("used by two tokens"), "{found:?}");
    let found = with(&format!("api: {{tokens: [{}, {}]}}", token("a", '1'), token("b", '1')));
    assert!(found.len() == 1 && found[0].message.contains("same sha256"), "{found:?}");
    let found = with(&format!("api: {{tokens: [{}]}}", token("a", '1').replace("ops:heal", "ops:heel")));
    assert!(found.len() == 1 && found[0].hint.starts_with("did you mean ops:heal?"), "{found:?}");
    let found = with(&format!("api: {{tokens: [{}]}}", token("a", '1').replace("[ops:heal]", "[]")));
    assert_eq!(found[0].pointer, "/api/tokens/0/scopes");
}

#[test]
fn no_message_repeats_a_long_value() {
    const CANARY: &str = "canary-0123456789-0123456789-0123456789-0123456789";
    for section in [
        format!("{CANARY}: 1"),
        format!("slo: {CANARY}"),
        format!("slo: {{coverage: {CANARY}, {CANARY}: 1, {CANARY}: 2}}"),
        format!("namespace: {CANARY}-0123456789-0123456789"),
        format!("network: {{proxy: \"http://user:{CANARY}@proxy.example\", allow_private: [{CANARY}]}}"),
        format!("caps: {{families: {{{CANARY}: {{}}}}}}"),
        format!("api: {{tokens: [{{name: a, sha256: {CANARY}, scopes: [{CANARY}, {CANARY}], namespaces: [autonomy]}}]}}"),
        format!("backoff: {{initial: {CANARY}, max: \"{CANARY}\"}}"),
        format!("families: {{github: {{base_url: \"{CANARY}\", health_path: {CANARY}}}}}"),
        format!("slo: *{CANARY}"),
        format!("slo: !{CANARY} 1"),
        format!("slo: [{CANARY}\nnamespace: x: {CANARY}"),
        format!("%{CANARY}"),
    ] {
        for problem in with(&section) {
            assert!(!problem.to_string().contains("canary-01234567890"), "{problem}");
            assert!(!problem.to_string().contains(&CANARY[7..]), "{problem}");
        }
    }
    let token = "api: {tokens: [{name: a, sha256: hunter2-hunter2, scopes: [ops:heal], namespaces: [autonomy]}]}";
    assert!(!with(token).iter().any(|problem| problem.to_string().contains("hunter2")), "a short token is a token too");
}

#[test]
fn a_text_that_is_not_a_policy_is_one_problem() {
    for text in [
        "[1, 2]",
        "plain text",
        "version: [",
        "a: 1\n\tb: 2\n",
        "a: b: c",
        "version: 1\n---\nversion: 1\n",
        "version: 1\n  bad: 2\n",
        "\u{0}",
    ] {
        assert_eq!(problems(text).len(), 1, "{text:?}: {:#?}", problems(text));
    }
    for text in ["", "# nothing\n", "---\n", "null"] {
        let found = problems(text);
        assert!(!found.is_empty() && found.len() <= 2, "{text:?}: {found:#?}");
    }
    assert_eq!(
        problems("").iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>(),
        ["the key version is missing", "the key allowlist is missing"]
    );
}

#[test]
fn invisible_characters_are_refused() {
    for hidden in ['\0', '\u{7f}', '\u{202e}', '\u{2066}', '\u{feff}'] {
        let found = problems(&format!("version: 1\nallowlist: [slack]\n# {hidden}\n"));
        assert_eq!((found.len(), found[0].place), (1, Some(crate::model::FilePlace { line: 3, column: 3 })), "{hidden:?}");
    }
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_are_read() {
    let policy = parse("\u{feff}version: 1\r\nallowlist: [slack]\r\nslo: {coverage: 0.5}\r\n", "p").unwrap();
    assert_eq!(policy.slo.coverage, 0.5);
}

#[test]
fn size_depth_and_the_number_of_problems_are_bounded() {
    let big = format!("version: 1\nallowlist: [slack]\n#{}", "x".repeat(yaml::MAX_BYTES));
    assert!(problems(&big)[0].message.contains("bytes"));
    for hostile in ["[", "{a: ", "- ", "? ", "{", "a:\n ", "\"", "&a ", "!", "*a ", "- - ", "[[],"] {
        let text = hostile.repeat(200_000 / hostile.len());
        let begun = std::time::Instant::now();
        assert!(!problems(&text).is_empty());
        assert!(begun.elapsed() < Duration::from_secs(5), "{hostile:?} took {:?}", begun.elapsed());
    }
    for (before, item, after) in [("deny: ", "x", ""), ("files: {roots: ", "a", "}"), ("eligibility: {evidence: ", "b", "}")] {
        let items: Vec<String> = (0..100_000).map(|n| format!("{item}{n}")).collect();
        let found = with(&format!("{before}[{}]{after}", items.join(",")));
        assert_eq!(found.len(), 1, "{found:?}");
    }
    let long = "k".repeat(900_000);
    assert_eq!(with(&format!("caps: {{families: {{? {long} : {{}}}}}}")).len(), 1);
    let many: String = (0..50_000).map(|n| format!("key{n}: 1\n")).collect();
    assert!(problems(&many).len() <= super::super::yaml::MAX_PROBLEMS);
}

/// `broken.yaml` after doing what the hints say.
const FIXED: &str = r#"
version: 1
namespace: autonomy
slo: {coverage: 1}
eligibility: {evidence: [Sanctioned], max_risk: med, min_confidence: 0.5}
safe_mode: {max_items: 20, step_timeout: 20s, attempt_timeout: 20s}
allowlist: [slack, github]
network:
  allow_private: [10.0.0.1/32, 10.0.0.0/8, "fd00::/8"]
  proxy: http://proxy.example
files: {roots: [/srv/data]}
caps:
  default: {per_second: 0.1, burst: 1, per_day: 1, concurrency: 2}
  families:
    jira: {per_second: 1, burst: 20, per_day: 5000, concurrency: 2}
    slack: {per_second: 0.25, burst: 12, per_day: 500, concurrency: 1}
backoff: {initial: 5s, max: 10m, jitter: 1}
breaker: {failures: 5}
recheck: {health: 6h, drift: 1ms, awaiting_credentials: 30d}
reconcile: {concurrency: 64}
families:
  github: {base_url: "https://ghe.example/api/v3"}
  openapi: {health_path: /healthz, deny_operations: [purge]}
api:
  tokens:
    - {name: aod, sha256: "0000000000000000000000000000000000000000000000000000000000000000", scopes: [intents:write], namespaces: [autonomy]}
"#;

#[test]
fn following_the_hints_of_a_broken_policy_makes_it_valid() {
    assert_eq!(parse(FIXED, "p").map(drop), Ok(()));
}

#[test]
fn a_secret_of_the_policy_that_could_never_be_read_is_reported_where_it_stands() {
    let problems = |credentials: &str| {
        let text = format!("version: 1\nallowlist: [openapi]\ncredentials: {{{credentials}}}\n");
        let all: Vec<_> = parse(&text, "p").err().unwrap_or_default().iter().map(ToString::to_string).collect();
        all.join("\n")
    };
    let principal = |key: &str| {
        format!("principals: {{a: {{kind: oauth2_client, token_url: \"https://a.example/t\", client_id: c, secret: \"{key}\"}}}}")
    };
    let outside = problems(&principal("file:/srv/keys/a"));
    assert!(outside.contains("/credentials/principals/a/secret") && outside.contains("does not list any folder"), "{outside}");
    assert!(outside.contains("files: [\"/srv/keys\"]"), "{outside}");
    assert_eq!(problems(&format!("files: [/srv/keys], {}", principal("file:/srv/keys/a"))), "");
    let without_vault = problems(&principal("vault:kv/a#b"));
    assert!(without_vault.contains("does not describe a vault"), "{without_vault}");
    let vault = "vault: {address: \"https://v.example\", login: {method: token, token: \"env:T\"}}";
    assert_eq!(problems(&format!("{vault}, {}", principal("vault:kv/a#b"))), "");
    assert!(problems("consent_store: {key: \"file:/srv/keys/k\"}").contains("/credentials/consent_store/key"));
}

#[test]
fn a_family_whose_vendor_is_slow_has_timeouts_of_its_own_unless_the_policy_changes_the_defaults() {
    let seconds = |text: &str, family: &str| {
        let policy = parse(&format!("version: 1\nallowlist: [workday, github]\n{text}"), "policy.yaml").unwrap();
        let mode = policy.safe_mode(family);
        (mode.step_timeout.as_secs(), mode.attempt_timeout.as_secs())
    };
    assert_eq!(seconds("", "github"), (20, 60));
    let own = crate::families::find("workday").unwrap().timeouts.as_ref().unwrap();
    assert_eq!(seconds("", "workday"), (own.step_seconds, own.attempt_seconds));
    assert!(own.step_seconds >= 100 && own.attempt_seconds >= own.step_seconds);
    for family in ["github", "workday"] {
        assert_eq!(seconds("safe_mode: {step_timeout: 6s, attempt_timeout: 30s}", family), (6, 30));
    }
}
