use super::super::parse::parse;
use super::*;
use crate::model::{Allowed, Problem};

const GOOD: &str = r#"
version: 1
allowlist: [slack, acme_crm, other_one]
caps: {families: {acme_crm: {per_second: 1, burst: 5, per_day: 100, concurrency: 1}}}
manifests:
  dir: policy/manifests
  sources:
    acme_crm:
      hosts: [api.acme.example, "http://127.0.0.1:8080"]
      resource: subdomain
      identity: {stream: account, field: /login}
      posts:
        - url: https://api.acme.example/oauth/token
          why: a token
          idempotent: true
          body: {form: {grant_type: {is: client_credentials}, client_id: any, n: {one_of: [1, two]}}}
"#;

fn problems(section: &str) -> Vec<Problem> {
    parse(&format!("version: 1\nallowlist: [slack]\n{section}\n"), "policy.yaml").expect_err(section)
}

#[test]
fn the_section_is_read_and_printed_back() {
    let policy = parse(GOOD, "policy.yaml").unwrap();
    let source = policy.manifests.source("acme_crm");
    assert_eq!(source.hosts, ["https://api.acme.example", "http://127.0.0.1:8080"]);
    assert_eq!(source.resource.as_deref(), Some("subdomain"));
    let BodyRule::Form(shape) = &source.posts[0].body else { panic!("{source:?}") };
    assert_eq!(shape["n"], Allowed::OneOf(vec![1.into(), "two".into()]));
    let text = super::super::effective::effective(&policy, &[]);
    let mut again = parse(&text, "policy.yaml").unwrap();
    again.digest = policy.digest;
    assert_eq!(again, policy, "{text}");
}

#[test]
fn an_invalid_entry_is_refused_with_its_position() {
    for (section, text) in [
        ("manifests: {dir: m, sources: {slack: {}}}", "slack is a built-in family"),
        ("manifests: {dir: m, sources: {Acme: {}}}", "invalid source name"),
        ("manifests: {sources: {acme: {}}}", "folder of their manifests is missing"),
        ("manifests: {folder: m}", "unknown key `folder`"),
        ("manifests: {dir: m, sources: {acme: {hosts: [\"*.acme.example\"]}}}", "invalid host"),
        ("manifests: {dir: m, sources: {acme: {hosts: [a.example/v1]}}}", "invalid host"),
        ("manifests: {dir: m, sources: {acme: {identity: {stream: a, field: b}}}}", "must begin with /"),
        ("manifests: {dir: m, sources: {acme: {posts: [{url: \"https://a.example/x\", body: none}]}}}", "missing field `why`"),
        (
            "manifests: {dir: m, sources: {acme: {posts: [{url: \"https://a.example/*\", why: w, body: none}]}}}",
            "without * and {part}",
        ),
        (
            "manifests: {dir: m, sources: {acme: {posts: [{url: \"https://a.example/x\", why: w, body: any}]}}}",
            "unknown variant `any`",
        ),
    ] {
        let found = problems(section);
        assert!(found.iter().any(|problem| problem.message.contains(text) && problem.place.is_some()), "{section}: {found:?}");
    }
}

#[test]
fn without_a_folder_a_name_is_a_typo_and_with_one_a_near_name_still_is() {
    assert!(problems("caps: {families: {acme_crm: {}}}")[0].message.contains("unknown family"));
    let near = problems("manifests: {dir: m}\ncaps: {families: {githb: {per_second: 1, burst: 1, per_day: 1, concurrency: 1}}}");
    assert_eq!(near[0].hint, "did you mean github? If `githb` is a manifest, declare it under manifests.sources");
}

#[test]
fn changes_are_named() {
    let policy = parse(GOOD, "policy.yaml").unwrap();
    let bare =
        parse("version: 1\nallowlist: [slack]\nmanifests: {dir: elsewhere, sources: {acme_crm: {}}}\n", "policy.yaml").unwrap();
    let texts = |was: &Manifests, is: &Manifests| {
        let mut changes = Changes::default();
        diff(was, is, &mut changes);
        changes.0.into_iter().map(|change| change.text).collect::<Vec<_>>().join("\n")
    };
    let lines = texts(&bare.manifests, &policy.manifests);
    for text in [
        "manifests.dir changes from elsewhere to policy/manifests",
        "it may call https://api.acme.example, http://127.0.0.1:8080 instead of the hosts of its manifest",
        "POST https://api.acme.example/oauth/token (form) is now allowed, because it only reads: a token",
        "/login of the stream account must be the resource id",
    ] {
        assert!(lines.contains(text), "{text}: {lines}");
    }
    assert_eq!(texts(&policy.manifests, &policy.manifests), "");
}
