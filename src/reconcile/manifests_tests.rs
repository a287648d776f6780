use super::*;
use crate::policy::parse::parse;

const GOOD: &str = "version: 6.44.0\ntype: DeclarativeSource\ncheck: {type: CheckStream, stream_names: [users]}\nstreams:\n  - type: DeclarativeStream\n    name: users\n    retriever:\n      type: SimpleRetriever\n      requester: {type: HttpRequester, url_base: \"https://api.acme.example\", path: /users}\n      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}\n";

fn policy(dir: &Path) -> Policy {
    parse(&format!("version: 1\nallowlist: []\nmanifests: {{dir: \"{}\"}}\n", dir.display()), "policy.yaml").unwrap()
}

fn look(dir: &Path, before: Option<&Policy>) -> (Policy, Digest) {
    let mut policy = policy(dir);
    let digest = attach(&mut policy);
    before.into_iter().for_each(|before| keep(&mut policy, before));
    (policy, digest)
}

#[test]
fn a_folder_becomes_sources_and_every_mistake_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("acme_crm.yaml", GOOD),
        ("github.yaml", GOOD),
        ("Bad-Name.yaml", GOOD),
        ("broken.yaml", "streams: ["),
        ("odd.yaml", &GOOD.replace("SimpleRetriever", "SimpleRetreiver")),
        ("readme.md", "no manifest"),
        (".hidden.yaml", "streams: ["),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let (policy, _) = look(dir.path(), None);
    assert_eq!(policy.manifests.found.keys().collect::<Vec<_>>(), ["acme_crm"]);
    let told: Vec<String> = policy.manifests.problems.iter().map(ToString::to_string).collect();
    for words in ["github is a family of aam", "no name of a source", "broken.yaml:", "odd.yaml:", "SimpleRetriever"] {
        assert!(told.iter().any(|problem| problem.contains(words)), "{words}: {told:#?}");
    }
    assert!(!told.iter().any(|problem| problem.contains("hidden")), "{told:#?}");
    assert!(policy.manifests.problems.iter().any(|problem| problem.place.is_some_and(|place| place.line > 1)), "{told:#?}");
}

#[test]
fn what_turns_unreadable_stays_and_what_is_gone_goes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("acme_crm.yaml");
    std::fs::write(&file, GOOD).unwrap();
    let (good, first) = look(dir.path(), None);
    assert_eq!(look(dir.path(), Some(&good)), (good.clone(), first), "an unchanged folder is equal");
    std::fs::write(&file, "streams: [").unwrap();
    let (bad, second) = look(dir.path(), Some(&good));
    assert_ne!(first, second);
    assert_eq!(bad.slice("acme_crm"), good.slice("acme_crm"), "the last good one stays in force");
    assert!(!bad.manifests.problems.is_empty());
    let moved = dir.path().with_extension("moved");
    std::fs::rename(dir.path(), &moved).unwrap();
    let (blind, _) = look(dir.path(), Some(&bad));
    assert_eq!(blind.manifests.found, good.manifests.found, "a folder that cannot be read is not empty");
    std::fs::rename(&moved, dir.path()).unwrap();
    std::fs::write(&file, GOOD.replace("/users", "/people")).unwrap();
    let (changed, _) = look(dir.path(), Some(&blind));
    assert_ne!(changed.slice("acme_crm"), good.slice("acme_crm"), "a changed manifest is a changed wish");
    std::fs::remove_file(&file).unwrap();
    assert!(look(dir.path(), Some(&changed)).0.manifests.found.is_empty());
}
