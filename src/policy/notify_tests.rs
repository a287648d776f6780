use super::*;
use crate::policy::effective::effective;
use crate::policy::parse::{has_host, parse};
use crate::policy::{LoadedPolicy, Policy, diff};

const FULL: &str = "
  - {url: https://hooks.acme.example/aam, secret: env:WEBHOOK_SECRET, on: [state_changed, drift]}
  - {name: chat, form: slack, url_locator: env:SLACK_HOOK, on: [slo_missed], namespaces: [autonomy]}
  - {name: teams, form: teams, url_locator: env:TEAMS_HOOK, host: acme.webhook.office.com, on: [intent_problem]}
  - {name: local, url: 'http://127.0.0.1:8080/x', secret: env:WEBHOOK_SECRET, on: [policy_rejected]}
";

fn policy(notify: &str) -> Policy {
    parse(&text(notify), "policy.yaml").unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn text(notify: &str) -> String {
    format!("version: 1\nallowlist: []\nnotify:{notify}\n")
}

#[test]
fn webhooks_are_read_and_printed() {
    let policy = policy(FULL);
    let names: Vec<&str> = policy.notify.iter().map(|webhook| webhook.name.as_str()).collect();
    assert!(names[0].starts_with("hooks.acme.example-") && names[1..] == ["chat", "teams", "local"], "{names:?}");
    let types = |index: usize| policy.notify[index].types().iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ");
    assert_eq!(types(0), "state_changed drift");
    assert_eq!(types(1), "slo_missed slo_met", "the end of what is announced is announced, too");
    let printed = effective(&policy, &[]);
    let mut again = parse(&printed, "p").expect(&printed);
    again.digest = policy.digest;
    assert_eq!(again, policy, "{printed}");
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        let start = printed.find("notify:").unwrap_or_default();
        let end = printed.find("\napi:").unwrap_or(printed.len());
        insta::assert_snapshot!("policy_effective_notify", printed.get(start..end).unwrap_or_default());
    });
}

#[test]
fn problems_of_webhooks() {
    let mut report = String::new();
    for entry in [
        "{}",
        "{url: https://a.example/x, on: [drift]}",
        "{url: https://a.example/x, secret: env:S}",
        "{url: https://a.example/x, secret: env:S, on: []}",
        "{url: https://a.example/x, secret: env:S, on: [state_change]}",
        "{url: http://a.example/x, secret: env:S, on: [drift]}",
        "{url: 'https://a.example/x?sig=1', secret: env:S, on: [drift]}",
        "{url: 'https://hooks.slack.com/services/A/B/c', form: slack, on: [drift]}",
        "{url: 'https://user:pass@a.example/x', secret: env:S, on: [drift]}",
        "{url: https://a.example/x, url_locator: env:U, secret: env:S, on: [drift]}",
        "{url_locator: env:U, form: teams, on: [drift]}",
        "{url_locator: env:U, form: slack, secret: env:S, on: [drift]}",
        "{url: https://a.example/x, secret: whsec_pasted, on: [drift]}",
        "{url: https://a.example/x, secret: 'file:/etc/x', on: [drift]}",
        "{url: https://a.example/x, secret: 'vault:a#b', on: [drift]}",
        "{url: https://a.example/x, secret: env:S, on: [drift]}, {url: https://a.example/x, secret: env:S, on: [drift]}",
    ] {
        let problems = parse(&text(&format!(" [{entry}]")), "policy.yaml").expect_err(entry);
        report.push_str(&format!("{entry}\n"));
        problems.iter().for_each(|problem| report.push_str(&format!("  {problem}\n")));
    }
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("policy_notify_problems", report);
    });
}

#[test]
fn changes_of_webhooks_are_described_and_marked() {
    let loaded = |notify: &str| LoadedPolicy::new(policy(notify));
    let ops = " [{name: ops, url: https://a.example/x, secret: env:S, on: [drift]}]";
    let wider = " [{name: ops, url: https://b.example/x, secret: env:T, on: [drift, state_changed]}]";
    let narrower = " [{name: ops, url: https://a.example/x, secret: env:S, on: [drift], namespaces: [autonomy]}]";
    let mut lines = Vec::new();
    for (was, is) in [(" []", FULL), (FULL, " []"), (ops, wider), (wider, ops), (ops, narrower), (narrower, ops), (ops, ops)] {
        let changes = diff::diff(&loaded(was), &loaded(is), None, None);
        lines.push(changes.into_iter().map(|change| change.text).collect::<Vec<_>>().join("\n"));
    }
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("policy_diff_notify", lines.join("\n----\n"));
    });
}

#[test]
fn a_stored_url_has_exactly_the_host_of_the_policy() {
    let fits = |url: &str, host: &str| has_host(&Url::parse(url).expect(url), host);
    assert!(fits("https://hooks.slack.com/services/x", "hooks.slack.com"));
    assert!(fits("https://HOOKS.slack.com:443/services/x?y", "hooks.slack.com"));
    assert!(fits("https://a.example:8443/", "a.example:8443") && fits("http://127.0.0.1:80/x", "127.0.0.1:80"));
    assert!(!fits("http://hooks.slack.com/x", "hooks.slack.com") && !fits("https://a.example:8443/", "a.example"));
    assert!(!fits("https://hooks.slack.com.evil.example/x", "hooks.slack.com"));
    assert!(!fits("https://evil.example/hooks.slack.com", "hooks.slack.com") && !fits("https://a.example/", "b.example"));
}
