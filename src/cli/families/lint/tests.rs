use super::lint;
use crate::families;
use crate::policy::parse::parse;
use std::fmt::Write;

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/lint/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn every_finding_has_a_place_and_a_fix() {
    let mut text = String::new();
    for name in ["acme_broken", "acme_crm"] {
        let findings = lint(&file(name), name, None);
        for finding in &findings {
            assert!(finding.place.is_some() && !finding.hint.is_empty(), "{finding:?}");
            writeln!(text, "{}", finding.clone().in_file(format!("{name}.yaml"))).unwrap();
        }
        text.push('\n');
    }
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("families_lint", text);
    });
}

#[test]
fn the_fixes_of_a_custom_source_remove_its_findings() {
    let text = file("acme_crm");
    let policy = parse(
        "version: 1\nallowlist: [acme_crm]\nmanifests: {dir: m, sources: {acme_crm: {identity: {stream: accounts, field: /id}, \
         posts: [{url: \"https://api.crm.example/deals/search\", why: \"searches\", body: {json: {limit: any}}}]}}}\n",
        "policy.yaml",
    )
    .unwrap();
    let left = lint(&text, "acme_crm", Some(&policy));
    assert_eq!(left.len(), 2, "{left:?}");
    let fixed = text
        .replace("path: /accounts}", "path: /accounts, request_parameters: {per_page: \"20\"}}")
        .replace("properties: {}", "properties: {id: {type: string}}");
    assert_eq!(lint(&fixed, "acme_crm", Some(&policy)), []);
    let single = text.replace("properties: {}", "properties: {id: {type: string}}");
    let single = single.replace("definitions:", "metadata: {aam: {single: [accounts]}}\ndefinitions:");
    assert_eq!(lint(&single, "acme_crm", Some(&policy)), []);
    let whole = text.replace("properties: {}", "properties: {id: {type: string}}");
    let reason = |why: &str| {
        whole.replace("definitions:", &format!("metadata: {{aam: {{unbounded: {{accounts: \"{why}\"}}}}}}\ndefinitions:"))
    };
    assert_eq!(lint(&reason("the vendor has no pages"), "acme_crm", Some(&policy)), []);
    assert_eq!(lint(&reason(" "), "acme_crm", Some(&policy)).len(), 1, "without a reason");
    let misspelt = lint(&single.replace("[accounts]}}", "[account]}}"), "acme_crm", Some(&policy));
    assert!(misspelt.iter().any(|finding| finding.message == "the stream account was not found"), "{misspelt:?}");
}

#[test]
fn the_documented_example_has_no_findings() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let docs = std::fs::read_to_string(format!("{folder}/docs/families.md")).unwrap();
    let entry = docs.split("```yaml\n").find(|block| block.contains("    hubspot:\n")).unwrap().split("```").next().unwrap();
    let policy = parse(&format!("version: 1\n{entry}"), "docs/families.md").unwrap();
    let text = std::fs::read_to_string(format!("{folder}/docs/examples/hubspot.yaml")).unwrap();
    assert_eq!(lint(&text, "hubspot", Some(&policy)), []);
}

#[test]
fn the_families_of_this_version_have_no_findings() {
    for family in families::all().iter().filter(|family| &*family.engine == "lowcode" && !family.id.starts_with("acme_")) {
        let path = format!("{}/src/families/{}.yaml", env!("CARGO_MANIFEST_DIR"), family.id);
        assert_eq!(lint(&std::fs::read_to_string(path).unwrap(), &family.id, None), [], "{}", family.id);
    }
}

#[test]
fn large_pages_and_templates_that_fail_on_null_are_found() {
    let path = format!("{}/src/families/gitlab.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let findings = lint(&text.replace("page_size: 20", "page_size: 2000"), "gitlab", None);
    assert!(findings.iter().any(|found| found.message.contains("up to 2000 records")), "{findings:?}");
    let path = format!("{}/src/families/gworkspace_drive.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let findings =
        lint(&text.replace("(record.get('user') or {}).get(", "record.get('user', {}).get("), "gworkspace_drive", None);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("null: .get('user', {})") && findings[0].place.is_some(), "{findings:?}");
}

#[test]
fn a_missing_key_is_reported_once_and_where_it_is_missing() {
    let path = format!("{}/src/families/gitlab.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let without = |key: &str| {
        let (before, rest) = text.split_once(&format!("\n{key}:")).unwrap();
        let end = rest.find("\n\n").unwrap();
        lint(&format!("{before}\n{}", &rest[end..]), "gitlab", None)
    };
    let findings = without("privilege");
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].pointer.is_empty() && findings[0].message.contains("privilege"), "{findings:?}");
    let unnamed = lint(&text.replacen("    - name: ", "    - title: ", 1), "gitlab", None);
    assert!(unnamed.iter().all(|found| found.pointer != "/address"), "{unnamed:?}");
}

#[test]
fn the_identity_of_a_custom_source_is_proposed_by_its_config() {
    let text = std::fs::read_to_string(format!("{}/docs/examples/hubspot.yaml", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let findings = lint(&text, "hubspot", None);
    assert!(findings.iter().any(|found| found.hint.contains("{stream: account, field: /portalId}")), "{findings:?}");
}

#[test]
fn what_is_not_a_family_is_said_in_one_sentence() {
    for (text, message) in [
        ("a: [1", "not valid YAML"),
        ("a: 1\na: 2\n", "not valid YAML"),
        ("", "manifest"),
        ("engine: lowcode\n", "missing field"),
        ("- 1\n", ""),
    ] {
        let findings = lint(text, "x", None);
        assert!(!findings.is_empty() && findings[0].message.contains(message), "{text:?}: {findings:?}");
    }
}
