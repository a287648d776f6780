use super::super::parse;
use super::*;
use crate::model::Problem;
use crate::policy::Policy;
use crate::policy::effective::effective;

const GOOD: &str = r#"
version: 1
allowlist: [okta, acme_crm, other]
caps: {families: {acme_crm: {per_second: 1, burst: 5, per_day: 100, concurrency: 1}}}
families: {okta: {engine: airbyte}, github: {engine: airbyte}, gitlab: {engine: native}}
airbyte:
  dir: /srv/connectors
  memory: 2GiB
  allow_weaker_confinement: true
  connectors:
    okta: {run: airbyte-source-okta, version: 0.3.26, sha256: "0000000000000000000000000000000000000000000000000000000000000001"}
    acme_crm:
      run: [/usr/bin/python3, "/opt/acme crm.py"]
      config: {token: "{credential.token}", start: 2024-01-01, pages: 3, deep: {on: true, off: null, list: ["{resource_id}"]}}
      hosts: [api.acme.example, "http://127.0.0.1:8080", "{resource_id.label}.acme.example"]
      posts:
        - {url: "https://api.acme.example/oauth/token", why: a token, body: {form: {grant_type: {is: client_credentials}}}}
      memory: 256MiB
      streams: [accounts]
      readable: [/opt/acme, connectors/acme]
    other: {run: {image: registry.example:5000/airbyte/source-other}, version: "1.2", config: {}}
  platform: {url: "https://airbyte.acme.example/api/public/v1", workspace: 2155AE5A-de39-4808-af6a-16fe7b8b4ed2, credential: "env:AIRBYTE"}
"#;

fn read(text: &str) -> Policy {
    parse(text, "policy.yaml").unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"))
}

fn problems(section: &str) -> Vec<Problem> {
    parse(&format!("version: 1\nallowlist: [slack]\n{section}\n"), "policy.yaml").expect_err(section)
}

#[test]
fn the_section_is_read_and_printed_back() {
    let policy = read(GOOD);
    let airbyte = &policy.airbyte;
    let okta = airbyte.connector("okta").expect("okta");
    let known = find("source-okta").expect("a known connector");
    // What the policy leaves out is what AAM ships.
    assert_eq!((&okta.config, &okta.streams, okta.memory), (&known.config, &known.streams, DEFAULT_CONNECTOR_BYTES));
    assert_eq!(okta.hosts, ["{resource_id.label}.okta.com"]);
    let acme = airbyte.connector("acme_crm").expect("acme_crm");
    assert_eq!(acme.run, Run::Command(vec!["/usr/bin/python3".to_string(), "/opt/acme crm.py".to_string()]));
    assert_eq!(acme.hosts, ["https://api.acme.example", "http://127.0.0.1:8080", "{resource_id.label}.acme.example"]);
    assert_eq!(acme.config.get("start"), Some(&Value::from("2024-01-01")));
    assert_eq!((acme.posts.len(), acme.memory, acme.version.as_str()), (1, 256 << 20, ""));
    assert_eq!(acme.readable, ["/opt/acme", "connectors/acme"].map(std::path::PathBuf::from));
    let other = airbyte.connector("other").expect("other");
    assert_eq!(other.run, Run::Image("registry.example:5000/airbyte/source-other".to_string()));
    let platform = airbyte.platform.as_ref().expect("a platform");
    assert_eq!(platform.workspace, "2155ae5a-de39-4808-af6a-16fe7b8b4ed2");
    let text = effective(&policy, &[]);
    let mut again = read(&text);
    again.digest = policy.digest;
    assert_eq!(again, policy, "{text}");
}

#[test]
fn without_the_section_nothing_runs() {
    let policy = read("version: 1\nallowlist: []\n");
    assert_eq!(policy.airbyte, Airbyte::default());
    assert!(policy.served_sources().is_empty());
}

#[test]
fn every_connector_that_aam_ships_can_be_listed_with_its_version_alone() {
    for known in families::airbyte::all() {
        let name = &families::airbyte::source_type(&known.name);
        let text = format!(
            "version: 1\nallowlist: [{name}]\nairbyte: {{connectors: {{{name}: {{run: airbyte-{}, version: {}}}}}}}\n",
            known.name, known.version
        );
        let policy = read(&text);
        let connector = policy.airbyte.connector(name).expect("a connector");
        assert_eq!(connector.config, known.config, "{name}");
        // Its placeholders and hosts are those that a policy may write.
        let mut again = read(&effective(&policy, &[]));
        again.digest = policy.digest;
        assert_eq!(again, policy);
    }
}

#[test]
fn each_mistake_is_named_with_its_key_and_a_fix() {
    let with = |entry: &str| format!("airbyte: {{connectors: {{acme: {{{entry}}}}}}}");
    let one = |entry: &str| with(&format!("run: [/opt/acme], config: {{}}, {entry}"));
    for (section, pointer, text) in [
        ("airbyte: {folder: x}".to_string(), "/airbyte/folder", "unknown key `folder`"),
        ("airbyte: {dir: /}".to_string(), "/airbyte/dir", "root directory"),
        ("airbyte: {memory: 1}".to_string(), "/airbyte/memory", "expected a size"),
        (with("version: 1"), "/airbyte/connectors/acme", "the key run is missing"),
        (with("run: airbyte-source-okta"), "/airbyte/connectors/acme", "the key version is missing"),
        (
            with("run: airbyte-source-acme, version: \"1\""),
            "/airbyte/connectors/acme",
            "AAM does not ship a config for source-acme",
        ),
        (with("run: \"a b\", version: \"1\""), "/airbyte/connectors/acme/run", "not the name of a package"),
        (with("run: [], config: {}"), "/airbyte/connectors/acme/run", "the command is empty"),
        (with("run: {image: \"a/b:1\"}, config: {}"), "/airbyte/connectors/acme/run/image", "has a tag"),
        (with("run: {image: \"a/b@sha256:1\"}, config: {}"), "/airbyte/connectors/acme/run/image", "not the name of an image"),
        (with("run: {images: a}, config: {}"), "/airbyte/connectors/acme/run/images", "unknown key"),
        (one("sha256: abc"), "/airbyte/connectors/acme/sha256", "not a SHA-256"),
        (one("hosts: [\"*.acme.example\"]"), "/airbyte/connectors/acme/hosts/0", "invalid host"),
        (one("hosts: [\"{resource_id}/x\"]"), "/airbyte/connectors/acme/hosts/0", "invalid host"),
        (one("hosts: [\"{resource}.example\"]"), "/airbyte/connectors/acme/hosts/0", "invalid host"),
        (one("hosts: [\"{resource_id.part}\"]"), "/airbyte/connectors/acme/hosts/0", "is not a placeholder"),
        (one("posts: [{url: \"https://a.example/x\", body: none}]"), "/airbyte/connectors/acme/posts/0", "missing field `why`"),
        (one("readable: [/]"), "/airbyte/connectors/acme/readable/0", "not allowed here"),
        (one("readable: [.]"), "/airbyte/connectors/acme/readable/0", "not allowed here"),
        (one("readable: [\"~/acme\"]"), "/airbyte/connectors/acme/readable/0", "not allowed here"),
        (one("readable: [a/../..]"), "/airbyte/connectors/acme/readable/0", "not allowed here"),
        (one("readable: [/a, /a]"), "/airbyte/connectors/acme/readable/1", "listed twice"),
        (one("memory: 2GiB"), "/airbyte/connectors/acme/memory", "more memory than all connectors together"),
        (with("run: [/opt/acme], config: []"), "/airbyte/connectors/acme/config", "not a mapping"),
        (
            with("run: [/opt/acme], config: {a: {b: [\"{credential.}\"]}}"),
            "/airbyte/connectors/acme/config",
            "does not name a field",
        ),
        ("airbyte: {connectors: {Acme: {}}}".to_string(), "/airbyte/connectors/Acme", "invalid source name"),
        ("airbyte: {platform: {url: \"http://a.example\"}}".to_string(), "/airbyte/platform/url", "without TLS"),
        ("airbyte: {platform: {url: \"https://a.example\"}}".to_string(), "/airbyte/platform", "the key workspace is missing"),
        (
            "airbyte: {platform: {url: \"https://a.example\", workspace: w, credential: \"env:A\"}}".to_string(),
            "/airbyte/platform/workspace",
            "not a UUID",
        ),
        ("families: {okta: {engine: java}}".to_string(), "/families/okta/engine", "is not a valid engine"),
        ("families: {okta: {engine: airbyte}}".to_string(), "/families/okta/engine", "neither a connector for it nor a platform"),
        (
            format!("{}\nfamilies: {{acme: {{engine: native}}}}", one("streams: []")),
            "/families/acme/engine",
            "does not have an engine of its own",
        ),
    ] {
        let found = problems(&section);
        let named = |problem: &Problem| problem.pointer == pointer && problem.message.contains(text) && problem.place.is_some();
        let fixed = |problem: &Problem| named(problem) && !problem.hint.is_empty();
        assert!(found.iter().any(fixed), "{section}\n{pointer}: {text}\n{found:#?}");
    }
}

#[test]
fn another_name_of_a_family_is_not_a_source_type_of_its_own() {
    let alias = aliases::of_family("gworkspace_drive").first().cloned().expect("a family with other names");
    let found = problems(&format!("airbyte: {{connectors: {{{}: {{run: [/opt/x], config: {{}}}}}}}}", alias.replace(' ', "_")));
    assert!(found.iter().any(|problem| problem.message.contains("is another name of the family gworkspace_drive")), "{found:?}");
}

#[test]
fn the_problem_of_a_missing_connector_says_both_ways() {
    let found = problems("families: {okta: {engine: airbyte}}");
    let hint = &found[0].hint;
    assert!(hint.contains("aam airbyte install source-okta") && hint.contains("airbyte.platform"), "{hint}");
}
