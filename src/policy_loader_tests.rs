use super::*;

const GOOD: &str = "version: 6.44.0\ntype: DeclarativeSource\ncheck: {type: CheckStream, stream_names: [users]}\nstreams:\n  - type: DeclarativeStream\n    name: users\n    retriever:\n      type: SimpleRetriever\n      requester: {type: HttpRequester, url_base: \"https://api.acme.example\", path: /users}\n      record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}\n";

/// A policy file and the folder of manifests that it names.
struct Files {
    home: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let files = Files { home: tempfile::tempdir().unwrap() };
        std::fs::create_dir(files.dir()).unwrap();
        files.policy("version: 1\nallowlist: []\n");
        files
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("manifests")
    }

    fn policy(&self, text: &str) {
        let text = format!("{text}manifests: {{dir: \"{}\"}}\n", self.dir().display());
        std::fs::write(self.home.path().join("policy.yaml"), text).unwrap();
    }

    fn manifest(&self, name: &str, text: &str) {
        std::fs::write(self.dir().join(name), text).unwrap();
    }

    fn loader(&self) -> PolicyLoader {
        PolicyLoader::new(self.home.path().join("policy.yaml"))
    }
}

fn good(loader: &mut PolicyLoader) -> (LoadedPolicy, Digest) {
    let file = loader.load();
    (file.loaded.unwrap(), file.digest)
}

#[test]
fn a_folder_becomes_sources_and_every_mistake_is_reported() {
    let files = Files::new();
    for (name, text) in [
        ("acme_crm.yaml", GOOD),
        ("github.yaml", GOOD),
        ("Bad-Name.yaml", GOOD),
        ("broken.yaml", "streams: ["),
        ("odd.yaml", &GOOD.replace("SimpleRetriever", "SimpleRetreiver")),
        ("readme.md", "not a manifest"),
        (".hidden.yaml", "streams: ["),
    ] {
        files.manifest(name, text);
    }
    let (loaded, _) = good(&mut files.loader());
    assert_eq!(loaded.sources.manifests().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["acme_crm"]);
    let problems: Vec<String> = loaded.sources.problems.iter().map(ToString::to_string).collect();
    for text in ["github is a built-in family", "invalid source name", "broken.yaml:", "odd.yaml:", "SimpleRetriever"] {
        assert!(problems.iter().any(|problem| problem.contains(text)), "{text}: {problems:#?}");
    }
    assert!(!problems.iter().any(|problem| problem.contains("hidden")), "{problems:#?}");
    assert!(loaded.sources.problems.iter().any(|problem| problem.place.is_some_and(|place| place.line > 1)), "{problems:#?}");
}

#[test]
fn an_unreadable_manifest_is_kept_and_a_removed_one_is_not() {
    let files = Files::new();
    files.manifest("acme_crm.yaml", GOOD);
    let mut loader = files.loader();
    let (first, digest) = good(&mut loader);
    files.manifest("acme_crm.yaml", "streams: [");
    let (bad, changed) = good(&mut loader);
    assert_ne!(digest, changed);
    assert_eq!(bad.slice("acme_crm"), first.slice("acme_crm"), "the last valid manifest stays in force");
    assert!(!bad.sources.problems.is_empty());
    let moved = files.home.path().join("moved");
    std::fs::rename(files.dir(), &moved).unwrap();
    let (unreadable, _) = good(&mut loader);
    assert_eq!(
        unreadable.sources.manifest("acme_crm"),
        first.sources.manifest("acme_crm"),
        "a folder that cannot be read is not empty"
    );
    std::fs::rename(&moved, files.dir()).unwrap();
    files.manifest("acme_crm.yaml", &GOOD.replace("/users", "/people"));
    let (edited, _) = good(&mut loader);
    assert_ne!(edited.slice("acme_crm"), first.slice("acme_crm"), "a changed manifest is a changed source");
    std::fs::remove_file(files.dir().join("acme_crm.yaml")).unwrap();
    assert!(good(&mut loader).0.sources.manifests().next().is_none());
}

#[test]
fn the_last_valid_manifest_survives_an_invalid_policy_file() {
    let files = Files::new();
    files.manifest("acme_crm.yaml", GOOD);
    let mut loader = files.loader();
    let (first, _) = good(&mut loader);
    files.policy("version: 2\nallowlist: []\n");
    assert!(loader.load().loaded.is_err());
    files.manifest("acme_crm.yaml", "streams: [");
    files.policy("version: 1\nallowlist: [slack]\n");
    let (next, _) = good(&mut loader);
    assert_eq!(next.sources.manifest("acme_crm"), first.sources.manifest("acme_crm"));
}

/// Equal bytes give the same allocations, which shows that nothing was parsed again.
#[test]
fn equal_bytes_are_not_parsed_again() {
    let files = Files::new();
    files.manifest("acme_crm.yaml", GOOD);
    files.manifest("broken.yaml", "streams: [");
    let mut loader = files.loader();
    let (first, digest) = good(&mut loader);
    let (again, same) = good(&mut loader);
    assert!(digest == same && Arc::ptr_eq(&first.policy, &again.policy) && Arc::ptr_eq(&first.sources, &again.sources));

    // The same bytes with another stamp.
    files.manifest("acme_crm.yaml", GOOD);
    assert!(Arc::ptr_eq(&good(&mut loader).0.sources, &first.sources));

    // Another policy text: the policy is parsed, the manifest is not.
    files.policy("version: 1\nallowlist: [slack]\n");
    let (edited, changed) = good(&mut loader);
    assert!(changed != digest && !Arc::ptr_eq(&first.policy, &edited.policy));
    let manifest = |loaded: &LoadedPolicy| Arc::clone(loaded.sources.manifest("acme_crm").unwrap());
    assert!(Arc::ptr_eq(&manifest(&first), &manifest(&edited)));

    // A loader that resumes from the policy in force parses neither.
    let mut resumed = PolicyLoader::resume(files.home.path().join("policy.yaml"), edited.clone());
    let (same, _) = good(&mut resumed);
    assert!(Arc::ptr_eq(&same.policy, &edited.policy) && Arc::ptr_eq(&same.sources, &edited.sources));
}

#[test]
fn a_declared_source_without_a_manifest_is_known() {
    let files = Files::new();
    let text = format!(
        "version: 1\nallowlist: [acme_crm]\nmanifests: {{dir: \"{}\", sources: {{acme_crm: {{}}}}}}\n",
        files.dir().display()
    );
    std::fs::write(files.home.path().join("policy.yaml"), text).unwrap();
    let (loaded, _) = good(&mut files.loader());
    assert!(loaded.sources.family("acme_crm").is_some_and(|family| family.manifest.is_none()));
    assert!(loaded.sources.family("slack").is_some() && loaded.sources.family("acme").is_none());
    assert!(loaded.sources.ids().any(|id| id == "acme_crm"));
}

#[test]
fn an_overlay_beside_a_manifest_replaces_its_classes() {
    let files = Files::new();
    let class = GOOD.replace("type: DpathExtractor", "type: CustomRecordExtractor, class_name: acme.Extractor");
    files.manifest("acme_crm.yaml", &class);
    let mut loader = files.loader();
    let (without, first) = good(&mut loader);
    assert!(without.sources.manifest("acme_crm").is_none(), "its only stream needs the class");
    files.manifest("acme_crm.overlay.yaml", "classes: {acme.Extractor: {instead: {type: DpathExtractor}}}\n");
    let (with, second) = good(&mut loader);
    assert!(with.sources.problems.is_empty(), "an overlay is not a manifest: {:?}", with.sources.problems);
    let manifest = &with.sources.manifest("acme_crm").unwrap().manifest;
    assert_eq!(manifest.classes().len(), 1);
    assert!(manifest.refused_streams().is_empty());
    files.manifest("acme_crm.overlay.yaml", "classes: {acme.Extractor: {instead: {type: NoSuch}}}\n");
    let (broken, third) = good(&mut loader);
    let problem = &broken.sources.problems[0];
    assert!(problem.to_string().contains("`NoSuch` is not a component"), "{problem}");
    assert_eq!(broken.slice("acme_crm"), with.slice("acme_crm"), "the last valid manifest stays in force");
    assert!(first != second && second != third, "each change of an overlay is seen");
}

#[test]
fn manifests_of_another_revision_have_their_overlays() {
    let class = GOOD.replace("type: DpathExtractor", "type: CustomRecordExtractor, class_name: acme.Extractor");
    let overlay = "classes: {acme.Extractor: {instead: {type: DpathExtractor}}}\n";
    let file = |name: &str, text: &str| (format!("m/{name}"), format!("main:m/{name}"), text.to_string());
    let policy = Arc::new(parse::parse("version: 1\nallowlist: []\n", "policy.yaml").unwrap());
    let alone = from_texts(Arc::clone(&policy), vec![file("acme_crm.yaml", &class)]);
    assert_eq!(alone.sources.manifests().count(), 0);
    let both = from_texts(policy, vec![file("acme_crm.overlay.yaml", overlay), file("acme_crm.yaml", &class)]);
    assert_eq!(both.sources.manifests().count(), 1, "{:?}", both.sources.problems);
}
